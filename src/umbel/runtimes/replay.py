"""Replay: what a run's log, its plan and its kept checkpoints say, held against each other.

Nothing is trained again. What can be computed from the plan and the seed is computed and compared; what cannot is said.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, final

from umbel.coordinators import Everyone, Rounds, ServerConfig
from umbel.coordinators.abstract import count_of
from umbel.coordinators.population import cohort_key
from umbel.errors import ConfigError
from umbel.runtimes.budget import RELEASE
from umbel.runtimes.halves import is_promised
from umbel.runtimes.matching import population
from umbel.stores.abstract import standing
from umbel.stores.link import named_plan, plan_digest, why_another_plan

NO_PLAN = "the plan: it is in no event, as an earlier version wrote them"
_MECHANISM = ("noise_multiplier", "sampling", "cohort", "clients")
"""What the plan's mechanism and each entry of the ledger say both."""
NO_SUMS = "the server's steps: no plan of this version keeps a round's sum, so a model is not computed from it again"
SECURE_SUMS = "the sums: under secure aggregation nobody but the server has opened them, and updates are in no log"


@final
@dataclass
class Replay:
    """What was found.

    Attributes:
        checked: what was compared → how often.
        problems: what does not fit, in sentences.
        unchecked: what could not be compared, and why.
    """

    checked: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[str] = field(default_factory=list[str])
    unchecked: list[str] = field(default_factory=list[str])

    def hold(self, what: str, problem: str | None) -> None:
        """Count a comparison, and keep what is wrong."""
        self.checked[what] = self.checked.get(what, 0) + 1
        if problem is not None:
            self.problems.append(problem)


def replay(plan: Mapping[str, Any], events: Sequence[Mapping[str, Any]], models: Mapping[int, str]) -> Replay:
    """Compare what can be.

    Args:
        plan: the run's plan, as its store has it.
        events: its log, all of it, whose chain is not looked at here.
        models: round → digest of the model in its kept checkpoint.
    """
    found, rounds = Replay(), rounds_in(events)
    _plan(found, plan, events)
    _ledger(found, plan, events, rounds)
    _models(found, rounds, models)
    _contributions(found, rounds)
    config = _config(plan)
    if config is None:
        found.unchecked.append("cohorts and the run's end: the plan's settings are of another version")
    else:
        _cohorts(found, plan, config, rounds)
        _end(found, config, events, rounds)
    secure = plan.get("coordinator", {}).get("name") == "Secure"
    found.unchecked.append(SECURE_SUMS if secure else NO_SUMS)
    return found


