"""Barycenters of spaces with features: known ones, and what no round may do."""

import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import gwtools as gw
from tests import checkers
from tests.libraries import EAGER, Library, to_numpy
from tests.strategies import normalised, spaces, weights

QUICK = gw.ConditionalGradient()


def fused_objective(middle, space, plan):
    """(1 − α) ⟨M, π⟩ + α F(π) between a barycenter and a space, term by term."""
    matrix = to_numpy(plan.dense()).astype(float)
    found, given = (
        (to_numpy(s.dense()).astype(float), to_numpy(s.features).astype(float))
        for s in (middle.space, space)
    )
    structure = checkers.objective(found[0], given[0], matrix)
    linear = float((cdist(found[1], given[1], "sqeuclidean") * matrix).sum())
    return (1 - middle.alpha) * linear + middle.alpha * structure


def check(middle, inputs, slack=1e-12):
    """Hold a barycenter against its own plans, weights and certificates."""
    p = to_numpy(middle.space.weights)
    values = []
    for space, plan, certificate in zip(
        inputs, middle.plans, middle.certificates, strict=True
    ):
        value = fused_objective(middle, space, plan)
        values.append(value)
        matrix = to_numpy(plan.dense())
        assert checkers.coupling_error(matrix, p, to_numpy(space.weights)) <= 1e-12
        assert certificate.lower - slack <= value <= certificate.upper + slack
    mean = math.fsum(np.array(middle.weights) * values)
    assert middle.objective == pytest.approx(mean, abs=slack)
    objectives = [step.objective for step in middle.history]
    assert objectives == sorted(objectives, reverse=True)
    lower, upper = middle.interval
    assert 0 <= lower <= upper == middle.objective


def clouds(seed, count, least=3, most=7):
    """Clouds with features of two coordinates, of unlike sizes and weights."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        n = int(rng.integers(least, most + 1))
        points, features = rng.standard_normal((2, n, 2))
        a = normalised(rng.integers(1, 5, n))
        made.append(gw.DenseSpace(checkers.euclidean(points), a, features=features))
    return made, list(normalised(rng.integers(1, 4, count)))


@settings(max_examples=25)
@given(st.data())
def test_any_spaces_with_features_have_a_barycenter_that_adds_up(data):
    drawn = data.draw(st.lists(spaces(most=4, null=True), min_size=1, max_size=3))
    alpha = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    # Features are in units of C, as large as its values.
    unit = max(np.abs(each.matrix).max() for each in drawn)
    inputs = [
        gw.DenseSpace(
            each.matrix, each.weights, features=unit * rng.random((each.size, 2))
        )
        for each in drawn
    ]
    p = data.draw(weights(data.draw(st.integers(1, 4))))
    shares = list(data.draw(weights(len(inputs), null=True)))
    middle = gw.barycenter(
        inputs, shares, alpha=alpha, barycenter_weights=p, solver=QUICK, starts=1
    )
    check(middle, inputs, slack=max(1e-10 * unit**2, 1e-200))
    assert middle.status.success
    assert middle.alpha == alpha
    # Neither the matrix nor the features can be improved for these plans.
    plans = [np.asarray(plan.dense()) for plan in middle.plans]
    for name, mean in (
        ("features", lambda s, plan: plan @ s.features / p[:, None]),
        ("distances", lambda s, plan: plan @ s.distances @ plan.T / np.outer(p, p)),
    ):
        parts = [mean(s, plan) for s, plan in zip(inputs, plans, strict=True)]
        expected = sum(w * part for w, part in zip(middle.weights, parts, strict=True))
        assert np.abs(getattr(middle.space, name) - expected).max() <= 1e-12 * unit


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_one_space_is_its_own_barycenter_at_its_own_size(alpha):
    (space,), _ = clouds(1, 1, least=6)
    middle = gw.barycenter([space], alpha=alpha, barycenter_weights=space.weights)
    assert middle.objective <= 1e-12
    assert middle.interval[0] >= 0
    assert middle.space.dense() == pytest.approx(space.dense(), abs=1e-9)
    assert middle.space.features == pytest.approx(space.features, abs=1e-9)


def test_of_features_alone_it_is_the_barycenter_of_quantiles():
    """On a line and for α = 0 the mean of the sorted features (Agueh and Carlier)."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 6))
    shares = np.array([0.5, 0.3, 0.2])
    made = [gw.DenseSpace(1 - np.eye(6), features=row[:, None]) for row in features]
    middle = gw.barycenter(made, shares, alpha=0.0)
    quantiles = np.sort(features, axis=1)
    mean = shares @ quantiles
    assert np.sort(middle.space.features[:, 0]) == pytest.approx(mean, abs=1e-12)
    variance = float(shares @ ((quantiles - mean) ** 2).mean(axis=1))
    assert middle.objective == pytest.approx(variance, rel=1e-12)
    assert middle.interval[0] == pytest.approx(variance, rel=1e-9)
    assert middle.status is gw.Status.STATIONARY


