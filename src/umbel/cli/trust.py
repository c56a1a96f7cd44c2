"""Whose signatures `umbel audit` takes: a key or a CA that was named, or the one that is known here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import click

from umbel.cli.place import Place
from umbel.errors import ConfigError
from umbel.stores import link

Command = TypeVar("Command", bound=Callable[..., Any])
CA = Path("identity", "ca.crt")


@final
@dataclass(frozen=True)
class Trust:
    """A key or a CA.

    Attributes:
        whose: says in words where it is from; empty if there is none.
        named: whether the user named it, and so wants signatures.
    """

    key: str | None = None
    ca_pem: bytes | None = None
    whose: str = ""
    named: bool = False

    @property
    def is_known(self) -> bool:
        """Whether there is a key or a CA at all, and not only what a statement says of itself."""
        return self.key is not None or self.ca_pem is not None

    def check(self, message: Callable[[Any], bytes] = link.signed_bytes) -> link.Check | None:
        """What looks at signatures; None if `cryptography` is not installed, and nobody asked for it.

        Raises:
            ConfigError: it is not installed, or the CA's certificate is none.
        """
        try:
            return link.signatures(key=self.key, ca_pem=self.ca_pem, message=message)
        except ImportError:
            if not self.named:
                return None
            raise ConfigError("signatures need cryptography; install it with: pip install 'umbel[identity]'") from None
        except ValueError:
            raise ConfigError("the CA is no certificate in PEM; it is ca.crt of the server's identity folder") from None


def with_trust(command: Command) -> Command:
    """`--key` and `--ca`."""
    key = click.option("--key", help="The only public key whose signatures count, 64 digits of 0-9 and a-f.")
    ca = click.option("--ca", type=Path, help="The server's CA certificate, whose keys' signatures count.")
    return key(ca(command))


def named(key: str | None, ca: Path | None) -> Trust:
    """What the options name.

    Raises:
        ConfigError: they are no key and no file, or both are given.
    """
    if key is not None and ca is not None:
        raise ConfigError("--key and --ca both say whose signatures count; take one")
    if key is not None and re.fullmatch("[0-9a-f]{64}", key) is None:
        raise ConfigError(f"--key is an Ed25519 public key, 64 digits of 0-9 and a-f, got {key!r}")
    if key is not None:
        return Trust(key=key, whose="the key that --key names", named=True)
    if ca is None:
        return Trust()
    try:
        return Trust(ca_pem=ca.read_bytes(), whose=f"a key that the CA {ca} vouches for", named=True)
    except OSError as error:
        raise ConfigError(f"{ca} cannot be read: {error.strerror}; --ca is the server's ca.crt") from None


def known(place: Place) -> Trust:
    """What is known where runs are: the CA of a server, or the key beside a store."""
    return next(iter(all_known(place)), Trust())


def all_known(place: Place) -> list[Trust]:
    """The same: both of them in a server's folder where reports are signed by the key, too."""
    if place.server is not None:
        if place.insecure:
            return []
        from umbel.identity import Credentials

        return [Trust(ca_pem=Credentials.load(place.user).ca_pem, whose="a key that the server's CA vouches for")]
    return all_beside_store(place.path)


def beside_store(path: Path) -> Trust:
    """What is known where a store is: the CA of its server, or the key beside it."""
    return next(iter(all_beside_store(path)), Trust())


def all_beside_store(path: Path) -> list[Trust]:
    """The same: both, where there are both."""
    folder, found = path.resolve().parent, list[Trust]()
    if (folder / CA).is_file():
        found.append(Trust(ca_pem=(folder / CA).read_bytes(), whose="a key that the server's CA vouches for"))
    from umbel.audit.key import FILE, key_beside

    key = key_beside(folder) if (folder / FILE).is_file() else None
    return found if key is None else [*found, Trust(key=key.public, whose=f"the key in {FILE} beside the store")]


def beside(file: Path) -> Trust:
    """What is known where a file is: in a node's folder, the CA of its server."""
    from umbel.identity import Credentials

    if not (file.parent / "identity.json").is_file():
        return Trust()
    return Trust(ca_pem=Credentials.load(file.parent).ca_pem, whose="a key that the node's CA vouches for")
