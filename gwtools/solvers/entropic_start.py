"""First states of the Sinkhorn solver: at a ⊗ b, off a saddle, or at a given start."""

from __future__ import annotations

from typing import Any, cast

from gwtools import _array, _check_plans
from gwtools._array import Array
from gwtools._stacks import Numbers, dot, filled, larger
from gwtools.plans import DensePlan, make_unchecked
from gwtools.problems import GWProblem, Quadratic
from gwtools.solvers.entropic_state import (
    FIXED_POINT,
    STATIONARY,
    State,
    kernel_exponent,
    log_masses,
    unscaled,
)
from gwtools.solvers.given_starts import given_plan, given_potentials, plan_of_start
from gwtools.solvers.starts import is_stationary_at_product, off_saddle, product_plan
from gwtools.transport.newton import schur_solve
from gwtools.transport.scaling import Kernel, log_domain_sweep

# Share of a ⊗ b in what the first kernel at a given plan is relative to.
SHARE_OF_PRODUCT = 1e-3


def first_state(
    problem: Quadratic,
    init: Any,
    final: Numbers,
    negligible: Numbers,
    proximal: bool,
) -> State:
    """Return the state that the first step starts from.

    Parameters
    ----------
    problem : Quadratic
        One problem, outside any gradient graph, or a stack, which has no given start.
    init : start
        As :func:`gwtools.solvers.given_starts.checked_start` returns it.
    final : float or array of shape (…)
        The ε at which annealing ends, or the fixed one.
    negligible : float or array of shape (…)
        The change of the objective that counts as none, in squared units of C.
    proximal : bool
        Whether the entropy is only a means.

    Returns
    -------
    State
        At the ε of the first kernel.
    """
    given = plan_of_start(init)
    if given is not None:
        state = _at_given(problem, given, final, proximal)
    elif proximal:
        # Annealing starts where the kernel is nearly flat.
        first = larger(problem.variation / 8, final)
        none_at_final = filled(final, 0.0)
        state = at_product(problem, first, none_at_final, negligible, proximal)
    else:
        counted = filled(final, 1.0)
        state = at_product(problem, final, counted, negligible, proximal)
    if isinstance(init, str):
        return state
    gradient = problem.gradient(state.cross)
    exponent = kernel_exponent(problem, state, gradient)  # (n, m)
    pair = given_potentials(init, cast(GWProblem, problem))
    if pair is None:
        u, v = _scalings_of_plan(problem, state, exponent)
    else:
        is_relative = proximal and given is not None
        u, v = _scalings_of_potentials(problem, state, pair, is_relative)
    # Potentials of other spaces, and plans far from a fixed point, may be worse than
    # nothing.
    flat = _dual_value(problem, exponent, state.u)
    if _dual_value(problem, exponent, u) > flat:
        return state._replace(u=u, v=v)
    return state


def at_product(
    problem: Quadratic,
    epsilon: Numbers,
    kernels_at_final: Numbers,
    negligible: Numbers,
    proximal: bool,
) -> State:
    """Return the state at a ⊗ b, or off that saddle, with flat scalings."""
    # No iteration of Sinkhorn's leaves such a saddle (theorem 8 d, f).
    weight = 0.0 if proximal else epsilon
    plan = _first_coupling(problem, weight, negligible)
    if plan is not None:
        return unscaled(problem, plan, epsilon, kernels_at_final, proximal)
    # No coupling near a ⊗ b is better: it is the answer.
    plan = product_plan(problem)
    state = unscaled(problem, plan, epsilon, kernels_at_final, proximal)
    state = state._replace(gap=problem.slope_range)
    if proximal:
        return state._replace(code=STATIONARY)
    # Its kernel at a fixed ε, of costs that vanish, is scaled by the weights.
    log_a, log_b = problem.log_weights
    return state._replace(code=FIXED_POINT, u=log_a, v=log_b)


