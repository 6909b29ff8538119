"""The spectral bound over permutations: below all of them, above the one of couplings.

It is no bound of GW_2², and a certificate must not use it.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.test_check import refused

SEEDS = st.integers(0, 2**32 - 1)


def matrices(seed, most=6):
    """Two symmetric matrices, on a lattice or not, with all kinds of diagonals."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, most + 1))
    C, D = rng.standard_normal((2, n, n))
    if seed % 2:
        C, D = np.round(2 * C), np.round(2 * D)
    C, D = C + C.T, D + D.T
    kind = seed // 2 % 4
    if kind == 0:
        np.fill_diagonal(C, 0.0)
        np.fill_diagonal(D, 0.0)
    elif kind == 1:
        C[np.diag_indices(n)] *= 8
    elif kind == 2:
        order = rng.permutation(n)
        D = C[np.ix_(order, order)] + 1e-3 * D
    return C, D


def slack(C, D):
    return 1e-12 * max(np.abs(C).max(), np.abs(D).max(), 1e-300) ** 2


def bound(C, D):
    return float(gw.bounds.permutation_spectral(C, D))


@given(SEEDS)
def test_no_permutation_is_below_it_and_it_is_not_below_spectral(seed):
    C, D = matrices(seed)
    found = bound(C, D)
    assert found <= checkers.best_permutation(C, D) + slack(C, D)
    assert found >= float(gw.bounds.spectral(C, D)) - slack(C, D)
    assert found == pytest.approx(bound(D, C), rel=1e-10, abs=slack(C, D))


@given(SEEDS, st.floats(-3, 3), st.floats(0.1, 10))
def test_labels_constants_and_units_do_not_matter(seed, constant, factor):
    C, D = matrices(seed)
    order = np.random.default_rng(seed).permutation(len(C))
    moved = factor * (C[np.ix_(order, order)] + constant)
    found = bound(moved, factor * (D + constant))
    scale = factor**2 * 1e2 * (slack(C, D) + 1e-11)
    assert found == pytest.approx(factor**2 * bound(C, D), rel=1e-9, abs=scale)


@given(SEEDS)
def test_it_is_exact_where_nothing_but_diagonals_and_row_means_differ(seed):
    # C_ik = u_i + u_k beside any diagonal: one linear assignment solves it.
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    pair = []
    for _ in range(2):
        u, diagonal = rng.standard_normal((2, n))
        C = u[:, None] + u[None, :]
        np.fill_diagonal(C, diagonal)
        pair.append(C)
    expected = checkers.best_permutation(*pair)
    assert bound(*pair) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_couplings_may_be_below_it_and_no_certificate_uses_it(n):
    C, D = np.eye(n), 1 - np.eye(n)
    assert bound(C, D) == pytest.approx(1.0, abs=1e-14)
    x, y = gw.as_space(C), gw.as_space(D)
    product = gw.GWProblem(x, y).product_objective
    assert product == pytest.approx(1 - 2 * (n - 1) / n**2, abs=1e-14)
    for effort in ("linear", "quadratic", "cubic"):
        certificate = gw.certify(x, y, np.full((n, n), n**-2), effort)
        assert certificate.lower <= product
        assert not any("permutation" in name for name in certificate.bounds)


def test_with_and_without_the_shift_either_may_be_larger():
    # 1. Diagonals alone tell these apart.
    C, D = np.diag([3.0, -1.0, -2.0, 0.0]), np.diag([1.0, -3.0, 2.0, 0.0])
    assert bound(C, D) == pytest.approx(checkers.best_permutation(C, D), abs=1e-12)
    assert bound(C, D) > 1.2 * float(gw.bounds.spectral(C, D))
    # 2. Here the bound with the shift is 0.5.
    C = np.array([[-2, -1, 1, 1], [-1, -4, 3, -1], [1, 3, 2, -1], [1, -1, -1, 2.0]])
    D = np.array([[-2, -3, 2, 1], [-3, 2, 0, 2], [2, 0, -4, 0], [1, 2, 0, 4.0]])
    assert bound(C, D) == pytest.approx(0.8578134, abs=1e-6)
    np.fill_diagonal(C, 0.0)
    np.fill_diagonal(D, 0.0)
    assert bound(C, D) <= 0.5


def test_gradients_are_those_of_finite_differences():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    for n in (1, 2, 4):
        data = [torch.asarray(rng.standard_normal((n, n))) for _ in range(2)]
        inputs = [values.requires_grad_() for values in data]
        assert torch.autograd.gradcheck(
            lambda C, D: gw.bounds.permutation_spectral(C + C.T, D + D.T), inputs
        )
    points = [torch.asarray(rng.standard_normal((4, 2))) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda x, y: gw.bounds.permutation_spectral(gw.PointCloud(x), gw.PointCloud(y)),
        [values.requires_grad_() for values in points],
    )


# JAX compiles each of the operations, for ten seconds in all.
@pytest.mark.parametrize("library", EAGER, ids=str)
def test_it_is_in_the_arrays_library_and_dtype(library):
    rng = np.random.default_rng(0)
    pair = [rng.standard_normal((5, 3)).astype(library.dtype) for _ in range(2)]
    value = gw.bounds.permutation_spectral(
        *(gw.PointCloud(library.array(points)) for points in pair)
    )
    assert library.owns(value)
    assert value.shape == ()
    expected = bound(*(checkers.euclidean(points.astype(float)) for points in pair))
    assert float(to_numpy(value)) == pytest.approx(expected, rel=library.rtol)


def test_other_sizes_and_unequal_weights_are_refused():
    C, D = np.eye(3), np.eye(4)
    refused(
        lambda: gw.bounds.permutation_spectral(C, D),
        ValueError,
        "equally many atoms",
        "3 and 4",
        "gwtools.bounds.spectral",
    )
    unequal = gw.DenseSpace(C, np.array([0.5, 0.25, 0.25]))
    for pair, name in (((unequal, C), "x"), ((C, unequal), "y")):
        refused(
            lambda pair=pair: gw.bounds.permutation_spectral(*pair),
            ValueError,
            f"{name} must have equal weights",
            "0.25 and 0.5",
            "gwtools.bounds.spectral",
        )
    # Equal up to float error is equal.
    nearly = gw.DenseSpace(C, np.array([1 / 3, 1 / 3 + 1e-16, 1 / 3]))
    assert float(gw.bounds.permutation_spectral(nearly, C)) <= 1e-15
