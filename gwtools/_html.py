"""What a notebook shows of a result: a table, and an interval as a bar, in the page's own colours, dark or light."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

_WIDTH, _HEIGHT = 320, 18
_ROOM = 0.95  # share of the width at which the upper end is drawn


def table(title: str, rows: Iterable[tuple[str, str]], drawing: str = "") -> str:
    """Return a title, an SVG drawing and rows of names and texts; title and texts are escaped."""
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<div><p>{escape(title)}</p>{drawing}<table>{cells}</table></div>"


def bar(lower: float, upper: float, mark: float | None = None) -> str:
    """Draw the interval [lower, upper] of non-negative numbers on an axis from 0, with a mark at one value; SVG."""
    if not math.isfinite(upper):
        return ""
    start, stop = _position(lower, upper), _position(upper, upper)
    shapes = [
        f'<line x1="0" y1="9" x2="{_WIDTH}" y2="9" stroke="currentColor" stroke-opacity="0.4"/>',
        f'<rect x="{start:.1f}" y="4" width="{max(stop - start, 2):.1f}" height="10" fill="#4a90d9" fill-opacity="0.8"/>',
    ]
    words = f"interval from {lower:.6g} to {upper:.6g}"
    if mark is not None:
        x = f"{_position(mark, upper):.1f}"
        shapes.append(
            f'<line x1="{x}" y1="0" x2="{x}" y2="{_HEIGHT}" stroke="currentColor" stroke-width="2"/>'
        )
        words += f", objective {mark:.6g}"
    return (
        f'<svg role="img" aria-label="{words}" width="{_WIDTH}" height="{_HEIGHT}"><title>{words}</title>'
        f"{''.join(shapes)}</svg>"
    )


def share(lower: float, upper: float) -> float:
    """Return lower / upper, in [0, 1]; 1 where both are 0."""
    return 1.0 if upper == 0.0 else min(max(lower / upper, 0.0), 1.0)


def _position(value: float, upper: float) -> float:
    """Return where a value is drawn, from 0 at the left, where the upper end of an interval has its place."""
    return share(value, upper) * _ROOM * _WIDTH if upper else 0.0
