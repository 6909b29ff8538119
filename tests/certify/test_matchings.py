"""Matchings and isometries: which plans are known to be one, and which are not."""

import math

import numpy as np
import pytest
import scipy.sparse

import gwtools as gw
from gwtools.bounds.float_error import Bound
from gwtools.certify.matchings import is_isometry, matching_of
from gwtools.certify.objectives import objective_of_plan
from gwtools.spaces import base
from tests import checkers, radii
from tests.radii import some_extent, some_radii


def matching(rows, cols, a, b):
    x = gw.DenseSpace(np.ones((len(a), len(a))), np.array(a))
    y = gw.DenseSpace(np.ones((len(b), len(b))), np.array(b))
    mass = np.full(len(rows), 0.3)
    shape = (len(a), len(b))
    plan = gw.SparsePlan(np.array(rows), np.array(cols), mass, shape)
    return matching_of(plan, x, y)


THREE = [0.25, 0.25, 0.5]
NEXT_TO_THREE = [0.25, math.nextafter(0.25, 1), 0.5 - 2.0**-54]


def test_plans_that_pair_atoms_of_equal_weights_are_matchings():
    found = matching([2, 0, 1], [0, 2, 1], THREE, [0.5, 0.25, 0.25])
    # The stored weights, in the order of the list.
    assert found.mass.tolist() == [0.5, 0.25, 0.25]
    assert found.rows.tolist() == [2, 0, 1]
    assert found.cols.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("rows", "cols", "a", "b"),
    [
        ([0, 0, 2], [0, 1, 2], THREE, THREE),
        ([0, 1, 2], [0, 0, 2], THREE, THREE),
        ([0, 1, 2], [1, 2, 0], THREE, THREE),
        ([0, 1], [0, 1], THREE, THREE),
        ([0, 1, 2, 2], [0, 1, 2, 2], THREE, THREE),
        ([0, 1, 2], [0, 1, 1], THREE, [0.5, 0.5]),
        ([0, 1, 1], [0, 1, 2], [0.5, 0.5], THREE),
        ([0, 1, 2], [0, 1, 2], THREE, NEXT_TO_THREE),
    ],
)
def test_other_plans_are_none(rows, cols, a, b):
    assert matching(rows, cols, a, b) is None


def test_matrices_are_no_matchings():
    x = gw.DenseSpace(np.ones((2, 2)))
    assert matching_of(gw.DensePlan(np.eye(2) / 2), x, x) is None


WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])
ORDER = np.array([2, 0, 3, 1])


def moved_by_an_ulp(values, *places):
    moved = values.copy()
    for place in places:
        moved[place] = np.nextafter(moved[place], np.inf)
    return moved


def path(lengths):
    n = len(lengths) + 1
    edges = np.zeros((n, n))
    edges[np.arange(n - 1), np.arange(1, n)] = lengths
    return gw.GraphSpace(scipy.sparse.csr_array(edges + edges.T), WEIGHTS)


def matrices(rng):
    C = checkers.euclidean(rng.standard_normal((4, 3)))
    off = moved_by_an_ulp(C, (0, 3), (3, 0))
    return gw.DenseSpace(C, WEIGHTS), gw.DenseSpace(off, WEIGHTS)


def factors(rng):
    factor = rng.standard_normal((4, 3)).T.copy()
    off = moved_by_an_ulp(factor, (1, 2))
    return gw.GramSpace(factor, WEIGHTS), gw.GramSpace(off, WEIGHTS)


def paths(unit):
    lengths = unit * np.array([1.0, 2.0, 3.0])
    return path(lengths), path(lengths + np.array([0.0, lengths[0], 0.0]))


def clouds(metric, rng):
    points = rng.standard_normal((4, 3))
    off = moved_by_an_ulp(points, (2, 1))
    x = gw.PointCloud(points, WEIGHTS, metric=metric)
    return x, gw.PointCloud(off, WEIGHTS, metric=metric)


KINDS = ["dense", "gram", "whole graph", "graph", "euclidean", "sqeuclidean"]


