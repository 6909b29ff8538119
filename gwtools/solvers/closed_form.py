"""Closed-form lower bounds as a solver: sorting, and at most one small eigenvalue problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from gwtools import _check, bounds
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.base import Callback, Outcome, Solver
from gwtools.spaces import Space, numbers_at_atoms
from gwtools.transport.one_dimensional import sorting_plan


@final
@dataclass(frozen=True, eq=False)
class Sorted(Solver):
    """Sort the row means of both spaces: a lower bound as the estimate, the sorting coupling as the plan.

    Parameters
    ----------
    kind : {"row_means", "norm", "spectral"}
        Which closed form is the estimate: theorem 1 (W_p^p between row means, the
        "approximate GW" of InfiGFusion), 3 or 4.
    p : float
        Power of the row-means estimate, at least 1; the other kinds are of power 2.

    Notes
    -----
    O(n log n) after the row means. The estimate is never above GW_p^p; the plan's
    objective is never below GW_2², and a poor answer in general: theorem 8.

    Examples
    --------
    GW_2² lies between the estimate and the objective of the sorting coupling, and
    nothing was iterated.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y, gw.Sorted("norm"))
    >>> round(float(result.estimate), 4), round(float(result.objective), 4)
    (0.2157, 0.7902)
    """

    kind: str = "row_means"
    p: float = 1.0

    def __post_init__(self) -> None:
        _check.choice(self.kind, "kind", ("row_means", "norm", "spectral"))
        _check.number(self.p, "p", least=1.0)

    def numbers_held(self, x: Space, y: Space) -> float:
        """Return what blocks of rows need and, for spectra of spaces without a form of low rank, R and its weighted copy."""
        spectra = (
            2 * (x.numbers_held + y.numbers_held) if self.kind == "spectral" else 0.0
        )
        return max(spectra, numbers_at_atoms(x, y))

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Evaluate the closed form and build the sorting coupling."""
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        x, y = problem.x, problem.y
        if self.kind == "row_means":
            estimate, power = bounds.row_means(x, y, p=self.p), self.p
        else:
            estimate, power = getattr(bounds, self.kind)(x, y), 2.0
        plan = sorting_plan(x.row_means, x.weights, y.row_means, y.weights)
        return Outcome(plan, Status.CLOSED_FORM, estimate=estimate, power=power)
