"""HTTPS with JSON both ways, by the standard library: how a node asks its server for certificates."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from umbel.errors import IdentityError, LinkError, printable
from umbel.identity.certificates import day
from umbel.identity.code import host_and_port

Post: TypeAlias = "Callable[[str, str, dict[str, Any], ssl.SSLContext], dict[str, Any]]"
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 2**20
# OpenSSL's numbers for what is wrong with a certificate.
_NOT_YET, _EXPIRED = 9, 10
_OTHER_HOST = (62, 64)


def post_https(address: str, path: str, body: dict[str, Any], context: ssl.SSLContext) -> dict[str, Any]:
    """Send `body` as JSON to https://address/path and return the JSON object that comes back.

    An empty body asks with GET. An answer other than 200 has its reason under "error".

    Raises:
        LinkError: nobody answers.
        IdentityError: the server is not trusted, refuses, or answers something else.
    """
    host, port = host_and_port(address)
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        data = json.dumps(body).encode() if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request("POST" if body else "GET", path, data, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read(MAX_ANSWER_BYTES)  # a cut one is no JSON
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(why_untrusted(address, error)) from None
    except TimeoutError:
        raise LinkError(f"{address} does not answer within {TIMEOUT_S:g} s; is there a firewall between?") from None
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError, http.client.HTTPException) as error:
        what = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise LinkError(f"{address} does not speak HTTPS as an Umbel server does: {what}; is it the address?") from None
    except OSError as error:
        raise LinkError(f"cannot reach {address}: {error.strerror or error}; is the server running?") from None
    finally:
        connection.close()
    return _understood(address, status, text)


def _understood(address: str, status: int, text: bytes) -> dict[str, Any]:
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    is_object = isinstance(told, Mapping)
    table = dict(cast("Mapping[str, Any]", told)) if is_object else dict[str, Any]()
    if status != 200:
        reason = table.get("error")
        if not isinstance(reason, str):
            raise LinkError(f"{address} answers with HTTP status {status} and no reason; is it an Umbel server?")
        raise IdentityError(f"{address} refuses: {printable(reason, 500)}")
    if not is_object:
        raise LinkError(f"{address} does not answer as an Umbel server does; is it the address?")
    return table


def why_untrusted(address: str, error: ssl.SSLCertVerificationError) -> str:
    """What to do about a certificate that does not hold."""
    clock = f"this machine's clock says {day(time.time())}"
    if error.verify_code == _NOT_YET:
        return f"the certificate of {address} is not valid yet, and {clock}; set the clock that is wrong, here or there"
    if error.verify_code == _EXPIRED:
        return (
            f"the certificate of {address} has expired, and {clock}; set the clock if it is wrong, else the server has "
            "to be started anew"
        )
    if error.verify_code in _OTHER_HOST:
        return (
            f"the certificate of {address} is for other hosts ({error.verify_message}); the server has to be told that "
            "it is reached there"
        )
    return (
        f"the certificate of {address} is not of the CA that this node trusts ({error.verify_message}): another server "
        "answers there, or somebody in between; do not go on before you know which"
    )
