"""Not a contestant but a measure of the machine: small arrays pickled, read and added, as an engine's rounds do.

Rounds of milliseconds are compared with it, so that a regression shows on any machine.
"""

import argparse
import pickle

import numpy as np

from umbelbench.gate import Gate

MESSAGES, SIZE = 300, 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    total = np.zeros(SIZE)
    for _ in range(options.rounds):
        gate.wait()
        for message in range(MESSAGES):
            sent = pickle.dumps({"client": message, "arrays": [np.full(SIZE, message, np.float32)]})
            total += pickle.loads(sent)["arrays"][0] * 0.5
    gate.finish(options.result, [total], [])


if __name__ == "__main__":
    main()
