"""Each fault that `umbel doctor` knows is made for real, found, and named with its mend."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

pytest.importorskip("cryptography")
pytest.importorskip("starlette")

from umbel.identity import Authority, Credentials, make_request
from umbel.runtimes.doctor import files, machine, network
from umbel.transports.tls import server_tls

DAY_S = 86400.0
UMBEL = (sys.executable, "-m", "umbel")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


# This machine


def test_an_old_version_is_found_in_the_package_s_own_files(tmp_path):
    folder = tmp_path / "numpy-1.9.3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.9.3\n")
    (found,) = machine.check_packages([("numpy", "1.24"), ("absent", "2")], [str(tmp_path)])
    assert (found.verdict, found.text) == ("fail", "numpy 1.9.3 is installed")
    assert "numpy>=1.24" in found.mend


def test_versions_are_compared_by_their_numbers(tmp_path):
    folder = tmp_path / "some-1.100.0rc1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.100.0rc1\n")
    (found,) = machine.check_packages([("some", "1.24")], [str(tmp_path)])
    assert found.verdict == "ok"
    assert machine.check_python("3.9.18", ">=3.11").verdict == "fail"
    assert machine.check_python("3.11.0", ">=3.11").verdict == "ok"


def test_too_few_open_files_for_the_nodes_fail():
    assert machine.check_open_files(1024, 100).verdict == "ok"
    assert machine.check_open_files(10_050, 10_000).verdict == "fail"
    found = machine.check_open_files(1024, 10_000)
    assert found.verdict == "fail"
    assert "ulimit -n 10100" in found.mend


def test_a_folder_that_is_named_and_is_not_there_fails(tmp_path):
    done = call(tmp_path, "doctor", "--folder", "nowhere")
    assert done.returncode == 1
    assert "fail folder nowhere: it is not there" in done.stdout
    assert "disk at nowhere" not in done.stdout


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc, where nobody can write")
def test_a_folder_that_cannot_be_written_to_fails():
    found = machine.check_disk(Path("/proc/self"))
    assert found.verdict == "fail"
    assert "cannot be written to" in found.text


def test_a_disk_with_less_room_than_needed_warns_and_then_fails(tmp_path):
    there = tmp_path / "not" / "made"
    assert machine.check_disk(there, full_bytes=0, tight_bytes=0).verdict == "ok"
    assert machine.check_disk(there, full_bytes=0, tight_bytes=2**60).verdict == "warn"
    assert machine.check_disk(there, full_bytes=2**60, tight_bytes=2**60).verdict == "fail"
    assert not there.parent.exists()


# What is kept


def test_a_corrupt_database_is_found(tmp_path):
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(200)])
    db.close()
    assert files.check_database(path).verdict == "ok"
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\xff" * 8192
    path.write_bytes(data)
    assert files.check_database(path).verdict == "fail"
    path.write_bytes(b"no database at all, but long enough" * 100)
    found = files.check_database(path)
    assert found.verdict == "fail"
    assert ".recover" in found.mend
    assert files.check_database(tmp_path / "absent.db").verdict == "fail"


def test_a_policy_with_an_unknown_rule_is_found(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("[limits]\nthreads = 1\n")
    assert files.check_policy(path, ("limits.threads",)).verdict == "ok"
    assert files.check_policy(path, ()).verdict == "fail"
    path.write_text("[limit]\nthreads = 1\n")
    assert files.check_policy(path, ("limits.threads",)).verdict == "fail"


def test_an_app_that_differs_from_the_server_s_is_found(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "heart"\n[tool.umbel]\nclient = "heart:client_fn"\nrun = "heart:run"\n'
    )
    assert files.check_app(tmp_path, None).verdict == "ok"
    assert "no app heart" in files.check_app(tmp_path, {"lung": "00"}).text
    assert "differs" in files.check_app(tmp_path, {"heart": "00" * 32}).text
    assert files.check_app(tmp_path, {"heart": files.find_app(tmp_path).digest}).verdict == "ok"
    assert files.check_app(tmp_path / "absent", None).verdict == "fail"


# The way to a server


def test_a_proxy_is_warned_of_unless_the_server_is_spared():
    found = network.check_proxies({"HTTPS_PROXY": "http://proxy:3128"}, "fl.example.org")
    assert found.verdict == "warn"
    assert "https_proxy" in found.text
    spared = {"https_proxy": "http://proxy:3128", "no_proxy": "localhost,.example.org"}
    assert network.check_proxies(spared, "fl.example.org").verdict == "ok"
    assert network.check_proxies({}, "fl.example.org").verdict == "ok"


def test_an_unknown_name_and_a_closed_port_are_found():
    assert network.check_name("127.0.0.1").verdict == "ok"
    assert network.check_name("no-such-host.invalid").verdict == "fail"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.check_port("127.0.0.1", port).verdict == "ok"
    assert network.check_port("127.0.0.1", port).verdict == "fail"


@contextmanager
def answering(*, date, tls=None):
    """The port of an HTTP server whose clock is `date` seconds from ours."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(200)
            if date is not None:
                self.send_header("Date", formatdate(time.time() + date, usegmt=True))
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(HTTPServer):
        def handle_error(self, *_):
            pass  # who looks at certificates hangs up

    server = Server(("127.0.0.1", 0), Answer)
    if tls is not None:
        server.socket = tls.server_context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("date", "verdict", "word"),
    [(0, "ok", "agrees"), (60, "warn", "behind"), (-7200, "fail", "ahead of"), (None, "warn", "does not tell")],
)
def test_a_clock_that_differs_is_found(date, verdict, word):
    with answering(date=date) as port:
        found = network.check_clock("127.0.0.1", port, secure=False)
    assert found.verdict == verdict
    assert word in found.text


