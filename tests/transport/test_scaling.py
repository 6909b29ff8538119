"""Scalings, their plan and Sinkhorn's sweeps."""

import numpy as np
import pytest
from hypothesis import given

from gwtools.transport import scaling
from tests.transport.test_programs import small_programs


def kernel_of(program):
    cost, a, b = program
    return scaling.Kernel(-cost, a, b, np.log(a), np.log(b), 1e-9)


@given(small_programs())
def test_a_sweep_in_the_log_domain_meets_the_marginal_of_the_rows(program):
    kernel = kernel_of(program)
    u, v = scaling.log_domain_sweep(kernel, np.zeros_like(kernel.a))
    found = scaling.scaled(kernel, u, v)
    assert np.abs(found.row_sums - kernel.a).max() <= 1e-13
    expected = np.exp(scaling.log_plan(kernel.exponent, u, v))
    assert np.abs(found.plan - expected).max() <= 1e-15


@given(small_programs())
def test_sweeps_are_plain_scalings_of_rows_and_columns(program):
    kernel = kernel_of(program)
    first = scaling.scaled(kernel, np.zeros_like(kernel.a), np.zeros_like(kernel.b))
    found = scaling.sweep(first, kernel, sweeps=3)
    plan = first.plan
    for _ in range(3):
        plan = plan * (kernel.b / plan.sum(axis=0))[None, :]
        plan = plan * (kernel.a / plan.sum(axis=1))[:, None]
    assert np.abs(found.plan - plan).max() <= 1e-13
    assert found.mass == pytest.approx(plan.sum(), abs=1e-13)
    missed = np.abs(plan.sum(axis=0) - kernel.b).sum()
    assert found.error == pytest.approx(missed, abs=1e-12)


def test_sweeps_of_a_plan_without_mass_stay_finite():
    a = np.full(2, 0.5)
    kernel = scaling.Kernel(np.full((2, 2), -2e3), a, a, np.log(a), np.log(a), 1e-9)
    first = scaling.scaled(kernel, np.zeros(2), np.zeros(2))
    assert first.mass == 0.0
    with np.errstate(over="ignore"):
        found = scaling.sweep(first, kernel)
    assert np.isfinite(found.u).all()
    assert np.isfinite(found.v).all()
