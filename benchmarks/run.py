"""Runs the benchmarks, prints a table and writes JSON.

    python benchmarks/run.py [names] [--flwr-python PATH] [--pairs N] [--json FILE]
    python benchmarks/run.py --quick        # for CI: fails if a ratio is twice as bad as benchmarks/bounds.json says

The peer's interpreter (see benchmarks/peers.sh) may also be named by UMBEL_BENCH_FLWR; without one the peer's rows are
left out.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from umbelbench.goal import Row, table
from umbelbench.goals import (
    checkin,
    deployed_flwr,
    exact_sum,
    fedbuff,
    fleet,
    import_time,
    large,
    lenet,
    lenet_flwr,
    memory,
    noop,
    noop_flwr,
    packing,
    start,
    tiny,
)
from umbelbench.options import Options

BENCHES = {
    bench.NAME: bench.run
    for bench in (
        import_time,
        exact_sum,
        start,
        noop,
        memory,
        lenet,
        lenet_flwr,
        tiny,
        fleet,
        checkin,
        packing,
        large,
        deployed_flwr,
        fedbuff,
    )
}
BENCHES |= {noop_flwr.FEW_NAME: noop_flwr.run_few, noop_flwr.MANY_NAME: noop_flwr.run_many}
QUICK = ("import", "exact_sum", "noop", "memory", "lenet", "tiny")
BOUNDS = Path(__file__).with_name("bounds.json")
REGRESSION = 2.0


def regressions(rows: list[Row], bounds: dict[str, float]) -> list[str]:
    """Sentences about ratios that are twice as bad as their bound; a bound that nothing measured is one, too."""
    found, measured = [], {}
    for row in rows:
        if row.bounded:
            measured[f"{row.bench}: {row.quantity}"] = row
    for key, bound in bounds.items():
        row = measured.get(key)
        if row is None:
            if key.split(":")[0] in {r.bench for r in rows}:
                found.append(f"{key} has a bound but was not measured")
            continue
        value = row.measured.median
        bad = value < bound / REGRESSION if row.at_least is not None else value > bound * REGRESSION
        if bad:
            found.append(f"{key} is {value:.3g}, twice as bad as its bound {bound:.3g}")
    return found


def machine() -> dict[str, object]:
    return {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="names", help=f"of {', '.join(BENCHES)}; all if none is given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--python", default=sys.executable, help="runs umbel and the floor")
    parser.add_argument("--flwr-python", default=os.environ.get("UMBEL_BENCH_FLWR"))
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parsed = parser.parse_args()
    for name in parsed.names:
        if name not in BENCHES:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
    options = Options(parsed.python, parsed.flwr_python, parsed.pairs, parsed.quick)
    if options.flwr_python is None and not options.quick:
        print("no --flwr-python: the peer's rows are left out (benchmarks/peers.sh makes its environment)")
    before, rows, seconds = machine(), [], {}
    for name in parsed.names or (QUICK if options.quick else BENCHES):
        begun = time.perf_counter()
        found = BENCHES[name](options)
        seconds[name] = time.perf_counter() - begun
        rows += found
        if found:
            print(f"{table(found)}\n\n{name}: {seconds[name]:.0f} s\n", flush=True)
    if parsed.json:
        facts = {"machine": before, "seconds": seconds, "rows": [row.as_json() for row in rows]}
        parsed.json.write_text(json.dumps(facts, indent=1) + "\n")
    bad = regressions(rows, json.loads(BOUNDS.read_text())) if options.quick else []
    for sentence in bad:
        print(sentence, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
