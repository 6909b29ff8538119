"""What a notebook shows of a result: a table, and an interval drawn as a bar.

The drawing has the colours of the page, dark or light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

_WIDTH = 320  # of the drawing, in pixels
_HEIGHT = 18
_ROOM = 0.95  # share of the width at which the upper end is drawn


def table(title: str, rows: Iterable[tuple[str, str]], drawing: str = "") -> str:
    """Return a title, a drawing and rows of names and texts as HTML.

    Parameters
    ----------
    title : str
        Shown above; it is escaped.
    rows : iterable of pairs of str
        Names and texts; both are escaped.
    drawing : str
        SVG, as it is.

    Returns
    -------
    str
        HTML.
    """
    left = 'style="text-align:left"'
    cells = ""
    for name, text in rows:
        header = f"<th {left}>{escape(name)}</th>"
        cell = f"<td {left}>{escape(text)}</td>"
        cells += f"<tr>{header}{cell}</tr>"
    return f"<div><p>{escape(title)}</p>{drawing}<table>{cells}</table></div>"


def bar(lower: float, upper: float, mark: float | None = None) -> str:
    """Draw an interval of non-negative numbers on an axis from 0.

    Parameters
    ----------
    lower, upper : float
        The ends of the interval.
    mark : float, optional
        A value to mark by a line.

    Returns
    -------
    str
        SVG; nothing where the upper end is not finite or the lower one below 0.
    """
    if not math.isfinite(upper) or lower < 0.0:
        return ""
    # 1. The axis and the interval, which is never thinner than two pixels.
    start = _position(lower, upper)
    stop = _position(upper, upper)
    width = max(stop - start, 2)
    axis = (
        f'<line x1="0" y1="9" x2="{_WIDTH}" y2="9" '
        'stroke="currentColor" stroke-opacity="0.4"/>'
    )
    interval = (
        f'<rect x="{start:.1f}" y="4" width="{width:.1f}" height="10" '
        'fill="#4a90d9" fill-opacity="0.8"/>'
    )
    shapes = axis + interval
    words = f"interval from {lower:.6g} to {upper:.6g}"
    # 2. The mark.
    if mark is not None:
        x = f"{_position(mark, upper):.1f}"
        shapes += (
            f'<line x1="{x}" y1="0" x2="{x}" y2="{_HEIGHT}" '
            'stroke="currentColor" stroke-width="2"/>'
        )
        words += f", objective {mark:.6g}"
    # 3. Words for readers of the page who do not see the drawing.
    return (
        f'<svg role="img" aria-label="{words}" width="{_WIDTH}" height="{_HEIGHT}">'
        f"<title>{words}</title>{shapes}</svg>"
    )


def share(lower: float, upper: float) -> float:
    """Return lower / upper, in [0, 1]; 1 where the upper end is 0."""
    if upper == 0.0:
        return 1.0
    if lower < 0.0:
        return 0.0
    # Float errors may lead out of [0, 1].
    positive = max(lower / upper, 0.0)
    return min(positive, 1.0)


def _position(value: float, upper: float) -> float:
    """Return where a value is drawn, in pixels from the left."""
    if upper == 0.0:
        return 0.0
    return share(value, upper) * _ROOM * _WIDTH
