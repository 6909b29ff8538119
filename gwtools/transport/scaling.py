"""Scalings of a kernel: the plan they make, its marginals and Sinkhorn's sweeps."""

from __future__ import annotations

from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Numbers,
    at_atoms,
    chosen,
    from_left,
    is_finite,
    numbers,
)


class Kernel(NamedTuple):
    """A kernel exp(exponent) and the marginals that its scalings have to meet.

    One kernel, or a stack of B kernels with an axis in front. Atoms that pad a stack
    have weight 0; exponents there are so low that their exponentials are 0.
    """

    exponent: Array  # (…, n, m)
    a: Array  # (…, n)
    b: Array  # (…, m)
    log_a: Array  # (…, n), 0 at padding
    log_b: Array  # (…, m), 0 at padding
    tolerance: Numbers  # (…), total marginal error at which the kernel is scaled


class Scaling(NamedTuple):
    """Scalings u and v of a kernel, and the plan exp(exponent_ij + u_i + v_j)."""

    u: Array  # (…, n)
    v: Array  # (…, m)
    plan: Array  # (…, n, m)
    row_sums: Array  # (…, n)
    col_sums: Array  # (…, m)
    error: Numbers  # (…), Σ_i |row_sums − a| + Σ_j |col_sums − b|

    @property
    def mass(self) -> Numbers:
        """The total mass of the plan."""
        xp = _array.namespace(self.row_sums)
        mass = xp.sum(self.row_sums, axis=-1)
        return numbers(mass)


def log_plan(exponent: Array, u: Array, v: Array) -> Array:
    """Return the logarithms exponent_ij + u_i + v_j of a plan (…, n, m)."""
    return exponent + u[..., :, None] + v[..., None, :]


def scaled(kernel: Kernel, u: Array, v: Array) -> Scaling:
    """Return scalings with their plan."""
    xp = _array.namespace(u)
    plan = _array.scaled_exp(kernel.exponent, u, v)  # (…, n, m)
    if kernel.a.ndim == 1:
        # Products also sum compressed plans, and are faster for large ones.
        row_sums = plan @ xp.ones_like(kernel.b)
        col_sums = xp.ones_like(kernel.a) @ plan
    else:
        row_sums = xp.sum(plan, axis=-1)
        col_sums = xp.sum(plan, axis=-2)
    row_errors = xp.abs(row_sums - kernel.a)  # (…, n)
    col_errors = xp.abs(col_sums - kernel.b)  # (…, m)
    row_error = xp.sum(row_errors, axis=-1)  # (…)
    col_error = xp.sum(col_errors, axis=-1)
    error = numbers(row_error + col_error)
    return Scaling(u, v, plan, row_sums, col_sums, error)


def log_domain_sweep(kernel: Kernel, u: Array) -> tuple[Array, Array]:
    """Return u and v after one sweep over columns and rows in the log domain.

    Finite for every finite kernel, however sharp.
    """
    exponent = kernel.exponent
    # 1. v makes the column sums b.
    log_col_sums = _array.logsumexp(exponent + u[..., :, None], axis=-2)  # (…, m)
    v = kernel.log_b - log_col_sums
    v = at_atoms(kernel.b, v, 0.0)
    # 2. u makes the row sums a.
    log_row_sums = _array.logsumexp(exponent + v[..., None, :], axis=-1)  # (…, n)
    u = kernel.log_a - log_row_sums
    u = at_atoms(kernel.a, u, 0.0)
    return u, v


def sweep(
    scaling: Scaling,
    kernel: Kernel,
    sweeps: int = 10,
) -> Scaling:
    """Sweep over columns and rows by matrix products with the current plan.

    Its scalings x and y stay near one, so that they need no logarithms on the way.
    """
    a = kernel.a
    b = kernel.b
    plan = scaling.plan
    xp = _array.namespace(a)
    # Rows and columns that lost all mass are divided by this, which is above 0.
    tiny = xp.finfo(a.dtype).smallest_normal
    x = xp.ones_like(a)  # (…, n), scales rows
    for _ in range(sweeps):
        col_sums = from_left(x, plan)
        y = b / xp.clip(col_sums, min=tiny)  # (…, m), scales columns
        y = at_atoms(b, y, 1.0)
        row_sums = _array.times(plan, y)
        x = a / xp.clip(row_sums, min=tiny)
        x = at_atoms(a, x, 1.0)
    x = xp.clip(x, min=tiny)
    y = xp.clip(y, min=tiny)
    u = scaling.u + xp.log(x)
    v = scaling.v + xp.log(y)
    # An overflow on the way leaves the scalings as they were.
    largest = largest_entry(u) + largest_entry(v)
    finite = is_finite(largest)
    u = chosen(finite, u, scaling.u)
    v = chosen(finite, v, scaling.v)
    return scaled(kernel, u, v)


def largest_entry(vector: Array) -> Numbers:
    """Return the largest |entry| of a vector (…, n), NaN where an entry is."""
    xp = _array.namespace(vector)
    sizes = xp.abs(vector)
    return numbers(xp.max(sizes, axis=-1))
