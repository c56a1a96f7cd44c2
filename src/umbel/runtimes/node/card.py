"""`DataCard`: what a data owner says of the data that a node trains on."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

from umbel.errors import ConfigError
from umbel.stores.link import canonical

LONGEST = 200


@final
@dataclass(frozen=True, kw_only=True)
class DataCard:
    """The owner's word on the data. It stays at the node; its digest and the region are told to the server.

    Attributes:
        name: of the data set.
        rows: how many there are, at least 0.
        licence: under which the data may be used: "CC-BY-4.0", "internal".
        consent_basis: what allows their use: "GDPR Art. 9(2)(j)", "broad consent 2024-03".
        region: where they lie and whose law holds, as the federation writes it: "eu", "ch".
        digest: the SHA-256 of the data, 64 hexadecimal digits; how it is taken is the owner's to know.

    Raises:
        ConfigError: a field is none.

    Example:
        >>> card = DataCard(name="heart", rows=303, licence="CC-BY-4.0", consent_basis="public", region="us",
        ...                 digest="00" * 32)
        >>> card.fingerprint[:16]
        'e287d3a5be7274b4'
    """

    name: str
    rows: int
    licence: str
    consent_basis: str
    region: str
    digest: str

    def __post_init__(self) -> None:
        for key in ("name", "licence", "consent_basis", "region"):
            value: object = getattr(self, key)
            if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST or not value.isprintable():
                raise ConfigError(f"{key} is 1 to {LONGEST} printable characters, got {str(value)[:100]!r}")
        if type(self.rows) is not int or self.rows < 0:  # pyright: ignore[reportUnnecessaryComparison]
            raise ConfigError(f"rows is a whole number of at least 0, got {self.rows!r}")
        if re.fullmatch("[0-9a-f]{64}", str(self.digest)) is None:
            raise ConfigError(
                f"digest is the SHA-256 of the data, 64 digits of 0-9 and a-f, got {str(self.digest)[:100]!r}; "
                "sha256sum gives that of a file"
            )

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the whole card, of its canonical JSON: what receipts name."""
        return hashlib.sha256(b"umbel data card 1\n" + canonical(asdict(self))).hexdigest()

    @property
    def told(self) -> dict[str, str]:
        """What the server is told."""
        return {"digest": self.fingerprint, "region": self.region}


def load_card(path: Path) -> DataCard:
    """The card in a TOML file.

    Raises:
        ConfigError: the file cannot be read, or a field is missing, unknown or none; names it.
    """
    try:
        found: Mapping[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the data card {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the data card {path} is not valid TOML: {error}") from None
    known = [field.name for field in fields(DataCard)]
    unknown, missing = [key for key in found if key not in known], [key for key in known if key not in found]
    if unknown or missing:
        what = f"has the unknown field {unknown[0]}" if unknown else f"lacks {', '.join(missing)}"
        raise ConfigError(f"the data card {path} {what}; its fields are {', '.join(known)}")
    try:
        return DataCard(**found)
    except ConfigError as error:
        raise ConfigError(f"the data card {path}: {error}") from None
