"""`History`: what a run gave, read from its event log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from umbel.arrays import Arrays
from umbel.errors import ConfigError, StoreError
from umbel.stores.abstract import standing
from umbel.stores.legible import check_event


@final
@dataclass(frozen=True)
class Failure:
    """A client that did not answer, and why, in one sentence."""

    client: str
    reason: str


@final
@dataclass(frozen=True)
class RoundRecord:
    """One finished round.

    Attributes:
        round: its number; 0 is the model before training.
        loss: mean loss of the evaluation by clients, else of the central evaluation, else None.
        metrics: the evaluation's other means, `train_…` from local training, `central_…` from `evaluate_fn`.
        participants: how many updates went in.
        failures: who did not answer, and why.
        bytes_sent, bytes_received: what the server would put on the wire and read from it.
        seconds: wall time of the round, without an `evaluate_fn` that ran beside the next one.
        clients: per-client metrics, if the plan asked for them.
        simulated_s: simulated seconds since the run began; 0 without a system model.
        joules: what the round's clients used.
        staleness: by how many steps the model was ahead of the updates, on average; 0 for synchronous rounds.
    """

    round: int
    loss: float | None
    metrics: Mapping[str, float]
    participants: int
    failures: tuple[Failure, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    clients: Sequence[Mapping[str, Any]] = ()
    simulated_s: float = 0.0
    joules: float = 0.0
    staleness: float = 0.0

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> RoundRecord:
        """The record in a "round" event."""
        return cls(
            round=event["round"],
            loss=event.get("loss"),
            metrics=event.get("metrics", {}),
            participants=event.get("participants", 0),
            failures=tuple(Failure(*pair) for pair in event.get("failures", [])),
            bytes_sent=event.get("bytes_sent", 0),
            bytes_received=event.get("bytes_received", 0),
            seconds=event.get("seconds", 0.0),
            clients=event.get("per_client", ()),
            simulated_s=event.get("simulated_s", 0.0),
            joules=event.get("joules", 0.0),
            staleness=event.get("staleness", 0.0),
        )


@final
@dataclass(frozen=True)
class Release:
    """One entry of a private run's ledger; a round that was begun again has more than one.

    Attributes:
        round: of which round.
        epsilon: ε of all releases up to this one together, at `delta`.
        noise_multiplier: of its noise; None where the log does not say.
        part: where noise is correlated over rounds, in which process of the run it was made, from 0; else 0.
    """

    round: int
    epsilon: float
    delta: float
    noise_multiplier: float | None = None
    part: int = 0

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Release:
        """The entry in a "release" event."""
        return cls(
            event["round"], event["epsilon"], event["delta"], event.get("noise_multiplier"), event.get("part", 0)
        )


_READ: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "round": RoundRecord.of,
    "release": Release.of,
    "warning": lambda event: hash(event["text"]),
    "ended": lambda event: event["reason"].startswith,
}
"""What is read of an event, by its kind."""


@final
@dataclass(frozen=True)
class History:
    """What a run gave.

    Attributes:
        parameters: the final model, name → array.
        rounds: one record per round, round 0 (if it was evaluated) first.
        run: the run's id in its store.
        ended: "finished", "target", "patience", "stopped" (by `stop_when`), "budget" (of privacy) or "interrupted".
        warnings: each thing worth knowing, once.
        plan: the run as plain data.
        privacy: what a private run released, and the ε that all of it up to there costs.
    """

    parameters: Arrays
    rounds: tuple[RoundRecord, ...]
    run: str = ""
    ended: str = "finished"
    warnings: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict[str, Any])
    privacy: tuple[Release, ...] = ()

    @classmethod
    def of(cls, log: Sequence[Mapping[str, Any]], parameters: Arrays, run: str, plan: Mapping[str, Any]) -> History:
        """The history that a log tells: of rounds what still holds, of releases all.

        Raises:
            StoreError: an event lacks what its kind has.
        """
        for number, event in enumerate(log, 1):
            check_event(run, number, event)
            try:
                _READ.get(event["kind"], lambda event: None)(event)
            except (LookupError, TypeError, AttributeError) as error:
                raise StoreError(
                    f"event {number} of run {run} is not what was written ({type(error).__name__}: {error}); umbel "
                    "audit verify shows whether the log was changed, else restore the store from a backup"
                ) from error
        told = standing(log)
        rounds = tuple(RoundRecord.of(event) for event in told if event["kind"] == "round")
        warnings = dict.fromkeys(event["text"] for event in told if event["kind"] == "warning")
        releases = tuple(Release.of(event) for event in log if event["kind"] == "release")
        ended = next((event["reason"] for event in reversed(told) if event["kind"] == "ended"), "unfinished")
        return cls(parameters, rounds, run, ended, tuple(warnings), plan, releases)

    @property
    def loss(self) -> float | None:
        """The last loss that was measured."""
        return next((r.loss for r in reversed(self.rounds) if r.loss is not None), None)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last round's metrics."""
        return self.rounds[-1].metrics if self.rounds else {}

    @property
    def simulated_s(self) -> float:
        """Simulated seconds that the run took; 0 without a system model."""
        return self.rounds[-1].simulated_s if self.rounds else 0.0

    def series(self, name: str) -> list[tuple[int, float]]:
        """(round, value) of the loss or a metric, where it was measured."""
        values = [(r.round, r.loss if name == "loss" else r.metrics.get(name)) for r in self.rounds]
        return [(number, value) for number, value in values if value is not None]

    def to_pandas(self) -> Any:
        """A data frame with one row per round; metrics become columns.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas; install it with: pip install 'umbel[pandas]'") from None
        timed = self.simulated_s > 0
        overlapping = timed or any(r.staleness for r in self.rounds)
        rows = [
            {
                "round": r.round,
                "loss": r.loss,
                **r.metrics,
                "participants": r.participants,
                "failures": len(r.failures),
                "bytes_sent": r.bytes_sent,
                "bytes_received": r.bytes_received,
                "seconds": r.seconds,
                **({"simulated_s": r.simulated_s, "joules": r.joules} if timed else {}),
                **({"staleness": r.staleness} if overlapping else {}),
            }
            for r in self.rounds
        ]
        return pd.DataFrame(rows)

    def save(self, path: str) -> None:
        """Write the final model as a `.safetensors` file."""
        self.parameters.save(path)

    def __str__(self) -> str:
        names = sorted({name for r in self.rounds for name in r.metrics})
        timed = self.simulated_s > 0
        header = ["round", "loss", *names, "clients", "failed", *(["simulated"] if timed else []), "seconds"]
        rows = [header]
        for r in self.rounds:
            numbers = [r.loss, *(r.metrics.get(name) for name in names)]
            cells = ["-" if n is None else f"{n:.4g}" for n in numbers]
            cells += [str(r.participants), str(len(r.failures)), *([f"{r.simulated_s:.1f}"] if timed else [])]
            rows.append([str(r.round), *cells, f"{r.seconds:.3f}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
