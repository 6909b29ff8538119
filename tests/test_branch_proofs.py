"""Kept proofs of branch and bound: checked by code of their own, and tampered with."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.branch_proofs import check_branches
from gwtools.preparation import prepare
from tests.bounds.test_node_bounds import exact_matrix, exact_objective, vertices
from tests.checkers import objective
from tests.rational import exact_weights, fraction
from tests.strategies import Drawn


def spaces_of(seed, kind="sqeuclidean", n=6, m=5, d=2, other=2):
    rng = np.random.default_rng(seed)
    drawn = []
    for size, dimension in ((n, d), (m, other)):
        data = rng.standard_normal((size, dimension))
        data = data.T.copy() if kind == "gram" else data
        drawn.append(Drawn(kind, data, rng.dirichlet(np.full(size, 3.0))).space())
    return drawn


def proved(x, y, **settings):
    solver = gw.BranchAndBound(keep_proof=True, **settings)
    return solver.run(gw.GWProblem(x, y))


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**20),
    st.sampled_from(("sqeuclidean", "gram")),
    st.integers(1, 2),
    st.integers(1, 30),
)
def test_theorem_17_a_kept_proof_proves_the_same(seed, kind, d, nodes):
    x, y = spaces_of(seed, kind, d=d)
    outcome = proved(x, y, max_nodes=nodes)
    lower = check_branches(x, y, outcome.branches)
    scale = float(gw.GWProblem(x, y).variation)
    assert lower == pytest.approx(outcome.proved.lower, rel=1e-9, abs=1e-9 * scale)
    objective = float(gw.GWProblem(x, y).objective(outcome.plan))
    assert lower <= objective * (1 + 1e-12)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**20),
    st.sampled_from(("sqeuclidean", "gram")),
    st.integers(1, 2),
    st.sampled_from((1.0, 1e-3, 3e5)),
)
def test_theorem_17_without_a_tolerance_no_end_crosses_rational_arithmetic(
    seed, kind, d, scale
):
    # All that is left between both ends is rounding.
    x, y = (
        space.with_data(scale * space.data, space.weights)
        for space in spaces_of(seed, kind, n=4, m=3, d=d, other=1)
    )
    outcome = proved(x, y, tolerance=0.0, max_nodes=60)
    C, D = (exact_matrix(Drawn(kind, space.data, space.weights)) for space in (x, y))
    a, b = (exact_weights(space.weights) for space in (x, y))
    # A concave objective is least at a vertex, one of those that floats find best.
    floats = [matrix.astype(float) for matrix in (C, D)]
    plans = list(vertices(a, b, most=24))
    plans.sort(key=lambda plan: objective(*floats, plan.astype(float)))
    least = min(exact_objective(C, D, plan) for plan in plans[:4])
    variation = float(gw.GWProblem(x, y).variation)
    for lower in (outcome.proved.lower, check_branches(x, y, outcome.branches)):
        assert fraction(lower) <= least
        assert lower >= float(least) - 1e-6 * variation
    assert least <= fraction(outcome.proved.upper)
    assert outcome.proved.upper <= float(least) + 1e-6 * variation


def test_only_what_leaves_use_is_kept():
    x, y = spaces_of(0)
    branches = proved(x, y).branches
    leaves = branches.coordinates < 0
    used = branches.cuts[leaves][branches.weights[leaves] > 0]
    assert set(used) <= set(range(len(branches.slopes)))
    assert np.all(branches.children[~leaves].min(axis=1) > np.flatnonzero(~leaves))
    assert len(proved(x, y).branches.slopes) < 400
    assert gw.BranchAndBound().run(gw.GWProblem(x, y)).branches is None


def tampered(branches):
    """The proof with one thing changed, which then proves less."""
    leaf = int(np.flatnonzero(branches.weights.sum(axis=1) > 0)[0])
    weights = branches.weights.copy()
    weights[leaf] = 0.0
    yield "weights", dataclasses.replace(branches, weights=weights)
    weights = branches.weights.copy()
    weights[leaf] *= -1
    yield "negative", dataclasses.replace(branches, weights=weights)
    weights = branches.weights.copy()
    weights[leaf] = np.nan
    yield "NaN", dataclasses.replace(branches, weights=weights)
    cut = branches.cuts[leaf][0]
    potentials = branches.potentials.copy()
    potentials[cut, 0] += 1.0
    yield "potentials", dataclasses.replace(branches, potentials=potentials)
    slopes = branches.slopes.copy()
    slopes[cut] += 1.0
    yield "slopes", dataclasses.replace(branches, slopes=slopes)
    left, right = branches.axes
    yield "axes", dataclasses.replace(branches, axes=(left[:, :1], right))
    cuts = branches.cuts.copy()
    cuts[leaf] = len(branches.slopes)
    yield "cuts", dataclasses.replace(branches, cuts=cuts)
    children = branches.children.copy()
    children[0] = (1, 1)
    yield "half a tree", dataclasses.replace(branches, children=children)
    children = branches.children.copy()
    children[0] = (0, 1)
    yield "a circle", dataclasses.replace(branches, children=children)
    children = branches.children.copy()
    children[0] = (1, len(children))
    yield "no such node", dataclasses.replace(branches, children=children)
    yield "cut off", dataclasses.replace(branches, children=branches.children[:1])
    coordinates = branches.coordinates.copy()
    coordinates[0] = -1
    yield "no tree", dataclasses.replace(branches, coordinates=coordinates)
    splits = branches.splits.copy()
    splits[0] += 0.5
    yield "splits", dataclasses.replace(branches, splits=splits)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_tampered_proof_proves_less_or_nothing():
    x, y = spaces_of(1, n=7, m=7)
    outcome = proved(x, y)
    lower = outcome.proved.lower
    names = []
    for name, branches in tampered(outcome.branches):
        if name == "axes":
            with pytest.raises(ValueError, match="reshape"):
                check_branches(x, y, branches)
            continue
        found = check_branches(x, y, branches)
        assert 0 <= found < lower * (1 - 1e-9), name
        names.append(name)
    assert len(names) == 12


def test_other_spaces_are_not_proved():
    x, y = spaces_of(2)
    outcome = proved(x, y)
    near = x.with_data(x.data * 1.01, x.weights)
    objective = float(gw.GWProblem(near, y).objective(outcome.plan))
    assert check_branches(near, y, outcome.branches) <= objective
    gram = gw.GramSpace(np.ascontiguousarray(x.data.T), x.weights)
    assert check_branches(gram, y, outcome.branches) == 0.0


def test_a_nearly_flat_cloud_and_single_precision_are_checked_too():
    rng = np.random.default_rng(3)
    flat = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 4))
    x = gw.PointCloud(flat.astype(np.float32), metric="sqeuclidean")
    points = rng.standard_normal((5, 1)).astype(np.float32)
    y = gw.PointCloud(points, metric="sqeuclidean")
    ready = prepare(x, y)
    outcome = proved(ready.x, ready.y)
    lower = check_branches(ready.x, ready.y, outcome.branches)
    assert lower == pytest.approx(outcome.proved.lower, rel=1e-9)
