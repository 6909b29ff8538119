"""Figures of the study; who calls them saves them.

Differences of accuracies are in percentage points. What is not recorded is left out of
a figure, and a panel without anything says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import gwtools as gw
from simulations._report import (
    DISTINCT,
    MARKS,
    Row,
    figure_style,
    marks_by_row,
    points_by_kind,
)
from simulations.study import statistics
from simulations.study.statistics import GAIN, LOSS, NEITHER, Correlation
from simulations.study.tables import AGAINST

COLOURS = {GAIN: "#009E73", NEITHER: "#999999", LOSS: "#D55E00"}
LINES = ("-", "--", ":", "-.")
DRAWN_ARMS = ("labels", "uld", "gld", "uld_gld")
# Title and unit of each term; of its gradient by the student's logits, a unit too.
TERMS = {
    "sft": ("NLL of the labels", "nats", "nats / logit"),
    "uld": ("ULD", "logits", "no unit"),
    "graph": ("GLD", "logits²", "logits"),
}
ORDERS = 30.0  # Largest over least value from which an axis is logarithmic.
Words = Mapping[str, str]


def bars_with_intervals(gains: Sequence[Row], words: Words | None = None) -> Figure:
    """Draw the gain of each arm over labels, and beside it that over sequence-level.

    Rows are those of `simulations.study.tables.gain_rows`; arms are in the order of
    what they gain over labels. The student before is left out: beside what it lacks no
    other difference would be seen.
    """
    found = {
        (gain["arm"], gain["against"]): gain
        for gain in gains
        if math.isfinite(gain["gain"]) and gain["arm"] != "before"
    }
    arms = list(dict.fromkeys(arm for arm, _ in found))
    # The arm that others are measured against gains nothing over itself.
    over_labels = {arm: found.get((arm, AGAINST[0]), {"gain": 0.0}) for arm in arms}
    arms.sort(key=lambda arm: float(over_labels[arm]["gain"]))
    words = words or {}
    with figure_style():
        figure = Figure(figsize=(7.5, 1.6 + 0.2 * max(len(arms), 4)))
        panels = figure.subplots(1, len(AGAINST), sharey=True)
        for axes, against in zip(panels, AGAINST, strict=True):
            places = [i for i, arm in enumerate(arms) if (arm, against) in found]
            drawn = [found[arms[i], against] for i in places]
            _bars(axes, places, drawn)
            name = words.get(against, against)
            axes.set_title(f"gain over\n{name}", fontsize=9)
            axes.set_xlabel("percentage points")
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(range(len(arms)), [words.get(arm, arm) for arm in arms])
        panels[0].set_ylim(-0.6, max(len(arms), 1) - 0.4)
        marks: list[Patch | Line2D] = [
            Patch(color=colour, label=name) for name, colour in COLOURS.items()
        ]
        marks.append(Line2D([], [], color="black", label="95 % interval over seeds"))
        figure.legend(handles=marks, loc="outside upper center", ncols=4)
    return figure


def _bars(axes: Axes, places: Sequence[int], gains: Sequence[Row]) -> None:
    """Draw bars, and intervals where there is more than one seed."""
    mean, low, high = (
        np.array([100 * gain[key] for gain in gains], dtype=float)
        for key in ("gain", "low", "high")
    )
    colours = [COLOURS[gain["verdict"]] for gain in gains]
    axes.barh(places, mean, color=colours, height=0.7)
    known = np.isfinite(low)
    axes.errorbar(
        mean[known],
        np.array(places, dtype=float)[known],
        xerr=np.stack([mean - low, high - mean])[:, known],
        fmt="none",
        ecolor="black",
        elinewidth=0.9,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    if not gains:
        _say_nothing(axes)


def primary_comparisons(rows: Sequence[Row], words: Words | None = None) -> Figure:
    """Draw what each primary comparison gains, in each family and in their mean.

    Rows are those of `simulations.study.tables.primary_rows`.
    """
    words = words or {}
    labels = [
        f"{words.get(arm, arm)}\nagainst {words.get(other, other)}"
        for arm, other in dict.fromkeys((row["arm"], row["against"]) for row in rows)
    ]
    gains: dict[str, list[float]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        family = row["family"].replace("_", " ")
        gain, low, high = (100 * float(row[key]) for key in ("gain", "low", "high"))
        gains.setdefault(family, []).append(gain)
        ends.setdefault(family, []).append((low, high))
    with figure_style():
        figure = Figure(figsize=(8.0, 0.9 + 0.6 * len(labels)))
        axes = figure.subplots()
        marks_by_row(axes, labels, gains, ends, spread=0.18)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel("gain in accuracy (percentage points), with 95 % interval")
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def losses_over_steps(
    history: Sequence[Row],
    family: str,
    arms: Sequence[str] = DRAWN_ARMS,
    words: Words | None = None,
) -> Figure:
    """Draw every term of the loss over the steps, and below it its gradient's norm.

    Lines are means over seeds, bands go from the least to the largest.
    """
    rows = [row for row in history if row["family"] == family and row["arm"] in arms]
    words = words or {}
    with figure_style():
        figure = Figure(figsize=(8.0, 4.8))
        panels = figure.subplots(2, len(TERMS), sharex=True)
        for (term, (title, *units)), column in zip(
            TERMS.items(), panels.T, strict=True
        ):
            for axes, name, unit in zip(
                column, (term, f"gradient_{term}"), units, strict=True
            ):
                _curves(axes, rows, name, arms)
                what = "loss" if name == term else "norm of its gradient"
                axes.set_ylabel(f"{what}\n({unit})")
            column[0].set_title(title)
            column[1].set_xlabel("step of the optimiser")
        marks: list[Patch | Line2D] = []
        for i, arm in enumerate(arms):
            style = {"color": DISTINCT[i], "linestyle": LINES[i % len(LINES)]}
            marks.append(Line2D([], [], label=words.get(arm, arm), **style))
        if len({row["seed"] for row in rows}) > 1:
            marks.append(Patch(color="black", alpha=0.15, label="range over seeds"))
        figure.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    return figure


def _curves(axes: Axes, rows: Sequence[Row], name: str, arms: Sequence[str]) -> None:
    """Draw one quantity over the steps, a line an arm."""
    drawn: list[float] = []
    for i, arm in enumerate(arms):
        by_step: dict[int, list[float]] = {}
        for row in rows:
            value = row[name]
            if row["arm"] == arm and _is_number(value):
                by_step.setdefault(row["step"], []).append(value)
        steps = sorted(by_step)
        if not steps:
            continue
        low, mean, high = (
            [float(of(by_step[step])) for step in steps] for of in (min, np.mean, max)
        )
        style = {"color": DISTINCT[i], "linestyle": LINES[i % len(LINES)]}
        axes.plot(steps, mean, linewidth=1.3, **style)
        axes.fill_between(steps, low, high, color=DISTINCT[i], alpha=0.15, linewidth=0)
        drawn += low + high
    if not drawn:
        _say_nothing(axes)
    elif _spans_orders(drawn):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.05 * max(drawn))


def gld_against_kl(points: Sequence[Row]) -> Figure:
    """Draw GLD of each example against KL between its next-token distributions.

    Points have `kl`, `gld` and, if there are several kinds, `family`. Pearson's
    correlation is of the values themselves, on logarithmic axes too.
    """
    known = [p for p in points if _is_number(p["kl"]) and _is_number(p["gld"])]
    kinds = [p.get("family", "one example") for p in known]
    with figure_style():
        figure = Figure(figsize=(6.4, 4.6))
        axes = figure.subplots()
        points_by_kind(axes, [(p["kl"], p["gld"]) for p in known], kinds)
        if _spans_orders([p["kl"] for p in known]):
            axes.set_xscale("log")
        if _spans_orders([p["gld"] for p in known]):
            axes.set_yscale("log")
        axes.set_xlabel("KL between next-token distributions (nats)")
        axes.set_ylabel("GLD on raw logits (logits²)")
        found = statistics.correlation(
            [p["kl"] for p in known], [p["gld"] for p in known]
        )
        axes.set_title(_correlated(found), fontsize=9)
        if known:
            figure.legend(loc="outside lower center", ncols=3)
        else:
            _say_nothing(axes)
    return figure


def distance_against_transfer(
    distances: Sequence[Row], gains: Sequence[Row], words: str = "labels alone"
) -> Figure:
    """Draw distances between student and teachers, and what these teach against them.

    Parameters
    ----------
    distances : sequence of rows
        With `family`, `teacher` and `distance`.
    gains : sequence of rows
        Those of `simulations.study.statistics.transfer_gains`.
    words : str
        What the gain is over.
    """
    families = list(dict.fromkeys(row["family"] for row in distances))
    teachers = list(dict.fromkeys(row["teacher"] for row in distances))
    of_pair = {(row["teacher"], row["family"]): row["distance"] for row in distances}
    with figure_style():
        figure = Figure(figsize=(9.0, 4.6))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        _heatmap(left, of_pair, teachers, families)
        points = [
            gain | {"distance": of_pair[gain["teacher"], gain["family"]]}
            for gain in gains
            if _is_number(of_pair.get((gain["teacher"], gain["family"])))
        ]
        _transfer(right, points, teachers, families)
        right.set_xlabel("structural distance between student and teacher")
        right.set_ylabel(f"gain over {words} (percentage points)")
        marks = [
            Line2D([], [], color=DISTINCT[i], linewidth=5, label=f"teacher {name}")
            for i, name in enumerate(teachers)
        ]
        for family, marker in zip(families, MARKS, strict=False):
            name = family.replace("_", " ")
            style = {"color": "grey", "linestyle": "none", "marker": marker}
            marks.append(Line2D([], [], label=name, **style))
        bar = Line2D([], [], color="grey", linewidth=0.9)
        bar.set_label("range over seeds")
        figure.legend(handles=[*marks, bar], loc="outside lower center", ncols=4)
    return figure


def _heatmap(
    axes: Axes,
    of_pair: Mapping[tuple[str, str], float],
    teachers: Sequence[str],
    families: Sequence[str],
) -> None:
    """Draw distances, a row a family and a column a teacher, with their numbers."""
    values = np.full((len(families), len(teachers)), math.nan)
    for i, family in enumerate(families):
        for j, teacher in enumerate(teachers):
            value = of_pair.get((teacher, family))
            values[i, j] = value if _is_number(value) else math.nan
    axes.grid(visible=False)
    if not np.isfinite(values).any():
        _say_nothing(axes)
        return
    rows = [family.replace("_", " ") for family in families]
    gw.plot.distances(values, axes, rows, teachers, numbers=True)
    axes.images[0].colorbar.set_label("structural distance")
    axes.set_xlabel("teacher")


def _transfer(
    axes: Axes,
    points: Sequence[Row],
    teachers: Sequence[str],
    families: Sequence[str],
) -> None:
    """Draw gains against distances: colours of teachers, marks of families."""
    if not points:
        _say_nothing(axes)
        return
    for point in points:
        mean, least, most = (100 * point[key] for key in ("gain", "least", "most"))
        colour = DISTINCT[teachers.index(point["teacher"])]
        axes.plot([point["distance"]] * 2, [least, most], color=colour, linewidth=0.9)
        marker = MARKS[families.index(point["family"]) % len(MARKS)]
        axes.plot(point["distance"], mean, marker, color=colour)
    axes.axhline(0, color="black", linewidth=0.8)
    x, y = ([point[key] for point in points] for key in ("distance", "gain"))
    if _spans_orders(x):
        axes.set_xscale("log")
    axes.set_title(_correlated(statistics.correlation(x, y)), fontsize=9)


def _correlated(found: Correlation) -> str:
    """Both correlations with their intervals, in two lines."""
    rank = _with_ends(found.spearman, found.spearman_low, found.spearman_high)
    straight = _with_ends(found.pearson, found.pearson_low, found.pearson_high)
    return f"Spearman {rank}\nPearson {straight}, {found.points} points"


def _with_ends(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "not defined"
    if not math.isfinite(low):
        return f"{value:.2f}"
    return f"{value:.2f} (95 %: {low:.2f} … {high:.2f})"


def _spans_orders(values: Iterable[float]) -> bool:
    """Whether positive values are so far apart that a linear axis hides the small."""
    found = list(values)
    return bool(found) and min(found) > 0 and max(found) > ORDERS * min(found)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _say_nothing(axes: Axes) -> None:
    place = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "not recorded", color="grey", **place)
