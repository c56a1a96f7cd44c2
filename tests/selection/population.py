"""Populations that tests draw from."""

from collections.abc import Iterator
from dataclasses import dataclass

from umbel.coordinators import Everyone


@dataclass(frozen=True)
class Unlisted:
    """A small population that is drawn from as one of a hundred million is."""

    size: int

    def __contains__(self, client: object) -> bool:
        return client in Everyone(self.size)

    def sample(self, key: int, count: int) -> list[str]:
        return Everyone(self.size).sample(key, count)

    def listed(self) -> list[str] | None:
        return None

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return Everyone(self.size).one_by_one(key)
