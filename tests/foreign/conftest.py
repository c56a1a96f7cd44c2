"""The clients in other languages, built once; who lacks their tools skips with the reason."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[2] / "clients"


@dataclass(frozen=True)
class Client:
    """How a client's example is started, and how its own tests are."""

    example: tuple[str, ...]
    tests: tuple[str, ...]
    folder: Path


def _needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; docs/clients.md says what the clients are built with")


def _built(folder: Path, *words: str) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.fixture(scope="session")
def javascript() -> Client:
    _needs("node", "npm", "openssl")
    folder = CLIENTS / "javascript"
    if not (folder / "node_modules" / "protobufjs-cli").exists():
        pytest.skip("the client's packages are not installed; run npm install in clients/javascript")
    _built(folder, "npm", "run", "-s", "build")
    return Client(("node", str(folder / "example" / "heart.js")), ("npm", "-s", "test"), folder)


@pytest.fixture(scope="session")
def cpp() -> Client:
    _needs("g++", "make", "protoc", "pkg-config")
    if subprocess.run(["pkg-config", "--exists", "protobuf", "libssl"]).returncode:
        pytest.skip("the headers of protobuf or OpenSSL are not installed; docs/clients.md names the packages")
    folder = CLIENTS / "cpp"
    _built(folder, "make", "-j2")
    return Client((str(folder / "build" / "heart"),), ("make", "-s", "test"), folder)
