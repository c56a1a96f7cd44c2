"""The rows that every contest has: seconds a round, start, memory."""

from collections.abc import Mapping

from umbelbench.contest import Result
from umbelbench.goal import Row
from umbelbench.intervals import estimate


def rounds(bench: str, results: Mapping[str, Result], label: str, off: Mapping[str, float]) -> list[Row]:
    """Seconds a round of each contestant; how far its model lies from the reference is among the facts."""
    return [
        Row(
            bench,
            f"{name}, {label}",
            estimate(result.seconds),
            "s/round",
            facts={"seconds": result.seconds, "off": off.get(name)},
        )
        for name, result in results.items()
    ]


def starts(bench: str, results: Mapping[str, Result], label: str) -> list[Row]:
    return [
        Row(bench, f"start to first round's end, {name}, {label}", estimate([result.started_s]), "s")
        for name, result in results.items()
    ]


def peaks(bench: str, results: Mapping[str, Result], label: str) -> list[Row]:
    """The largest memory of each process tree, in MB."""
    return [
        Row(bench, f"peak memory, {name}, {label}", estimate([result.peak_bytes / 1e6]), "MB")
        for name, result in results.items()
    ]
