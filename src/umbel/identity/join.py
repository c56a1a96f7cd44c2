"""A node joins a server, and renews its certificate. A kill at any moment leaves a folder from which to go on."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from umbel.errors import IdentityError
from umbel.identity import certificates as x
from umbel.identity.code import Code, read_code
from umbel.identity.credentials import FILE, Credentials, check_fit, make_request
from umbel.identity.files import private_folder, write_private
from umbel.identity.post import Post, post_https

CA_PATH, ENROLL_PATH, RENEW_PATH = "/v1/ca", "/v1/enroll", "/v1/renew"
PENDING, JOINED = "joining.json", "joined.json"


def join(code: str, folder: Path, name: str, *, post: Post = post_https) -> Credentials:
    """Become a member of the server that made `code`, and keep the credentials in `folder`.

    The key is kept before it is spoken of: after an interruption the same call, with the same code, goes on. Once that
    has led to credentials, it returns them, renewed as they may be, and asks nobody.

    Args:
        name: this node's name at the server.
        post: sends a JSON object and returns the one that comes back; an empty one asks with GET.

    Raises:
        CodeRefused: the code is mistyped.
        IdentityError: another server answers, or this one refuses; or the folder has credentials for another server.
        LinkError: the server cannot be reached.
    """
    held = read_code(code)
    x.checked_name(name)
    before = joined(code, folder)
    if before is not None and before.name == name:
        return before
    ca_pem = _pinned_ca(held, post)
    key_pem, csr_pem = _pending(folder, held, name)
    secret = base64.b64encode(held.secret).decode()
    body = {"secret": secret, "name": name, "csr": csr_pem.decode()}
    answer = post(held.address, ENROLL_PATH, body, trusting(ca_pem))
    credentials = Credentials(ca_pem, _text(answer, "certificate", held.address), key_pem, name, held.address)
    _check(credentials, held.address)
    credentials.save(folder)
    try:
        write_private(folder / JOINED, json.dumps({"mark": _mark(held)}).encode())
    except OSError as error:
        raise IdentityError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from None
    (folder / PENDING).unlink(missing_ok=True)
    return credentials


def joined(code: str, folder: Path) -> Credentials | None:
    """What using this very code here has led to; None if it was not used here.

    Raises:
        CodeRefused: the code is mistyped.
        IdentityError: the folder has credentials for another server than the code's.
    """
    held = read_code(code)
    try:
        credentials = Credentials.load(folder)
    except IdentityError:
        return None  # nothing is there, or it is of no use, and joining mends that
    if x.fingerprint(x.der(x.read_certificate(credentials.ca_pem, str(folder)))) != held.ca_digest:
        raise IdentityError(
            f"{folder} belongs to {credentials.name} at {credentials.address}, and this invitation code is of another "
            f"server (its CA is another); choose another folder, or remove {folder / FILE} to leave the old server"
        )
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept: dict[str, str] = json.loads((folder / JOINED).read_text("utf-8"))
        if kept["mark"] == _mark(held):
            return credentials
    return None


def _mark(code: Code) -> str:
    return hashlib.sha256(code.secret).hexdigest()


def renew(folder: Path, *, address: str | None = None, post: Post = post_https) -> Credentials:
    """Get a fresh certificate for a fresh key, and keep both; until then the old ones stay.

    Args:
        address: where to ask; None takes the server's that the credentials name.
        post: as in `join`.

    Raises:
        IdentityError: there are no credentials, or the server refuses.
        LinkError: the server cannot be reached.
    """
    old = Credentials.load(folder)
    key_pem, csr_pem = make_request(old.name)
    place = address or old.address
    answer = post(place, RENEW_PATH, {"csr": csr_pem.decode()}, _showing(old, folder))
    certificate_pem = _text(answer, "certificate", place)
    fresh = Credentials(old.ca_pem, certificate_pem, key_pem, old.name, old.address)
    _check(fresh, place)
    fresh.save(folder)
    return fresh


def trusting(ca_pem: bytes) -> ssl.SSLContext:
    """TLS that trusts one CA and checks the host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context


def _showing(credentials: Credentials, folder: Path) -> ssl.SSLContext:
    """TLS that also shows who this is."""
    context = trusting(credentials.ca_pem)
    # OpenSSL takes keys from files alone; this one is as private as the one it comes from.
    handle, path = tempfile.mkstemp(dir=folder, prefix=".showing.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(credentials.certificate_pem + credentials.key_pem)
        context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise IdentityError(f"the credentials in {folder} cannot be used: {error}; join again") from None
    finally:
        os.unlink(path)
    return context


def _pinned_ca(code: Code, post: Post) -> bytes:
    """The CA's certificate, from whoever answers: that it is the right one, its digest says and nothing else."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    told = _text(post(code.address, CA_PATH, {}, unverified), "ca", code.address)
    certificate = x.read_certificate(told, f"what {code.address} calls its CA")
    if x.fingerprint(x.der(certificate)) != code.ca_digest:
        raise IdentityError(
            f"what answers at {code.address} is not the server that made this invitation code: its CA is another. "
            "Either the server was set up anew, and a new code is needed, or somebody is in between"
        )
    # Written anew from what was checked: the answer may hold more than one certificate.
    return x.pem(certificate)


def _pending(folder: Path, code: Code, name: str) -> tuple[bytes, bytes]:
    """The key with which this very code is being used; kept, as the server takes the code once."""
    mark = hashlib.sha256(code.secret + name.encode()).hexdigest()
    path = folder / PENDING
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, IdentityError):
        kept: dict[str, str] = json.loads(path.read_text("utf-8"))
        if kept["mark"] == mark:
            key = x.read_key(kept["key"].encode(), str(path))
            return kept["key"].encode(), x.new_request(key, name)
    key_pem, csr_pem = make_request(name)
    try:
        private_folder(folder)
        write_private(path, json.dumps({"mark": mark, "key": key_pem.decode()}).encode())
    except OSError as error:
        raise IdentityError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from None
    return key_pem, csr_pem


def _text(answer: object, key: str, address: str) -> bytes:
    table = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    value = table.get(key)
    if not isinstance(value, str) or not value.isascii() or len(value) > x.MAX_PEM_BYTES:
        raise IdentityError(f"{address} answers without a {key}; is it an Umbel server of this version?")
    return value.encode()


def _check(credentials: Credentials, address: str) -> None:
    check_fit(credentials, f"the answer of {address}")
    now_s = time.time()
    if not credentials.starts_at_s <= now_s <= credentials.expires_at_s:
        raise IdentityError(
            f"{address} issued a certificate from {x.day(credentials.starts_at_s)} to "
            f"{x.day(credentials.expires_at_s)}, and this machine's clock says {x.day(now_s)}; set the clock that is "
            "wrong, here or there, and join again"
        )


def decoded(secret: str) -> bytes:
    """The bytes of a secret as `join` sends it; empty, which no secret is, if it is none."""
    try:
        return base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        return b""
