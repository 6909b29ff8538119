"""The compiled step of the splitting is that of array operations."""

import numpy as np
import pytest

from gwtools._compiled import compilation
from gwtools._compiled.level_one import douglas_rachford_step

numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)


def arguments(n, m, seed, dtype=np.float32):
    """Arrays that are of no search, so that all terms count."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return rng.standard_normal(shape).astype(dtype)

    roots = tuple(np.sqrt(rng.dirichlet(np.ones(k))).astype(dtype) for k in (n, m))
    costs = drawn(n, n), drawn(m, m), drawn(n, m), drawn(n, m)
    corrections = drawn(n, m, m), drawn(n, n, m), drawn(n, m, m), drawn(n, m, n)
    numbers = dtype(0.7), dtype(1.8)
    sums = drawn(n, m, m), drawn(n, m, m), drawn(n, n, m)  # which are overwritten
    return drawn(n * (n + 1) // 2, m, m), roots, costs, corrections, numbers, sums


def by_loops(w, roots, costs, corrections, numbers):
    """The step that is documented, in double precision."""
    w = w.astype(float)
    a, b = (root.astype(float) for root in roots)
    M, N, deviations, product = (array.astype(float) for array in costs)
    first, second, first_inner, second_inner = (g.astype(float) for g in corrections)
    mass, relaxation = map(float, numbers)
    n, m = product.shape
    new = np.empty_like(w)
    of_first = np.zeros((m, n, m))
    of_second = np.zeros((n, n, m))
    for place, (i, k) in enumerate(zip(*np.triu_indices(n), strict=True)):
        outside = a[i] * first[k] + np.outer(b, second[i, k])
        outside += a[k] * first_inner[i] + np.outer(second_inner[i, :, k], b)
        cost = M[i, k] * N - np.outer(deviations[i] + mass * product[i], product[k])
        cost -= np.outer(product[i], deviations[k])
        old = w[place]
        new[place] = old + relaxation * (abs(old) - outside - cost - np.maximum(old, 0))
        size = abs(new[place])  # [j, l]
        of_first[:, k] += a[i] * size
        of_second[i, k] += b @ size
        if i < k:
            of_first[:, i] += a[k] * size.T
            of_second[k, i] += size @ b
    return new, (of_first, of_second)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(douglas_rachford_step, marks=numba_alone, id="compiled"),
        pytest.param(douglas_rachford_step.__wrapped__, id="not compiled"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(5, 4), (3, 6), (1, 3), (4, 1), (1, 1)])
def test_a_step_is_what_its_formula_says(step, sizes, dtype):
    """To the digits of the precision: single is what a search uses."""
    w, roots, costs, corrections, numbers, sums = arguments(*sizes, 3, dtype)
    wanted, wanted_sums = by_loops(w, roots, costs, corrections, numbers)
    others = [np.copy(array) for array in (*roots, *costs, *corrections)]
    step(w, roots, costs, corrections, numbers, sums)
    assert w.dtype == dtype
    direct, mirrored, of_second = sums
    of_first = direct.transpose(1, 0, 2) + mirrored.transpose(2, 0, 1)
    pairs = zip((w, of_first, of_second), (wanted, *wanted_sums), strict=True)
    digits = {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    for found, expected in pairs:
        allowed = digits * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)
    for found, kept in zip((*roots, *costs, *corrections), others, strict=True):
        assert np.array_equal(found, kept)


@numba_alone
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_numbers_out_of_range_stay_so(value):
    w, *others = arguments(3, 4, 5)
    w[1, 2, 3] = value
    douglas_rachford_step(w, *others)
    assert not np.isfinite(w[1, 2, 3])
    assert np.isfinite(w).sum() == w.size - 1
