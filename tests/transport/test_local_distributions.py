"""Theorem 7: the transports between rows, and the parts of a space in NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gwtools.transport.local_distributions import centred, transports
from tests.bounds.test_distributions import POWERS, row_costs, slack
from tests.strategies import spaces, values, weights


@st.composite
def rows(draw):
    """Rows of two rectangular matrices, with weights of their columns."""
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    C, D = (
        draw(values((draw(st.integers(1, 4)), n), False)),
        draw(values((draw(st.integers(1, 4)), m), False)),
    )
    even = draw(st.booleans())
    a, b = (np.full(k, 1 / k) if even else draw(weights(k)) for k in (n, m))
    return C, a, D, b


@given(rows(), POWERS)
def test_transports_are_those_of_single_rows(rows, p):
    C, a, D, b = rows
    largest = max(np.abs(C).max(), np.abs(D).max(), 1e-300) ** p
    assert np.allclose(
        transports(C, a, D, b, p),
        row_costs(C, a, D, b, p),
        rtol=1e-10,
        atol=1e-12 * largest,
    )


@given(spaces())
def test_centred_parts_add_up(x):
    parts = centred(x.space())
    total = parts.mean + parts.deviations[:, None] + parts.deviations + parts.residual
    assert np.allclose(total, x.matrix, rtol=0, atol=10 * slack(x, p=1))
    assert np.allclose(parts.residual @ x.weights, 0, atol=100 * slack(x, p=1))
    assert np.allclose(
        parts.row_means, x.matrix @ x.weights, rtol=0, atol=10 * slack(x, p=1)
    )
