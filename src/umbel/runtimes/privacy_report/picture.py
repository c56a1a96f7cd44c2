"""Pictures that stand in a page by themselves: grey images as PNG, curves as SVG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = Sequence[tuple[float, float]]
_WIDE, _HIGH, _EDGE = 300, 200, 34
_COLOURS = ("#1a6fb5", "#c2410c", "#777777")


@final
@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        title: what is to be seen, a few words.
        html: the picture itself, as an element.
    """

    title: str
    html: str


def grey(title: str, values: NDArray[np.floating], *, side: int = 128) -> Picture:
    """An image of values from 0 (black) to 1 (white); what lies beyond is cut, and what is no number is black."""
    pixels = (np.nan_to_num(np.clip(values, 0, 1)) * 255).astype(np.uint8)
    high, wide = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in pixels)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body)
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )
    source = base64.b64encode(data).decode("ascii")
    return Picture(
        title,
        f'<img alt="{escape(title)}" width="{side}" height="{round(side * high / wide)}" '
        f'src="data:image/png;base64,{source}">',
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def curves(title: str, across: str, lines: Mapping[str, Points]) -> Picture:
    """Lines over common axes, each from its least to its largest value.

    Args:
        across: what the horizontal axis is.
        lines: by name; at least one point each.
    """
    every = [point for points in lines.values() for point in points]
    (left, right), (low, high) = (_ends([point[axis] for point in every]) for axis in (0, 1))

    def place(x: float, y: float) -> str:
        return f"{_EDGE + (x - left) / (right - left) * _WIDE:.1f},{10 + (high - y) / (high - low) * _HIGH:.1f}"

    drawn = [
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(place(*p) for p in points)}"/>'
        for colour, points in zip(_colours(len(lines)), lines.values(), strict=True)
    ]
    names = [
        f'<text x="{_EDGE + _WIDE + 8}" y="{24 + 16 * number}" fill="{colour}">{escape(name)}</text>'
        for number, (colour, name) in enumerate(zip(_colours(len(lines)), lines, strict=True))
    ]
    marks = [
        f'<text x="{_EDGE}" y="{_HIGH + 24}">{left:.3g}</text>',
        f'<text x="{_EDGE + _WIDE}" y="{_HIGH + 24}" text-anchor="end">{right:.3g}</text>',
        f'<text x="{_EDGE + _WIDE / 2}" y="{_HIGH + 24}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="{_EDGE - 4}" y="{_HIGH + 10}" text-anchor="end">{low:.2g}</text>',
        f'<text x="{_EDGE - 4}" y="18" text-anchor="end">{high:.2g}</text>',
    ]
    frame = f'<rect x="{_EDGE}" y="10" width="{_WIDE}" height="{_HIGH}" fill="none" stroke="#bbb"/>'
    size = f"0 0 {_EDGE + _WIDE + 150} {_HIGH + 32}"
    inside = "".join([frame, *drawn, *names, *marks])
    return Picture(title, f'<svg viewBox="{size}" width="480" role="img" aria-label="{escape(title)}">{inside}</svg>')


def _colours(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def histogram(values: NDArray[np.floating], low: float, high: float, bins: int = 40) -> list[tuple[float, float]]:
    """The share of values in each of `bins` equal parts, as points for `curves`."""
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    return [
        (float(middle), float(count))
        for middle, count in zip((edges[:-1] + edges[1:]) / 2, counts / max(1, len(values)), strict=True)
    ]
