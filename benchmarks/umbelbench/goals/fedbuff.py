"""FedBuff against FedAvg in rounds under speeds with a heavy tail: simulated seconds and bytes to a target accuracy."""

from umbelbench import asynchronous
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "fedbuff"
SEEDS = 7
"""Time is simulated, so runs are repeated over seeds and not over turns on this machine."""


def run(options: Options) -> list[Row]:
    ways = {
        "rounds": asynchronous.rounds,
        "over-selection": asynchronous.over_selected,
        "FedBuff": asynchronous.buffered,
    }
    runs = {name: [way(seed) for seed in range(1, SEEDS + 1)] for name, way in ways.items()}
    for name, histories in runs.items():
        missed = [history.run for history in histories if history.ended != "target"]
        if missed:
            raise SystemExit(f"{name} did not reach {asynchronous.TARGET}: {missed}")
    rows = [
        Row(NAME, f"{quantity} to the target, {name}", estimate([count(history) for history in histories]), unit)
        for quantity, unit, count in QUANTITIES
        for name, histories in runs.items()
    ]
    return [*rows, *_ratios(runs)]


def _ratios(runs) -> list[Row]:
    found = []
    for quantity, _, count in QUANTITIES[:2]:
        for name, goal in (("rounds", None), ("over-selection", 3.3)):
            pairs = zip(runs[name], runs["FedBuff"], strict=True)
            ratio = estimate([count(slow) / count(fast) for slow, fast in pairs])
            found.append(Row(NAME, f"{quantity}, {name} over FedBuff", ratio, "x", at_least=goal))
    return found


QUANTITIES = (
    ("simulated seconds", "s", lambda history: history.simulated_s),
    ("bytes", "MB", lambda history: sum(r.bytes_sent + r.bytes_received for r in history.rounds) / 1e6),
    ("updates", "", lambda history: float(sum(r.participants for r in history.rounds))),
    ("steps", "", lambda history: float(history.rounds[-1].round)),
)
