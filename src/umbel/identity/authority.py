"""`Authority`: the server's side of identity. It makes the CA, invites, enrols, renews and revokes."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from umbel.errors import CodeRefused, IdentityError
from umbel.identity import certificates as x
from umbel.identity.code import SECRET_BYTES, Code, write_code
from umbel.identity.federation import DEFAULT, Federation
from umbel.identity.files import private_folder, write_private
from umbel.identity.ledger import Invitation, Issued, Ledger, Member

CA_KEY, CA_CERTIFICATE, SERVER, LEDGER = "ca.key", "ca.crt", "server.pem", "members.sqlite"
LOG = "log.pem"
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ASK_ANEW = "ask whoever runs the server for a new one"


@final
class Authority:
    """Says who is a member of a server. Make it with `Authority.open`.

    It may be used from several threads, and its folder by several processes. Each call may write to the disk, and
    `enroll` waits after a wrong secret, so an event loop calls them in a thread; `why_refused` and `role_of` are
    look-ups that take microseconds.

    Attributes:
        ca_pem: the CA's certificate, which members trust.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        ca: x.Ca,
        server_name: str,
        hosts: Sequence[str],
        clock: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self._folder, self._ledger, self._ca = folder, ledger, ca
        self._server_name, self._hosts = server_name, tuple(hosts)
        self._clock, self._wait = clock, wait
        self.ca_pem = x.pem(ca.certificate)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        server_name: str,
        hosts: Sequence[str],
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> Authority:
        """The authority that lives in `folder`, which is made at first use.

        Args:
            folder: nobody but this user may read it. Whoever has it can let anybody in.
            server_name: stands in the certificates, for people to read.
            hosts: names and IP addresses that nodes connect to; this machine itself is always among them.
            clock: seconds since 1970.
            wait: lets seconds pass.

        Raises:
            IdentityError: the folder cannot be used, or something in it is missing or damaged.
        """
        x.checked_name(server_name)
        x.alternative_names(hosts)
        try:
            private_folder(folder)
            folder.chmod(0o700)
            if (folder / CA_CERTIFICATE).exists() and not (folder / LEDGER).exists():
                raise IdentityError(
                    f"{folder / LEDGER}, which remembers the members, is missing beside the CA; restore it from a "
                    "backup, or remove the folder and invite all nodes anew"
                )
            ledger = Ledger(folder / LEDGER)
            try:
                with ledger.alone():
                    ca = _ca(folder, server_name, clock())
            except BaseException:
                ledger.close()
                raise
        except OSError as error:
            raise _unusable(folder, error) from None
        return cls(folder, ledger, ca, server_name, hosts, clock, wait)

    def server_certificates(self) -> tuple[bytes, bytes, bytes]:
        """(CA, certificate, key) as PEM for the TLS server; a fresh certificate when less than a third is left.

        Raises:
            IdentityError: it cannot be written, or the CA has expired.
        """
        path, now_s = self._folder / SERVER, self._clock()
        try:
            with self._ledger.alone():
                data = path.read_bytes() if path.exists() else b""
                if not self._serves(data, now_s):
                    key = x.new_key()
                    fresh = x.sign_server(self._ca, key.public_key(), self._server_name, self._hosts, now_s)
                    # Both in one file: so they always fit together.
                    data = x.pem(fresh) + x.write_key(key)
                    write_private(path, data)
        except OSError as error:
            raise _unusable(self._folder, error) from None
        certificate, key_pem = _halves(data)
        return self.ca_pem, certificate, key_pem

    def log_pem(self) -> bytes:
        """The Ed25519 key that signs this server's logs, after its certificate, as PEM; made at first use, and kept.

        Raises:
            IdentityError: it cannot be read or written, or the CA has expired.
        """
        path = self._folder / LOG
        try:
            with self._ledger.alone():
                if not path.exists():
                    key = Ed25519PrivateKey.generate()
                    signed = x.sign_log(self._ca, key.public_key(), self._server_name, self._clock())
                    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                    # Both in one file: so they always fit together.
                    write_private(path, x.pem(signed) + private)
                return path.read_bytes()
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def _serves(self, data: bytes, now_s: float) -> bool:
        """Whether what is kept is whole, ours, for all hosts and lasts. As it can be made again, damage is no error."""
        try:
            first, second = _halves(data)
            certificate, key = x.read_certificate(first, SERVER), x.read_key(second, SERVER)
            names = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except (IdentityError, ValueError, x509.ExtensionNotFound):
            return False
        first_s, last_s = x.valid_s(certificate)
        return (
            x.issued_by(certificate, self._ca.certificate)
            and x.public_bytes(certificate) == x.public_bytes(key)
            and names >= set(x.alternative_names(self._hosts))
            and first_s <= now_s
            and not x.ends_soon(first_s, last_s, now_s)
        )

    def invite(
        self,
        address: str,
        *,
        name: str | None = None,
        role: str = "node",
        expires_s: float = 86400,
        federation: str = DEFAULT,
    ) -> str:
        """A code that lets one node in, once.

        Args:
            address: where the node will find this server, "host:port".
            name: whom it is for; it also lets a member of that name join again, which ends what the member had. None
                lets in whoever has the code, under a free name.
            role: what the member will be.
            expires_s: for how many seconds from now it works.
            federation: what the member will belong to.

        Raises:
            IdentityError: an argument is wrong, or there is no such federation.
        """
        if name is not None:
            x.checked_name(name)
        if _ROLE.fullmatch(role) is None:
            raise IdentityError(f"a role is a word of lower-case letters, digits and -, got {role!r}; try 'node'")
        if not 0 < expires_s <= x.CA_S:
            raise IdentityError(f"expires_s must be above 0 and at most {x.CA_S:.0f} (10 years), got {expires_s:g}")
        now_s, secret = self._clock(), secrets.token_bytes(SECRET_BYTES)
        code = write_code(Code(address, self._ca.digest, secret))
        with self._ledger.alone():
            self.federation(federation)
            self._ledger.invite(_hashed(secret), address, name, role, now_s, now_s + expires_s, federation)
        return code

    def invitations(self) -> list[Invitation]:
        """All invitations that are open, or were lately; the oldest first."""
        return self._ledger.invitations()

    def members(self) -> list[Member]:
        """Everybody who ever joined, by name."""
        return self._ledger.members()

    def wrong_secrets(self) -> int:
        """How many secrets were shown here that no invitation has."""
        return self._ledger.wrong()

    def enroll(self, secret: bytes, csr_pem: bytes, name: str) -> bytes:
        """Let a node in; returns its certificate as PEM.

        The same request made again gets the same certificate, so that a lost answer costs no code.

        Raises:
            CodeRefused: no open invitation has this secret, or it is for another name.
            IdentityError: the name is taken or is none, or the certificate request is not valid.
        """
        now_s = self._clock()
        invitation = self._ledger.invitation(_hashed(secret))
        if invitation is None:
            lately = self._ledger.count_wrong(now_s)
            self._wait(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(lately - 1, 10)))
            raise CodeRefused(f"this server knows no such invitation code; {_ASK_ANEW}")
        key = x.read_request(csr_pem, x.checked_name(name))
        with self._ledger.alone():
            invitation = self._ledger.invitation(_hashed(secret)) or invitation
            if invitation.used_at_s is not None:
                return self._again(invitation, x.public_bytes(key))
            self._check(invitation, name, now_s)
            certificate = x.sign_member(self._ca, key, name, invitation.role, now_s)
            self._ledger.use(invitation, name, now_s)
            self._ledger.admit(name, invitation.role, now_s, invitation.federation)
            self._remember(certificate, name, invitation.role, invitation.id)
        return x.pem(certificate)

    def _check(self, invitation: Invitation, name: str, now_s: float) -> None:
        if now_s >= invitation.expires_at_s:
            raise CodeRefused(f"this invitation code has expired on {x.day(invitation.expires_at_s)}; {_ASK_ANEW}")
        if invitation.name is not None and invitation.name != name:
            raise CodeRefused(
                f"this invitation code is for another name than {name!r}; join under that, or {_ASK_ANEW}"
            )
        if invitation.name is None and self._ledger.has_member(name):
            raise IdentityError(
                f"the name {name!r} is taken; choose another, or ask whoever runs the server for an invitation to this "
                "very name"
            )

    def _again(self, invitation: Invitation, key: bytes) -> bytes:
        """What a used invitation led to, for whoever holds the key of that; nobody else."""
        issued = self._ledger.issued_for(invitation.id)
        if issued is not None and x.public_bytes(x.read_certificate(issued.pem, LEDGER)) == key:
            reason = _why_not(issued, self._clock())
            if reason is None:
                return issued.pem
        raise CodeRefused(f"this invitation code was used already, and each works once; {_ASK_ANEW}")

    def renew(self, certificate_der: bytes, csr_pem: bytes) -> bytes:
        """A fresh certificate, as PEM, for whoever showed one that is still good; that one stays good until its end.

        Raises:
            IdentityError: the certificate is not good, or the request is not valid.
        """
        now_s = self._clock()
        with self._ledger.alone():
            old = self._good(certificate_der)
            key = x.read_request(csr_pem, old.name)
            certificate = x.sign_member(self._ca, key, old.name, old.role, now_s)
            self._remember(certificate, old.name, old.role, None)
        return x.pem(certificate)

    def _remember(self, certificate: x509.Certificate, name: str, role: str, invitation: int | None) -> None:
        issued = Issued(name, role, *x.valid_s(certificate), None, None, x.pem(certificate))
        self._ledger.issue(x.fingerprint(x.der(certificate)), issued, invitation, self._clock())

    def federations(self) -> list[Federation]:
        """All federations, by name; "default" is always there."""
        return self._ledger.federations()

    def federation(self, name: str) -> Federation:
        """The one of this name.

        Raises:
            IdentityError: there is none.
        """
        found = self._ledger.federation(name)
        if found is None:
            raise IdentityError(f"there is no federation {name!r}; look at the list of federations, or make it first")
        return found

    def federation_of(self, certificate_der: bytes) -> Federation:
        """The federation of whoever showed this certificate.

        Raises:
            IdentityError: the certificate is not good.
        """
        return self.federation(self._ledger.belongs(self._good(certificate_der).name))

    def add_federation(self, federation: Federation) -> None:
        """Make a federation. From then on, versions of Umbel that know none refuse the folder.

        Raises:
            IdentityError: its name is, or was, another one's.
        """
        with self._ledger.alone():
            if self._ledger.was_federation(federation.name):
                raise IdentityError(
                    f"there is, or was, a federation {federation.name!r} here, and its runs are; choose another name"
                )
            self._ledger.set_federation(federation)

    def set_federation(self, federation: Federation) -> None:
        """Change a federation's apps and quotas; a server that runs sees it at the next round.

        Raises:
            IdentityError: there is none of this name.
        """
        with self._ledger.alone():
            self.federation(federation.name)
            self._ledger.set_federation(federation)

    def remove_federation(self, name: str) -> None:
        """Remove a federation that nobody is in; its name stays taken.

        Raises:
            IdentityError: there is none, it is the default one, or it has members or open invitations.
        """
        with self._ledger.alone():
            self.federation(name)
            if name == DEFAULT:
                raise IdentityError("the federation 'default' cannot be removed; change it with: umbel federation set")
            there = [m.name for m in self.members() if m.federation == name and m.revoked_at_s is None]
            now_s = self._clock()
            is_open = [i for i in self.invitations() if i.used_at_s is None and i.expires_at_s > now_s]
            waiting = sum(i.federation == name for i in is_open)
            if there or waiting:
                raise IdentityError(
                    f"the federation {name!r} has {len(there)} members and {waiting} open invitations; revoke the "
                    "members first, and let the invitations expire"
                )
            self._ledger.remove_federation(name, now_s)

    def revoke(self, name: str, *, federation: str | None = None) -> None:
        """End a member's rights at once; the name stays taken. A new invitation to it lets it in again.

        Args:
            federation: who is not in it is not there; None is all.

        Raises:
            IdentityError: there is no such member.
        """
        elsewhere = federation is not None and self._ledger.belongs(name) != federation
        if elsewhere or not self._ledger.has_member(name):
            raise IdentityError(f"there is no member named {name!r}; look at the list of members")
        self._ledger.revoke(name, self._clock())

    def why_refused(self, certificate_der: bytes | None) -> str | None:
        """A sentence that says why whoever showed this certificate is not let in; None if it is."""
        if certificate_der is None:
            return "no certificate was shown; join with an invitation code first"
        issued = self._ledger.issued(x.fingerprint(certificate_der))
        if issued is None:
            return "this server has not issued the certificate that was shown; join with an invitation code"
        return _why_not(issued, self._clock())

    def role_of(self, certificate_der: bytes) -> str:
        """The role of whoever showed this certificate.

        Raises:
            IdentityError: it is not good.
        """
        return self._good(certificate_der).role

    def _good(self, certificate_der: bytes) -> Issued:
        reason = self.why_refused(certificate_der)
        issued = self._ledger.issued(x.fingerprint(certificate_der))
        if reason is not None or issued is None:
            raise IdentityError(reason or "the certificate was forgotten meanwhile")
        return issued

    def close(self) -> None:
        """Let go of the files."""
        self._ledger.close()


