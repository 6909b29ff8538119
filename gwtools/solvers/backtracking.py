"""Backtracking: steps between couplings, shortened by parabolas until none climbs."""

from __future__ import annotations

from gwtools._stacks import (
    Mask,
    Numbers,
    chosen,
    expanded,
    filled,
    numbers,
    some,
)
from gwtools.problems import Quadratic
from gwtools.solvers.entropic_state import (
    State,
    entropy,
    log_masses,
    log_ratio,
    plan_of,
)

_SHORTEST = 1e-6  # share of a step below which it is not shortened any further


def shortened(
    target: State,
    problem: Quadratic,
    old: State,
    proximal: bool,
) -> State:
    """Shorten steps from old states towards targets until they no longer climb.

    The merit is F, plus ε KL(π | a ⊗ b) unless the steps are proximal. Each turn makes
    a step less than half as long: the slope at the old state is negative, and the merit
    at the end of the step is no lower.

    Parameters
    ----------
    target : State
        The ends of the whole steps; of one problem, or of a stack.
    problem : Quadratic
        The problem, or the stack.
    old : State
        The states where the steps begin.
    proximal : bool
        Whether the entropy is only a means.

    Returns
    -------
    State
        On the way to the target; the target itself where no step descends.
    """
    new = target
    slope = _slope(problem, old, target, proximal)
    step = filled(slope, 1.0)  # (…), share of the whole step
    climbing = _climbing(old, new, slope, step)
    while some(climbing):
        # The parabola slope · t + c · t² through both ends of the step has the slope of
        # the merit at the first. It is the merit itself, but for the entropy.
        mean_slope = (new.merit - old.merit) / step
        difference = slope - mean_slope  # −c · step
        # It is least at slope / (2 · difference) of the step.
        one = filled(slope, 1.0)
        share = slope / chosen(climbing, 2 * difference, one)
        step = chosen(climbing, step * share, step)
        shorter = _between(problem, old, target, step, proximal)
        new = chosen(climbing, shorter, new)
        climbing = _climbing(old, new, slope, step)
    return new


def _climbing(
    old: State,
    new: State,
    slope: Numbers,
    step: Numbers,
) -> Mask:
    """Tell which steps climb, though a shorter one descends."""
    higher = new.merit > old.merit
    return higher & (slope < 0.0) & (step > _SHORTEST)


def _slope(
    problem: Quadratic,
    state: State,
    target: State,
    proximal: bool,
) -> Numbers:
    """Return the derivative of the merit at a state towards another plan."""
    gradient = problem.gradient(state.cross)  # (…, n, m)
    if not proximal:
        epsilon = expanded(state.epsilon, 2)
        gradient = gradient + epsilon * log_ratio(problem, state.matrix)
    there = numbers(target.plan.inner(gradient))
    here = numbers(state.plan.inner(gradient))
    return there - here


def _between(
    problem: Quadratic,
    old: State,
    target: State,
    step: Numbers,
    proximal: bool,
) -> State:
    """Return the state at a share of the way from one coupling to another."""
    share = expanded(step, 2)
    plan = plan_of((1 - share) * old.matrix + share * target.matrix)
    cross = (1 - share) * old.cross + share * target.cross  # it is linear in the plan
    # The next proximal kernel is relative to this plan. Scalings stay the target's:
    # potentials of the gradient at the old plan, from which the next ones start.
    exponent = log_masses(plan.matrix) if proximal else target.exponent
    return target._replace(
        matrix=plan.matrix,
        cross=cross,
        relative_objective=problem.relative_objective(plan, cross),
        entropy=entropy(problem, plan, step, proximal),
        exponent=exponent,
    )
