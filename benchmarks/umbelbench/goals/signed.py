"""A signed log: events per second in the chain and the tree, and what signing costs a round that does nothing."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "signed"
EVENTS, CLIENTS, ROUNDS = 30_000, 100, 20
EVENT = {"format": 1, "kind": "round", "loss": 0.25, "metrics": {"accuracy": 0.5}, "model": "0" * 64, "participants": 4}


def run(options: Options) -> list[Row]:
    command = [options.python, "-m", "umbelbench.goals.signed", str(5 if options.quick else options.pairs)]
    answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(answer.stdout)
    rates = estimate([EVENTS / seconds for seconds in found["append"]])
    share = estimate([100 * spent / whole for spent, whole in zip(found["spent"], found["round"], strict=True)])
    quotient = estimate([signed / plain for signed, plain in zip(found["signed"], found["plain"], strict=True)])
    return [
        Row(NAME, "events appended, chain, tree and a signature per 1,000 (CPU time)", rates, "1/s", at_least=30_000.0),
        Row(NAME, f"signing / a round of {CLIENTS} clients that do nothing", share, "%", at_most=1.0),
        Row(NAME, "such a run signed / not signed", quotient),
    ]


def appended() -> float:
    """Seconds of CPU time to append all events to a log in memory that is signed."""
    from umbel.audit.key import LogKey, new_pem
    from umbel.audit.notary import Notary
    from umbel.stores import MemoryStore, RunInfo

    store, notary = MemoryStore(), Notary("run", LogKey.read(new_pem(), "the benchmark's"))
    store.create(RunInfo("run", "", 0.0, "running", {}))
    begun = time.process_time()
    for number in range(EVENTS):
        event = {**EVENT, "round": number}
        store.append("run", event)
        notary.noted(event)
        if notary.is_due and (head := notary.tree_head(number)) is not None:
            store.append("run", head)
            notary.noted(head)
    return time.process_time() - begun


def simulated(folder: Path, *, signs: bool) -> tuple[float, float]:
    """(seconds of a simulation on disk, those of them that went into its signed tree)."""
    import numpy as np

    import umbel as fl
    from umbel.audit.notary import Notary
    from umbel.runtimes import keeping
    from umbel.stores import SQLiteStore

    class Still(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

    spent = [0.0]

    def timed(method):
        def call(*arguments):
            begun = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[0] += time.perf_counter() - begun

        return call

    before = Notary.noted, Notary.tree_head, keeping.key_beside
    if signs:
        Notary.noted, Notary.tree_head = timed(Notary.noted), timed(Notary.tree_head)
    else:
        keeping.key_beside = lambda folder: None
    store = SQLiteStore(folder / "runs.db")
    try:
        begun = time.perf_counter()
        fl.simulate(
            lambda context: Still(),
            CLIENTS,
            config=fl.ServerConfig(num_rounds=ROUNDS, seed=1, fraction_evaluate=0.0),
            initial_parameters=[np.zeros(1000, np.float32)],
            store=store,
            engine="serial",
            progress=False,
        )
        return time.perf_counter() - begun, spent[0]
    finally:
        store.close()
        Notary.noted, Notary.tree_head, keeping.key_beside = before


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in ("append", "plain", "signed", "spent", "round")}
    with tempfile.TemporaryDirectory() as place:
        simulated(Path(place), signs=True)  # what is loaded once, is loaded
        for turn in range(int(sys.argv[1])):
            times["append"].append(appended())
            for signs in (True, False) if turn % 2 else (False, True):
                whole, spent = simulated(Path(place), signs=signs)
                times["signed" if signs else "plain"].append(whole)
                if signs:
                    times["spent"].append(spent)
                    times["round"].append(whole)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
