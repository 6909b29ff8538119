"""A result read as pairs of atoms.

Against every assignment, and with the names of the atoms.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import permutations

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests.test_check import refused

SPACE = gw.DenseSpace(np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.5], [2.0, 2.5, 0.0]]))
RESULT = gw.solve(SPACE, SPACE)


def with_plan(matrix, kind=gw.DensePlan):
    if (
        kind is gw.SparsePlan
    ):  # in any order, with atoms that repeat and atoms without mass
        rows, cols = (
            np.concatenate([index, index])[::-1]
            for index in np.indices(matrix.shape).reshape(2, -1)
        )
        plan = gw.SparsePlan(
            rows,
            cols,
            np.concatenate([matrix.ravel(), matrix.ravel()])[::-1] / 2,
            matrix.shape,
        )
    else:
        plan = gw.DensePlan(matrix)
    return replace(RESULT, plan=plan, names=None)


def masses():
    shape = st.tuples(st.integers(1, 4), st.integers(1, 4))
    cell = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5, 1.0])
    lists = shape.flatmap(
        lambda s: st.lists(
            st.lists(cell, min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0]
        )
    )
    return lists.map(np.array)


@pytest.mark.parametrize("kind", [gw.DensePlan, gw.SparsePlan])
@given(matrix=masses())
def test_argmax_takes_the_first_largest_mass_of_every_row_that_has_any(kind, matrix):
    rows = [i for i in range(len(matrix)) if matrix[i].any()]
    expected = [
        (i, int(matrix[i].argmax()), matrix[i].max() / matrix[i].sum()) for i in rows
    ]
    assert with_plan(matrix, kind).matching() == expected


@pytest.mark.parametrize("kind", [gw.DensePlan, gw.SparsePlan])
@given(matrix=masses())
def test_no_assignment_has_more_mass(kind, matrix):
    pairs = with_plan(matrix, kind).matching(kind="assignment")
    rows, cols, shares = zip(*pairs, strict=True)
    assert list(rows) == sorted(set(rows))
    assert len(set(cols)) == len(cols) == min(matrix.shape)
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(p))
        for p in permutations(range(wide.shape[1]), len(wide))
    )
    assert math.isclose(matrix[list(rows), list(cols)].sum(), best)
    totals = matrix.sum(axis=1)
    assert shares == tuple(
        matrix[i, j] / totals[i] if totals[i] else 0.0
        for i, j in zip(rows, cols, strict=True)
    )


def test_other_kinds_are_refused():
    refused(
        lambda: RESULT.matching("first"),
        ValueError,
        "kind",
        "'argmax'",
        "'assignment'",
        "'first'",
    )


def graph(order):
    """A path whose edges tell its nodes apart."""
    lengths = {("a", "b"): 1.0, ("b", "c"): 2.0, ("c", "d"): 4.0}
    result = nx.Graph()
    result.add_nodes_from(order)
    result.add_weighted_edges_from(
        [(u, v, length) for (u, v), length in lengths.items()]
    )
    return result


SOLVERS = [gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()]


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_nodes_are_matched_by_name(solver, batch):
    orders = ("abcd", "dbac")
    spaces = [gw.GraphSpace(graph(order), weight="weight") for order in orders]
    result = (
        gw.solve_batch([spaces[0]], [spaces[1]], solver)[0]
        if batch
        else gw.solve(*spaces, solver)
    )
    assert result.names == tuple(map(tuple, orders))
    for kind in ("argmax", "assignment"):
        assert [pair[:2] for pair in result.matching(kind)] == [
            (node, node) for node in "abcd"
        ]


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_names_stay_right_beside_atoms_without_weight_and_in_restricted_spaces(
    solver, batch
):
    whole = gw.GraphSpace(
        graph("cadb"), np.array([0.5, 0.25, 0.25, 0.0]), weight="weight"
    )
    part = gw.GraphSpace(
        graph("dbac"), np.array([0.25, 0.0, 0.25, 0.5]), weight="weight"
    ).restrict(np.array([0, 2, 3]))
    assert part.nodes == ("d", "a", "c")
    result = (
        gw.solve_batch([whole], [part], solver)[0]
        if batch
        else gw.solve(whole, part, solver)
    )
    assert result.names == (tuple("cadb"), tuple("dac"))
    assert [pair[:2] for pair in result.matching()] == [
        ("c", "c"),
        ("a", "a"),
        ("d", "d"),
    ]


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_other_atoms_are_called_by_their_positions(batch):
    cloud, edges = (
        gw.PointCloud(np.eye(3)[:, :2]),
        gw.GraphSpace(sp.csr_array(SPACE.distances)),
    )
    result = gw.solve_batch([cloud], [edges])[0] if batch else gw.solve(cloud, edges)
    assert [list(names) for names in result.names] == [[0, 1, 2], [0, 1, 2]]
    assert {type(name) for pair in result.matching() for name in pair[:2]} == {int}


@pytest.mark.parametrize("kind", ["argmax", "assignment"])
def test_plans_of_torch_within_a_gradient_graph(kind):
    torch = pytest.importorskip("torch")
    points = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    result = gw.solve(
        gw.PointCloud(points), gw.PointCloud(points.detach().flip(0)), gw.Sorted()
    )
    assert result.matching(kind) == [(0, 2, 1.0), (1, 1, 1.0), (2, 0, 1.0)]


def test_repr_is_short_however_many_atoms_there_are():
    large = gw.solve(
        gw.PointCloud(np.arange(500.0)[:, None]),
        gw.PointCloud(np.arange(400.0)[:, None]),
        gw.Sorted(),
    )
    lines = repr(large).splitlines()
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 120
    for text in (
        f"{float(large.distance):.6g}",
        "CLOSED_FORM",
        "Sorted()",
        "(500, 400)",
        str(large.certificate),
    ):
        assert text in repr(large)
    assert repr(large.certificate.lower) in repr(large.certificate)
    assert "\n" not in repr(large.certificate)


def page(value):
    """Parse what a notebook shows: well-formed, so nothing was left unescaped."""
    return ET.fromstring(value._repr_html_())


def drawn(root):
    """The ends of the bar and the place of the mark.

    In shares of the place of the upper end.
    """
    (bar,) = root.iter("rect")
    start, width = float(bar.get("x")), float(bar.get("width"))
    marks = [
        float(line.get("x1"))
        for line in root.iter("line")
        if line.get("x1") == line.get("x2")
    ]
    return start, start + width, marks


def test_notebooks_show_what_str_says_and_draw_the_interval():
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((n, 2))) for n in (6, 9))
    result = gw.solve(x, y, gw.Sinkhorn(epsilon=0.5, proximal=False))
    root = page(result)
    cells = {row[0].text: row[1].text for row in root.iter("tr")}
    share = cells.pop("lower / upper")
    assert share == f"{100 * result.certificate.lower / result.certificate.upper:.1f} %"
    lines = [line.strip() for line in str(result).splitlines()]
    assert [
        root.find("p").text,
        *(f"{name:<13}{text}" for name, text in cells.items()),
    ] == lines
    start, stop, marks = drawn(root)
    assert start / stop == pytest.approx(
        result.certificate.lower / result.certificate.upper, abs=1e-3
    )
    assert marks == pytest.approx([stop], abs=0.1)
    start, stop, marks = drawn(page(result.certificate))
    assert marks == []
    assert {row[1].text for row in page(result.certificate).iter("tr")} == {
        str(result.certificate),
        str(result.certificate.excess),
        share,
    }


def test_notebooks_show_texts_escaped_and_colours_of_the_page():
    hostile = "<script>alert('1')</script> & \"more\""
    certificate = replace(RESULT.certificate, bound=hostile)
    shown = replace(RESULT, solver=hostile, certificate=certificate)._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 2
    assert "currentColor" in shown
    for attribute in ("background", "color:", "#000", "#fff", "black", "white"):
        assert attribute not in shown


@pytest.mark.parametrize("upper", [0.0, 5e-324, 1e-300, 1.0, 1.7e308, math.inf])
@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_every_interval_can_be_drawn(part, upper):
    lower = 0.0 if upper == math.inf else part * upper
    root = page(replace(RESULT.certificate, lower=lower, upper=upper))
    if upper == math.inf:
        assert not list(root.iter("svg"))
        return
    start, stop, _ = drawn(root)
    assert 0 <= start < stop <= 320
    share = next(
        row[1].text for row in root.iter("tr") if row[0].text == "lower / upper"
    )
    assert share == f"{100 * (lower / upper if upper else 1.0):.1f} %"
