"""Certificates: an interval that holds, whatever plan it is given."""

import math
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _array
from gwtools.bounds import certified, certified_quadratic, float_error, outward
from gwtools.bounds.float_error import Bound
from gwtools.certify import (
    PlanObjective,
    _finite_or_zero,
    _is_isometry,
    _matching,
    _missed,
    _objective,
    _product,
    _restricted,
    _scaled,
    _sorting_objectives,
    certified_objective,
    closed_up_to,
    coupling_distance,
    enclosed,
    with_upper,
)
from gwtools.preparation import prepare
from gwtools.spaces import base
from tests import checkers, radii
from tests.radii import some_extent, some_radii
from tests.solvers.test_conditional_gradient import arguments, scale
from tests.strategies import (
    additive_pairs,
    coupled,
    couplings,
    known,
    one_points,
    pairs,
    permuted_copies,
)
from tests.test_plans import FORMS


@pytest.mark.parametrize("form", FORMS)
@given(coupled(null=True))
def test_interval_holds_the_objective_of_its_plan(form, instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), FORMS[form](plan))
    checkers.check_certificate(certificate, *arguments(x, y))
    found = checkers.objective(x.matrix, y.matrix, plan)
    assert certificate.lower <= found <= certificate.upper
    assert certificate.upper <= found + 1e-10 * scale(x, y)


@given(pairs(null=True))
def test_every_lower_bound_is_below_every_upper_one(pair):
    x, y = pair
    alone = gw.certify(x.space(), y.space())
    solved = gw.solve(x.space(), y.space(), gw.Sorted()).certificate
    assert max(alone.lower, solved.lower) <= min(alone.upper, solved.upper)
    assert alone.lower == solved.lower


@given(pairs(null=True))
def test_without_a_plan_the_upper_bound_is_the_product(pair):
    x, y = pair
    certificate = gw.certify(x.space(), y.space())
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    checkers.check_certificate(certificate, *arguments(x, y))
    assert product <= certificate.upper <= product + 1e-10 * scale(x, y)
    assert certificate.kind in (gw.Kind.LOWER, gw.Kind.GLOBAL)


@pytest.mark.parametrize(
    "family",
    [one_points(), permuted_copies(), additive_pairs()],
    ids=["one point", "copy", "additive"],
)
@given(data=st.data())
def test_closed_gaps_are_global(family, data):
    known = data.draw(family)
    certificate = gw.certify(known.x.space(), known.y.space(), known.plan)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.lower <= known.value * (1 + 1e-15) + 1e-300
    assert known.value <= certificate.upper + 1e-13 * scale(known.x, known.y)
    assert certificate.gap <= 1e-9 * scale(known.x, known.y)


@given(coupled(least=2))
def test_open_gaps_are_brackets(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan)
    is_open = certificate.gap > 1e-6 * scale(x, y)
    if is_open:
        assert certificate.kind is gw.Kind.BRACKET


@given(known(), st.data())
def test_known_answers_lie_inside(known, data):
    plan = data.draw(couplings(known.x.weights, known.y.weights))
    certificate = gw.certify(known.x.space(), known.y.space(), plan)
    rounded = 1e-15 * scale(known.x, known.y)
    assert certificate.lower - rounded <= known.value <= certificate.upper + rounded


@given(coupled(kinds=("sqeuclidean", "gram"), least=3))
def test_low_rank_spaces_get_the_spectral_bound(instance):
    x, y, plan = instance
    bounds = gw.certify(x.space(), y.space(), plan).bounds
    assert set(bounds) - {"rank_one"} == {"row_means", "norm", "spectral"}
    assert ("rank_one" in bounds) == all(
        s.kind == "gram" and len(s.data) == 1 for s in (x, y)
    )
    plain = float(gw.bounds.spectral(x.space(), y.space()))
    assert plain - 1e-9 * scale(x, y) <= bounds["spectral"] <= plain


@given(pairs(null=True))
def test_rounding_is_small_and_grows_with_the_unit(pair):
    x, y = (s.space() for s in pair)
    found = gw.certify(x, y).rounding
    assert 0 <= found <= 1e-9 * scale(*pair)
    assert gw.certify(x.scaled(16.0), y.scaled(16.0)).rounding == pytest.approx(
        256 * found, rel=1e-15, abs=0
    )