def credentials(authority, name="h0"):
    from umbel.identity.code import read_code

    key, request = make_request(name)
    code = read_code(authority.invite("127.0.0.1:1", name=name))
    certificate = authority.enroll(code.secret, request, name)
    return Credentials(authority.ca_pem, certificate, key, name, "127.0.0.1:1")


@contextmanager
def authority_at(folder, *, now_s=None):
    told = {} if now_s is None else {"clock": lambda: now_s}
    authority = Authority.open(folder, server_name="server", hosts=("127.0.0.1",), **told)
    try:
        yield authority
    finally:
        authority.close()


@pytest.mark.parametrize("fault", ["none", "expired", "host", "pin", "plain"])
def test_a_certificate_that_does_not_hold_is_found(fault, tmp_path):
    now = time.time()
    made_s = now - 2000 * DAY_S if fault == "expired" else now
    with authority_at(tmp_path / "a", now_s=made_s) as authority:
        mine = credentials(authority)
        tls = server_tls(authority.server_certificates(), clients=False)
        if fault == "host":
            ca = trustme.CA()
            theirs, me = ca.issue_cert("fl.example.org"), ca.issue_cert("h0", common_name="h0")
            pem = ca.cert_pem.bytes()
            tls = server_tls((pem, theirs.cert_chain_pems[0].bytes(), theirs.private_key_pem.bytes()), clients=False)
            mine = Credentials(pem, me.cert_chain_pems[0].bytes(), me.private_key_pem.bytes(), "h0", "127.0.0.1:1")
        if fault == "pin":
            with authority_at(tmp_path / "b") as other:
                mine = credentials(other)
        with answering(date=0, tls=None if fault == "plain" else tls) as port:
            found = network.check_tls("127.0.0.1", port, mine, now)
            assert fault == "plain" or network.check_clock("127.0.0.1", port, secure=True).verdict == "ok"
    words = {
        "none": "trusts",
        "expired": "expired",
        "host": "other hosts",
        "pin": "not of the CA",
        "plain": "does not speak TLS",
    }
    assert words[fault] in found.text
    assert found.verdict == ("ok" if fault == "none" else "fail")
    assert bool(found.mend) == (fault != "none")


def test_an_identity_that_ended_is_found_and_one_that_ends_soon_warned_of(tmp_path):
    with authority_at(tmp_path / "a") as authority:
        mine = credentials(authority)
    mine.save(tmp_path / "me")
    look = files.check_identity
    assert look(tmp_path / "me", mine.starts_at_s + DAY_S + 1).verdict == "ok"
    assert look(tmp_path / "me", mine.starts_at_s - 1).verdict == "fail"
    assert look(tmp_path / "me", mine.expires_at_s - 1).verdict == "warn"
    assert "ended" in look(tmp_path / "me", mine.expires_at_s + 1).text
    assert "not there" in look(tmp_path / "nobody", 0).text


# The command


def call(folder, *words):
    return subprocess.run(
        [*UMBEL, *words], cwd=folder, capture_output=True, text=True, timeout=90, env=ENVIRONMENT, check=False
    )


def test_the_command_goes_the_way_to_a_server_as_a_node_and_says_what_is_wrong(tmp_path):
    assert call(tmp_path, "new", "heart").returncode == 0
    log = tmp_path / "server.log"
    with open(log, "wb") as out:
        words = (*UMBEL, "server", "--app", "heart", "--listen", "127.0.0.1:0")
        server = subprocess.Popen(words, cwd=tmp_path, stdout=out, stderr=out, env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.findall(r"^listening at (\S+) ", log.read_text(), re.M)):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        (address,) = found
        code = call(tmp_path, "invite", "--name", "h0", "--address", address).stdout.strip()
        assert call(tmp_path, "join", code, "--name", "h0", "--as", ".umbel/node").returncode == 0
        asked = ("doctor", "--json", "--server", address, "--as", ".umbel/node", "--app", "heart")
        done = call(tmp_path, *asked)
        told = {finding["name"]: finding for finding in json.loads(done.stdout)}
        assert {told[name]["verdict"] for name in ("name", "port", "clock", "tls", "membership", "app heart")} == {"ok"}
        assert any(name.startswith("database .umbel/server") for name in told)
        assert done.returncode == 0
        plain = call(tmp_path, "doctor", "--server", address, "--insecure")
        assert "the server speaks TLS, and --insecure asks in plaintext" in plain.stdout
        assert "leave --insecure out" in plain.stdout
        with open(tmp_path / "heart" / "heart" / "client.py", "a") as file:
            file.write("\n# changed\n")
        assert call(tmp_path, "revoke", "h0").returncode == 0
        done = call(tmp_path, *asked)
        told = {finding["name"]: finding for finding in json.loads(done.stdout)}
        assert told["membership"]["verdict"] == "fail"
        assert done.returncode == 1
    finally:
        server.terminate()
        server.wait(timeout=20)
    done = call(tmp_path, "doctor", "--server", address, "--as", ".umbel/node")
    assert done.returncode == 1
    assert "→ start umbel server there" in done.stdout
