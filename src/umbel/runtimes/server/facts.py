"""What a server knows of a node, for conditions such as `gpu and region == 'eu'`."""

from __future__ import annotations

import ipaddress

from umbel.coordinators.where import VERSIONS, Plain
from umbel.runtimes.server.about import About

# As `umbel.identity` has it, which scripts need not have installed.
DEFAULT = "default"


def facts_of(name: str, about: About, *, address: str = "", federation: str | None) -> dict[str, Plain]:
    """Name → value of all that a condition can speak of. Nothing that a node says hides what the server knows.

    Args:
        federation: None is the default one.
    """
    facts: dict[str, Plain] = {**about.attributes, "name": name, "federation": federation or DEFAULT}
    family = _family(address)
    if family is not None:
        facts["address_family"] = family
    for key in VERSIONS:
        version = about.versions.get(key.removesuffix("_version"))
        if version is not None:
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