def copies(kind, rng):
    """A space over 4 atoms, its copy in another order, and one that is off."""
    if kind == "dense":
        x, moved = matrices(rng)
    elif kind == "gram":
        x, moved = factors(rng)
    elif kind == "whole graph":
        x, moved = paths(1.0)
    elif kind == "graph":
        x, moved = paths(0.1)  # whose lengths are rounded, and sums of them
    else:
        x, moved = clouds(kind, rng)
    return x, x.restrict(ORDER), moved.restrict(ORDER)


def test_copies_agree_in_every_block_of_rows(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_ENTRIES", 1)
    matrix = np.ones((3, 3))
    index = np.arange(3)
    plan = gw.SparsePlan(index, index, np.full(3, 1 / 3), (3, 3))
    x = gw.DenseSpace(matrix)
    moved = gw.DenseSpace(moved_by_an_ulp(matrix, (2, 2)))
    assert is_isometry(x, gw.DenseSpace(matrix.copy()), plan, 0.0)
    assert not is_isometry(x, moved, plan, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_told_by_stored_values(kind, rng):
    x, copy, other = copies(kind, rng)
    plan = gw.SparsePlan(ORDER, np.arange(4), WEIGHTS[ORDER], (4, 4))
    assert is_isometry(x, copy, plan, 0.0) == (kind != "graph")
    assert not is_isometry(x, other, plan, 0.0)
    if kind != "graph":
        parts = some_radii(1, 4), some_radii(2, 4), some_extent(3), some_extent(4)
        problem, pair = radii.enclosed(x, copy, *parts)
        assert objective_of_plan(problem, pair, plan) == Bound(0.0, 0.0, 0.0)
    # Sums of points may round even where the points are the same ones; entries as they
    # are stored may not.
    may_round = kind in ("gram", "euclidean", "sqeuclidean")
    assert is_isometry(x, copy, plan, 1e-40) == may_round
    wrong = gw.SparsePlan(ORDER[[1, 0, 2, 3]], np.arange(4), WEIGHTS[ORDER], (4, 4))
    assert not is_isometry(x, copy, wrong, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_alone_are_exactly_zero(kind, rng):
    x, copy, other = copies(kind, rng)
    plan = gw.SparsePlan(ORDER, np.arange(4), WEIGHTS[ORDER], (4, 4))
    found = gw.certify(x, copy, plan)
    assert (found.upper == 0.0) == (kind != "graph")
    assert found.kind is gw.Kind.GLOBAL
    assert found.lower == 0.0
    assert gw.certify(x, other, plan).upper > 0.0
    # A matrix of few masses becomes a list.
    of_matrix = gw.certify(x, copy, plan.dense())
    assert (of_matrix.upper == 0.0) == (kind != "graph")


def test_other_metrics_and_other_shapes_are_no_copies(rng):
    points = rng.standard_normal((4, 2))
    index = np.arange(4)
    plan = gw.SparsePlan(index, index, np.full(4, 0.25), (4, 4))
    euclidean = gw.PointCloud(points)
    squared = gw.PointCloud(points, metric="sqeuclidean")
    wider = gw.PointCloud(np.hstack([points, np.zeros((4, 1))]))
    gram = gw.GramSpace(points.T)
    dense = gw.DenseSpace(euclidean.dense())
    for x, y in (
        (euclidean, squared),
        (euclidean, wider),
        (euclidean, gram),
        (squared, gram),
        (dense, euclidean),
    ):
        assert not is_isometry(x, y, plan, 0.0)
        assert not is_isometry(y, x, plan, 0.0)


def test_certified_copies_are_exactly_zero(rng):
    C = checkers.euclidean(rng.standard_normal((9, 2)))
    order = rng.permutation(9)
    plan = gw.SparsePlan(order, np.arange(9), np.full(9, 1 / 9), (9, 9))
    copy = np.ascontiguousarray(C[np.ix_(order, order)])
    certificate = gw.certify(C, copy, plan)
    assert certificate.lower == 0.0
    assert certificate.upper == 0.0
    assert certificate.kind is gw.Kind.GLOBAL
