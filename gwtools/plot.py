"""Pictures of results: intervals, plans, searches, distances (extra ``plots``).

Each function draws into given axes of matplotlib, or into new ones, and returns them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from gwtools import _check, _check_plot
from gwtools._array import NumpyArray
from gwtools.pairwise import PairwiseResult
from gwtools.plans import Plan, as_plan
from gwtools.results import Certificate, GWResult
from gwtools.spaces import Space, as_space, detached
from gwtools.spaces.layout import in_float64, in_square, positions

# Distinct to most eyes, and in grey (Okabe and Ito).
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
_PROVED = "proved: no plan is below"
_LOWER_END = {"color": ORANGE, "linestyle": "--", "label": _PROVED}
_MOST_NAMES = 40  # that fit beside a matrix
_MOST_LETTERS = 24  # of names of columns that stand beside each other
_MOST_MARKS = 100  # steps that are marked one by one
_LEAST_SHARE = 0.01  # of the largest mass, from which on a line is drawn
_MOST_LARGE = 300  # atoms beside each other that are drawn at full size

__all__ = ["certificate", "coupling", "distances", "history", "matching", "starts"]


def certificate(
    certificates: Certificate | GWResult | Mapping[str, Certificate | GWResult],
    ax: Any = None,
) -> Any:
    """Draw proved intervals of GW_2² as bars from 0.

    Dark is what is proved, from 0 to the lower end; light is what is open, up to the
    upper one. In given axes the marks are labelled, and the legend is left to you.

    Parameters
    ----------
    certificates : Certificate, GWResult, or mapping of them by name
        What to draw, a bar each.
    ax : matplotlib axes, optional
        Where; by default in a new figure.

    Returns
    -------
    matplotlib axes
        With the bars; the unit is that of C, squared.

    Raises
    ------
    TypeError
        If something else is passed.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> ring, path = (gw.GraphSpace(g(12)) for g in (nx.cycle_graph, nx.path_graph))
    >>> plan = gw.solve(ring, path).plan
    >>> ax = gw.plot.certificate(
    ...     {e: gw.certify(ring, path, plan, effort=e) for e in ("linear", "cubic")}
    ... )
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['linear', 'cubic']
    """
    named = certificates if isinstance(certificates, Mapping) else {"": certificates}
    for value in named.values():
        _check_plot.instance(value, "certificates", (Certificate, GWResult))
    with_legend = ax is None
    ax = _axes(ax)
    for place, value in enumerate(named.values()):
        known = value.certificate if isinstance(value, GWResult) else value
        lower = max(known.lower, 0.0)
        # Each mark is in the legend once; labels that begin with "_" are not.
        words = (_PROVED, "open", "objective of a plan")
        proved, still_open, attained = words if place == 0 else ("_", "_", "_")
        bar: dict[str, Any] = {"color": BLUE, "height": 0.6}
        ax.barh(place, lower, label=proved, **bar)
        width = known.upper - lower
        ax.barh(place, width, left=lower, alpha=0.3, label=still_open, **bar)
        ends = [place - 0.4, place + 0.4]
        ax.plot([known.upper] * 2, ends, color="black", label=attained)
    # The last mark is not cut off.
    ax.margins(x=0.02)
    ax.use_sticky_edges = False
    ax.set_xlim(left=0.0)
    if with_legend:
        ax.figure.legend(loc="outside upper center", ncols=3, frameon=False)
    ax.set_yticks(range(len(named)), list(named))
    ax.invert_yaxis()
    ax.set_xlabel("GW₂², squared units of C")
    return ax


def coupling(result: GWResult | Plan, ax: Any = None, names: Any = None) -> Any:
    """Draw the masses of a plan as a matrix of colours.

    Parameters
    ----------
    result : GWResult or Plan
        The plan, of shape (n, m).
    ax : matplotlib axes, optional
        Where; by default in a new figure.
    names : pair of sequences, optional
        Of the rows and of the columns; by default those of the result's spaces. They
        are shown where there are at most 40.

    Returns
    -------
    matplotlib axes
        With the matrix and its scale.

    Raises
    ------
    TypeError, ValueError
        On bad input.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> x, y = gw.GraphSpace(nx.star_graph(4)), gw.GraphSpace(nx.path_graph(5))
    >>> ax = gw.plot.coupling(gw.solve(x, y))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('atom of y', 'atom of x')
    """
    _check_plot.instance(result, "result", (GWResult, Plan))
    plan = result.plan if isinstance(result, GWResult) else result
    n, m = plan.shape
    if names is None:
        names = result.names if isinstance(result, GWResult) else (range(n), range(m))
    rows, cols = map(list, names)
    _check_plot.labels(rows, n, "names[0]")
    _check_plot.labels(cols, m, "names[1]")
    ax = _axes(ax)
    image = ax.imshow(in_float64(plan.dense()), cmap="Blues", vmin=0.0, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="mass")
    _name_cells(ax, rows, cols)
    ax.set_xlabel("atom of y")
    ax.set_ylabel("atom of x")
    return ax


def matching(
    x: Any, y: Any, plan: Any, ax: Any = None, lines: int | None = None
) -> Any:
    """Draw two spaces side by side, and the plan as lines between their atoms.

    Point clouds of one or two dimensions are drawn as they are, others by their first
    two principal axes, and all other spaces by classical scaling of C, taken as
    distances: a picture, in which some of C may be lost. An atom of y has the colour of
    those of x whose mass it gets; lines carry at least a hundredth of the largest mass.
    Atoms that a plan with free marginals leaves without mass are hollow.
    Above 300 atoms of a space their marks are the smaller, the more there are.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    plan : GWResult, Plan or array of shape (n, m)
        The plan.
    ax : matplotlib axes, optional
        Where; by default in a new figure.
    lines : int, optional
        How many lines to draw at most, spread evenly over the atoms of x; by default
        all. Colours show the whole plan in any case.

    Returns
    -------
    matplotlib axes
        With x on the left.

    Raises
    ------
    TypeError, ValueError
        On bad input.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> club = nx.karate_club_graph()
    >>> x, y = gw.GraphSpace(club, weight=None), gw.GraphSpace(nx.path_graph(34))
    >>> ax = gw.plot.matching(x, y, gw.solve(x, y), lines=20)
    >>> len(ax.get_lines())
    20
    >>> ax.get_title(loc="left"), ax.get_title(loc="right")
    ('x: 34 atoms', 'y: 34 atoms')
    """
    x, y = detached(as_space(x, "x")), detached(as_space(y, "y"))
    if lines is not None:
        _check.integer(lines, "lines", least=0)
    if isinstance(plan, GWResult):
        plan = plan.plan
    plan = as_plan(plan, (x.size, y.size))
    masses = plan.sparse()
    ax = _axes(ax)
    # 1. Where atoms are, each space in a square of side 1.
    left = in_square(positions(x))
    right = in_square(positions(y)) + np.array([1.5, 0.0])
    # 2. Colours: of x by place along its first axis, of y by the mean of what it gets.
    shades = left[:, 0]
    given = np.bincount(masses.row, masses.data, x.size)
    received = np.bincount(masses.col, masses.data, y.size)
    mixed = np.zeros(y.size)
    np.add.at(mixed, masses.col, masses.data * shades[masses.row])
    mixed = np.divide(mixed, received, out=np.zeros(y.size), where=received > 0)
    # 3. Lines, and atoms above them.
    largest = masses.data.max()
    for entry in _drawn_entries(masses, lines):
        ends = np.stack([left[masses.row[entry]], right[masses.col[entry]]])
        alpha = 0.15 + 0.35 * float(masses.data[entry] / largest)
        ax.plot(*ends.T, color="grey", alpha=alpha, linewidth=0.8)
    for places, values, moved, space in (
        (left, shades, given, x),
        (right, mixed, received, y),
    ):
        weights = in_float64(space.weights)
        room = min(1.0, _MOST_LARGE / space.size)
        sizes = 30 * room * weights / weights.max()
        edge = None if room == 1.0 else 0.0  # an edge would be wider than such a mark
        kept, out = moved > 0, moved == 0
        marks = {"vmin": 0, "vmax": 1, "zorder": 3, "linewidths": edge}
        ax.scatter(*places[kept].T, c=values[kept], s=sizes[kept], **marks)
        if out.any():
            hollow = {"facecolors": "none", "edgecolors": "grey"}
            ax.scatter(*places[out].T, s=sizes[out], zorder=3, **hollow)
    ax.set_title(f"x: {x.size} atoms", loc="left")
    ax.set_title(f"y: {y.size} atoms", loc="right")
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def history(result: GWResult, ax: Any = None) -> Any:
    """Draw the objective after each step of an iterative solver.

    Of branch and bound also what was proved after each step; of others the lower end of
    the certificate, in a line.

    Parameters
    ----------
    result : GWResult
        Of a solver that has steps.
    ax : matplotlib axes, optional
        Where; by default in a new figure.

    Returns
    -------
    matplotlib axes
        With the steps, and what is proved.

    Raises
    ------
    TypeError, ValueError
        If it is no result, or one without steps.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> x, y = gw.GraphSpace(nx.star_graph(9)), gw.GraphSpace(nx.path_graph(12))
    >>> ax = gw.plot.history(gw.solve(x, y, gw.Sinkhorn()))
    >>> ax.get_xlabel()
    'step'
    """
    _check.instance(result, "result", GWResult, "pass what gwtools.solve returns")
    remedy = "solve with an iterative solver, as gwtools.ConditionalGradient()"
    _check_plot.known(len(result.history), "steps in its history", remedy)
    ax = _axes(ax)
    steps = [step.iteration for step in result.history]
    values = [step.objective for step in result.history]
    # The marks of many steps would be a thick line.
    mark = ".-" if len(steps) <= _MOST_MARKS else "-"
    ax.plot(steps, values, mark, color=BLUE, label="objective after the step")
    lower = [step.lower for step in result.history if step.lower is not None]
    if len(lower) == len(steps):
        ax.plot(steps, lower, **_LOWER_END)
    else:
        ax.axhline(max(result.certificate.lower, 0.0), **_LOWER_END)
    _count_from_one(ax, "step")
    ax.set_ylabel("objective, squared units of C")
    ax.legend()
    return ax


def starts(result: GWResult, ax: Any = None) -> Any:
    """Draw where the starts of a search ended, the best first.

    Restarts begin at the best plan and mostly return to it: their marks are hollow, as
    only the others are a sign that no better plan is left.

    Parameters
    ----------
    result : GWResult
        Of :class:`gwtools.MultiStart`, which "auto" takes.
    ax : matplotlib axes, optional
        Where; by default in a new figure.

    Returns
    -------
    matplotlib axes
        With the starts, and the certificate's lower end.

    Raises
    ------
    TypeError, ValueError
        If it is no result, or one of a single start.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> x, y = gw.GraphSpace(nx.star_graph(9)), gw.GraphSpace(nx.path_graph(12))
    >>> ax = gw.plot.starts(gw.solve(x, y, gw.MultiStart(starts=8)))
    >>> ax.get_xlabel()
    'start, the best first'
    """
    _check.instance(result, "result", GWResult, "pass what gwtools.solve returns")
    made = () if result.starts is None else tuple(result.starts)
    _check_plot.known(len(made), "starts", "solve with gwtools.MultiStart()")
    ax = _axes(ax)
    ordered = sorted(made, key=lambda start: start.objective)
    places = np.arange(1, len(ordered) + 1)
    values = np.array([start.objective for start in ordered])
    reached = np.array([start.reached for start in ordered])
    independent = np.array([start.independent for start in ordered])
    for chosen, mark, color, filled, words in (
        (reached & independent, "o", GREEN, True, "ended at the best"),
        (reached & ~independent, "o", GREEN, False, "returned to the best"),
        (~reached, ".", BLUE, True, "ended elsewhere"),
    ):
        if chosen.any():
            inside = color if filled else "none"
            style = {"color": color, "markerfacecolor": inside, "label": words}
            ax.plot(places[chosen], values[chosen], mark, **style)
    ax.axhline(max(result.certificate.lower, 0.0), **_LOWER_END)
    _count_from_one(ax, "start, the best first")
    ax.set_ylabel("objective, squared units of C")
    ax.legend()
    return ax


def distances(
    result: PairwiseResult | Space | Any,
    ax: Any = None,
    names: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    numbers: bool = False,
) -> Any:
    """Draw a matrix of distances, between spaces or between the atoms of one.

    Parameters
    ----------
    result : PairwiseResult, Space or array of shape (N, M)
        The distances between spaces, in units of C, NaN where one is not known; of a
        space its matrix C.
    ax : matplotlib axes, optional
        Where; by default in a new figure.
    names : sequence, optional
        Of the rows, and of the columns where the matrix is square; shown where there
        are at most 40.
    columns : sequence, optional
        Names of the columns, where these are others than the rows.
    numbers : bool
        Whether to write the values into the cells, with three digits.

    Returns
    -------
    matplotlib axes
        With the matrix and its scale.

    Raises
    ------
    TypeError, ValueError
        On bad input.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import networkx as nx, gwtools as gw
    >>> rings = [gw.GraphSpace(nx.cycle_graph(n)) for n in (4, 6, 9)]
    >>> ax = gw.plot.distances(gw.pairwise(rings), names=["4", "6", "9"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['4', '6', '9']
    """
    values, label = result, "GW₂, units of C"
    if isinstance(result, PairwiseResult):
        values = result.distances
    elif isinstance(result, Space):
        values, label = detached(result).dense(), "C"
    matrix = in_float64(_check.floating(values, "result", 2))
    known = ~np.isnan(matrix)
    _check.finite(matrix[known], "result")
    count, other = matrix.shape
    rows = list(range(count)) if names is None else list(names)
    _check_plot.labels(rows, count, "names")
    cols = rows if other == count else list(range(other))
    cols = cols if columns is None else list(columns)
    _check_plot.labels(cols, other, "columns")
    _check.flag(numbers, "numbers")
    ax = _axes(ax)
    image = ax.imshow(matrix, cmap="viridis", aspect="auto")
    ax.figure.colorbar(image, ax=ax, label=label)
    _name_cells(ax, rows, cols)
    if numbers:
        _write_values(ax, image, matrix)
    return ax


def _axes(ax: Any) -> Any:
    """Return the given axes, or those of a new figure."""
    _check_plot.matplotlib()
    if ax is not None:
        _check_plot.axes(ax)
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _drawn_entries(masses: Any, lines: int | None) -> NumpyArray:
    """Return which entries of a sparse plan are drawn, row by row."""
    rows_first = np.lexsort((masses.col, masses.row))
    large = masses.data[rows_first] >= _LEAST_SHARE * masses.data.max()
    entries = rows_first[large]
    if lines is None or lines >= len(entries):
        return cast(NumpyArray, entries)
    evenly = np.linspace(0, len(entries) - 1, lines).round().astype(int)
    return cast(NumpyArray, entries[evenly])


def _name_cells(ax: Any, rows: Sequence[Any], cols: Sequence[Any]) -> None:
    """Name the rows and the columns of a matrix, where the names fit."""
    ax.grid(visible=False)
    if len(rows) <= _MOST_NAMES:
        ax.set_yticks(range(len(rows)), [str(name) for name in rows])
    if len(cols) <= _MOST_NAMES:
        longest = max(len(str(name)) for name in cols)
        turned = 90 if longest > 2 and longest * len(cols) > _MOST_LETTERS else 0
        ax.set_xticks(range(len(cols)), [str(name) for name in cols], rotation=turned)


def _write_values(ax: Any, image: Any, matrix: NumpyArray) -> None:
    """Write the values of a matrix into its cells, "–" where one is not known."""
    for (i, j), value in np.ndenumerate(matrix):
        text = "–" if np.isnan(value) else f"{value:.3g}"
        dark = not np.isnan(value) and image.norm(value) < 0.6  # in viridis
        style = {"color": "white" if dark else "black", "fontsize": "small"}
        ax.text(j, i, text, ha="center", va="center", **style)


def _count_from_one(ax: Any, what: str) -> None:
    """Say what is counted along the axis; ticks are whole numbers."""
    ax.set_xlabel(what)
    ax.xaxis.get_major_locator().set_params(integer=True)
