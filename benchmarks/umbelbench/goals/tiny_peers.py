"""The same logistic regression against pfl (1,000 and 10,000 a round) and Flower (1,000). Needs their interpreters.

Flower's rounds grow with the clients that are registered, so it is given no more than a round asks.
"""

from umbelbench import entrants, rows
from umbelbench.contest import Contestant, race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options
from umbelbench.tiny import require_agreement

NAME = "tiny_peers"
FEW, MANY = 1_000, 10_000
WANTED = {"pfl": 80.0, "flwr": 500.0}


def run(options: Options) -> list[Row]:
    few, many = ("--cohort", str(FEW)), ("--cohort", str(MANY))
    return [
        *_against(options, FEW, entrants.pfl(options, "tiny", *few), few),
        *_against(options, MANY, entrants.pfl(options, "tiny", *many), many),
        *_against(options, FEW, entrants.flwr(options, "tiny", *few, "--clients", str(FEW)), few),
    ]


def _against(options: Options, cohort: int, peers: list[Contestant], size: tuple[str, ...]) -> list[Row]:
    if not peers:
        return []
    name, label = peers[0].name, f"{cohort} a round"
    results = race([entrants.umbel("blocks", options, "tiny", *size), *peers], pairs=options.pairs)
    off = {contestant: require_agreement(contestant, result) for contestant, result in results.items()}
    label += f" beside {name}"
    quotient = estimate(ratios(results[name], results["blocks"]))
    return [
        *rows.rounds(NAME, results, label, off),
        *rows.starts(NAME, results, label),
        *rows.peaks(NAME, results, label),
        Row(NAME, f"{name} / umbel, {cohort} a round", quotient, at_least=WANTED[name]),
    ]
