"""The identity of a node in secure rounds: a key for one run, vouched for by the certificate with which it is enrolled.

The certificate's own key is used once a run, to vouch for one that is good for this run and name alone. Neither is
ever in the process of the run's client.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, final

from umbel.errors import IdentityError, ProtocolError


def enrolled(run: str, name: str, ca_pem: bytes, certificate_pem: bytes, key_pem: bytes) -> dict[str, bytes]:
    """A fresh identity for a run, as plain data.

    Args:
        name: the node's, as in its certificate.
        ca_pem: the CA that others' certificates have to be of.

    Raises:
        IdentityError: the certificate or its key cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    from umbel.identity import certificates as x
    from umbel.privacy.sa1.fields import joined
    from umbel.privacy.sa1.keys import identity_of

    secret = os.urandom(32)
    vouched = x.read_key(key_pem, "the node's key").sign(_words(run, name, identity_of(secret)), ec.ECDSA(SHA256()))
    certificate = x.der(x.read_certificate(certificate_pem, "the node's certificate"))
    return {"secret": secret, "credential": joined(certificate, vouched), "ca": ca_pem}


def trusts_of(run: str, ca_pem: bytes, now_s: Callable[[], float] = time.time) -> Callable[[str, bytes, bytes], bool]:
    """Whether a name belongs to an identity: by a certificate of the CA for that name, whose key vouches for it.

    A certificate that the server has revoked is not known as such to other nodes.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    from umbel.identity import certificates as x
    from umbel.privacy.sa1.fields import parted

    ca = x.read_certificate(ca_pem, "the CA")
    known: dict[tuple[str, bytes, bytes], tuple[float, float]] = {}
    """From when to when the certificates count that were looked at; the same ones come in each sum."""

    def trusts(name: str, identity: bytes, credential: bytes) -> bool:
        if (valid_s := known.get((name, identity, credential))) is not None:
            return valid_s[0] <= now_s() <= valid_s[1]
        try:
            der, vouched = parted(credential, 2)
            certificate = x509.load_der_x509_certificate(der)
            first, last = x.valid_s(certificate)
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or not first <= now_s() <= last:
                return False
            if x.name_in(certificate) != name or not x.issued_by(certificate, ca):
                return False
            key.verify(vouched, _words(run, name, identity), ec.ECDSA(SHA256()))
        except (ProtocolError, IdentityError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
            return False
        except (ValueError, TypeError):
            return False
        known[name, identity, credential] = (first, last)
        return True

    return trusts


def pinning() -> Callable[[str, bytes, bytes], bool]:
    """Where nobody is enrolled: an identity is taken where its name is first seen, and held to."""
    pins: dict[str, bytes] = {}

    def trusts(name: str, identity: bytes, credential: bytes) -> bool:
        return pins.setdefault(name, identity) == identity

    return trusts


def identity_in(plan: Mapping[str, Any]) -> Mapping[str, bytes] | None:
    """What `enrolled` gave, in the plan that a node hands to a run's process."""
    found = plan.get("enrolled")
    return None if found is None else dict(found)


def _words(run: str, name: str, identity: bytes) -> bytes:
    from umbel.privacy.sa1.fields import joined

    return joined(b"umbel SA1 identity 1", run.encode(), name.encode(), identity)


@final
class Identities:
    """A node's identities in its runs. A plan comes again after each reconnection, and means the same one.

    Args:
        make: a fresh identity for a run; None where nobody is enrolled.
    """

    def __init__(self, make: Callable[[str], Mapping[str, bytes] | None]) -> None:
        self._make = make
        self._known: dict[str, tuple[bytes, Mapping[str, bytes] | None]] = {}

    def of(self, run: str, plan: bytes) -> Mapping[str, bytes] | None:
        """That for the plan of this digest."""
        known = self._known.get(run)
        if known is None or known[0] != plan:
            known = self._known[run] = plan, self._make(run)
        return known[1]

    def forget(self, run: str) -> None:
        """The run is over."""
        self._known.pop(run, None)
