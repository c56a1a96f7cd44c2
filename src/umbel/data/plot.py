"""A partition as a picture: one stacked bar per client."""

# matplotlib leaves its **kwargs untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from umbel.data.samples import IntArray
from umbel.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from umbel.data.partition import Partition

LABELS_SHOWN = 20
NAMES_SHOWN = 60


def plot_partition(partition: Partition, path: str | Path | None) -> Figure:
    """Draw the stacked bars; see `Partition.plot`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib, which is not installed; try: pip install 'umbel[plot]'") from None
    figure = Figure(figsize=(8.0, float(np.clip(0.25 * len(partition) + 1.5, 3.0, 18.0))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    positions = np.arange(len(partition))
    start = np.zeros(len(partition), dtype=np.int64)
    layers = _layers(partition)
    for number, (label, counts) in enumerate(layers):
        axes.barh(positions, counts, left=start, height=0.85, color=_colour(number), label=label)
        start = start + counts
    axes.set_xlabel("samples")
    axes.set_ylabel("client")
    if len(partition) <= NAMES_SHOWN:
        axes.set_yticks(positions, partition.clients)
    axes.invert_yaxis()
    if partition.classes is not None:
        axes.legend(title="label", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if path is not None:
        save_figure(figure, Path(path))
    return figure


def _layers(partition: Partition) -> list[tuple[str, IntArray]]:
    """Label and its count per client; labels beyond the most frequent 19 are one layer when there are more than 20."""
    counts, classes = partition.class_counts(), partition.classes
    if counts is None or classes is None:
        return [("samples", partition.sizes)]
    names = [str(value) for value in classes.values]
    if len(names) <= LABELS_SHOWN:
        return list(zip(names, counts.T, strict=True))
    frequent = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[: LABELS_SHOWN - 1])
    rest = partition.sizes - counts[:, frequent].sum(axis=1)
    return [*((names[i], counts[:, i]) for i in frequent), (f"{len(names) - LABELS_SHOWN + 1} others", rest)]


def _colour(number: int) -> str:
    """Twenty distinct colours by name, of matplotlib's tab20."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["tab20"](number % LABELS_SHOWN))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture.

    Raises:
        ConfigError: the path's ending is none of a picture, or it cannot be written.
    """
    try:
        figure.savefig(path)
    except ValueError as error:
        raise ConfigError(
            f"path must end in a picture format, got {path.name!r}: {error}; try .png, .svg or .pdf"
        ) from None
    except OSError as error:
        raise ConfigError(f"path cannot be written: {path}: {error.strerror}; try another folder") from None
