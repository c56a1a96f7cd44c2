"""What the container files and compose.yaml say, done by hand: no daemon is needed, the words are the files' own.

The wheel is built from the files that the build copies and installed with the same extras; the services of compose.yaml
are started with their own command lines, as root would have a container do it: as another user, with a root file system
that is read-only. Their health is asked with the words of HEALTHCHECK.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text("utf-8"))
NODES = ("cleveland", "hungary", "switzerland", "long-beach")
USER = "10001"
BECOME = "setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
# Binds what is written to, makes all else read-only, and becomes the container's user.
ALONE = f"""
mount --bind "$1" "$1" && mount -t tmpfs -o mode=1777 tmpfs "$2" && mount -o remount,ro,bind / && shift 2
exec {BECOME} "$@"
"""


def python_for_all() -> str | None:
    """A Python that the container's user may start, if this user may become that one here; else None."""
    if os.getuid() or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return None
    tried = ["unshare", "--mount", "sh", "-c", f"mount -o remount,ro,bind / && exec {BECOME} sh -c '$0 -m venv -h'"]
    for python in (sys.executable, "/usr/bin/python3"):
        words = [word.replace("$0", os.path.realpath(python)) for word in tried]
        if subprocess.run(words, capture_output=True).returncode == 0:
            return python
    return None


def instruction(file: str, name: str) -> str:
    found = re.findall(rf"^{name} (.+)$", (CONTAINER / f"{file}.Dockerfile").read_text("utf-8"), re.M)
    return found[-1]