def test_features_keep_alike_matrices_apart():
    """Two copies of a segment, with marks at opposite ends: the marks decide."""
    segment = 1 - np.eye(2)
    marks = np.array([[0.0], [3.0]])
    made = [gw.DenseSpace(segment, features=of) for of in (marks, marks[::-1].copy())]
    middle = gw.barycenter(made, alpha=0.5)
    assert middle.objective <= 1e-12
    assert np.sort(middle.space.features[:, 0]) == pytest.approx([0.0, 3.0])
    assert middle.space.dense() == pytest.approx(segment)
    first, second = (np.asarray(plan.dense()) for plan in middle.plans)
    assert first == pytest.approx(second[:, ::-1])


def test_at_share_1_features_are_carried_along_and_do_not_count():
    inputs, shares = clouds(2, 3)
    plain = [gw.DenseSpace(s.distances, s.weights) for s in inputs]
    here = gw.barycenter(inputs, shares, 4, alpha=1, solver=QUICK)
    there = gw.barycenter(plain, shares, 4, solver=QUICK)
    assert np.array_equal(here.space.dense(), there.space.dense())
    assert here.objective == there.objective
    assert here.certificates == there.certificates
    assert here.space.features.shape == (4, 2)
    assert there.space.features is None
    assert there.alpha is None


def test_it_is_not_above_the_fused_barycenters_of_pot_from_the_same_start():
    ratios = []
    for seed in range(10):
        inputs, shares = clouds(seed, 2 + seed % 2)
        rng = np.random.default_rng(100 + seed)
        k = 3 + seed % 4
        p = normalised(rng.integers(1, 4, k))
        first, features = rng.standard_normal((2, k, 2))
        alpha = (0.1, 0.5, 0.9)[seed % 3]
        start = gw.DenseSpace(checkers.euclidean(first), p, features=features)
        X, B, log = ot.gromov.fgw_barycenters(
            k,
            [s.features for s in inputs],
            [s.distances for s in inputs],
            ps=[s.weights for s in inputs],
            lambdas=shares,
            alpha=alpha,
            p=p,
            init_C=start.distances,
            init_X=features,
            log=True,
        )
        theirs = 0.0
        for share, space, plan in zip(shares, inputs, log["T"], strict=True):
            structure = checkers.objective(B, space.distances, plan)
            linear = (cdist(X, space.features, "sqeuclidean") * plan).sum()
            theirs += share * (alpha * structure + (1 - alpha) * linear)
        middle = gw.barycenter(
            inputs, shares, alpha=alpha, init=start, solver=QUICK, starts=4
        )
        ratios.append(middle.objective / theirs)
    not_higher = sum(ratio <= 1 + 1e-6 for ratio in ratios)
    assert not_higher >= 0.9 * len(ratios), ratios
    assert np.mean(ratios) < 0.95, ratios


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_arrays_keep_their_library_and_dtype(library):
    inputs, shares = clouds(3, 2)
    start, _ = clouds(5, 1)

    def solved(of):
        made = [
            gw.DenseSpace(
                of.array(s.distances),
                of.array(s.weights),
                features=of.array(s.features),
            )
            for s in (*inputs, *start)
        ]
        return gw.barycenter(
            made[:-1], shares, alpha=0.5, init=made[-1], solver=QUICK, seed=2, starts=1
        )

    middle = solved(library)
    expected = solved(Library("numpy", "float64"))
    assert library.owns(middle.space.distances)
    assert library.owns(middle.space.features)
    assert middle.objective == pytest.approx(expected.objective, rel=library.rtol)
    found = to_numpy(middle.space.features)
    assert np.abs(found - expected.space.features).max() <= 10 * library.rtol


