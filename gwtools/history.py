"""Histories: what each step of an iterative solver led to, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """What a step of an iterative solver led to; ``result.history`` holds all of them.

    Of a search, those of the start that won.

    Attributes
    ----------
    iteration : int
        The number of the step, from 1.
    objective : float
        The objective of the plan after the step, in squared units of C; what a
        callback is told.
    frank_wolfe_gap : float or None
        The Frank-Wolfe gap of the plan after the step, in squared units of C; None
        where it was not computed. The next step may have computed it, so that more of
        them are known than a callback is told.
    epsilon : float or None
        The ε of the kernel that the step scaled, in squared units of C; None of steps
        by linear programs.
    seconds : float
        When the step was done, since the solver started. A solver that goes on for
        another one counts on, in steps and in seconds.
    lower : float or None
        What no objective is below by the boxes searched so far, in squared units of C,
        as branch and bound computes it: the certificate alone rounds it outward. None
        of all other solvers.

    Examples
    --------
    Sinkhorn cools the entropy down, then linear programs go on from its plan.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> history = gw.solve(x, y, gw.Sinkhorn()).history
    >>> first, last = history[0], history[-1]
    >>> round(first.objective, 2), first.frank_wolfe_gap, round(first.epsilon, 2)
    (1.16, None, 0.27)
    >>> round(last.objective, 2), last.frank_wolfe_gap < 1e-4, last.epsilon
    (0.74, True, None)
    >>> isinstance(last, gw.Step), last.iteration == len(history)
    (True, True)
    """

    iteration: int
    objective: float  # in squared units of C
    frank_wolfe_gap: float | None  # in squared units of C
    epsilon: float | None  # in squared units of C
    seconds: float
    lower: float | None = None  # in squared units of C


def now() -> float:
    """Return the seconds of a clock that never goes back."""
    return time.perf_counter()


def with_gap(steps: list[Step], gap: float | None) -> None:
    """Add the gap of the plan after the last step, which the next one has computed.

    Parameters
    ----------
    steps : list of Step
        The steps so far; the last one changes.
    gap : float or None
        In squared units of C; None where it was not computed.
    """
    if gap is None or not steps:
        return
    last = steps[-1]
    if last.frank_wolfe_gap is None:
        steps[-1] = last._replace(frank_wolfe_gap=gap)


def continued(
    steps: Sequence[Step],
    iterations: int,
    seconds: float,
) -> tuple[Step, ...]:
    """Return the steps of a solver that goes on for another one.

    Parameters
    ----------
    steps : sequence of Step
        As that solver counts them.
    iterations : int
        Steps of the other solver.
    seconds : float
        From the start of the other solver to that of this one.

    Returns
    -------
    tuple of Step
        Counted from the start of the other solver.
    """
    return tuple(
        step._replace(
            iteration=iterations + step.iteration,
            seconds=seconds + step.seconds,
        )
        for step in steps
    )


def in_units(steps: tuple[Step, ...], unit: float) -> tuple[Step, ...]:
    """Return steps, made with C divided by ``unit``, in squared units of C.

    Parameters
    ----------
    steps : tuple of Step
        In squared units of the divided C.
    unit : float
        What C was divided by.

    Returns
    -------
    tuple of Step
        In squared units of C.
    """
    if unit == 1.0:
        return steps

    def rescaled(value: float | None) -> float | None:
        # Factor by factor: the square alone may overflow.
        return None if value is None else value * unit * unit

    return tuple(
        step._replace(
            objective=step.objective * unit * unit,
            frank_wolfe_gap=rescaled(step.frank_wolfe_gap),
            epsilon=rescaled(step.epsilon),
            lower=rescaled(step.lower),
        )
        for step in steps
    )
