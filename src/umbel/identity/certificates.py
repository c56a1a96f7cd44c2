"""X.509: making the certificates that a server issues, and reading requests for them. No files and no clock."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias, final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from umbel.errors import IdentityError

DAY_S = 86400.0
CA_S, SERVER_S, MEMBER_S = 3653 * DAY_S, 90 * DAY_S, 30 * DAY_S
# Clocks of nodes may be late by this much.
SKEW_S = 3600.0
MAX_PEM_BYTES = 16 * 2**10
ALWAYS = ("localhost", "127.0.0.1", "::1")
# A bound of X.509 for every part of a name.
MAX_NAME_BYTES = 64
_NAME = re.compile(r"[^\W_](?:[\w .@-]*\w)?")
Use: TypeAlias = x509.ObjectIdentifier
PublicKey: TypeAlias = "ec.EllipticCurvePublicKey | Ed25519PublicKey"
LOG_USE = "2.25.121801747579026429836240385418142217986"
"""What the key of a log is for: an identifier that nobody else uses. It stands in `umbel.stores.link`, too."""


@final
@dataclass(frozen=True)
class Ca:
    """A certificate authority: its key signs, its certificate is what others trust."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def digest(self) -> bytes:
        """SHA-256 of the certificate: what an invitation code pins."""
        return fingerprint(der(self.certificate))


def new_ca(key: ec.EllipticCurvePrivateKey, server_name: str, now_s: float) -> Ca:
    """A certificate for a CA's key, signed by itself."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Umbel CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, checked_name(server_name)),
        ]
    )
    usage = _usage(signs_certificates=True)
    builder = _builder(name, name, key.public_key(), now_s - DAY_S, now_s + CA_S)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Ca(key, builder.sign(key, SHA256()))


def sign_server(
    ca: Ca, key: ec.EllipticCurvePublicKey, server_name: str, hosts: Sequence[str], now_s: float
) -> x509.Certificate:
    """A certificate for a TLS server that answers at `hosts`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_name(server_name))])
    builder = _leaf(ca, subject, key, now_s, SERVER_S, ExtendedKeyUsageOID.SERVER_AUTH)
    names = x509.SubjectAlternativeName(alternative_names(hosts))
    return builder.add_extension(names, critical=False).sign(ca.key, SHA256())


def sign_member(ca: Ca, key: ec.EllipticCurvePublicKey, name: str, role: str, now_s: float) -> x509.Certificate:
    """A certificate that says who a member is, and nothing else."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
        ]
    )
    return _leaf(ca, subject, key, now_s, MEMBER_S, ExtendedKeyUsageOID.CLIENT_AUTH).sign(ca.key, SHA256())


def sign_log(ca: Ca, key: Ed25519PublicKey, server_name: str, now_s: float) -> x509.Certificate:
    """A certificate for the key that signs a server's logs, which nothing else may be done with.

    It lasts as long as the CA: a log is looked at years later.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_name(server_name))])
    return _leaf(ca, subject, key, now_s, CA_S, x509.ObjectIdentifier(LOG_USE)).sign(ca.key, SHA256())


def _leaf(ca: Ca, subject: x509.Name, key: PublicKey, now_s: float, life_s: float, use: Use) -> x509.CertificateBuilder:
    last_s = ca.certificate.not_valid_after_utc.timestamp()
    if now_s >= last_s:
        raise IdentityError(
            f"the server's CA certificate has expired on {day(last_s)}; remove the folder of its authority, and invite "
            "all nodes anew"
        )
    builder = _builder(subject, ca.certificate.subject, key, now_s - SKEW_S, min(now_s + life_s, last_s))
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=True)
    return builder.add_extension(issuer, critical=False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, first_s: float, last_s: float
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.not_valid_before(_time(first_s)).not_valid_after(_time(last_s))
    builder = builder.serial_number(x509.random_serial_number())
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """What a server's certificate names; always this very machine, never "any address".

    Raises:
        IdentityError: a host is neither a name nor an IP address.
    """
    found: dict[x509.GeneralName, None] = {}
    for host in (*ALWAYS, *hosts):
        bare = host.strip("[]")
        if bare in ("", "0.0.0.0", "::"):
            continue
        found[_alternative_name(bare)] = None
    return list(found)


def _alternative_name(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", name) is None:
        raise IdentityError(f"a host is a name or an IP address without a port, got {host!r}; try server.example.org")
    return x509.DNSName(name)


def new_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """The request for a certificate, as PEM, signed by the key that it is for."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_name(name))])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM)


def read_request(csr_pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The key of a request, of which nothing else is taken over.

    Raises:
        IdentityError: it is none, is for another name or key type, or was not signed by its key.
    """
    if len(csr_pem) > MAX_PEM_BYTES:
        raise IdentityError(f"the certificate request has {len(csr_pem)} bytes, at most {MAX_PEM_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key, signed, subject = request.public_key(), request.is_signature_valid, request.subject
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, TypeError) as error:
        raise IdentityError(f"the certificate request cannot be read: {_words(error)}") from None
    if not signed:
        raise IdentityError(
            "the certificate request was not signed by the key that it is for; it was changed or forged"
        )
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("the certificate request is for another kind of key; an ECDSA key on P-256 is needed")
    if _common_name(subject) != name:
        raise IdentityError(f"the certificate request is not for the name {name!r}")
    return key


def checked_name(name: str) -> str:
    """A name that can stand in a certificate, a path and a list.

    Raises:
        IdentityError: it cannot.
    """
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES or _NAME.fullmatch(name) is None:
        raise IdentityError(
            f"a name is 1 to {MAX_NAME_BYTES} letters, digits and . _ - @ or blanks, beginning and ending with a "
            f"letter or digit, got {name[:100]!r}"
        )
    return name


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def write_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    """A private key; `what` names it in the error, which never quotes it.

    Raises:
        IdentityError: it is none.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{what} is no ECDSA key in PEM; restore it from a backup")
    return key


def read_certificate(pem: bytes, what: str) -> x509.Certificate:
    """A certificate; `what` names it in the error.

    Raises:
        IdentityError: it is none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # These are parsed when they are first looked at.
        certificate.subject, certificate.public_key()  # pyright: ignore[reportUnusedExpression]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError(f"{what} is no certificate in PEM; restore it from a backup") from None
    return certificate


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether the CA's key signed it."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def fingerprint(certificate_der: bytes) -> bytes:
    return hashlib.sha256(certificate_der).digest()


def public_bytes(
    certificate_or_key: x509.Certificate | ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey,
) -> bytes:
    """The public key, in a form that can be compared."""
    value = certificate_or_key
    key = value if isinstance(value, ec.EllipticCurvePublicKey) else value.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def name_in(certificate: x509.Certificate) -> str:
    """The common name; empty if there is none."""
    return _common_name(certificate.subject)


def valid_s(certificate: x509.Certificate) -> tuple[float, float]:
    """The first and the last second of a certificate's life."""
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def ends_soon(first_s: float, last_s: float, now_s: float) -> bool:
    """Whether less than a third of a life is left."""
    return last_s - now_s < (last_s - first_s) / 3


def day(time_s: float) -> str:
    """A time for people to read."""
    return _time(time_s).strftime("%Y-%m-%d %H:%M UTC")


def _time(time_s: float) -> datetime:
    return datetime.fromtimestamp(int(time_s), UTC)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
