"""A partition as a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from umbel.data.samples import Classes, IntArray

Cell: TypeAlias = "str | int | float"

SHOWN_AT_EACH_END = 20


@final
@dataclass(frozen=True)
class Description:
    """The clients of a partition, one row each; `print` shows aligned columns.

    Args:
        rows: per client a mapping with ``client``, ``rows``, ``share`` (0 to 1) and, where labels are known, ``labels``
            (how many different ones), ``majority label`` and ``majority share`` (0 to 1).
        total: the same columns over all clients.

    Example:
        >>> from umbel.data import IID
        >>> IID(2).split(4).describe().rows[0]
        {'client': '0', 'rows': 2, 'share': 0.5}
    """

    rows: tuple[Mapping[str, Cell], ...]
    total: Mapping[str, Cell]

    def __str__(self) -> str:
        """The table; the middle is left out when there are more than 40 clients."""
        hidden = max(0, len(self.rows) - 2 * SHOWN_AT_EACH_END)
        shown = self.rows if not hidden else (*self.rows[:SHOWN_AT_EACH_END], *self.rows[-SHOWN_AT_EACH_END:])
        columns = list(self.total)
        cells = [columns, *([_text(row[name]) for name in columns] for row in (*shown, self.total))]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
        if hidden:
            lines.insert(1 + SHOWN_AT_EACH_END, f"… {hidden} more clients")
        return "\n".join(lines)


def count_classes(parts: Sequence[IntArray], classes: Classes) -> IntArray:
    """Samples per client (row) and class (column)."""
    counts = np.zeros((len(parts), len(classes.values)), dtype=np.int64)
    for row, part in zip(counts, parts, strict=True):
        row[:] = np.bincount(classes.codes[part], minlength=len(classes.values))
    return counts


def describe(clients: Sequence[str], sizes: IntArray, counts: IntArray | None, classes: Classes | None) -> Description:
    """Build the table from names, sizes and class counts."""
    total = int(sizes.sum())
    tallies: list[IntArray | None] = [None] * len(clients) if counts is None else list(counts)
    rows = tuple(
        _row(client, int(size), total, tally, classes)
        for client, size, tally in zip(clients, sizes, tallies, strict=True)
    )
    return Description(rows, _row("total", total, total, None if counts is None else counts.sum(axis=0), classes))


def _row(client: str, size: int, total: int, tally: IntArray | None, classes: Classes | None) -> dict[str, Cell]:
    row: dict[str, Cell] = {"client": client, "rows": size, "share": size / total if total else 0.0}
    if tally is None or classes is None:
        return row
    most = int(np.argmax(tally))
    row["labels"] = int(np.count_nonzero(tally))
    row["majority label"] = str(classes.values[most]) if size else "-"
    row["majority share"] = int(tally[most]) / size if size else 0.0
    return row


def _text(cell: Cell) -> str:
    return f"{cell:.1%}" if isinstance(cell, float) else str(cell)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The client's name to the left, everything else to the right."""
    return [
        text.ljust(width) if i == 0 else text.rjust(width)
        for i, (text, width) in enumerate(zip(line, widths, strict=True))
    ]
