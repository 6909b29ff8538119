"""Upper bounds of Frank-Wolfe gaps that potentials prove by duality (theorem 8 h).

``gap_of_objective`` is for F itself, ``gap_with_entropy`` for F plus ε KL(π | a ⊗ b).
"""

from __future__ import annotations

import math

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Numbers,
    at_atoms,
    at_pairs,
    dot,
    expanded,
    numbers,
)
from gwtools.problems import Quadratic
from gwtools.solvers.base import gap_above
from gwtools.solvers.entropic_state import State
from gwtools.transport.scaling import Scaling


def gap_with_entropy(
    problem: Quadratic,
    state: State,
    gradient: Array,
    scaling: Scaling,
) -> Numbers:
    """Bound what ⟨∇F(π), ·⟩ + ε KL(· | a ⊗ b) can fall by from π to another coupling.

    The least value over couplings is at least the dual value ε (⟨a, u − log a⟩ +
    ⟨b, v − log b⟩ + 1 − Σ_ij exp(u_i + v_j − ∇F_ij / ε)) of any scalings u and v.

    Parameters
    ----------
    problem : Quadratic
        One problem, or a stack.
    state : State
        The couplings π, their entropy and ε.
    gradient : array of shape (…, n, m)
        ∇F(π).
    scaling : Scaling
        Scalings u and v of the kernel exp(−∇F(π) / ε).

    Returns
    -------
    float or array of shape (…)
        In squared units of C, at least 0.
    """
    a = problem.x.weights
    b = problem.y.weights
    log_a, log_b = problem.log_weights
    # 1. The value at π.
    linear = numbers(state.plan.inner(gradient))
    value = linear + state.epsilon * state.entropy
    # 2. The dual value, divided by ε.
    rows = dot(a, scaling.u - log_a)
    cols = dot(b, scaling.v - log_b)
    dual = rows + cols + 1.0 - scaling.mass
    lower = state.epsilon * dual
    return gap_above(lower, value)


def gap_of_objective(problem: Quadratic, state: State) -> Numbers:
    """Bound the Frank-Wolfe gap of F: c-transforms make its potentials dual feasible.

    Parameters
    ----------
    problem : Quadratic
        One problem, or a stack.
    state : State
        The couplings π, with scalings v whose ε v is near a potential.

    Returns
    -------
    float or array of shape (…)
        In squared units of C, at least 0.
    """
    a = problem.x.weights
    b = problem.y.weights
    gradient = problem.gradient(state.cross)
    xp = _array.namespace(gradient)
    # Costs of infinity keep padding out of the minima of other rows and columns; the
    # potentials of padding itself are set to 0.
    cost = at_pairs(a, b, gradient, math.inf)
    epsilon = expanded(state.epsilon, 1)
    v = epsilon * state.v  # (…, m), in squared units of C
    # 1. The c-transform u_i = min_j (∇F_ij − v_j).
    u = xp.min(cost - v[..., None, :], axis=-1)  # (…, n)
    u = at_atoms(a, u, 0.0)
    # 2. The c-transform v_j = min_i (∇F_ij − u_i), which is no lower.
    v = xp.min(cost - u[..., :, None], axis=-2)
    v = at_atoms(b, v, 0.0)
    # 3. Weak duality: ⟨∇F, σ⟩ is at least this for every coupling σ.
    lower = dot(a, u) + dot(b, v)
    value = numbers(state.plan.inner(gradient))
    return gap_above(lower, value)
