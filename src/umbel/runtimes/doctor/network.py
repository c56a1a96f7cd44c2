"""The way to a server: proxies, name, port, TLS, clock, and what it says about its apps."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from umbel.errors import UmbelError
from umbel.identity import Credentials
from umbel.identity.post import why_untrusted
from umbel.runtimes.doctor.finding import Finding
from umbel.transports.tls import client_tls

TIMEOUT_S = 5.0
SKEWED_S, WRONG_S = 5.0, 300.0
ENDS_SOON_S = 7 * 86400.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


def check_proxies(environment: Mapping[str, str], host: str) -> Finding:
    """Whether the environment names proxies, which Umbel goes past."""
    words = {name.lower(): value for name, value in environment.items()}
    found = [name for name in PROXIES if words.get(name)]
    spared = [part.strip().lstrip(".") for part in words.get("no_proxy", "").split(",")]
    if not found or any(part == "*" or host == part or (part and host.endswith(f".{part}")) for part in spared):
        return Finding("proxy", "ok", "no proxy stands between")
    text = f"{' and '.join(found)} is set, and Umbel connects without a proxy"
    return Finding("proxy", "warn", text, f"let the firewall allow connections to {host} from this machine")


def check_name(host: str) -> Finding:
    """Whether the server's name is known."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        text = f"the name {host} is not known here: {error.strerror or error}"
        return Finding("name", "fail", text, "correct --server, or have the name entered in DNS or in /etc/hosts")
    return Finding("name", "ok", f"{host} is {', '.join(found)}")


def check_port(host: str, port: int) -> Finding:
    """Whether somebody answers at the port."""
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except TimeoutError:
        text = f"{host}:{port} does not answer within {TIMEOUT_S:g} s"
        return Finding("port", "fail", text, f"let the firewalls on the way allow TCP port {port}")
    except OSError as error:
        text = f"nobody can be reached at {host}:{port}: {error.strerror or error}"
        return Finding("port", "fail", text, "start umbel server there, with --listen at an address that others reach")
    return Finding("port", "ok", f"{host}:{port} answers")


def check_tls(host: str, port: int, mine: Credentials, now_s: float) -> Finding:
    """Whether the server shows a certificate of the CA that was pinned when joining, for this name, for long enough."""
    address = f"{host}:{port}"
    context = client_tls(mine.ca_pem, mine.certificate_pem, mine.key_pem).client_context()
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            ends_s = ssl.cert_time_to_seconds(str((secured.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        what, _, mend = why_untrusted(address, error).partition("; ")
        return Finding("tls", "fail", what, mend or "ask the server's operator")
    except OSError as error:
        text = f"{address} does not speak TLS: {getattr(error, 'reason', None) or error.strerror or error}"
        return Finding("tls", "fail", text, "correct the port, or take --insecure if the server is started with it")
    days = (ends_s - now_s) / 86400
    text = f"the certificate is of the CA that this side trusts, names {host}, and is good for {days:.0f} days"
    if ends_s - now_s < ENDS_SOON_S:
        return Finding("tls", "warn", text, "start umbel server anew, which makes a fresh certificate")
    return Finding("tls", "ok", text)


def check_clock(host: str, port: int, *, secure: bool, now: Callable[[], float] = time.time) -> Finding:
    """Whether this machine's clock and the server's agree, by the `Date` of its answer."""
    # A wrong clock makes good certificates look bad, so none is looked at here; nothing is told, and a time is all
    # that is taken.
    context = _trusting_all()
    try:
        before = now()
        answer, _ = _get(host, port, context if secure else None, "/v1/health")
        here = (before + now()) / 2
        theirs = parsedate_to_datetime(answer.getheader("Date") or "").timestamp()
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        text = f"the server does not tell its time: {getattr(error, 'strerror', None) or type(error).__name__}"
        return Finding("clock", "warn", text, "compare both clocks with date -u; they should agree within seconds")
    skew = here - theirs - 0.5  # the header has whole seconds, cut off
    if abs(skew) <= SKEWED_S:
        return Finding("clock", "ok", "this machine's clock agrees with the server's")
    text = f"this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    mend = "set the clock that is wrong, and let NTP keep both"
    return Finding("clock", "fail" if abs(skew) > WRONG_S else "warn", text, mend)


def check_plaintext(host: str, port: int) -> Finding:
    """Whether the server speaks plaintext, as `--insecure` has it."""
    try:
        _get(host, port, _trusting_all(), "/v1/health")
    except (OSError, http.client.HTTPException):
        return Finding("tls", "warn", "the server speaks plaintext", "use it on a machine of your own only")
    return Finding("tls", "fail", "the server speaks TLS, and --insecure asks in plaintext", "leave --insecure out")


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def check_membership(host: str, port: int, mine: Credentials | None) -> tuple[Finding, dict[str, str] | None]:
    """Whether the server knows this member, and the digests of its apps, if it tells them."""
    context = None
    if mine is not None:
        context = client_tls(mine.ca_pem, mine.certificate_pem, mine.key_pem).client_context()
    who = "everybody" if mine is None else mine.name
    try:
        answer, body = _get(host, port, context, "/v1/apps")
        told: Any = json.loads(body)
        if answer.status == 200:
            apps = {str(app["name"]): str(app["digest"]) for app in told["apps"]}
            return Finding("membership", "ok", f"the server lets {who} in"), apps
        text = f"the server refuses {who}: {told['error']}"
    except (OSError, http.client.HTTPException, UmbelError, ValueError, KeyError, TypeError) as error:
        text = f"the server does not answer as an Umbel server does: {type(error).__name__}"
    mend = "ask the server's operator (umbel members), and join again with a new invitation code"
    return Finding("membership", "fail", text, mend), None


def _get(host: str, port: int, context: ssl.SSLContext | None, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer, answer.read(2**20)
    finally:
        connection.close()