def _why_not(issued: Issued, now_s: float) -> str | None:
    who = f"the certificate of {issued.name}"
    if issued.ended_at_s is not None:
        return f"{who} {issued.why_ended} on {x.day(issued.ended_at_s)}; a new invitation is needed"
    if now_s > issued.last_s:
        return f"{who} has expired on {x.day(issued.last_s)}; a new invitation to this name is needed"
    if now_s < issued.first_s:
        return (
            f"{who} is valid from {x.day(issued.first_s)}, and this server's clock says {x.day(now_s)}; "
            "set the server's clock"
        )
    return None


def _hashed(secret: bytes) -> bytes:
    return hashlib.sha256(b"umbel invitation" + secret).digest()


def _ca(folder: Path, server_name: str, now_s: float) -> x.Ca:
    """The CA in `folder`. The key is written first, so a certificate without one is damage and not an interruption."""
    key_path, path = folder / CA_KEY, folder / CA_CERTIFICATE
    if not path.exists():
        if not key_path.exists():
            write_private(key_path, x.write_key(x.new_key()))
        ca = x.new_ca(x.read_key(key_path.read_bytes(), str(key_path)), server_name, now_s)
        write_private(path, x.pem(ca.certificate))
        return ca
    if not key_path.exists():
        raise IdentityError(f"{key_path} is missing beside its certificate; restore it from a backup")
    key = x.read_key(key_path.read_bytes(), str(key_path))
    certificate = x.read_certificate(path.read_bytes(), str(path))
    if x.public_bytes(key) != x.public_bytes(certificate):
        raise IdentityError(f"{key_path} is not the key of {path}; restore both from one backup")
    return x.Ca(key, certificate)


def _halves(data: bytes) -> tuple[bytes, bytes]:
    """Certificate and key of the file that has both."""
    first, mark, rest = data.partition(b"-----BEGIN PRIVATE KEY-----")
    return first, mark + rest


def _unusable(folder: Path, error: OSError) -> IdentityError:
    return IdentityError(f"cannot use the folder {folder}: {error.strerror or error}; choose one that this user owns")
