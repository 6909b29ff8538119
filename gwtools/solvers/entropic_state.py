"""States of the Sinkhorn solver: couplings, their entropy and the next kernels."""

from __future__ import annotations

import math
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Mask,
    Numbers,
    at_pairs,
    chosen,
    expanded,
    filled,
    numbers,
)
from gwtools.marginals import rounded_plan
from gwtools.plans import DensePlan, make_unchecked
from gwtools.problems import Quadratic
from gwtools.results import Status
from gwtools.transport.scaling import Scaling, log_plan
from gwtools.transport.sinkhorn import sinkhorn

# Why problems stop. A state stores positions in this list, as those of a stack are
# numbers of its arrays; at 0 a problem goes on.
STATUSES = (
    None,
    Status.NON_FINITE,
    Status.FIXED_POINT,
    Status.STATIONARY,
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
)
FIXED_POINT = float(STATUSES.index(Status.FIXED_POINT))
STATIONARY = float(STATUSES.index(Status.STATIONARY))
NOT_STATIONARY = float(STATUSES.index(Status.NOT_STATIONARY))
UNFINISHED = float(STATUSES.index(Status.SCALING_UNFINISHED))

# Exponents of padding: their exponentials are zero in float32 as well, and sums with
# other exponents stay finite.
_NOWHERE = -1e30

# Largest marginal error by float error with which a plan at a fixed ε is stationary.
MOST_MISSED = 1e-3


class State(NamedTuple):
    """Couplings of one problem, or of a stack, and what their next kernels start from.

    ``entropy`` is KL(π | a ⊗ b) where it is part of the problem and 0 elsewhere.
    ``exponent`` is what the next kernel adds to −∇F(π) / ε, up to scalings: 0 where
    the kernel is relative to a ⊗ b, log π where a proximal step is relative to the last
    plan, as all are once a kernel was scaled at the final ε. ``kernels_at_final``
    counts these kernels: 0 while ε falls, at least 1 at a fixed ε.
    """

    matrix: Array  # (…, n, m), the coupling π
    cross: Array  # (…, n, m), R π S
    relative_objective: Numbers  # (…), F(π) − F(a ⊗ b), in squared units of C
    entropy: Numbers  # (…), KL(π | a ⊗ b), or 0
    gap: Numbers  # (…), in squared units of C, NaN where it was not computed
    last_gap: Numbers  # (…), of the plan that the last step started from, or NaN
    exponent: Array  # (…, n, m), log of what the next kernel is relative to
    epsilon: Numbers  # (…), in squared units of C
    u: Array  # (…, n), scalings that the next kernel starts from
    v: Array  # (…, m)
    kernels_at_final: Numbers  # (…), counted in floats
    error: Numbers  # (…), marginal error of a kernel that the next step scales further
    code: Numbers  # (…), the position of the status among STATUSES

    @property
    def plan(self) -> DensePlan:
        """The couplings."""
        return plan_of(self.matrix)

    @property
    def merit(self) -> Numbers:
        """F(π) − F(a ⊗ b), plus ε KL(π | a ⊗ b) where the problem has an entropy."""
        return self.relative_objective + self.epsilon * self.entropy

    @property
    def status(self) -> Status | None:
        """Why one problem stops; None where it goes on."""
        return STATUSES[int(self.code)]

    @property
    def frank_wolfe_gap(self) -> float | None:
        """The gap of one problem, where it was computed."""
        return _known(self.gap)

    @property
    def gap_before(self) -> float | None:
        """The gap of the plan that the last step started from, of one problem."""
        return _known(self.last_gap)


def _known(gap: float) -> float | None:
    """Return the gap of one problem, None where it was not computed."""
    return None if math.isnan(gap) else float(gap)


class Rest(NamedTuple):
    """Which problems of a stack may come to rest, and how well their kernels scaled."""

    settling: Mask  # (…), at the final ε with a kernel that is not scaled further
    missed: Mask  # (…), where the kernel missed its marginals
    least_error: Numbers  # (…), marginal error that no scaling goes below

    @property
    def failure(self) -> Numbers:
        """The code of problems at rest whose gap is above the tolerance."""
        unfinished = filled(self.least_error, UNFINISHED)
        not_stationary = filled(self.least_error, NOT_STATIONARY)
        return chosen(self.missed, unfinished, not_stationary)

    @property
    def misplaced(self) -> Numbers:
        """The share of the mass that float errors may misplace at a fixed point.

        The marginal error that they leave is spread over all atoms.
        """
        most = filled(self.least_error, MOST_MISSED)
        return chosen(self.least_error < MOST_MISSED, self.least_error, most)


