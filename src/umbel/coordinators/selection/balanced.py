"""`Balanced`: cohorts in which every group of clients has its share."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, final

from umbel.coordinators.population import LISTED, Population
from umbel.coordinators.selection.chances import chances_by_name
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector
from umbel.errors import ConfigError
from umbel.message import require
from umbel.randomness import derive

Groups: TypeAlias = "Callable[[str], str | int] | Mapping[str, str | int]"


@final
@dataclass(frozen=True, eq=False)
class Balanced(Selector):
    """Cohorts with equally many clients of each group, or as many as a group's share of the clients.

    Within a group every client has the same chance. With "equal", the numbers of two groups differ by at most 1, as
    long as both have clients left; which group has one more changes from round to round. With "proportional", a group
    with n_g of the N clients has m·n_g/N of a cohort of m on average, and never a whole client more or less than that.
    Members of the groups alternate, so that clients kept in reserve are balanced, too.

    Up to 10,000 clients that are there are looked at one by one. In a larger population 10,000 are drawn and looked at:
    groups that are not among these are not in the cohort, and their shares are those in this sample.

    It cannot be combined with `Buffered` and `FedAsync`, which ask one client at a time.

    Args:
        groups: a function that gives a client's group by its id, or a mapping from ids to groups. A client that a
            mapping does not name is never drawn.
        shares: "equal" or "proportional".

    Raises:
        ConfigError: an argument is not what it has to be; while the run goes on, `groups` gives no group.

    Example:
        >>> from umbel.coordinators import Everyone, Experience
        >>> by_site = Balanced(lambda client: "large" if int(client) < 90 else "small")
        >>> drawn = by_site.draw(Everyone(100), key=1, count=10, experience=Experience())
        >>> sum(int(client) < 90 for client in drawn)
        5

    References:
        Stratified sampling of clients: Y. Fraboni, R. Vidal, L. Kameni, M. Lorenzi, "Clustered Sampling: Low-Variance
        and Improved Representativity for Clients Selection in Federated Learning", ICML 2021,
        https://arxiv.org/abs/2105.05883
    """

    groups: Groups
    shares: Literal["equal", "proportional"] = "equal"
    _named: Mapping[str, str] = field(init=False, repr=False, compare=False, metadata={"plan": False})

    def __post_init__(self) -> None:
        groups: Any = self.groups
        require(
            callable(groups) or (isinstance(groups, Mapping) and len(cast("Mapping[Any, Any]", groups)) > 0),
            f"groups must be a function of the client's id or a mapping from ids to groups, got {groups!r}",
        )
        require(
            self.shares in ("equal", "proportional"), f'shares must be "equal" or "proportional", got {self.shares!r}'
        )
        table = cast("Mapping[Any, Any]", groups if isinstance(groups, Mapping) else {})
        # Numbers and texts that read the same are one client, and one group.
        object.__setattr__(self, "_named", {str(client): str(group) for client, group in table.items()})

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        listed = population.listed()
        if listed is None:
            listed = population.sample(derive(key, "looked at"), max(LISTED, count))
        members = dict[str, list[str]]()
        for client in listed:
            group = None if client in excluded else self._group(client)
            if group is not None:
                members.setdefault(group, []).append(client)
        number = min(count, sum(map(len, members.values())))
        limits = self._limits(members, number, key)
        client_chance, group_chance = chances_by_name(derive(key, "client")), chances_by_name(derive(key, "group"))
        places = list[tuple[float, float, str]]()
        for group, clients in members.items():
            chance = group_chance(group)
            step = len(clients) if self.shares == "proportional" else 1
            clients.sort(key=client_chance)
            # A group's clients stand at regular places, the first of them at a random one.
            own = clients[: limits.get(group, number)]
            places += [((place + chance) / step, chance, client) for place, client in enumerate(own)]
        return [client for _, _, client in sorted(places)[:number]]

    def _limits(self, members: Mapping[str, list[str]], number: int, key: int) -> dict[str, int]:
        """How many each group has in a cohort of so many, where shares decide: m·n/N, rounded so that they add up."""
        if self.shares == "equal":
            return {}
        total, before, found = sum(map(len, members.values())), 0, dict[str, int]()
        start, chance_of = chances_by_name(derive(key, "share"))(""), chances_by_name(derive(key, "order"))
        for group in sorted(members, key=chance_of):
            after = before + len(members[group])
            found[group] = math.floor(number * after / total + start) - math.floor(number * before / total + start)
            before = after
        return found

    def _group(self, client: str) -> str | None:
        groups: Any = self.groups
        if isinstance(groups, Mapping):
            return self._named.get(client)
        try:
            found = groups(client)
        except Exception as error:
            raise ConfigError(f"groups has no group for {client}: {type(error).__name__}: {error}") from error
        # NaN, which is where a table has no label, would be a group of its own.
        require(
            found is not None and found == found, f"groups gives client {client} no group ({found}); give each a label"
        )
        return str(found)
