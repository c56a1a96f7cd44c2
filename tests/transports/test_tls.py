"""Certificates are looked at once, at the beginning, and what is wrong with them is said."""

import subprocess
import sys

import pytest

from umbel.errors import ConfigError
from umbel.transports.tls import Tls, client_tls, server_tls

trustme = pytest.importorskip("trustme")
CA = trustme.CA()
MADE = CA.issue_cert("localhost")
PEMS = (CA.cert_pem.bytes(), MADE.cert_chain_pems[0].bytes(), MADE.private_key_pem.bytes())


def test_files_and_bytes_give_the_same(tmp_path):
    for name, pem in zip(("ca", "cert", "key"), PEMS, strict=True):
        (tmp_path / name).write_bytes(pem)
    files = (tmp_path / "ca", str(tmp_path / "cert"), tmp_path / "key")
    assert server_tls(files) == server_tls(PEMS) == Tls(*PEMS)
    assert client_tls(PEMS[0]) == Tls(PEMS[0])


def test_a_key_of_another_certificate_is_refused():
    other = CA.issue_cert("localhost").private_key_pem.bytes()
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        server_tls((*PEMS[:2], other))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        client_tls("nowhere.pem")


def test_a_certificate_without_its_key_is_refused():
    with pytest.raises(ConfigError, match="needs its key"):
        client_tls(PEMS[0], PEMS[1])


def test_two_certificates_are_not_three():
    with pytest.raises(ConfigError, match="certificates are three"):
        server_tls(PEMS[:2])


def test_the_key_is_not_shown():
    assert "PRIVATE" not in repr(Tls(*PEMS))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path):
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = serialization.load_pem_private_key(PEMS[2], None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for name, pem in zip(("ca", "cert", "key"), (*PEMS[:2], locked), strict=True):
        (tmp_path / name).write_bytes(pem)
    # In a process without a terminal: a question would hang or fail in another way.
    code = "from umbel.transports.tls import server_tls\nserver_tls(('ca', 'cert', 'key'))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert "ConfigError: certificates cannot be used" in ran.stderr
