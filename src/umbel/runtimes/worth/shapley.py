"""How a game's gain is divided among its players: leave-one-out, the Shapley value, and its estimate from permutations.

References:
    L. S. Shapley, "A Value for n-Person Games", Contributions to the Theory of Games II, 1953,
    https://doi.org/10.1515/9781400881970-018
    A. Ghorbani, J. Zou, "Data Shapley: Equitable Valuation of Data for Machine Learning", ICML 2019,
    https://arxiv.org/abs/1904.02868
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from umbel.randomness import derive, generator
from umbel.runtimes.worth.game import Coalition, Game

MOST_EXACT = 12
"""So many players make 4,096 coalitions."""


@final
@dataclass(frozen=True)
class Share:
    """What one player is worth, and between which bounds: those of an exact value are the value itself."""

    value: float
    low: float
    high: float


def leave_one_out(game: Game) -> dict[str, Share]:
    """v(N) - v(N without i)."""
    everyone = frozenset(game.players)
    whole, *without = game.values([everyone, *(everyone - {player} for player in game.players)])
    return {player: _exactly(whole - rest) for player, rest in zip(game.players, without, strict=True)}


def exact(game: Game) -> dict[str, Share]:
    """Σ over coalitions S without i of |S|! (n-|S|-1)! / n! · (v(S with i) - v(S)): 2^n coalitions."""
    players, n = game.players, len(game.players)
    coalitions = [_coalition(players, mask) for mask in range(2**n)]
    worth = game.values(coalitions)
    weights = [1 / (n * math.comb(n - 1, size)) for size in range(n)]

    def share(index: int) -> Share:
        bit = 1 << index
        gains = (weights[m.bit_count()] * (worth[m | bit] - worth[m]) for m in range(2**n) if not m & bit)
        return _exactly(math.fsum(gains))

    return {player: share(index) for index, player in enumerate(players)}


def sampled(
    game: Game, permutations: int, seed: int, *, starts: int, confidence: float = 0.95, tolerance: float = 0.0
) -> dict[str, Share]:
    """The mean of what each player adds to those before it, over random permutations.

    Each permutation lies on a ring and is walked from several places evenly spaced on it, forwards and backwards, so
    that a player comes early in one walk and late in another: with all places each comes once at every position, and a
    backward walk needs no coalition that forward ones have not. Permutations are independent of each other; the bounds
    are Student's t over their means.

    Args:
        permutations: at least 2.
        starts: from how many places, 1 to the number of players.
        tolerance: where those before are worth so nearly what all are, nobody is added any more (Ghorbani and Zou's
            truncation), and what is left is shared equally by the rest. 0 walks to the end.
    """
    rings = [_walks(game.players, seed, number, starts) for number in range(permutations)]
    if tolerance <= 0:
        game.values(prefix for ring in rings for walk in ring for prefix in _prefixes(walk))
    means = [_mean([_walk(game, walk, tolerance) for walk in ring]) for ring in rings]
    factor = student(confidence, permutations - 1) / math.sqrt(permutations)
    found: dict[str, Share] = {}
    for player in game.players:
        gains = [mean[player] for mean in means]
        mean = math.fsum(gains) / len(gains)
        spread = math.sqrt(math.fsum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
        found[player] = Share(mean, mean - factor * spread, mean + factor * spread)
    return found


def _walks(players: Sequence[str], seed: int, number: int, starts: int) -> list[list[str]]:
    count = len(players)
    places = generator(derive(seed, "permutation", number)).permutation(count)
    ring = [players[int(place)] for place in places]
    turned = [ring[first:] + ring[:first] for first in (start * count // starts for start in range(starts))]
    return [walk for one in turned for walk in (one, one[::-1])]


def _prefixes(order: Sequence[str]) -> list[Coalition]:
    return [frozenset(order[:count]) for count in range(len(order) + 1)]


def _mean(walks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {player: math.fsum(walk[player] for walk in walks) / len(walks) for player in walks[0]}


def _walk(game: Game, order: Sequence[str], tolerance: float) -> dict[str, float]:
    """What each adds to those before it."""
    prefixes = _prefixes(order)
    if tolerance <= 0:
        worth = game.values(prefixes)
        return {player: worth[place + 1] - worth[place] for place, player in enumerate(order)}
    before, whole = game.values([prefixes[0], prefixes[-1]])
    gains: dict[str, float] = {}
    for place, player in enumerate(order):
        if abs(whole - before) <= tolerance:
            rest = order[place:]
            return gains | dict.fromkeys(rest, (whole - before) / len(rest))
        now = game.value(prefixes[place + 1])
        gains[player], before = now - before, now
    return gains


def student(confidence: float, degrees: int) -> float:
    """The two-sided quantile of Student's t with so many degrees of freedom.

    Where its finite series (Abramowitz and Stegun, 26.7.3 and 26.7.4) comes to `confidence`.

    Example:
        >>> round(student(0.95, 10), 3)
        2.228
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < confidence else (low, angle)
    return math.tan(low) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """The chance that |t| is below tan(angle) · √degrees."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _exactly(value: float) -> Share:
    return Share(value, value, value)


def _coalition(players: Sequence[str], mask: int) -> Coalition:
    return frozenset(player for index, player in enumerate(players) if mask >> index & 1)
