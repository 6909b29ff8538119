"""Histories of problems that take their steps together, read from a device once."""

from __future__ import annotations

import math
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools._stacks import dot
from gwtools.history import Step, now
from gwtools.problems import Quadratic
from gwtools.solvers.entropic_state import State


class _Row(NamedTuple):
    """What a step of a stack led to, one number a problem that took it."""

    problem: Array  # (b,), positions in the stack at the start
    relative_objective: Array  # (b,), F(π) − F(a ⊗ b), in squared units of C
    gap: Array  # (b,), NaN where it was not computed
    last_gap: Array  # (b,), of the plan that the step started from, or NaN
    epsilon: Array  # (b,), of the kernel that was scaled


class StackHistory:
    """What the steps of a stack of problems led to, kept as arrays of its library.

    Parameters
    ----------
    problem : Quadratic
        The stack.
    """

    def __init__(self, problem: Quadratic) -> None:
        self.started = now()
        self._product_objectives = _product_objectives(problem)  # (B,)
        self._floors = np.zeros(self._product_objectives.shape[0])  # (B,)
        if problem.linear is not None:
            self._floors = _array.to_numpy(problem.linear.least).astype(float)
        self._rows: list[_Row] = []
        self._seconds: list[float] = []

    def record(self, problem: Array, before: State, after: State) -> None:
        """Keep what a step led to, without waiting for a device.

        Parameters
        ----------
        problem : integer array of shape (b,)
            Which problems took the step, as positions in the stack at the start.
        before, after : State
            The states around it; objectives that are not finite count as no step.
        """
        row = _Row(
            problem=problem,
            relative_objective=after.relative_objective,
            gap=after.gap,
            last_gap=after.last_gap,
            epsilon=before.epsilon,
        )
        self._rows.append(row)
        self._seconds.append(now() - self.started)

    def finished(self) -> list[tuple[Step, ...]]:
        """Return the history of each of the B problems."""
        product_objectives = _array.to_numpy(self._product_objectives).astype(float)
        count = len(product_objectives)
        if not self._rows:
            return [()] * count
        # 1. All steps of a problem one after the other, each with its number.
        columns = _columns(self._rows)
        lengths = [row.problem.shape[0] for row in self._rows]
        problem = columns["problem"].astype(int)
        order = np.argsort(problem, kind="stable")
        number = np.repeat(np.arange(1, len(lengths) + 1), lengths)[order]
        seconds = np.repeat(self._seconds, lengths)[order]
        columns = {name: values[order] for name, values in columns.items()}
        problem = problem[order]
        # 2. Objectives. Float errors may take a sum below what none is below.
        relative = columns["relative_objective"]
        objective = product_objectives[problem] + relative
        objective = np.maximum(objective, self._floors[problem])
        # 3. The next step of a problem may have computed the gap.
        gap = columns["gap"]
        is_followed = np.append(problem[1:] == problem[:-1], False)
        of_next = np.append(columns["last_gap"][1:], math.nan)
        gap = np.where(np.isnan(gap) & is_followed, of_next, gap)
        # 4. Python's numbers, cut by problem.
        known_gap = [None if math.isnan(value) else value for value in gap.tolist()]
        rows: Any = zip(
            number.tolist(),
            objective.tolist(),
            known_gap,
            columns["epsilon"].tolist(),
            seconds.tolist(),
            strict=True,
        )
        steps = list(starmap(Step, rows))
        starts = np.searchsorted(problem, np.arange(count + 1)).tolist()
        histories = []
        for k in range(count):
            first, end = starts[k], starts[k + 1]
            # A step to values that are not finite is the last one, and was not taken.
            if end > first and not math.isfinite(relative[end - 1]):
                end -= 1
            histories.append(tuple(steps[first:end]))
        return histories


def _columns(rows: list[_Row]) -> dict[str, NumpyArray]:
    """Join the numbers of all steps by their names, in NumPy."""
    joined = {}
    for name in _Row._fields:
        parts = [getattr(row, name) for row in rows]
        values = _array.to_numpy(_array.joined(parts))
        joined[name] = values.astype(float)
    return joined


def _product_objectives(problem: Quadratic) -> Array:
    """Return the objectives (B,) of the product couplings, in squared units of C."""
    x = problem.x
    y = problem.y
    alpha_squared = dot(x.weights, x.deviations**2)
    beta_squared = dot(y.weights, y.deviations**2)
    plain = problem.constant + 2 * (alpha_squared + beta_squared)
    if problem.linear is None:
        return plain
    return problem.share * plain + problem.linear.mean
