"""Kernels scaled to marginals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.transport import sinkhorn
from tests.transport.test_programs import small_programs


@given(small_programs(), st.sampled_from([1.0, 1e-2, 1e-4, 1e-6]))
def test_sinkhorn_scales_to_the_marginals(program, epsilon):
    """However sharp the kernel, from any start.

    Exponents of a million have lost six digits more.
    """
    cost, a, b = program
    kernel = np.log(np.outer(a, b)) - cost / epsilon
    found = sinkhorn.sinkhorn(
        kernel, a, b, np.zeros(len(a)), np.zeros(len(b)), 1e-9, 200
    )
    assert np.all(np.isfinite(found.plan))
    assert found.plan.sum() > 0.1
    error = np.abs(found.plan.sum(1) - a).sum() + np.abs(found.plan.sum(0) - b).sum()
    assert found.error == pytest.approx(error, abs=1e-12)
    assert error <= (1e-7 if epsilon > 1e-5 else 1e-5)
    scalings = np.exp(np.clip(kernel + found.u[:, None] + found.v[None, :], -745, 100))
    assert np.abs(scalings - found.plan).max() <= 1e-9


@given(small_programs())
def test_sinkhorn_of_a_product_kernel_is_the_product(program):
    _, a, b = program
    found = sinkhorn.sinkhorn(
        np.zeros((len(a), len(b))), a, b, np.zeros(len(a)), np.zeros(len(b)), 1e-12
    )
    assert np.abs(found.plan - np.outer(a, b)).max() <= 1e-15