def test_features_within_a_gradient_graph_give_a_barycenter_outside_of_it():
    torch = pytest.importorskip("torch")
    points = torch.asarray(np.random.default_rng(0).standard_normal((4, 2)))
    cloud = gw.PointCloud(points, features=points.clone().requires_grad_())
    middle = gw.barycenter([cloud, cloud], alpha=0.5, solver=QUICK, init=cloud)
    assert not middle.space.distances.requires_grad
    assert not middle.space.features.requires_grad
    assert middle.objective <= 1e-12


def test_half_precision_is_computed_in_single_and_stays_half():
    inputs, shares = clouds(1, 2)
    narrow = [
        gw.DenseSpace(
            *(v.astype(np.float16) for v in (s.distances, s.weights)),
            features=s.features.astype(np.float16),
        )
        for s in inputs
    ]
    middle = gw.barycenter(narrow, shares, 4, alpha=0.5, solver=QUICK)
    wide = gw.barycenter(inputs, shares, 4, alpha=0.5, solver=QUICK)
    assert middle.space.features.dtype == np.float16
    assert middle.objective == pytest.approx(wide.objective, rel=0.05)


@pytest.mark.parametrize("unit", [1e-150, 1e150])
def test_units_scale_the_barycenter_and_its_features(unit):
    inputs, shares = clouds(2, 2)
    usual = gw.barycenter(inputs, shares, 4, alpha=0.5, solver=QUICK)
    scaled = [
        gw.DenseSpace(unit * s.distances, s.weights, features=unit * s.features)
        for s in inputs
    ]
    found = gw.barycenter(scaled, shares, 4, alpha=0.5, solver=QUICK)
    assert found.space.features / unit == pytest.approx(usual.space.features)
    assert found.objective / unit / unit == pytest.approx(usual.objective)


def test_features_may_be_much_larger_than_matrices():
    """Their squares would overflow beside matrices in units near 1."""
    inputs, shares = clouds(2, 2)

    def objective(unit):
        made = [
            gw.DenseSpace(1e-100 * s.distances, s.weights, features=unit * s.features)
            for s in inputs
        ]
        middle = gw.barycenter(made, shares, 4, alpha=0.5, solver=QUICK)
        return middle.objective / unit / unit

    assert objective(1e150) == pytest.approx(objective(1.0), rel=1e-9)


def test_features_far_from_zero_count_by_their_differences():
    inputs, shares = clouds(4, 2)
    usual = gw.barycenter(inputs, shares, 4, alpha=0.5, solver=QUICK)
    moved = [
        gw.DenseSpace(s.distances, s.weights, features=s.features + 2.0**20)
        for s in inputs
    ]
    found = gw.barycenter(moved, shares, 4, alpha=0.5, solver=QUICK)
    assert found.objective == pytest.approx(usual.objective, rel=1e-8)


def test_it_prints_that_it_is_fused():
    inputs, shares = clouds(6, 2)
    middle = gw.barycenter(inputs, shares, 3, alpha=0.25, solver=QUICK)
    assert "mean fused objective of the plans, alpha=0.25" in str(middle)