def rounds_in(events: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Number → event of the rounds after 0; of a round that was done again, the last counts."""
    return {event["round"]: event for event in standing(events) if event.get("kind") == "round" and event["round"] > 0}


def _plan(found: Replay, plan: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    named = named_plan(events)
    if named is None:
        found.unchecked.append(NO_PLAN)
    else:
        found.hold("the plan, by its digest in the log", why_another_plan(named, plan_digest(plan)))


def _ledger(
    found: Replay,
    plan: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    rounds: Mapping[int, Mapping[str, Any]],
) -> None:
    """What a private run released is what its plan says, and no round of it is without a release."""
    if not is_promised(plan["strategy"]):
        return
    entries = [event for event in events if event.get("kind") == RELEASE]
    mechanism = plan["strategy"]["mechanism"]
    for event in entries:
        other = next((name for name in _MECHANISM if event.get(name) != mechanism.get(name)), None)
        wrong = f"a release of round {event['round']} had {other}={event.get(str(other))!r}, which is not the plan's"
        found.hold("releases and the plan's noise", None if other is None else wrong)
    without = sorted(rounds.keys() - {event["round"] for event in entries})
    wrong = f"round {without[0] if without else 0} was finished, and its release is not in the ledger"
    found.hold("rounds and the ledger's releases", wrong if without else None)


def _models(found: Replay, rounds: Mapping[int, Mapping[str, Any]], models: Mapping[int, str]) -> None:
    for number, digest in sorted(models.items()):
        if number in rounds and "model" not in rounds[number]:
            found.unchecked.append(
                f"the model of round {number}: its event does not name it, an earlier version wrote it"
            )
        elif number in rounds:
            logged = rounds[number]["model"]
            wrong = f"the checkpoint of round {number} holds the model {digest}, the log says {logged}"
            found.hold("models of kept checkpoints", None if digest == logged else wrong)
    rest = len(rounds.keys() - models.keys())
    if rest:
        found.unchecked.append(f"the models of {rest} rounds: their checkpoints are not kept")


def _contributions(found: Replay, rounds: Mapping[int, Mapping[str, Any]]) -> None:
    """Who is said to have taken part is who is listed with an answer."""
    for number, event in rounds.items():
        if "contributions" in event and "clients" in event:
            listed = sorted(one["client"] for one in event["contributions"])
            named = sorted(client for client, _ in event["clients"])
            wrong = f"round {number} names {len(named)} participants, and the answers of others or of fewer"
            found.hold("participants and their answers", None if listed == named else wrong)


def _config(plan: Mapping[str, Any]) -> ServerConfig | None:
    """The plan's settings, with a selector of which only the name may matter here."""
    told = dict(plan.get("config", {}))
    known = {one.name for one in fields(ServerConfig)} - {"selector"}
    try:
        return ServerConfig(**{name: value for name, value in told.items() if name in known})
    except (ConfigError, TypeError):
        return None


def _why_not_drawn(plan: Mapping[str, Any], config: ServerConfig) -> str | None:
    """Why cohorts cannot be drawn again from the plan."""
    selector = plan["config"].get("selector", {"name": "Uniform"})["name"]
    coordinator = plan.get("coordinator", {"name": "Secure"})["name"]
    reasons = (
        ("engine" not in plan, "who was connected is not in the log of a server"),
        (bool(config.where), "what clients say of themselves is not in the log"),
        (plan.get("system") is not None, "who was there in simulated time is not in the log"),
        (coordinator != "Secure", f"{coordinator} asks as answers come"),
        (selector != "Uniform", f"{selector} draws by what it learns or is told of clients, which is not in the log"),
        (config.seed is None, "the plan has no seed"),
        (is_promised(plan["strategy"]), "those of a private run are drawn with a secret that nobody keeps"),
    )
    return next((text for holds, text in reasons if holds), None)


def _cohorts(
    found: Replay, plan: Mapping[str, Any], config: ServerConfig, rounds: Mapping[int, Mapping[str, Any]]
) -> None:
    reason = _why_not_drawn(plan, config)
    if reason is not None:
        found.unchecked.append(f"cohorts: {reason}")
        return
    unlisted = 0
    for number, event in rounds.items():
        if "clients" not in event:
            unlisted += 1
            continue
        named = [client for client, _ in event["clients"]]
        failed = {client for client, _ in event["failures"]}
        attempts, absent = range(config.round_retries + 1), plan.get("without", ())
        drawn = (_drawn(config, plan["num_clients"], number, attempt, absent) for attempt in attempts)
        fits = any(_fits(cohort, wanted, named, failed) for cohort, wanted in drawn)
        wrong = f"round {number} was not played by the cohort that the plan and its seed draw"
        found.hold("cohorts drawn from plan and seed, over-selection included", None if fits else wrong)
    if unlisted:
        found.unchecked.append(f"the cohorts of {unlisted} rounds: they were too large to be listed")


def _drawn(
    config: ServerConfig, num_clients: int, number: int, attempt: int, without: Collection[str] = ()
) -> tuple[list[str], int]:
    """Who is in the cohort, in its order, and how many are wanted: the others are a reserve."""
    assert config.seed is not None
    share, there = 0.0 if config.arrivals else config.fraction_fit, population(config, num_clients, None, without)
    wanted = count_of(share, config.min_fit_clients, there.size)
    asked = min(there.size, math.ceil(wanted * (1 + config.over_selection)))
    cohort = there.sample(cohort_key(config.seed, number, attempt, "fit"), asked)
    return cohort, wanted


def _fits(cohort: Sequence[str], wanted: int, named: Sequence[str], failed: Collection[str]) -> bool:
    """Whether those who took part are the first of the cohort that did not fail."""
    there = set(named)
    if len(there) != len(named) or len(named) > wanted or not there <= set(cohort):
        return False
    last = max((cohort.index(client) for client in named), default=-1) if len(named) == wanted else len(cohort) - 1
    return all(client in there or client in failed for client in cohort[: last + 1])


def _end(
    found: Replay,
    config: ServerConfig,
    events: Sequence[Mapping[str, Any]],
    rounds: Mapping[int, Mapping[str, Any]],
) -> None:
    """Whether the run ended when its plan says, by what was measured."""
    last = next((event for event in reversed(events) if event.get("kind") == "ended"), None)
    if last is None or last["reason"] not in ("finished", "target", "patience"):
        found.unchecked.append("the run's end: it did not come from its plan")
        return
    coordinator, ended = Rounds(config, Everyone(1)), None
    # The log of a run that came from another begins after the round at which it left it.
    coordinator.round = min(rounds, default=1) - 1
    for number in sorted(rounds):
        loss, metrics = rounds[number].get("loss"), rounds[number].get("metrics", {})
        ended = coordinator.finish({**metrics, **({} if loss is None else {"loss": loss})})
    reason = "finished" if ended is None and not rounds and config.num_rounds == 0 else ended and ended.reason
    wrong = f"the log says that the run ended with {last['reason']!r}, its plan and metrics say {reason!r}"
    found.hold("the run's end by what was measured", None if reason == last["reason"] else wrong)
