"""Cells of two quantile functions: against grids of fractions, and sums of weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.transport.quantile_cells import equal_cells, merged_cells


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_of_equal_weights_are_counted_without_rounding(dtype):
    """Those of 2047 and 2048, and of 1 and 2895 atoms, are float32's largest."""
    cases = [
        (1, 1),
        (1, 2047),
        (2047, 2048),
        (2048, 2048),
        (1024, 2048),
        (6, 4),
        (4, 6),
        (1200, 2200),
        (35, 21),
        (1, 2895),
    ]
    found = equal_cells(*map(np.array, zip(*cases, strict=True)), np.zeros(1, dtype))
    for (k, j), *row in zip(cases, *found, strict=True):
        ends = np.union1d(np.arange(1, k + 1) * j, np.arange(1, j + 1) * k)
        starts = np.concatenate([[0], ends[:-1]])
        expected = (
            starts // j,
            starts // k,
            (ends - starts).astype(dtype) / np.asarray(k * j, dtype=dtype),
        )
        for mine, other in zip(row, expected, strict=True):
            assert mine[: ends.size].tolist() == other.tolist()
            assert not mine[ends.size :].any()


@given(st.integers(1, 12), st.integers(1, 12))
def test_merged_cells_are_those_of_equal_weights_where_ends_are_exact(n, m):
    """The merged cells with a length are the n + m − gcd(n, m) of both grids."""
    merged = merged_cells(np.arange(1, n + 1) / n, np.arange(1, m + 1) / m)
    equal = equal_cells(np.array(n), np.array(m), np.zeros(1))
    whole = merged.mass > 1e-9
    assert merged.rows[whole].tolist() == equal.rows.tolist()
    assert merged.cols[whole].tolist() == equal.cols.tolist()
    assert merged.mass[whole] == pytest.approx(equal.mass, abs=1e-15)
