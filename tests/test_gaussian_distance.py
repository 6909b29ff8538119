"""Gaussians: the closed form against samples, other couplings and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import spaces, values, weights
from tests.test_check import refused


def cloud(points, a=None):
    return gw.PointCloud(points, a, metric="sqeuclidean")


def covariance(points, a):
    centred = points - a @ points
    return centred.T * a @ centred


@st.composite
def drawn_clouds(draw):
    """Two clouds of unlike sizes and dimensions, with their weights."""
    made = []
    for _ in range(2):
        n, d = draw(st.integers(1, 6)), draw(st.integers(1, 3))
        made.append((draw(values((n, d), False)), draw(weights(n))))
    return made


@settings(max_examples=100)
@given(drawn_clouds(), st.integers(0, 2**16))
def test_no_gaussian_coupling_is_below_the_closed_form(pair, seed):
    """Isserlis: a coupling has 4 (tr Σ − tr Σ')² + 8 ‖Σ‖² + 8 ‖Σ'‖² − 16 ‖K‖²."""
    (p, a), (q, b) = pair
    S, T = covariance(p, a), covariance(q, b)
    found = gw.gaussian(cloud(p, a), cloud(q, b))

    def value(K):
        traces = np.trace(S) - np.trace(T)
        norms = 8 * (S**2).sum() + 8 * (T**2).sum()
        return 4 * traces**2 + norms - 16 * (K**2).sum()

    scale = np.trace(S) ** 2 + np.trace(T) ** 2 + 1e-12
    # 1. The map's own cross covariance attains it.
    attained = value(S @ np.asarray(found.map).T)
    assert attained == pytest.approx(float(found.objective), abs=1e-9 * scale)
    assert float(found.distance) ** 2 == pytest.approx(float(found.objective))
    # 2. Others are Σ^½ W Σ'^½ with contractions W.
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((len(S), len(T)))
    W /= np.linalg.norm(W, 2)
    K = root(S) @ W @ root(T)
    assert value(K) >= float(found.objective) - 1e-9 * scale


def root(S):
    values, vectors = np.linalg.eigh(S)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


@pytest.mark.parametrize(("d", "e"), [(3, 3), (3, 2), (1, 1)])
def test_samples_under_the_map_have_the_objective(d, e):
    rng = np.random.default_rng(d)
    x, y = (cloud(rng.standard_normal((8, k)) * np.arange(1, k + 1)) for k in (d, e))
    found = gw.gaussian(x, y)
    S = covariance(x.data, x.weights)
    number = 400_000
    one, two = (rng.multivariate_normal(np.zeros(d), S, number) for _ in range(2))
    between = one - two
    images = between @ found.map.T
    distortions = ((between**2).sum(1) - (images**2).sum(1)) ** 2
    error = distortions.std() / np.sqrt(number)
    assert abs(distortions.mean() - float(found.objective)) <= 4 * error
    # The map carries one law to the other.
    T = covariance(y.data, y.weights)
    assert found.map @ S @ found.map.T == pytest.approx(T)
    assert np.allclose(found.mean_x, x.data.mean(0))
    assert np.allclose(found.mean_y, y.data.mean(0))


@given(drawn_clouds(), st.integers(0, 2**16))
def test_isometric_copies_are_at_zero_and_scaled_ones_as_far_as_their_moments(pair, s):
    (p, a), _ = pair
    rng = np.random.default_rng(s)
    turn, _ = np.linalg.qr(rng.standard_normal((p.shape[1],) * 2))
    S = covariance(p, a)
    scale = np.trace(S) ** 2
    copy = gw.gaussian(cloud(p, a), cloud(p @ turn + 3.0, a))
    assert float(copy.objective) <= 1e-20 * (scale + (p**2).max() ** 2 + 1e4)
    twice = gw.gaussian(cloud(p, a), cloud(2 * p, a))
    wanted = 9 * (4 * scale + 8 * (S**2).sum())
    assert float(twice.objective) == pytest.approx(wanted, abs=1e-10)


def test_on_a_line_it_is_twelve_times_the_squared_difference_of_the_variances():
    x, y = np.array([[0.0], [2.0]]), np.array([[0.0], [6.0]])
    assert float(gw.gaussian(cloud(x), cloud(y)).objective) == pytest.approx(12 * 8**2)


@settings(max_examples=60)
@given(spaces(kinds=("gram",), most=5), spaces(kinds=("gram",), most=5))
def test_between_inner_products_no_coupling_of_the_data_is_below(x, y):
    found = gw.gaussian(x.space(), y.space())
    result = gw.solve(x.space(), y.space(), gw.ConditionalGradient())
    scale = max(np.abs(x.matrix).max(), np.abs(y.matrix).max()) ** 2
    assert float(found.objective) <= float(result.objective) + 1e-12 * scale
    moments = [s.data * s.weights @ s.data.T for s in (x, y)]
    spectra = [np.sort(np.linalg.eigvalsh(each))[::-1] for each in moments]
    size = max(map(len, spectra))
    first, second = (np.pad(each, (0, size - len(each))) for each in spectra)
    wanted = ((first - second) ** 2).sum()
    assert float(found.objective) == pytest.approx(wanted, abs=1e-12 * scale)
    assert not found.mean_x.any()


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_arrays_keep_their_library_and_dtype(library):
    rng = np.random.default_rng(4)
    p, q = rng.standard_normal((6, 3)), rng.standard_normal((5, 2))
    a = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])

    def found(array):
        return gw.gaussian(cloud(array(p)), cloud(array(q), array(a)))

    here, wanted = found(library.array), found(np.asarray)
    for name in ("objective", "distance", "map", "mean_x", "mean_y"):
        value, expected = getattr(here, name), getattr(wanted, name)
        assert library.owns(value)
        assert np.abs(to_numpy(value)) == pytest.approx(
            np.abs(expected), rel=10 * library.rtol, abs=10 * library.rtol
        )


def test_half_precision_stays_half():
    points = np.array([[0.0, 1.0], [2.0, 0.5], [1.0, 1.5]])
    x, y = cloud(points.astype(np.float16)), cloud((2 * points).astype(np.float16))
    found = gw.gaussian(x, y)
    assert found.objective.dtype == found.map.dtype == np.float16
    wide = gw.gaussian(cloud(points), cloud(2 * points))
    assert float(found.objective) == pytest.approx(float(wide.objective), rel=1e-2)


@pytest.mark.parametrize("unit", [1e-75, 1e75])
def test_units_scale_the_value(unit):
    rng = np.random.default_rng(5)
    p, q = rng.standard_normal((6, 3)), rng.standard_normal((5, 2))
    usual = gw.gaussian(cloud(p), cloud(q))
    found = gw.gaussian(cloud(unit * p), cloud(unit * q))
    assert float(found.distance) / unit**2 == pytest.approx(float(usual.distance))
    assert np.abs(found.map) == pytest.approx(np.abs(usual.map))


def test_gradients_are_those_of_finite_differences():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    p, q = (torch.asarray(rng.standard_normal((n, 2))) for n in (6, 5))
    y = cloud(q)
    assert torch.autograd.gradcheck(
        lambda points: gw.gaussian(cloud(points), y).distance,
        (p.clone().requires_grad_(),),
    )
    factor = p.T.contiguous().clone().requires_grad_()
    other = gw.GramSpace(q.T.contiguous())
    assert torch.autograd.gradcheck(
        lambda F: gw.gaussian(gw.GramSpace(F), other).objective, (factor,)
    )


def test_a_law_without_spread_has_the_map_zero():
    point = cloud(np.ones((3, 2)))
    found = gw.gaussian(point, cloud(np.array([[0.0], [2.0]])))
    assert found.map == pytest.approx(np.zeros((1, 2)))
    assert float(found.objective) == pytest.approx(12.0)


def test_spaces_without_moments_are_refused():
    points = np.array([[0.0, 1.0], [2.0, 0.0]])
    squares, gram = cloud(points), gw.GramSpace(points)
    refused(
        lambda: gw.gaussian(squares, gw.PointCloud(points)),
        TypeError,
        "y must have squared distances",
        "metric='sqeuclidean')",
    )
    refused(
        lambda: gw.gaussian(checkers.euclidean(points), squares), TypeError, "x must be"
    )
    refused(
        lambda: gw.gaussian(gw.as_space(1 - np.eye(2)), squares),
        TypeError,
        "DenseSpace",
        "gwtools.solve",
    )
    refused(lambda: gw.gaussian(squares, gram), TypeError, "y must be", "Gram space")
    narrow = cloud(points.astype(np.float32))
    refused(lambda: gw.gaussian(squares, narrow), TypeError, "dtype")