@given(coupled(null=True))
def test_float32_spaces_are_certified_as_the_values_they_store(instance):
    x, y, plan = instance
    narrow = [s.space(lambda v: v.astype(np.float32)) for s in (x, y)]
    certificate = gw.certify(*narrow, plan.astype(np.float32))
    wide = [stored(space, drawn) for space, drawn in zip(narrow, (x, y), strict=True)]
    checkers.check_certificate(certificate, *wide[0], *wide[1])
    exact_plan = np.outer(wide[0][1], wide[1][1])
    assert certificate.lower <= checkers.objective(wide[0][0], wide[1][0], exact_plan)


def stored(space, drawn):
    """Matrix and weights of the stored float32 values, in float64."""
    weights = space.weights.astype(float)
    wide = type(drawn)(drawn.kind, space.data.astype(float), weights / weights.sum())
    return wide.matrix, wide.weights


def test_str_says_interval_kind_and_theorem():
    text = str(gw.certify(np.array([[1.5]]), np.array([[0.5]])))
    assert text == "[1, 1] (global, lower bound by row_means)"


def test_a_plan_need_not_come_from_a_solver(rng):
    C, D = (checkers.euclidean(rng.standard_normal((n, 2))) for n in (4, 6))
    plan = np.outer(np.full(4, 0.25), np.full(6, 1 / 6))
    with_plan, without = gw.certify(C, D, plan), gw.certify(C, D)
    assert with_plan.kind is gw.Kind.BRACKET
    assert without.kind is gw.Kind.LOWER
    assert with_plan.upper == pytest.approx(without.upper, rel=1e-10)


TOLERANCES = [
    # gap, rounding and asked; closed and tolerance
    ((0.3, 0.5, 0.1), (True, 0.5)),
    ((0.5, 0.5, 0.9), (True, 0.5)),  # what rounding accounts for needs no asking
    ((0.7, 0.5, 0.6), (False, 0.6)),
    ((0.7, 0.5, 0.7), (True, 0.7)),
    ((0.7, 0.5, 0.9), (True, 0.9)),
    ((0.7, 0.5, 0.1), (False, 0.5)),
    ((0.0, 0.0, 0.0), (True, 0.0)),
]


@pytest.mark.parametrize(("given", "found"), TOLERANCES)
def test_intervals_are_judged_by_rounding_and_then_by_what_was_asked(given, found):
    assert closed_up_to(*given) == found


@pytest.mark.parametrize("objective", [2.0, 2.5])
@pytest.mark.parametrize("asked", [0.0, 1.2, 1.5])
def test_certificates_are_widened_to_an_objective(objective, asked):
    old = gw.Certificate(1.0, 2.0, gw.Kind.GLOBAL, "norm", {"norm": 1.0}, 7.0, 1.1, 0.1)
    new = with_upper(old, objective, asked)
    if objective == 2.0:
        assert new is old
        return
    assert (new.lower, new.upper, new.rounding, new.a_priori) == (1.0, 2.5, 0.1, 7.0)
    assert new.tolerance == max(asked, 0.1)
    assert new.kind is (gw.Kind.GLOBAL if asked == 1.5 else gw.Kind.BRACKET)


