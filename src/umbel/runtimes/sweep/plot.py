"""A sweep as a picture: one panel per setting that varies, the metric over it."""

# matplotlib leaves its **kwargs untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.data.plot import save_figure
from umbel.errors import ConfigError
from umbel.runtimes.sweep.space import text_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from umbel.runtimes.sweep.result import PointResult, Sweep

SIDE_BY_SIDE = 8
DECADE = 10


def check_drawable(path: Path) -> None:
    """Refuse, before a long sweep, a picture that could not be drawn after it.

    Raises:
        ConfigError: matplotlib is not installed, or the path's ending or folder is none for a picture.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ConfigError(f"{path} needs matplotlib, which is not installed; try: pip install 'umbel[plot]'") from None
    if path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ConfigError(f"a picture's path must end in its format, got {path.name!r}; try .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the picture {path.name}; make it, or name another")


def plot_sweep(sweep: Sweep, path: str | Path | None) -> Figure:
    """Draw the panels; see `Sweep.plot`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib, which is not installed; try: pip install 'umbel[plot]'") from None
    points = [result for result in sweep.points if result.mean is not None]
    if not points:
        raise ConfigError("a sweep none of whose points has a mean has nothing to draw; its table() says why")
    names = varying(points)
    figure = Figure(figsize=(4.0 * len(names) + 1.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        _panel(axes, name, points, sweep.best)
    panels[0].set_ylabel(sweep.metric)
    if path is not None:
        save_figure(figure, Path(path))
    return figure


def varying(points: Sequence[PointResult]) -> list[str]:
    """The settings with more than one value; all of them if none has."""
    names = list(points[0].point)
    several = [name for name in names if len({text_of({name: result.point[name]}) for result in points}) > 1]
    return several or names or [""]


def _panel(axes: Axes, name: str, points: Sequence[PointResult], best: PointResult) -> None:
    values = [result.point.get(name, "") for result in points]
    for place, result in zip(_places(axes, name, values), points, strict=True):
        # The best one lies on top, and is larger.
        colour, size, layer = ("tab:orange", 9, 3) if result.point == best.point else ("tab:blue", 6, 2)
        spread = [result.spread or 0.0]
        axes.errorbar([place], [result.mean or 0.0], spread, fmt="o", capsize=3, color=colour, ms=size, zorder=layer)
    axes.set_xlabel(name)


def _places(axes: Axes, name: str, values: Sequence[Any]) -> list[float]:
    """Many numbers stand where they are, in the logarithm if they span decades; a few values stand side by side."""
    texts = [text_of({name: value}).partition("=")[2] for value in values]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and len(set(texts)) > SIDE_BY_SIDE:
        if min(values) > 0 and max(values) >= DECADE * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        return [float(value) for value in values]
    order = list(dict.fromkeys(text for _, text in sorted(zip(values, texts, strict=True)) if numbers))
    order = order or list(dict.fromkeys(texts))
    axes.set_xticks(range(len(order)), order)
    axes.margins(x=0.2)
    return [float(order.index(text)) for text in texts]