class Box:
    """The images and volumes of compose.yaml as folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, ""
        self.python = python_for_all()
        self.rights = self.python is not None
        self.tmp = folder / "tmp"
        for name in ("tmp", "codes", "server", *NODES):
            (folder / name).mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def build(self, image: str) -> None:
        """The first stage: the wheel from nothing but what is copied, into an environment of its own."""
        source = self.folder / f"source-{image}"
        for words in re.findall(r"^COPY (?!--from|deploy)(.+)$", self.text(image), re.M):
            *files, target = words.split()
            for file in files:
                if (ROOT / file).is_dir():
                    shutil.copytree(ROOT / file, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    source.mkdir(exist_ok=True)
                    shutil.copy(ROOT / file, source / target)
        wheels, home = self.folder / f"wheels-{image}", self.folder / f"image-{image}" / "opt"
        extras = instruction(image, "ARG").removeprefix("EXTRAS=")
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), str(source))
        run(self.python or sys.executable, "-m", "venv", "--without-pip", str(home))
        (wheel,) = wheels.glob("umbel-*.whl")
        python = str(home / "bin" / "python")
        run(sys.executable, "-m", "pip", "--python", python, "install", "-q", f"{wheel}[{extras}]")
        shutil.copy(CONTAINER / "healthy.py", home / "healthy.py")

    def text(self, image: str) -> str:
        return (CONTAINER / f"{image}.Dockerfile").read_text("utf-8")

    def here(self, service: str, words: list[str]) -> list[str]:
        """A service's words with the paths of this box for those of the container."""
        image = "server" if service in ("server", "invites") else "node"
        state = "server" if service == "invites" else service
        places = {
            "/opt/umbel": str(self.folder / f"image-{image}" / "opt"),
            "/var/lib/umbel": str(self.folder / state),
            "/apps/hospital": str(self.folder / "hospital"),
            "/codes": str(self.folder / "codes"),
            "0.0.0.0:8080": "127.0.0.1:0",
            "server:8080": self.address,
            "$$": "$",
        }
        for old, new in places.items():
            words = [word.replace(old, new) for word in words]
        return words

    def alone(self, service: str, words: list[str]) -> tuple[list[str], dict[str, str]]:
        image = "server" if service in ("server", "invites") else "node"
        path = f"{self.folder}/image-{image}/opt/bin:{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.tmp)}
        before = ["unshare", "--mount", "sh", "-c", ALONE, "sh", str(self.folder), str(self.tmp)] if self.rights else []
        return [*before, *self.here(service, words)], environment

    def start(self, service: str) -> None:
        words, environment = self.alone(service, COMPOSE["services"][service]["command"])
        with open(self.folder / f"{service}.log", "wb") as log:
            self.processes[service] = subprocess.Popen(
                words, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )

    def once(self, service: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        words, environment = self.alone(service, words)
        return subprocess.run(words, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=120)

    def is_healthy(self, service: str, image: str) -> bool:
        words = json.loads(instruction(image, "HEALTHCHECK").partition("CMD ")[2])
        port = [self.address.rpartition(":")[2]] if service == "server" else []
        return self.once(service, [*words, *port]).returncode == 0

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()

    def until(self, condition, seconds=150.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.1)
        raise AssertionError({name: self.log(name) for name in self.processes})


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def box():
    # Not pytest's folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="umbel-box-"))
    folder.chmod(0o755)
    found = Box(folder)
    yield found
    for process in found.processes.values():
        process.terminate()
    for process in found.processes.values():
        process.wait(timeout=60)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_images_steps_and_composes_commands_lead_to_a_trained_model(box):
    for image in ("server", "node"):
        box.build(image)
    run(str(box.folder / "image-server" / "opt" / "bin" / "umbel"), "new", str(box.folder / "hospital"))
    if box.rights:
        for name in ("server", "codes", *NODES):
            os.chown(box.folder / name, int(USER), int(USER))
    box.start("server")
    box.address = box.until(lambda: re.search(r'"address": "([^"]+)"', box.log("server")))[1]
    box.until(lambda: box.is_healthy("server", "server"))
    invited = box.once("invites", COMPOSE["services"]["invites"]["command"])
    assert invited.returncode == 0, invited.stderr
    codes = {name: (box.folder / "codes" / name).read_text() for name in NODES}
    assert len(set(codes.values())) == 4
    assert not box.is_healthy("cleveland", "node")
    for name in NODES:
        box.start(name)
    box.until(lambda: all(box.is_healthy(name, "node") for name in NODES))
    # The second start of the stack makes no new codes.
    assert box.once("invites", COMPOSE["services"]["invites"]["command"]).returncode == 0
    assert codes == {name: (box.folder / "codes" / name).read_text() for name in NODES}
    to = ["--server", box.address, "--as", "/var/lib/umbel/operator"]
    settings = ["--set", "num_rounds=2"]
    ran = box.once("server", ["umbel", "run", "/apps/hospital", *settings, *to])
    assert ran.returncode == 0, ran.stderr
    assert "finished after round 2" in ran.stdout
    if box.rights:
        owners = {path.stat().st_uid for path in (box.folder / "server").rglob("*")}
        assert owners == {int(USER)}
    box.processes["server"].terminate()
    assert box.processes["server"].wait(timeout=60) == 0
    assert not box.is_healthy("server", "server")
    box.processes["cleveland"].terminate()
    assert box.processes["cleveland"].wait(timeout=30) == 0


def test_no_layer_can_hold_a_secret_and_nobody_is_root():
    for image in ("server", "node"):
        text = (CONTAINER / f"{image}.Dockerfile").read_text("utf-8")
        kept = (CONTAINER / f"{image}.Dockerfile.dockerignore").read_text("utf-8").splitlines()
        let_in = {line[1:] for line in kept if line.startswith("!")}
        copied = {word for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for word in words.split()[:-1]}
        assert copied == let_in
        assert instruction(image, "USER") == f"{USER}:{USER}"
        assert not re.search(r"^(ARG|ENV) .*(KEY|TOKEN|SECRET|PASSWORD)", text, re.M)


@pytest.mark.parametrize("name", ["server", "node"])
def test_kubernetes_gives_the_containers_no_more_than_they_need(name):
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text("utf-8")))
    pod = next(d["spec"]["template"]["spec"] for d in documents if d["kind"] in ("StatefulSet", "Deployment"))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(USER)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"NetworkPolicy", "PodDisruptionBudget"} <= {document["kind"] for document in documents}