def test_bounds_that_are_none_count_as_zero():
    lowers = [0.7, 5e-324, 0.0, -0.7, -math.inf, math.inf, math.nan]
    found = [_finite_or_zero(lower) for lower in lowers]
    assert found == [0.7, 5e-324, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("unit", [1.0, 4.0**-30, 4.0**250])
@pytest.mark.parametrize("value", [0.7, 1.3, 1.0])
def test_units_are_given_back_outward(value, unit):
    product = value * unit * unit  # exact, as the unit is a power of two
    assert _scaled(value, unit, -math.inf) == math.nextafter(product, 0.0)
    assert _scaled(value, unit, math.inf) == math.nextafter(product, math.inf)


def test_units_that_leave_the_range():
    assert _scaled(1e-300, 4.0**-100, math.inf) == 5e-324
    assert _scaled(1e-300, 4.0**-100, -math.inf) == 0.0
    assert _scaled(1e300, 4.0**100, math.inf) == math.inf
    assert _scaled(1e300, 4.0**100, -math.inf) == sys.float_info.max
    assert _scaled(0.0, 4.0, math.inf) == _scaled(0.0, 4.0, -math.inf) == 0.0


def with_null_atoms(rng):
    """Spaces of 4 and 5 atoms, of which one and two carry no weight."""
    a, b = np.array([0.25, 0.0, 0.5, 0.25]), np.array([0.0, 0.5, 0.125, 0.375, 0.0])
    x, y = (
        gw.DenseSpace(checkers.euclidean(rng.standard_normal((len(w), 2))), w)
        for w in (a, b)
    )
    return prepare(x, y)


def test_lists_lose_masses_that_are_zero_and_those_of_null_atoms(rng):
    ready = with_null_atoms(rng)
    rows, cols = np.array([0, 1, 2, 2, 3, 3, 3]), np.array([1, 2, 2, 0, 3, 4, 1])
    mass = np.array([0.25, 0.1, 0.125, 0.2, 0.375, 0.3, 0.0])
    plan = _restricted(gw.SparsePlan(rows, cols, mass, (4, 5)), ready)
    assert plan.rows.tolist() == [0, 1, 2]
    assert plan.cols.tolist() == [0, 1, 2]
    assert plan.mass.tolist() == [0.25, 0.125, 0.375]
    assert plan.shape == (3, 3)
    # A matrix says the same.
    matrix = gw.DensePlan(gw.SparsePlan(rows, cols, mass, (4, 5)).dense())
    again = _restricted(matrix, ready)
    assert isinstance(again, gw.SparsePlan)
    assert np.array_equal(again.dense(), plan.dense())


def test_lists_that_need_nothing_are_kept(rng):
    x, y = (
        gw.DenseSpace(checkers.euclidean(rng.standard_normal((n, 2)))) for n in (3, 3)
    )
    index = np.arange(3)
    plan = gw.SparsePlan(index, index, np.full(3, 1 / 3), (3, 3))
    assert _restricted(plan, prepare(x, y)) is plan
    empty = gw.SparsePlan(
        np.append(index, 0),
        np.append(index, 1),
        np.array([1 / 3, 1 / 3, 1 / 3, 0.0]),
        (3, 3),
    )
    assert _restricted(empty, prepare(x, y)).mass.shape == (3,)


@pytest.mark.parametrize(("count", "listed"), [(6, True), (7, False), (12, False)])
def test_matrices_of_few_atoms_are_listed(rng, count, listed):
    """Up to n + m − 1 masses, as vertices have."""
    x, y = (
        gw.DenseSpace(checkers.euclidean(rng.standard_normal((n, 2)))) for n in (3, 4)
    )
    matrix = np.zeros(12)
    matrix[np.linspace(0, 11, count).astype(int)] = rng.uniform(0.1, 1, count)
    matrix = matrix.reshape(3, 4)
    plan = gw.DensePlan(matrix)
    found = _restricted(plan, prepare(x, y))
    assert isinstance(found, gw.SparsePlan) == listed
    assert found is plan or listed
    assert np.array_equal(found.dense(), matrix)
    assert found.shape == (3, 4)
    assert found.masses.size == (count if listed else 12)


def matching(rows, cols, a, b, mass=None):
    x, y = (gw.DenseSpace(np.ones((len(w), len(w))), np.array(w)) for w in (a, b))
    mass = np.full(len(rows), 0.3) if mass is None else mass
    return _matching(
        gw.SparsePlan(np.array(rows), np.array(cols), mass, (len(a), len(b))), x, y
    )


THIRDS = [0.25, 0.25, 0.5]


def test_plans_that_pair_atoms_of_equal_weights_are_matchings():
    found = matching([2, 0, 1], [0, 2, 1], THIRDS, [0.5, 0.25, 0.25])
    assert found.mass.tolist() == [
        0.5,
        0.25,
        0.25,
    ]  # the stored weights, in the order of the list
    assert found.rows.tolist() == [2, 0, 1]
    assert found.cols.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("rows", "cols", "a", "b"),
    [
        ([0, 0, 2], [0, 1, 2], THIRDS, THIRDS),
        ([0, 1, 2], [0, 0, 2], THIRDS, THIRDS),
        ([0, 1, 2], [1, 2, 0], THIRDS, THIRDS),
        ([0, 1], [0, 1], THIRDS, THIRDS),
        ([0, 1, 2, 2], [0, 1, 2, 2], THIRDS, THIRDS),
        ([0, 1, 2], [0, 1, 1], THIRDS, [0.5, 0.5]),
        ([0, 1, 1], [0, 1, 2], [0.5, 0.5], THIRDS),
        ([0, 1, 2], [0, 1, 2], THIRDS, [0.25, math.nextafter(0.25, 1), 0.5 - 2.0**-54]),
    ],
)
def test_other_plans_are_none(rows, cols, a, b):
    assert matching(rows, cols, a, b) is None


