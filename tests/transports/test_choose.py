"""An address names its transport, and what it lacks is said."""

import subprocess
import sys

import pytest

from umbel.errors import ConfigError
from umbel.transports import transport_for
from umbel.transports.choose import host_and_port
from umbel.transports.tcp import TcpTransport


def test_an_address_without_a_scheme_is_tcp():
    transport, rest = transport_for("127.0.0.1:8080")
    assert isinstance(transport, TcpTransport)
    assert rest == "127.0.0.1:8080"


def test_an_unknown_transport_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"one of tcp, grpc, ws.*got 'udp'"):
        transport_for("udp://127.0.0.1:1")


@pytest.mark.parametrize(("scheme", "library", "extra"), [("grpc", "grpc", "grpc"), ("ws", "websockets", "websocket")])
def test_a_library_that_is_missing_is_named_with_its_extra(scheme, library, extra):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from umbel.transports import transport_for\n"
        f"try: transport_for('{scheme}://h:1')\n"
        "except ValueError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.startswith(f"{scheme}:// needs {library}")
    assert f"umbel[{extra}]" in ran.stdout


def test_a_third_partys_transport_is_found_through_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "carrier.py").write_text("class Pigeon: pass\n", "utf-8")
    info = tmp_path / "carrier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[umbel.transports]\npigeon = carrier:Pigeon\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    transport, rest = transport_for("pigeon://loft:1")
    assert type(transport).__name__ == "Pigeon"
    assert rest == "loft:1"


@pytest.mark.parametrize(
    ("text", "place"),
    [("h:1", ("h", 1)), ("[::1]:80", ("::1", 80)), (":8080", ("0.0.0.0", 8080)), ("127.0.0.1:0", ("127.0.0.1", 0))],
)
def test_host_and_port(text, place):
    assert host_and_port(text) == place


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "host:65536", "host:-1"])
def test_what_is_no_host_and_port_is_refused(text):
    with pytest.raises(ConfigError, match="host:port"):
        host_and_port(text)
