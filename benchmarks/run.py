"""Runs the benchmarks, prints a table and writes JSON.

    python benchmarks/run.py [names] [--flwr-python PATH] [--pfl-python PATH] [--nvflare-python PATH]
                             [--pairs N] [--json FILE]
    python benchmarks/run.py --quick        # for CI: fails if a ratio is twice as bad as benchmarks/bounds.json says

The peers' interpreters (see benchmarks/peers.sh) may also be named by UMBEL_BENCH_FLWR, UMBEL_BENCH_PFL and
UMBEL_BENCH_NVFLARE; the rows of a peer without one are left out.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from umbelbench import peers
from umbelbench.goal import Row, table
from umbelbench.goals import (
    attacks,
    bits,
    checkin,
    ckks,
    deployed_flwr,
    exact_sum,
    fashion,
    fedbuff,
    fleet,
    import_time,
    large,
    lenet,
    lenet_flwr,
    lenet_pfl,
    memory,
    mlp,
    noise,
    noop,
    noop_flwr,
    packing,
    population,
    ragged,
    robust,
    secure,
    secure_tls,
    signed,
    silo,
    start,
    tiny,
    tiny_peers,
)
from umbelbench.options import Options

BENCHES = {
    bench.NAME: bench.run
    for bench in (
        import_time,
        exact_sum,
        robust,
        attacks,
        start,
        noop,
        memory,
        lenet,
        lenet_flwr,
        lenet_pfl,
        fashion,
        tiny,
        tiny_peers,
        mlp,
        ragged,
        bits,
        population,
        silo,
        fleet,
        checkin,
        packing,
        large,
        deployed_flwr,
        fedbuff,
        secure,
        secure_tls,
        ckks,
        noise,
        signed,
    )
}
BENCHES |= {noop_flwr.FEW_NAME: noop_flwr.run_few, noop_flwr.MANY_NAME: noop_flwr.run_many}
QUICK = ("import", "exact_sum", "noop", "memory", "lenet", "tiny")
BOUNDS = Path(__file__).with_name("bounds.json")
PEERS = ("flwr", "pfl", "nvflare")
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
    for peer in PEERS:
        parser.add_argument(f"--{peer}-python", default=os.environ.get(f"UMBEL_BENCH_{peer.upper()}"))
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parsed = parser.parse_args()
    for name in parsed.names:
        if name not in BENCHES:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
    pythons = {f"{peer}_python": getattr(parsed, f"{peer}_python") for peer in PEERS}
    options = Options(parsed.python, pairs=parsed.pairs, quick=parsed.quick, **pythons)
    missing = [peer for peer in PEERS if pythons[f"{peer}_python"] is None]
    if missing:
        flags = ", ".join(f"--{peer}-python" for peer in missing)
        print(f"without {flags} the rows of these peers are left out (benchmarks/peers.sh makes environments)")
    versions = {peer: peers.version(peer, path) for peer in PEERS if (path := pythons[f"{peer}_python"])}
    if versions:
        print("; ".join(versions.values()))
    before, rows, seconds = machine(), [], {}
    for name in parsed.names or (QUICK if options.quick else BENCHES):
        begun = time.perf_counter()
        found = BENCHES[name](options)
        seconds[name] = time.perf_counter() - begun
        rows += found
        if found:
            print(f"{table(found)}\n\n{name}: {seconds[name]:.0f} s\n", flush=True)
    if parsed.json:
        facts = {"machine": before, "peers": versions, "seconds": seconds, "rows": [row.as_json() for row in rows]}
        parsed.json.write_text(json.dumps(facts, indent=1) + "\n")
    bad = regressions(rows, json.loads(BOUNDS.read_text())) if options.quick else []
    for sentence in bad:
        print(sentence, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