def test_matrices_are_no_matchings():
    x = gw.DenseSpace(np.ones((2, 2)))
    assert _matching(gw.DensePlan(np.eye(2) / 2), x, x) is None


def moved_by_an_ulp(values, place):
    moved = values.copy()
    moved[place] = np.nextafter(moved[place], np.inf)
    return moved


def path(lengths):
    n = len(lengths) + 1
    edges = np.zeros((n, n))
    edges[np.arange(n - 1), np.arange(1, n)] = lengths
    return gw.GraphSpace(
        scipy.sparse.csr_array(edges + edges.T), np.array([0.1, 0.2, 0.3, 0.4])
    )


def copies(kind, rng):
    """A space over 4 atoms, its copy in another order, another one that is off by an ulp, and the order."""
    weights, order = np.array([0.1, 0.2, 0.3, 0.4]), np.array([2, 0, 3, 1])
    points = rng.standard_normal((4, 3))
    if kind == "dense":
        matrix = checkers.euclidean(points)
        off = matrix.copy()
        off[0, 3] = off[3, 0] = np.nextafter(off[0, 3], np.inf)
        x, moved = gw.DenseSpace(matrix, weights), gw.DenseSpace(off, weights)
    elif kind == "gram":
        factor = points.T.copy()
        x, moved = (
            gw.GramSpace(factor, weights),
            gw.GramSpace(moved_by_an_ulp(factor, (1, 2)), weights),
        )
    elif kind in ("whole graph", "graph"):
        lengths = np.array([1.0, 2.0, 3.0]) * (1 if kind == "whole graph" else 0.1)
        x, moved = path(lengths), path(lengths + np.array([0.0, lengths[0], 0.0]))
    else:
        x, moved = (
            gw.PointCloud(p, weights, metric=kind)
            for p in (points, moved_by_an_ulp(points, (2, 1)))
        )
    return x, x.restrict(order), moved.restrict(order), order


def some_parts(n, m):
    return some_radii(1, n), some_radii(2, m), some_extent(3), some_extent(4)


