"""Plans at rest, refined by conditional gradient or judged by one linear program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gwtools.history import continued
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers.base import Callback, Outcome, Progress, gap_above
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.starts import sorting_coupling
from gwtools.solvers.vertices import linear_program

# Entries of the largest linear programs that are solved to refine or to judge a plan.
MOST_PROGRAM_ENTRIES = 10**7


def allows_programs(problem: Quadratic) -> bool:
    """Tell whether linear programs between the spaces are not too large."""
    n, m = problem.shape
    return n * m <= MOST_PROGRAM_ENTRIES


def refined(
    problem: GWProblem,
    outcome: Outcome,
    tolerance: float,
    most: int,
    callback: Callback | None = None,
) -> Outcome:
    """Go on from a plan by conditional gradient, and count the steps of both solvers.

    Parameters
    ----------
    problem : GWProblem
        The problem.
    outcome : Outcome
        The plan to go on from, with the steps that led to it.
    tolerance : float
        That of :class:`gwtools.ConditionalGradient`.
    most : int
        Steps of conditional gradient at most.
    callback : callable, optional
        Called after every step; it stops the solver by returning True.

    Returns
    -------
    Outcome
        The refined plan, with the history of both solvers.
    """
    follower = ConditionalGradient(
        tolerance=tolerance,
        max_iterations=most,
        init=outcome.plan,
    )
    # The callback is told the number of all steps.
    counted = counted_from(outcome.iterations, callback)
    further = follower.run(problem, counted)
    iterations = outcome.iterations + further.iterations
    seconds = further.started - outcome.started
    later = continued(further.history, outcome.iterations, seconds)
    return replace(
        further,
        iterations=iterations,
        history=(*outcome.history, *later),
        started=outcome.started,
    )


def counted_from(
    iterations: int,
    callback: Callback | None,
) -> Callback | None:
    """Count the steps of a solver that goes on for another one."""
    if callback is None:
        return None

    def counted(progress: Progress) -> Any:
        iteration = iterations + progress.iteration
        return callback(replace(progress, iteration=iteration))

    return counted


def judged(
    problem: GWProblem,
    outcome: Outcome,
    negligible: float,
) -> Outcome:
    """Return the outcome with the Frank-Wolfe gap that one linear program proves.

    No potentials prove a smaller one: those of the program are the best (theorem 8 h).

    Parameters
    ----------
    problem : GWProblem
        The problem, outside any gradient graph.
    outcome : Outcome
        The plan to judge.
    negligible : float
        A gap up to this counts as stationary, in squared units of C.

    Returns
    -------
    Outcome
        The same plan.
    """
    gradient = problem.linearize(outcome.plan)  # (n, m)
    # The sorting coupling is near to the best vertex, and the program starts there.
    start = sorting_coupling(problem)
    program = linear_program(problem, gradient, start)
    # No coupling is below the dual value: the gap is an upper bound.
    value = float(outcome.plan.inner(gradient))
    gap = gap_above(program.lower, value)
    status = Status.STATIONARY if gap <= negligible else outcome.status
    return replace(outcome, status=status, frank_wolfe_gap=gap)
