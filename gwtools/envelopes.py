"""Objectives of stationary plans with the gradient of the minimum in the data.

The envelope theorem: no change of the plan has an effect of first order.
"""

from __future__ import annotations

from dataclasses import replace

from gwtools import _array
from gwtools._array import Array
from gwtools.channel_problems import ChannelProblem
from gwtools.lifted_problems import are_lifted
from gwtools.plans import Plan, SparsePlan
from gwtools.problems import GWProblem
from gwtools.spaces import Space


def enveloped(
    problem: GWProblem,
    plan: Plan,
    potentials: tuple[Array, Array],
) -> Array:
    """Return F(π) of a stationary plan with the gradient of the minimum in the data.

    By the envelope theorem the plan is held: no first-order change of it matters. With
    potentials f, g of the linearisation at the plan, a change of the weights that keeps
    their mass changes the minimum by ⟨f, da⟩ + ⟨g, db⟩.

    Parameters
    ----------
    problem : GWProblem
        Spaces within a gradient graph.
    plan : Plan
        A coupling outside of it.
    potentials : pair of arrays of shape (n,) and (m,)
        Potentials of the linear program with the costs ``problem.linearize(plan)``.
    """
    x = problem.x
    y = problem.y
    has_tracked_weights = _array.tracked(x.weights) or _array.tracked(y.weights)
    if not has_tracked_weights:
        return problem.objective(plan)
    # 1. The gradient in C and D, weights held.
    a = _array.detached(x.weights)
    b = _array.detached(y.weights)
    held = replace(problem, x=x.with_data(x.data, a), y=y.with_data(y.data, b))
    value = held.objective(plan)
    # 2. The gradient in the weights: ``gradient`` leaves out functions of i and of j
    # alone, which are constant on couplings of fixed weights only.
    still = problem.detached()
    if isinstance(still, ChannelProblem):
        shift_x, shift_y = still.row_parts(plan)
    else:
        image_x, image_y = _images(still, plan)
        shift_x = _row_part(still.x, still.y, image_x)
        shift_y = _row_part(still.y, still.x, image_y)
    if still.linear is not None:
        shift_x = still.share * shift_x + still.linear.row_means
        shift_y = still.share * shift_y + still.linear.column_means
    f, g = potentials
    # The changes are 0, and have the gradient of the weights.
    change_a = x.weights - a
    value = value + change_a @ (f + shift_x)
    change_b = y.weights - b
    return value + change_b @ (g + shift_y)


def _images(problem: GWProblem, plan: Plan) -> tuple[Array, Array]:
    """Return π β (n,) and πᵀ α (m,)."""
    alpha = problem.x.deviations
    beta = problem.y.deviations
    if isinstance(plan, SparsePlan) and are_lifted(problem.x, problem.y):
        # No array of all pairs is made of spaces that have none.
        xp = _array.namespace(alpha)
        to_rows = plan.mass * xp.take(beta, plan.cols)
        to_cols = plan.mass * xp.take(alpha, plan.rows)
        n, m = plan.size
        image_x = _array.scatter_sum(plan.rows, to_rows, n)
        return image_x, _array.scatter_sum(plan.cols, to_cols, m)
    matrix = plan.dense()
    return matrix @ beta, matrix.T @ alpha


def _row_part(
    x: Space,
    y: Space,
    image: Array,
) -> Array:
    """Return the part of the gradient that depends on i alone, shape (n,).

    It is the part of 2 Σ (C_ik − D_jl)² π_kl that ``GWProblem.gradient`` leaves out,
    up to a constant: changes of the weights have the sum 0. ``image`` is π β, (n,).
    """
    alpha = x.deviations
    column = x.residual().apply(image[:, None])  # R π β, (n, 1)
    squares = x.power_means(2.0)  # Σ_k C_ik² a_k
    return 2 * squares - 4 * y.mean * alpha - 4 * column[:, 0]