def test_copies_agree_in_every_block_of_rows(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_ENTRIES", 1)
    matrix, index = np.ones((3, 3)), np.arange(3)
    moved = moved_by_an_ulp(matrix, (2, 2))
    plan = gw.SparsePlan(index, index, np.full(3, 1 / 3), (3, 3))
    assert _is_isometry(gw.DenseSpace(matrix), gw.DenseSpace(matrix.copy()), plan, 0.0)
    assert not _is_isometry(gw.DenseSpace(matrix), gw.DenseSpace(moved), plan, 0.0)


@pytest.mark.parametrize("swapped", [False, True])
def test_lists_follow_the_atoms_of_either_space(rng, swapped):
    """Where one space alone has an atom without weight, and no mass lies on it."""
    x = gw.DenseSpace(np.ones((2, 2)))
    y = gw.DenseSpace(np.ones((3, 3)), np.array([0.0, 0.5, 0.5]))
    index, mass = (np.arange(2), np.arange(1, 3)), np.full(2, 0.5)
    plan = (
        gw.SparsePlan(*index[::-1], mass, (3, 2))
        if swapped
        else gw.SparsePlan(*index, mass, (2, 3))
    )
    found = _restricted(plan, prepare(y, x) if swapped else prepare(x, y))
    assert found.shape == (2, 2)
    assert found.rows.tolist() == found.cols.tolist() == [0, 1]


KINDS = ["dense", "gram", "whole graph", "graph", "euclidean", "sqeuclidean"]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_told_by_stored_values(kind, rng):
    x, copy, other, order = copies(kind, rng)
    plan = gw.SparsePlan(order, np.arange(4), x.weights[order], (4, 4))
    assert _is_isometry(x, copy, plan, 0.0) == (kind != "graph")
    assert not _is_isometry(x, other, plan, 0.0)
    if kind != "graph":
        assert _objective(*radii.enclosed(x, copy, *some_parts(4, 4)), plan) == Bound(
            0.0, 0.0, 0.0
        )
    # Sums of points may round even where the points are the same ones; entries as they
    # are stored may not.
    assert _is_isometry(x, copy, plan, 1e-40) == (
        kind in ("gram", "euclidean", "sqeuclidean")
    )
    wrong = gw.SparsePlan(order[[1, 0, 2, 3]], np.arange(4), x.weights[order], (4, 4))
    assert not _is_isometry(x, copy, wrong, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_alone_are_exactly_zero(kind, rng):
    x, copy, other, order = copies(kind, rng)
    plan = gw.SparsePlan(
        order, np.arange(4), np.full(4, 0.0) + x.weights[order], (4, 4)
    )
    found = gw.certify(x, copy, plan)
    assert (found.upper == 0.0) == (kind != "graph")
    assert found.kind is gw.Kind.GLOBAL
    assert found.lower == 0.0
    assert gw.certify(x, other, plan).upper > 0.0
    matrix = gw.certify(x, copy, plan.dense())  # of few masses, so it is a list as well
    assert (matrix.upper == 0.0) == (kind != "graph")


def test_other_metrics_and_other_shapes_are_no_copies(rng):
    points = rng.standard_normal((4, 2))
    index = np.arange(4)
    plan = gw.SparsePlan(index, index, np.full(4, 0.25), (4, 4))
    euclidean, squared = (
        gw.PointCloud(points, metric=metric) for metric in ("euclidean", "sqeuclidean")
    )
    wider = gw.PointCloud(np.hstack([points, np.zeros((4, 1))]))
    gram, dense = gw.GramSpace(points.T), gw.DenseSpace(euclidean.dense())
    for x, y in (
        (euclidean, squared),
        (euclidean, wider),
        (euclidean, gram),
        (squared, gram),
        (dense, euclidean),
    ):
        assert not _is_isometry(x, y, plan, 0.0)
        assert not _is_isometry(y, x, plan, 0.0)


def test_pairs_say_how_far_values_are_apart():
    spaces = [
        gw.DenseSpace(np.full((n, n), value)) for n, value in ((2, 0.7), (3, 2.0))
    ]
    parts = some_radii(1, 2), some_radii(2, 3), some_extent(3), some_extent(4)
    for x, y in (spaces, spaces[::-1]):
        _, pair = radii.enclosed(x, y, *parts)
        assert pair.mean_gap == pytest.approx(1.3, rel=1e-14)
        wanted = float_error.max_difference(pair.mean_gap, *parts)
        assert pair.largest == pytest.approx(wanted, rel=1e-14)


def generic_pair(rng, name):
    """Spaces with large radii, and plans that miss their weights a little, as a matrix and as a list."""
    a, b = rng.dirichlet(np.full(3, 5.0)), rng.dirichlet(np.full(5, 5.0))
    points = [rng.standard_normal((len(w), 2)) for w in (a, b)]
    if "and" in name:
        x, y = (gw.GramSpace(p.T, w) for p, w in zip(points, (a, b), strict=True))
        x, y = (
            (gw.DenseSpace(x.dense(), a), y)
            if name == "dense and gram"
            else (x, gw.DenseSpace(y.dense(), b))
        )
    elif name == "dense":
        x, y = (
            gw.DenseSpace(checkers.euclidean(p), w)
            for p, w in zip(points, (a, b), strict=True)
        )
    else:
        x, y = (gw.GramSpace(p.T, w) for p, w in zip(points, (a, b), strict=True))
    matrix = np.outer(a, b) * (1 + 1e-2 * rng.uniform(-1, 1, (3, 5)))
    rows, cols = np.divmod(np.arange(15), 5)
    pair = radii.enclosed(
        x, y, some_radii(1, 3), some_radii(2, 5), some_extent(3), some_extent(4)
    )
    return (
        *pair,
        gw.DensePlan(matrix),
        gw.SparsePlan(rows, cols, matrix.ravel(), (3, 5)),
    )


@pytest.mark.parametrize("name", ["dense", "gram", "gram and dense", "dense and gram"])
def test_objectives_are_rounded_by_the_form_of_the_plan(coarse, rng, name):
    problem, pair, matrix, atoms = generic_pair(rng, name)
    of_x, of_y = pair.x.radii, pair.y.radii
    for plan, count in ((matrix, 3), (atoms, 15)):
        off = [
            np.abs(found - s.weights).sum()
            for found, s in zip(plan.marginals(), (problem.x, problem.y), strict=True)
        ]
        missed = outward.missed_mass(*off, count, of_x, of_y)
        assert _missed(plan, pair) == pytest.approx(missed, rel=1e-13)
        value = float(problem.objective(plan))
        if plan is atoms and name != "gram":
            upper = outward.squares_upper(value, 15, missed, pair.largest, of_x, of_y)
        else:
            parts = of_x, of_y, pair.x.extent, pair.y.extent
            upper = outward.parts_upper(
                value, 2 * count, missed, pair.mean_gap, pair.largest, *parts
            )
        found = _objective(problem, pair, plan)
        assert (found.value, found.lower) == (value, 0.0)
        assert found.upper == pytest.approx(upper, rel=1e-13)


@pytest.mark.parametrize("form", ["dense", "gram"])
@pytest.mark.parametrize("more", [-0.05, 0.05])
def test_matchings_stand_for_the_coupling_they_mean(coarse, rng, form, more):
    """An upper end is one for the coupling with the weights as its masses, and for the plan as it is stored."""
    weights, index, points = (
        np.array([0.2, 0.3, 0.5]),
        np.arange(3),
        rng.standard_normal((2, 3, 2)),
    )
    x, y = (
        gw.GramSpace(p.T, weights)
        if form == "gram"
        else gw.DenseSpace(checkers.euclidean(p), weights)
        for p in points
    )
    parts = some_radii(1, 3), some_radii(2, 3), some_extent(3), some_extent(4)
    problem, pair = radii.enclosed(x, y, *parts)

    def upper(plan, value):
        if form == "dense":
            return outward.squares_upper(value, 3, 0.0, pair.largest, *parts[:2])
        return outward.parts_upper(
            value, 6, _missed(plan, pair), pair.mean_gap, pair.largest, *parts
        )

    plan, off = (
        gw.SparsePlan(index, index, weights + np.array([d, 0.0, 0.0]), (3, 3))
        for d in (0.0, more)
    )
    values = [float(gw.GWProblem(x, y).objective(p)) for p in (plan, off)]
    wanted = [upper(p, v) for p, v in zip((plan, off), values, strict=True)]
    known = [PlanObjective(x, y, p, np.asarray(7.0)) for p in (plan, off)]
    for before in (None, known[1]):
        assert _objective(problem, pair, plan, before)[::2] == pytest.approx(
            (values[0], wanted[0]), rel=1e-13
        )
    for before in (None, known[0]):
        assert _objective(problem, pair, off, before)[::2] == pytest.approx(
            (values[1], max(wanted)), rel=1e-13
        )
    assert _objective(problem, pair, plan, known[0]).value == 7.0
    for changed in (known[0]._replace(x=y), known[0]._replace(y=x)):
        assert _objective(problem, pair, plan, changed).value == values[0]


@pytest.mark.parametrize("name", ["dense", "gram"])
def test_the_product_is_rounded_by_its_parts(coarse, rng, name):
    problem, pair, _, _ = generic_pair(rng, name)
    x, y = problem.x, problem.y
    a, b = x.weights, y.weights
    value = pair.mean_gap**2 + 2 * float(a @ x.deviations**2 + b @ y.deviations**2)
    value += float(x.residual_norm_squared() + y.residual_norm_squared())
    found = _product(problem, pair)
    assert found.value == pytest.approx(value, rel=1e-13)
    assert found.value == pytest.approx(
        checkers.objective(x.dense(), y.dense(), np.outer(a, b)), rel=1e-12
    )
    assert found.upper == pytest.approx(
        outward.product_upper(found.value, pair.x.radii, pair.y.radii), rel=1e-13
    )


def test_certificates_hold_what_each_formula_says(rng):
    """In units that are changed and given back: the ends, the name of the best bound, a priori and rounding."""
    x, y = (
        gw.DenseSpace(
            checkers.euclidean(rng.standard_normal((n, 2))) * 4.0**150 * factor,
            rng.dirichlet(np.ones(n)),
        )
        for n, factor in ((4, 1), (6, 2))
    )
    ready = prepare(x, y)
    assert ready.unit not in (0.0, 1.0)
    square = ready.unit**2
    for plan in (None, np.outer(x.weights, y.weights)):
        found = gw.certify(x, y, plan)
        problem = gw.GWProblem(ready.x, ready.y)
        pair = enclosed(problem)
        of_x, of_y = pair.x.radii, pair.y.radii
        bounds, a_priori = certified.linear(ready.x, ready.y, pair)
        upper = (
            _product(problem, pair)
            if plan is None
            else _objective(problem, pair, gw.DensePlan(plan))
        )
        wanted = {
            name: math.nextafter(bound.lower * square, 0)
            for name, bound in bounds.items()
        }
        assert found.bounds == wanted
        assert found.bound == max(wanted, key=wanted.get) == "norm"
        assert found.lower == wanted["norm"]
        assert found.upper == math.nextafter(upper.upper * square, math.inf)
        assert found.a_priori == math.nextafter(
            a_priori * square, math.inf
        ) + 2 * math.ulp(found.bounds["norm"])
        wanted = (
            outward.interval_width(bounds["norm"].lower, pair.largest, 0, of_x, of_y)
            * square
        )
        assert found.rounding == found.tolerance == math.nextafter(wanted, math.inf)
        assert found.kind is (gw.Kind.LOWER if plan is None else gw.Kind.BRACKET)
        detailed = certified_objective(x, y, plan, "linear")
        assert detailed.objective == upper.value * square
        assert detailed.distance == pytest.approx(
            math.sqrt(upper.value) * ready.unit, rel=1e-15
        )


def test_tolerance_counts_the_roundings_of_entries(rng):
    x, y = (
        gw.GramSpace(rng.standard_normal((9, 3)), np.full(3, 1 / 3)),
        gw.GramSpace(rng.standard_normal((2, 4))),
    )
    for pair in ((x, y), (y, x)):
        found = gw.certify(*pair)
        whole = enclosed(gw.GWProblem(*pair))
        wanted = outward.interval_width(
            found.lower, whole.largest, 9, whole.x.radii, whole.y.radii
        )
        assert found.rounding == pytest.approx(wanted, rel=1e-15)


def test_the_best_cheap_coupling_is_the_one_of_the_least_upper_end(rng):
    # Of both signs, so that eccentricities sort otherwise than row means.
    squares = [rng.standard_normal((n, n)) for n in (4, 6)]
    x, y = (gw.DenseSpace(square + square.T) for square in squares)
    problem = gw.GWProblem(x, y)
    pair = enclosed(problem)
    sides = certified.enclosed_parts(x), certified.enclosed_parts(y)
    sizes = [s.dense() ** 2 @ s.weights for s in (x, y)]
    ends = [_product(problem, pair).upper]
    for first, second in (
        (x.row_means, y.row_means),
        (x.row_means, -y.row_means),
        sizes,
    ):
        plan = gw.transport.one_dimensional.sorting_plan(
            first, x.weights, second, y.weights
        )
        ends.append(_objective(problem, pair, plan).upper)
    assert [end.upper for end in _sorting_objectives(problem, pair, sides)] == ends[1:]
    assert gw.certify(x, y, effort="quadratic").upper == math.nextafter(
        min(ends), math.inf
    )


def test_asked_tolerances_close_and_are_said(rng):
    C = checkers.euclidean(rng.standard_normal((5, 2)))
    D = C + 1e-5 * checkers.euclidean(rng.standard_normal((5, 2)))
    plan = np.eye(5) / 5
    plain, asked = gw.certify(C, D, plan), gw.certify(C, D, plan, tolerance=1e-6)
    assert plain.kind is gw.Kind.BRACKET
    assert plain.tolerance == plain.rounding
    assert "global" not in str(plain)
    assert asked.kind is gw.Kind.GLOBAL
    assert asked.tolerance == 1e-6
    assert "(global to 1e-06, lower bound by" in str(asked)
    assert "global to" not in str(gw.certify(C, C, plan, tolerance=1e-6))
    assert gw.certify(C, D, plan, tolerance=1e-30).kind is gw.Kind.BRACKET


def test_tolerances_below_zero_are_refused():
    with pytest.raises(
        ValueError, match="tolerance must be a finite number at least 0"
    ):
        gw.certify(np.ones((1, 1)), np.ones((1, 1)), tolerance=-1e-9)
    assert (
        gw.certify(
            np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), tolerance=0.0
        ).kind
        is gw.Kind.GLOBAL
    )


@pytest.mark.parametrize("side", [0, 1])
def test_values_whose_squares_leave_the_range_are_refused(side):
    spaces = [np.array([[0.0, 1.0], [1.0, 0.0]])] * 2
    spaces[side] = spaces[side] * 2.0**509
    assert math.isfinite(gw.certify(*spaces).upper)
    spaces[side] = spaces[side] * (1 + 2.0**-52)
    with pytest.raises(
        ValueError,
        match=r"values of C must be at most 1\.6759\d+e\+153 in absolute value",
    ):
        gw.certify(*spaces)


def test_distances_of_couplings_are_rounded_up(rng):
    """Roots of upper ends, one float further, in the given units; those of copies are 0."""
    weights, index = np.array([0.2, 0.3, 0.5]), np.arange(3)
    x, y = (
        gw.DenseSpace(checkers.euclidean(rng.standard_normal((3, 2))), weights)
        for _ in range(2)
    )
    plan = gw.SparsePlan(index, index, weights, (3, 3))
    for unit in (1.0, 4.0**120):
        wide = [s.scaled(unit) for s in (x, y)]
        upper = gw.certify(x, y, plan).upper
        found = coupling_distance(*wide, plan)
        assert unit * math.sqrt(upper) < found <= unit * math.sqrt(upper) * (1 + 1e-14)
    assert coupling_distance(x, x, plan) == 0.0
    # The next float above the root, and no other.
    problem = gw.GWProblem(x, y)
    root = _objective(problem, enclosed(problem), plan).upper ** 0.5
    assert coupling_distance(x, y, plan) == math.nextafter(
        float_error.ceiling(root), math.inf
    )


@pytest.mark.parametrize("effort", ["quadratic", "cubic"])
def test_convexity_takes_what_is_known_of_the_signs(coarse, rng, effort):
    """The kinds of spaces alone, or the smaller of what they and the spectra say."""
    x, y = (
        gw.GramSpace(rng.standard_normal((3, 5))),
        gw.PointCloud(5 + 9 * rng.standard_normal((6, 2))),
    )
    plan = np.outer(x.weights, y.weights)
    sides = certified.enclosed_parts(x), certified.enclosed_parts(y)
    curvatures = [
        certified_quadratic.eigenvalue_product_of_kinds(*sides, x.sign, y.sign)
    ]
    if effort == "cubic":
        curvatures.append(
            certified_quadratic.largest_eigenvalue_product(*map(certified.modes, sides))
        )
        assert curvatures[0] != curvatures[1]
    found = gw.certify(x, y, plan, effort).bounds["convexity"]
    lower = certified_quadratic.convexity(*sides, plan, min(curvatures)).lower
    assert 0 < found == math.nextafter(lower, 0)
    assert (
        lower
        != certified_quadratic.convexity(*sides, plan, max(curvatures) * 0.1).lower
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_plans_may_miss_the_weights_by_a_thousandth_or_the_root_of_their_rounding(
    dtype,
):
    limit = max(1e-3, np.finfo(dtype).eps ** 0.5)
    space, plan = gw.DenseSpace(np.zeros((4, 4), dtype)), np.full((4, 4), 1 / 16, dtype)
    for share in (0.9, 1.1):
        off = plan.copy()
        off[0] += np.asarray(share * limit / 4, dtype)
        if share < 1:
            gw.certify(space, space, off)
        else:
            with pytest.raises(
                ValueError, match="plan must have the weights of x as its marginal"
            ):
                gw.certify(space, space, off)


@pytest.mark.parametrize("tolerance", [1e-6, 0.42, 0.951, 9.5e-7, 1.0, 7.3e11])
def test_a_tolerance_is_never_said_to_be_smaller(tolerance):
    found = gw.Certificate(0.0, tolerance, gw.Kind.GLOBAL, "norm", tolerance=tolerance)
    said = float(str(found).split("global to ")[1].split(",")[0])
    assert tolerance <= said <= 2 * tolerance


def test_sparse_plans_between_low_rank_spaces_take_no_matrix(rng):
    """Not even of their masses: 30,000 atoms would be seven gigabytes."""
    n = 30_000
    x, y = (
        gw.PointCloud(rng.standard_normal((n, 2)), metric="sqeuclidean")
        for _ in range(2)
    )
    plan = gw.SparsePlan(np.arange(n), rng.permutation(n), np.full(n, 1 / n), (n, n))
    tracemalloc.start()
    found = gw.certify(x, y, plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 8 * n
    assert found.lower < found.upper


def test_lists_of_any_library_are_widened_as_they_are(library, rng):
    """Places stay integers of the library, and follow the masses to NumPy where the library has no float64."""
    points = rng.standard_normal((4, 2)).astype(library.dtype)
    order, mass = np.array([2, 0, 3, 1]), np.array([0.25, 0.25, 0.25, 0.25])

    def certified_in(make, places):
        plan = gw.SparsePlan(places(order), places(np.arange(4)), make(mass), (4, 4))
        return gw.certify(
            gw.PointCloud(make(points)), gw.PointCloud(make(1.5 * points)), plan
        )

    expected = certified_in(lambda v: np.asarray(v, library.dtype), np.asarray)
    found = certified_in(
        library.array, lambda v: _array.from_numpy(v, library.array(mass))
    )
    for name in ("lower", "upper", "a_priori"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-13)
