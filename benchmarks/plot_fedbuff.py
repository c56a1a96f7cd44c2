"""Draws accuracy over simulated time and over bytes for the `fedbuff` benchmark's first seed.

python benchmarks/plot_fedbuff.py docs/figures/fedbuff.svg
"""

import sys
from itertools import accumulate

import matplotlib.pyplot as plt
from umbelbench import asynchronous

WAYS = {
    "rounds of 1,000": asynchronous.rounds,
    "rounds, first 770 of 1,001": asynchronous.over_selected,
    "FedBuff, 1,000 at once, steps of 10": asynchronous.buffered,
}


def main(path: str) -> None:
    plt.rcParams["svg.hashsalt"] = "fedbuff"  # names in the file do not change from run to run
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for name, way in WAYS.items():
        records = way(1).rounds
        accuracy = [record.metrics["accuracy"] for record in records]
        sent = accumulate((record.bytes_sent + record.bytes_received) / 1e6 for record in records)
        left.plot([max(record.simulated_s, 1.0) for record in records], accuracy, label=name)
        right.plot(list(sent), accuracy, label=name)
    left.set(xscale="log", xlabel="simulated seconds", ylabel="accuracy")
    right.set(xlabel="megabytes sent and received")
    for axes in (left, right):
        axes.axhline(asynchronous.TARGET, color="grey", linewidth=0.8, linestyle=":")
    right.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


if __name__ == "__main__":
    main(sys.argv[1])
