"""The table and the plain words under it, all derived from the scores."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from measure import Estimate, estimate

import umbel as fl

MODELS = ("majority class", "alone", "federated", "pooled", "guest")
SHOWN = {"pooled": "pooled (forbidden)", "guest": "the other three's"}
MEASURES = ("AUC", "balanced accuracy", "accuracy")
MAJORITY, ALONE, FEDERATED, POOLED, GUEST = range(5)
AUC, BALANCED, ACCURACY = range(3)


def report(
    names: Sequence[str], parts: Any, scores: Any, tests: Any, repeats: int, folds: int, history: fl.History
) -> str:
    """Everything that is printed.

    Args:
        scores: shape (splits, hospitals, models, measures).
        tests: shape (splits, hospitals, 2): healthy and ill test patients.
    """
    share = 1 / folds
    # differences[0] are federated minus alone, [1] federated minus pooled, each by measure and hospital
    differences = [
        [[estimate(_paired(scores, site, other, m), share) for site in range(len(names))] for m in (AUC, BALANCED)]
        for other in (ALONE, POOLED)
    ]
    lines = [
        f"Mean ± 95 % interval over {folds} folds x {repeats}, stratified by hospital and label.",
        "",
        *_table(names, parts, scores, share),
        "",
        *_comparison(names, differences),
        "",
        *_notes(names, tests, folds),
        "",
        _closing(names, scores, differences, parts, history),
    ]
    return "\n".join(lines)


def _paired(scores: Any, site: int, other: int, measure: int) -> Any:
    return scores[:, site, FEDERATED, measure] - scores[:, site, other, measure]


def _table(names: Sequence[str], parts: Any, scores: Any, share: float) -> list[str]:
    lines = [f"{'hospital':<32}{'model':<20}" + "".join(f"{m:<19}" for m in MEASURES).rstrip()]
    for site, name in enumerate(names):
        labels = parts[site][1]
        title = f"{name}: {len(labels)}, {labels.mean():.0%} ill"
        for number, model in enumerate(MODELS):
            cells = [_cell(estimate(scores[:, site, number, m], share), number) for m in range(len(MEASURES))]
            row = f"{title if number == 0 else '':<32}{SHOWN.get(model, model):<20}" + "".join(
                f"{c:<19}" for c in cells
            )
            lines.append(row.rstrip())
    return lines


def _cell(found: Estimate, model: int) -> str:
    return f"{found.mean:.3f}" if model == MAJORITY else f"{found.mean:.3f} ± {found.half:.3f}"


def _comparison(names: Sequence[str], differences: Any) -> list[str]:
    lines = ["Federated minus alone, on the same splits:"]
    for site, name in enumerate(names):
        cells = []
        for measure, title in ((AUC, "AUC"), (BALANCED, "balanced accuracy")):
            found = differences[0][measure][site]
            cells.append(f"{title} {found.mean:+.3f} ± {found.half:.3f} {found.verdict}")
        lines.append(f"  {name:<15}{cells[0]:<42}{cells[1]}")
    return lines


def _notes(names: Sequence[str], tests: Any, folds: int) -> list[str]:
    notes = [
        "The other three's: a federated model in whose making the hospital took no part.",
        "Intervals: Student's t with the variance of Nadeau and Bengio (2003), s²(1/J + n_test/n_train), because folds",
        f"share training patients; {2 * len(names)} comparisons, each at its own 95 %, not corrected for their number.",
        "Balanced accuracy: cut-off chosen on the hospital's own training patients, for every model alike.",
        "Accuracy: cut-off 0.5.",
    ]
    for site, name in enumerate(names):
        least = tests[:, site].min(axis=1)
        thin, none = int(np.sum(least < 2)), int(np.sum(least < 1))
        if thin:
            kind = ("healthy", "ill")[int(tests[:, site].sum(axis=0).argmin())]
            notes.append(f"{name}: {thin} of {len(least)} test folds hold fewer than 2 {kind} patients. They are kept,")
            notes.append("coarse as they are, because leaving them out would shift the mean; " + _undefined(none) + ".")
    return notes


def _undefined(folds: int) -> str:
    return f"in {folds} there is none, so AUC is left out" if folds else "none is without, so AUC exists in all"


def _closing(names: Sequence[str], scores: Any, differences: Any, parts: Any, history: fl.History) -> str:
    means = np.nanmean(scores, axis=(0, 1))
    sentences = [f"What federation bought, averaged over the {len(names)} hospitals:"]
    for measure, title in ((AUC, "AUC is"), (BALANCED, "balanced accuracy")):
        values = [f"{means[model, measure]:.3f}" for model in (FEDERATED, ALONE, POOLED)]
        sentences.append(f"{title} {values[0]} federated, {values[1]} alone and {values[2]} pooled" + ";."[measure])
    for measure, title in ((AUC, "AUC"), (BALANCED, "balanced accuracy")):
        sentences.append(f"In {title} {_by_verdict(names, differences[0][measure])}.")
    sentences.append(_against_pooling(names, differences[1][AUC]))
    guests = [f"{name} {np.nanmean(scores[:, site, GUEST, AUC]):.3f}" for site, name in enumerate(names)]
    sentences.append(f"A hospital with no labelled patients would get from the others an AUC of: {_list(guests)}.")
    accuracies = scores[..., ACCURACY].mean(axis=0)
    below = [name for name, row in zip(names, accuracies, strict=True) if row[FEDERATED] < row[MAJORITY]]
    if below:
        sentences.append(
            f"At {_list(below)} always saying the commoner label is right more often than the federated model cut "
            "at 0.5: its probabilities do not fit the place."
        )
    sent = sum(record.bytes_received for record in history.rounds)
    patients, size = sum(len(y) for _, y in parts), sum(x.nbytes for x, _ in parts)
    sentences.append(
        f"One training took {len(history.rounds)} rounds and {sent / 1000:.0f} kB of updates; none of the {patients} "
        f"patients' rows ({size / 1000:.0f} kB) left its hospital."
    )
    return textwrap.fill(" ".join(sentences), 112)


def _against_pooling(names: Sequence[str], found: Sequence[Estimate]) -> str:
    unlike = [name for name, one in zip(names, found, strict=True) if one.verdict != "no difference shown"]
    verdict = f"AUC differs at {_list(unlike)}" if unlike else "no difference in AUC is shown anywhere"
    largest = max(abs(one.mean) for one in found)
    return f"Against pooling all rows, which is forbidden, {verdict} (on average at most {largest:.3f} at a hospital)."


def _by_verdict(names: Sequence[str], found: Sequence[Estimate]) -> str:
    said: list[str] = []
    for verdict, words in (
        ("better", "the federated model is better than the hospital's own at"),
        ("worse", "it is worse than the hospital's own at"),
        ("no difference shown", "no difference from the hospital's own is shown at"),
    ):
        where = [name for name, one in zip(names, found, strict=True) if one.verdict == verdict]
        if where:
            said.append(f"{words} {_list(where) if len(where) < len(names) else 'any hospital'}")
    return ", ".join(said)


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
