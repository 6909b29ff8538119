"""Newton steps on the dual of a kernel's scaling."""

import numpy as np
import pytest
from hypothesis import given

from gwtools.transport import newton, scaling
from tests.transport.test_programs import small_programs
from tests.transport.test_scaling import kernel_of


def random_system(n, m, seed=0):
    rng = np.random.default_rng(seed)
    plan = rng.dirichlet(np.ones(n * m)).reshape(n, m)
    right = rng.standard_normal(m)
    # Constant vectors span the null space: only such right-hand sides have a solution.
    return plan, plan.sum(axis=1), plan.sum(axis=0), right - right.mean()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 7), (9, 3)])
def test_the_schur_complement_is_solved(n, m):
    plan, rows, cols, right = random_system(n, m)
    found = newton.schur_solve(plan, rows, cols, right)
    product = cols * found - plan.T @ (plan @ found / rows)
    assert np.abs(product - right).max() <= 1e-6


def test_stacks_of_systems_are_solved_as_single_ones():
    systems = [random_system(5, 4, seed) for seed in range(3)]
    stacked = [np.stack(part) for part in zip(*systems, strict=True)]
    together = newton.schur_solve(*stacked)
    for found, system in zip(together, systems, strict=True):
        assert np.abs(found - newton.schur_solve(*system)).max() <= 1e-9


def test_conjugate_gradients_solve_to_two_digits():
    plan, rows, cols, right = random_system(40, 30)
    exact = newton.schur_solve(plan, rows, cols, right)
    found = newton._solved_by_gradients(plan, rows, cols, right)
    # Solutions differ by a constant, which no marginal feels.
    difference = (found - found.mean()) - (exact - exact.mean())
    assert np.linalg.norm(difference) <= 3e-2 * np.linalg.norm(exact)


def dual(kernel, found):
    return kernel.a @ found.u + kernel.b @ found.v - found.mass


@given(small_programs())
def test_a_step_never_lowers_the_dual(program):
    kernel = kernel_of(program)
    start = scaling.scaled(kernel, np.zeros_like(kernel.a), np.zeros_like(kernel.b))
    found, moved = newton.newton(kernel, start)
    assert dual(kernel, found) >= dual(kernel, start) - 1e-12
    assert moved or np.array_equal(found.u, start.u)


def test_steps_converge_quadratically():
    rng = np.random.default_rng(1)
    a, b = rng.dirichlet(np.full(8, 3.0)), rng.dirichlet(np.full(6, 3.0))
    kernel = kernel_of((rng.random((8, 6)), a, b))
    found = scaling.scaled(kernel, np.log(a), np.log(b))
    for _ in range(6):
        following, _ = newton.newton(kernel, found)
        assert following.error <= 10 * found.error**2 + 1e-9
        found = following
    assert found.error <= 1e-12