def _first_coupling(
    problem: Quadratic,
    weight: Any,
    negligible: Any,
) -> DensePlan | None:
    """Return a ⊗ b, or a coupling off it at a saddle; None where a ⊗ b is kept.

    ``weight`` is that of the entropy in the problem.
    """
    product = product_plan(problem)
    # All problems of a stack have a slope at the product coupling.
    if not isinstance(problem, GWProblem):
        return product
    if not is_stationary_at_product(problem, negligible):
        return product
    return off_saddle(problem, negligible, weight)


def _at_given(
    problem: Quadratic,
    given: Any,
    final: Numbers,
    proximal: bool,
) -> State:
    """Return the state at a given plan and the final ε, not to climb from there."""
    plan = given_plan(given, cast(GWProblem, problem))
    dense = make_unchecked(DensePlan, matrix=plan.dense())
    counted = filled(final, 1.0)
    state = unscaled(problem, dense, final, counted, proximal)
    if not proximal:
        return state
    # Relative to a plan alone, a step could move no mass to where that has none.
    product = product_plan(problem).matrix
    share = SHARE_OF_PRODUCT
    mixed = (1 - share) * dense.matrix + share * product  # (n, m)
    return state._replace(exponent=log_masses(mixed))


def _scalings_of_potentials(
    problem: Quadratic,
    state: State,
    pair: tuple[Array, Array],
    is_relative: bool,
) -> tuple[Array, Array]:
    """Return the scalings of the first kernel whose potentials are f and g.

    ``is_relative`` tells whether that kernel is relative to a plan, as proximal ones
    are, instead of a ⊗ b.
    """
    f, g = pair
    u = f / state.epsilon
    v = g / state.epsilon
    _check_plans.finite_scalings(_are_finite(u, v), state.epsilon)
    # Potentials are given up to a constant, on which no kernel depends: rounding to the
    # digits of a large one would hide how unsuitable they are.
    xp = _array.namespace(u)
    constant = xp.max(u)
    u = u - constant
    v = v + constant
    if is_relative:
        return u, v
    log_a, log_b = problem.log_weights
    return u + log_a, v + log_b


def _are_finite(u: Array, v: Array) -> bool:
    """Tell whether no scaling is NaN or infinite."""
    xp = _array.namespace(u, v)
    return bool(xp.all(xp.isfinite(u))) and bool(xp.all(xp.isfinite(v)))


def _scalings_of_plan(
    problem: Quadratic,
    state: State,
    exponent: Array,
) -> tuple[Array, Array]:
    """Return the scalings of the first kernel that suit the plan best.

    At a fixed point log π is the kernel's exponent plus u_i + v_j, so that the plan
    tells the scalings. Elsewhere they minimise Σ π_ij (log π_ij − exponent_ij − u_i −
    v_j)².
    """
    a = problem.x.weights
    b = problem.y.weights
    plan = state.matrix
    weighted = plan * (log_masses(plan) - exponent)
    xp = _array.namespace(plan)
    totals_x = xp.sum(weighted, axis=1)  # (n,)
    totals_y = xp.sum(weighted, axis=0)  # (m,)
    # The system of the smaller space is solved.
    if plan.shape[0] < plan.shape[1]:
        transposed = xp.matrix_transpose(plan)
        v, u = _least_squares(transposed, b, a, totals_y, totals_x)
        return u, v
    return _least_squares(plan, a, b, totals_x, totals_y)


def _least_squares(
    plan: Array,
    rows: Array,
    cols: Array,
    row_totals: Array,
    col_totals: Array,
) -> tuple[Array, Array]:
    """Solve rows · u + P v = row_totals and Pᵀ u + cols · v = col_totals."""
    eliminated = (row_totals / rows) @ plan
    v = schur_solve(plan, rows, cols, col_totals - eliminated)
    u = (row_totals - plan @ v) / rows
    return u, v


def _dual_value(problem: Quadratic, exponent: Array, u: Array) -> float:
    """Return the dual value a·u + b·v of a kernel's scalings, after one sweep from u.

    The dual is concave, and largest where the kernel is scaled. A sweep leaves mass 1.
    """
    a = problem.x.weights
    b = problem.y.weights
    kernel = Kernel(exponent, a, b, *problem.log_weights, tolerance=0.0)
    u, v = log_domain_sweep(kernel, u)
    return float(dot(a, u) + dot(b, v))
