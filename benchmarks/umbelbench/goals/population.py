"""10^4, 10^6 and 10^8 clients, 100 of them a round: do set-up, rounds or memory grow with those not asked?"""

from umbelbench import entrants, rows
from umbelbench.contest import Contestant, alone, race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options
from umbelbench.tiny import require_agreement

NAME = "population"
COHORT, LIMIT_MB, FLAT = "100", 50.0, 1.2
SIZES = {"10^4 clients": 10**4, "10^6 clients": 10**6, "10^8 clients": 10**8}
LEAST, MOST = "10^4 clients", "10^8 clients"


def _start_s(contestant: Contestant) -> float:
    """From the process's creation to the first round's end, of a program that runs alone."""
    return alone(contestant, 1).started_s


def run(options: Options) -> list[Row]:
    contestants = [
        entrants.umbel(name, options, "tiny", "--clients", str(size), "--cohort", COHORT)
        for name, size in SIZES.items()
    ]
    contestants += entrants.pfl(options, "tiny", "--clients", str(SIZES[MOST]), "--cohort", COHORT)
    contestants += entrants.flwr(options, "tiny", "--clients", str(SIZES[LEAST]), "--cohort", COHORT)
    results = race(contestants, pairs=options.pairs + 5)
    off = {name: require_agreement(name, result) for name, result in results.items()}
    growth = (results[MOST].peak_bytes - results[LEAST].peak_bytes) / 1e6
    few, many = (contestants[list(SIZES).index(name)] for name in (LEAST, MOST))
    setup = [1 / _start_s(few) * _start_s(many) for _ in range(max(1, options.pairs // 2))]
    found = [
        *rows.rounds(NAME, results, "100 a round", off),
        *rows.starts(NAME, results, "100 a round"),
        *rows.peaks(NAME, results, "100 a round"),
        Row(NAME, "growth of memory, 10^8 over 10^4 clients", estimate([growth]), "MB", at_most=LIMIT_MB),
        Row(NAME, "start to first round's end, 10^8 / 10^4 clients", estimate(setup), at_most=FLAT),
        Row(NAME, "round, 10^8 / 10^4 clients", estimate(ratios(results[MOST], results[LEAST])), at_most=FLAT),
    ]
    for name, beside in (("pfl", MOST), ("flwr", LEAST)):
        if name in results:
            quotient = estimate(ratios(results[name], results[beside]))
            found.append(Row(NAME, f"{name} / umbel, round, {beside}", quotient))
    return found
