"""What a server knows of a node, for conditions such as `gpu and region == 'eu'`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, cast

from umbel.coordinators.where import VERSIONS, Plain, checked_attributes
from umbel.errors import ConfigError, ProtocolError

# As `umbel.identity` has it, which scripts need not have installed.
DEFAULT = "default"


def attributes_in(about: Mapping[str, Any]) -> dict[str, Plain]:
    """The attributes in what a node says about itself.

    Raises:
        ProtocolError: they are none.
    """
    try:
        return checked_attributes(about.get("attributes", {}))
    except ConfigError as error:
        raise ProtocolError(f"what a node says about itself is not in order: {error}") from None


def facts_of(
    name: str, about: Mapping[str, Any], attributes: Mapping[str, Plain], *, address: str = "", federation: str | None
) -> dict[str, Plain]:
    """Name → value of all that a condition can speak of. Nothing that a node says hides what the server knows.

    Args:
        federation: None is the default one.
    """
    facts: dict[str, Plain] = {**attributes, "name": name, "federation": federation or DEFAULT}
    family = _family(address)
    if family is not None:
        facts["address_family"] = family
    told: Any = about.get("versions")
    if isinstance(told, Mapping):
        versions = cast("Mapping[str, Any]", told)
        for key in VERSIONS:
            version = versions.get(key.removesuffix("_version"))
            if isinstance(version, str):
                facts[key] = version
    return facts


def _family(address: str) -> str | None:
    """ "ipv4" or "ipv6"; None if the other side has no such address."""
    try:
        found = ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None
    mapped = isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None
    return "ipv4" if found.version == 4 or mapped else "ipv6"
