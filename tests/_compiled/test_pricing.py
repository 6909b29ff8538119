"""Pricing lists the arcs of least reduced cost, as sorting all of them does."""

import numpy as np
import pytest

from gwtools._compiled import compilation
from gwtools._compiled.pricing import tightened, violated

numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)


def both(function):
    return pytest.mark.parametrize(
        "price",
        [
            pytest.param(function, marks=numba_alone, id="compiled"),
            pytest.param(function.__wrapped__, id="not compiled"),
        ],
    )


@both(tightened)
@pytest.mark.parametrize(("n", "m", "per_row"), [(9, 12, 4), (7, 3, 3), (2, 11, 1)])
def test_tightened_potentials_and_the_least_arcs(price, n, m, per_row, rng):
    cost = rng.standard_normal((n, m))
    u = rng.standard_normal(n)
    v = (cost - u[:, None]).min(axis=0)
    found_v, of_rows, of_cols = price(cost, u, per_row)
    assert np.abs(found_v - v).max() <= 1e-15 * 8
    assert np.abs(u - (cost - v).min(axis=1)).max() <= 1e-15 * 8
    reduced = cost - u[:, None] - v
    assert reduced.min() >= -1e-14
    # Of ties at 0 any may be first.
    chosen = np.take_along_axis(reduced, of_rows, axis=1)
    assert np.abs(chosen - np.sort(reduced, axis=1)[:, :per_row]).max() <= 1e-14
    chosen = np.take_along_axis(reduced, of_cols.T, axis=0)
    assert np.abs(chosen - np.sort(reduced, axis=0)[:2]).max() <= 1e-14


@both(violated)
@pytest.mark.parametrize(("n", "m", "per_row"), [(9, 12, 4), (7, 3, 3), (2, 11, 1)])
def test_violated_arcs_are_the_worst_of_rows_and_columns(price, n, m, per_row, rng):
    cost = rng.standard_normal((n, m))
    u, v = rng.standard_normal(n) - 1.0, rng.standard_normal(m) - 0.5
    reduced = cost - u[:, None] - v
    least, rows, cols = price(cost, u, v, per_row, 0.1)
    assert np.abs(least - reduced.min(axis=1)).max() <= 1e-14
    expected = set()
    for i in range(n):
        worst = np.argsort(reduced[i])[:per_row]
        expected |= {(i, int(j)) for j in worst if reduced[i, j] < -0.1}
    for j in range(m):
        worst = np.argsort(reduced[:, j])[:2]
        expected |= {(int(i), j) for i in worst if reduced[i, j] < -0.1}
    assert set(zip(rows.tolist(), cols.tolist(), strict=True)) == expected
    _, none, _ = price(cost, u - 10.0, v, per_row, 0.1)
    assert len(none) == 0
