"""`respond`: what the server says to `join` and `renew`, for whatever HTTPS server carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.errors import IdentityError
from umbel.identity.authority import Authority
from umbel.identity.join import CA_PATH, ENROLL_PATH, RENEW_PATH, decoded


def respond(
    authority: Authority, path: str, body: Mapping[str, Any], certificate_der: bytes | None
) -> tuple[int, dict[str, Any]]:
    """(HTTP status, JSON object) for one request.

    `GET /v1/ca` → {"ca"}; `POST /v1/enroll` {"secret": base64, "name", "csr"} → {"certificate", "ca"};
    `POST /v1/renew` {"csr"} → {"certificate", "ca"}, for whoever shows a certificate. What is refused has its reason
    under "error". May write to the disk and wait: not for an event loop's thread.

    Args:
        body: the request's JSON object; {} for GET.
        certificate_der: the certificate that the other side showed in TLS, if any.
    """
    ca = authority.ca_pem.decode()
    if path == CA_PATH:
        return 200, {"ca": ca}
    if path not in (ENROLL_PATH, RENEW_PATH):
        return 404, {"error": f"there is nothing at {path!r}; is the other side another version?"}
    try:
        if path == ENROLL_PATH:
            secret, csr, name = (_text(body, key) for key in ("secret", "csr", "name"))
            certificate = authority.enroll(decoded(secret), _bytes(csr), name)
        else:
            if certificate_der is None:
                raise IdentityError(authority.why_refused(None) or "")
            certificate = authority.renew(certificate_der, _bytes(_text(body, "csr")))
    except IdentityError as error:
        return 403, {"error": str(error)}
    return 200, {"certificate": certificate.decode(), "ca": ca}


def _bytes(text: str) -> bytes:
    # JSON can hold halves of characters, which are no UTF-8.
    return text.encode("utf-8", "replace")


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise IdentityError(f"the request lacks the text {key!r}; is the other side another version?")
    return value