def unscaled(
    problem: Quadratic,
    plan: DensePlan,
    epsilon: Numbers,
    kernels_at_final: Numbers,
    proximal: bool,
) -> State:
    """Return the state at a plan; its kernel is relative to a ⊗ b, not scaled yet."""
    xp = _array.namespace(plan.matrix)
    cross = problem.cross(plan)
    return State(
        matrix=plan.matrix,
        cross=cross,
        relative_objective=problem.relative_objective(plan, cross),
        entropy=entropy(problem, plan, epsilon, proximal),
        gap=filled(epsilon, math.nan),
        last_gap=filled(epsilon, math.nan),
        exponent=xp.zeros_like(plan.matrix),
        epsilon=epsilon,
        u=xp.zeros_like(problem.x.weights),
        v=xp.zeros_like(problem.y.weights),
        kernels_at_final=kernels_at_final,
        error=filled(epsilon, math.inf),
        code=filled(epsilon, 0.0),
    )


def plan_of(matrix: Array) -> DensePlan:
    """Return a matrix (…, n, m) that is a coupling as a plan."""
    return make_unchecked(DensePlan, matrix=matrix)


def entropy(
    problem: Quadratic,
    plan: DensePlan,
    like: Numbers,
    proximal: bool,
) -> Numbers:
    """Return KL(π | a ⊗ b), or 0 where proximal steps solve the plain problem."""
    if proximal:
        return filled(like, 0.0)
    ratio = log_ratio(problem, plan.matrix)
    return numbers(plan.inner(ratio))


def log_ratio(problem: Quadratic, matrix: Array) -> Array:
    """Return log(π / a ⊗ b), 0 at padding."""
    log_a, log_b = problem.log_weights
    # Logarithms are subtracted one by one: the product of two small weights may have no
    # number.
    ratio = log_masses(matrix) - log_a[..., :, None] - log_b[..., None, :]
    a = problem.x.weights
    b = problem.y.weights
    return at_pairs(a, b, ratio, 0.0)


def log_masses(matrix: Array) -> Array:
    """Return log π, with the smallest normal number in place of masses below it."""
    xp = _array.namespace(matrix)
    least = xp.finfo(matrix.dtype).smallest_normal
    return xp.log(xp.clip(matrix, min=least))


def kernel_exponent(problem: Quadratic, state: State, gradient: Array) -> Array:
    """Return the exponent of the next kernel (…, n, m), 0 at padding."""
    a = problem.x.weights
    b = problem.y.weights
    epsilon = expanded(state.epsilon, 2)
    exponent = state.exponent - gradient / epsilon
    return at_pairs(a, b, exponent, 0.0)


def scaled_kernel(
    problem: Quadratic,
    state: State,
    exponent: Array,
    tolerance: Numbers,
) -> Scaling:
    """Scale a kernel, from the scalings of the one before it."""
    a = problem.x.weights
    b = problem.y.weights
    log_kernel = at_pairs(a, b, exponent, _NOWHERE)
    return sinkhorn(log_kernel, a, b, state.u, state.v, tolerance)


def moved(
    problem: Quadratic,
    state: State,
    scaling: Scaling,
    exponent: Array,
    cooler: Numbers,
    final: Numbers,
    proximal: bool,
) -> State:
    """Return the state at a kernel's plan, rounded onto the marginals.

    ``cooler`` is the ε of the next kernel, ``final`` the one at which annealing ends.
    """
    a = problem.x.weights
    b = problem.y.weights
    plan = rounded_plan(scaling.plan, a, b)
    epsilon = state.epsilon
    one_more = state.kernels_at_final + 1.0
    kernels_at_final = chosen(epsilon == final, one_more, state.kernels_at_final)
    # Kernels are relative to the product coupling while ε falls, and proximal ones to
    # the last plan from then on.
    reference = state.exponent
    if proximal:
        at_plan = log_plan(exponent, scaling.u, scaling.v)
        reference = chosen(kernels_at_final > 0, at_plan, reference)
    new = unscaled(problem, plan, cooler, kernels_at_final, proximal)
    # Potentials ε u carry over to the next ε, so that scalings grow as it falls.
    carried = expanded(epsilon / cooler, 1)
    return new._replace(
        exponent=reference,
        u=scaling.u * carried,
        v=scaling.v * carried,
        last_gap=state.gap,
    )
