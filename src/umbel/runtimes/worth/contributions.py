"""`contributions`: what each client was worth to the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from umbel.errors import ConfigError, NotSupported
from umbel.message import is_number, require
from umbel.runtimes.program import ClientFn
from umbel.runtimes.sweep.sweep import goal
from umbel.runtimes.worth.fan import fanned
from umbel.runtimes.worth.federation import Federation
from umbel.runtimes.worth.game import Coalition, Remembered
from umbel.runtimes.worth.memory import Memory
from umbel.runtimes.worth.result import ClientValue, Contributions
from umbel.runtimes.worth.retrained import trained
from umbel.runtimes.worth.rounds import RoundsWorth
from umbel.runtimes.worth.shapley import MOST_EXACT, Share, exact, leave_one_out, sampled

METHODS = ("auto", "exact", "monte-carlo", "leave-one-out")
OF = ("retrained", "rounds")
PERMUTATIONS, STARTS = 8, 8


def contributions(
    client_fn: ClientFn,
    num_clients: int,
    *,
    method: str = "auto",
    of: str = "retrained",
    metric: str | None = None,
    mode: str = "auto",
    permutations: int = PERMUTATIONS,
    starts: int | None = None,
    tolerance: float = 0.0,
    confidence: float = 0.95,
    workers: int = 1,
    memory: str | Path | None = None,
    **simulation: Any,
) -> Contributions:
    """What each client is worth to the model that they train together.

    The value v(S) of a coalition S is a metric of the model that S comes to, measured on the same data for every S: by
    all clients that evaluate, those outside of S included, or by `evaluate_fn`. More is better: where less of the
    metric is, v(S) is its negative.

    Guarantee: exact Shapley values add up to v(everybody) - v(nobody) (efficiency), are equal for clients that are
    interchangeable (symmetry), and 0 for a client that changes no coalition (null player). They are no price: who knows
    how they are computed can raise its own by what it sends. Refused where the run promises to show nothing of a single
    client: `privacy=`, `Secure(...)`; and with `shared=`.

    Args:
        client_fn, num_clients: as in `simulate`.
        method: "exact" Shapley values (2^n coalitions), "monte-carlo" (from random permutations, with confidence
            intervals), "leave-one-out" (v(all) - v(all but i): n + 1 coalitions; of two clients with the same data both
            seem worthless), or "auto": exact up to 12 clients, else monte-carlo.
        of: what S comes to. "retrained": the whole run again with S alone. "rounds": in each round of the one run, the
            step with the updates of S alone, and the gains of all rounds added; that trains once and measures more.
        metric: "loss" or the name of one; None is the config's `monitor`.
        mode: "min" or "max", which of it is better; "auto" takes "min" for names with loss or error in them.
        permutations: how many independent ones for "monte-carlo", at least 2.
        starts: from how many places of each it is walked, both ways; None takes all of up to 12, else 8. About
            2 · permutations · starts · (n - 1) coalitions are measured, half as many with all places.
        tolerance: "monte-carlo" adds no more clients where the coalition is worth what all are, but for this.
        confidence: level of the intervals, between 0 and 1.
        workers: how many processes train coalitions beside each other.
        memory: a file that keeps what coalitions are worth. What is of other clients, another plan or first model is
            not used; nor is any of it, before more is added, if a few of them trained once more come to something else,
            as with other data. The caller sees to it that a file is used for one `client_fn`.
        simulation: arguments of `simulate` (strategy, config, evaluate_fn, …).

    Returns:
        A value with its bounds per client.

    Raises:
        ConfigError: an argument is wrong, or the metric is none that is measured.
        NotSupported: values per client would say what the run promises to hide.

    Example:
        >>> import umbel as fl
        >>> from umbel.testing import Quadratics
        >>> found = fl.contributions(Quadratics(clients=3).client, 3, config=fl.ServerConfig(num_rounds=2, seed=1))
        >>> abs(sum(one.value for one in found.clients) - found.gain) < 1e-9
        True

    References:
        L. S. Shapley, "A Value for n-Person Games", 1953, https://doi.org/10.1515/9781400881970-018
        A. Ghorbani, J. Zou, "Data Shapley", ICML 2019, https://arxiv.org/abs/1904.02868
        T. Wang et al., "A Principled Approach to Data Valuation for Federated Learning", 2020,
        https://arxiv.org/abs/2009.06192
    """
    _check(method, of, permutations, starts, tolerance, confidence, workers)
    federation = Federation.of(client_fn, num_clients, simulation)
    chosen = _method(method, federation)
    look = Look(metric or federation.config.monitor, goal(metric or federation.config.monitor, mode))
    starts = starts or (None if len(federation.players) <= MOST_EXACT else STARTS)

    def divided() -> tuple[_Measured, Mapping[str, Share], list[float]]:
        measured = _rounds(federation, look) if of == "rounds" else _retrained(federation, look, workers, memory)
        game = measured.game
        if chosen == "exact":
            shares = exact(game)
        elif chosen == "leave-one-out":
            shares = leave_one_out(game)
        else:
            assert federation.config.seed is not None
            seed, begins = federation.config.seed, min(len(game.players), starts or len(game.players))
            shares = sampled(game, permutations, seed, starts=begins, confidence=confidence, tolerance=tolerance)
        return measured, shares, game.values([frozenset(), frozenset(game.players)])

    try:
        measured, shares, (empty, whole) = divided()
    except _Stale:
        measured, shares, (empty, whole) = divided()
    sign = -1.0 if look.less_is_better else 1.0
    return Contributions(
        method=chosen,
        of=of,
        metric=look.metric,
        less_is_better=look.less_is_better,
        empty=sign * empty,
        whole=sign * whole,
        clients=tuple(
            ClientValue(client=client, value=share.value, low=share.low, high=share.high)
            for client, share in shares.items()
        ),
        confidence=confidence,
        coalitions=len(measured.game.known),
        stuck=len(measured.stuck),
        digest=measured.digest(),
    )


@final
@dataclass(frozen=True)
class Look:
    """Which number of a model is looked at; more of what it gives is better."""

    metric: str
    less_is_better: bool

    def __call__(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self.metric)
        if value is None:
            names = ", ".join(sorted(metrics)) or "nothing: give clients an evaluate, or evaluate_fn="
            raise ConfigError(f"metric {self.metric!r} is none that is measured of a model; measured is {names}")
        if not math.isfinite(value):
            raise ConfigError(
                f"{self.metric} of a coalition's model is {value}, of which no share can be had; lower lr"
            )
        return -value if self.less_is_better else value


@final
@dataclass(frozen=True)
class _Measured:
    game: Remembered
    digest: Callable[[], str]
    stuck: set[Coalition] = field(default_factory=set[Any])


def _retrained(federation: Federation, look: Look, workers: int, file: str | Path | None) -> _Measured:
    memory, stuck, digests = Memory(file, federation.digest), set[Coalition](), dict[Coalition, str]()
    earlier = _witnesses(memory)

    def train(coalition: Coalition) -> dict[str, Any]:
        found = trained(federation, coalition)
        return {"metrics": found.metrics, "stuck": found.stuck, "digest": found.digest}

    def worth(coalitions: Sequence[Coalition]) -> list[float]:
        nonlocal earlier
        new = [one for one in coalitions if one not in memory]
        if new and any(json.dumps(train(one)) != json.dumps(memory[one]) for one in earlier):
            memory.drop()
            raise _Stale
        earlier = [] if new else earlier
        if frozenset[str]() not in memory and new:
            # First by itself: a metric that is not measured is refused before anybody trains.
            look(memory.keep(frozenset(), train(frozenset()))["metrics"])
        rest = [one for one in new if one]
        for start in range(0, len(rest), BATCH * workers):
            some = rest[start : start + BATCH * workers]
            for one, found in zip(some, fanned(train, some, workers), strict=True):
                memory.keep(one, found)
        for one in coalitions:
            digests[one] = memory[one]["digest"]
            stuck.update([one] if memory[one]["stuck"] else [])
        return [look(memory[one]["metrics"]) for one in coalitions]

    least = federation.strategy.reducer.least_updates
    if least > 1 and federation.config.fraction_fit < 1:
        raise NotSupported(
            f"{federation.strategy.reducer!r} needs {least} updates a round, and a coalition's rounds ask "
            f"fraction_fit={federation.config.fraction_fit:g} of it; use fraction_fit=1.0"
        )
    game = Remembered(federation.players, worth, least=least)
    return _Measured(game, lambda: digests[frozenset(federation.players)], stuck)


def _witnesses(known: Iterable[Coalition]) -> list[Coalition]:
    """Few of these coalitions that have all the clients of all of them, and nobody if that is one of them.

    Trained once more, they show whether data or libraries are those that the others were trained with.
    """
    largest = sorted(known, key=len, reverse=True)
    found, there = [one for one in largest if not one], set[str]()
    for one in largest:
        if not one <= there:
            found.append(one)
            there |= one
    return found


class _Stale(Exception):
    """What was kept is of other data, and is dropped: the values begin again."""


BATCH = 16
"""So many coalitions of each worker are trained before what they are worth is written down."""


def _rounds(federation: Federation, look: Look) -> _Measured:
    rounds = RoundsWorth(federation, look)
    return _Measured(Remembered(federation.players, rounds.worth), lambda: rounds.digest)


def _method(method: str, federation: Federation) -> str:
    count = len(federation.players)
    if method == "exact" and count > MOST_EXACT:
        raise ConfigError(
            f'method="exact" measures 2^n coalitions and takes at most {MOST_EXACT} clients, there are {count}; use '
            'method="monte-carlo"'
        )
    return ("exact" if count <= MOST_EXACT else "monte-carlo") if method == "auto" else method


def _check(
    method: str, of: str, permutations: object, starts: object, tolerance: object, confidence: object, workers: object
) -> None:
    require(method in METHODS, f"method must be one of {', '.join(METHODS)}, got {method!r}")
    require(of in OF, f"of must be one of {', '.join(OF)}, got {of!r}")
    for name, value, least in (("permutations", permutations, 2), ("starts", starts, 1), ("workers", workers, 1)):
        fine = isinstance(value, int) and not isinstance(value, bool) and value >= least
        fine = fine or (name == "starts" and value is None)
        require(fine, f"{name} must be a whole number of at least {least}, got {value!r}")
    fine = is_number(tolerance) and 0 <= float(str(tolerance)) < math.inf
    require(fine, f"tolerance must be at least 0, got {tolerance!r}")
    fine = is_number(confidence) and 0 < float(str(confidence)) < 1
    require(fine, f"confidence must be between 0 and 1, got {confidence!r}; try 0.95")
