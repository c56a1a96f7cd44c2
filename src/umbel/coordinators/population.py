"""Whom there is to ask, and how a cohort is drawn from them."""

from __future__ import annotations

import hashlib
import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Container, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final, overload

from umbel.errors import ConfigError
from umbel.randomness import derive, generator

LISTED = 10_000
"""Up to so many clients, everyone is looked at; in larger populations some are drawn and looked at."""
BATCH = 1024
ENOUGH, LOOKED_AT = 1_000, 200_000
"""An estimate of a share looks at clients until so many match, or so many were looked at."""


class Population(Protocol):
    """Clients that can be asked."""

    @property
    def size(self) -> int: ...

    def __contains__(self, client: object, /) -> bool:
        """Whether a client can be asked."""
        ...

    def sample(self, key: int, count: int) -> list[str]:
        """`count` different clients; equal keys give equal cohorts."""
        ...

    def listed(self) -> list[str] | None:
        """All clients that can be asked; None if there are too many to look at each."""
        ...

    def one_by_one(self, key: int) -> Iterator[str | None]:
        """Clients without end, each one drawn from all with equal chances; None for one that cannot be asked."""
        ...


@final
@dataclass(frozen=True)
class Everyone:
    """The clients "0" … "size-1", none of which is built to draw from them."""

    size: int

    def sample(self, key: int, count: int) -> list[str]:
        if count >= self.size:
            return [str(index) for index in range(self.size)]
        return [str(index) for index in generator(key).choice(self.size, count, replace=False).tolist()]

    def __contains__(self, client: object) -> bool:
        return isinstance(client, str) and client.isdecimal() and int(client) < self.size

    def listed(self) -> list[str] | None:
        return self.first(self.size) if self.size <= LISTED else None

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return (str(number) for number in _numbers(key, self.size))

    def first(self, count: int) -> list[str]:
        return [str(index) for index in range(min(count, self.size))]


@final
@dataclass(frozen=True)
class Some:
    """Some of the clients "0", "1", …, by ascending number; all of them are drawn from as `Everyone` is."""

    numbers: Sequence[int]

    @property
    def size(self) -> int:
        return len(self.numbers)

    def sample(self, key: int, count: int) -> list[str]:
        return [str(self.numbers[int(place)]) for place in Everyone(self.size).sample(key, count)]

    def __contains__(self, client: object) -> bool:
        if not isinstance(client, str) or not client.isdecimal():
            return False
        place = bisect_left(self.numbers, int(client))
        return place < self.size and self.numbers[place] == int(client)

    def listed(self) -> list[str] | None:
        return self.first(self.size) if self.size <= LISTED else None

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return (str(self.numbers[place]) for place in _numbers(key, self.size))

    def first(self, count: int) -> list[str]:
        return [str(number) for number in self.numbers[:count]]


@final
class AllBut(Sequence[int]):
    """The numbers 0 … size-1 without some, none of which is listed.

    Example:
        >>> numbers = AllBut(6, [4, 1])
        >>> len(numbers), list(numbers), numbers[1:3]
        (4, [0, 2, 3, 5], [2, 3])
    """

    def __init__(self, size: int, absent: Collection[int]) -> None:
        absent = sorted({number for number in absent if 0 <= number < size})
        self._count = size - len(absent)
        # How many of those that are there come before each absent one.
        self._before = [number - place for place, number in enumerate(absent)]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        place = range(self._count)[index]
        return place + bisect_right(self._before, place)


@final
class Named:
    """An explicit list of clients. The cohort is the smallest keyed hashes: an absent client changes no other draw."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise ConfigError("two clients have the same name; names must be unique")
        self.names = list(names)

    @property
    def size(self) -> int:
        return len(self.names)

    def sample(self, key: int, count: int) -> list[str]:
        root = key.to_bytes(16, "little")

        def rank(name: str) -> bytes:
            return hashlib.blake2b(name.encode(), key=root, digest_size=16).digest()

        return heapq.nsmallest(count, self.names, key=rank)

    def __contains__(self, client: object) -> bool:
        return client in self.names

    def listed(self) -> list[str] | None:
        return list(self.names)

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return (self.names[place] for place in _numbers(key, self.size))


@final
@dataclass(frozen=True)
class Either:
    """Clients in one or the other."""

    one: Container[str]
    other: Container[str]

    def __contains__(self, client: object) -> bool:
        return str(client) in self.one or str(client) in self.other


@final
class Matching:
    """Those of very many clients for which something holds: some are drawn and looked at, never all.

    Their number is estimated, from as many as it takes to see `ENOUGH` that match.

    Args:
        everyone: all of them.
        matches: whether it holds for a client.
        key: of the draw from which the number is estimated.

    Attributes:
        looked: how many were looked at for the estimate.
        found: how many of these match.
    """

    def __init__(self, everyone: Everyone | Some, matches: Callable[[str], bool], key: int) -> None:
        self.everyone, self.matches = everyone, matches
        self.looked = self.found = 0
        for client in everyone.one_by_one(key):
            if client is None or self.found >= ENOUGH or self.looked >= LOOKED_AT:
                break
            self.looked += 1
            self.found += matches(client)
        self.size = round(everyone.size * self.found / self.looked) if self.looked else 0

    def sample(self, key: int, count: int) -> list[str]:
        """As of any population; fewer than `count` where so many are not found among those drawn."""
        found = dict[str, None]()
        looks = 64 * LISTED + (4 * count * self.looked // self.found if self.found else 0)
        for client, _ in zip(self.everyone.one_by_one(key), range(looks), strict=False):
            if len(found) >= count:
                break
            if client is not None and client not in found and self.matches(client):
                found[client] = None
        return list(found)

    def __contains__(self, client: object) -> bool:
        return client in self.everyone and self.matches(str(client))

    def listed(self) -> list[str] | None:
        return None

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return (c if c is not None and self.matches(c) else None for c in self.everyone.one_by_one(key))

    def first(self, count: int) -> list[str]:
        return self.sample(0, count)


Registered: TypeAlias = "Everyone | Some | Matching"
"""The clients of a simulation."""


def _numbers(key: int, size: int) -> Iterator[int]:
    """Numbers from 0 to size - 1 without end."""
    rng = generator(key)
    while size:
        yield from rng.integers(size, size=BATCH).tolist()


def draw(
    population: Population, key: int, count: int, excluded: Container[str] = (), *, most: float = math.inf
) -> list[str]:
    """Up to `count` different clients that are not excluded; where none is, what `population.sample` gives.

    Those that are excluded are drawn, looked at and passed over, so that nobody has to list the others.

    Args:
        most: how many to look at before less than `count` is enough.
    """
    if isinstance(excluded, Sized) and not len(excluded):
        return population.sample(key, count)
    found, looked = list[str](), set[str]()
    number, times = count, 0
    while True:
        drawn = population.sample(derive(key, "again", times) if times else key, number)
        for client in drawn:
            if client not in looked and len(found) < count:
                looked.add(client)
                if client not in excluded:
                    found.append(client)
        if len(found) >= count or len(drawn) < number or number >= population.size or len(looked) >= most:
            return found
        number, times = min(2 * number, population.size), times + 1


def cohort_key(seed: int, round: int, attempt: int, kind: str) -> int:
    """The key of a cohort's draw."""
    return derive(seed, "cohort", kind, round, attempt)
