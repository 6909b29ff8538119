"""Closed-form lower bounds as a solver: sorting, and at most one small spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from gwtools import _check, bounds
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.base import Callback, Outcome, Solver
from gwtools.solvers.starts import sorting_coupling
from gwtools.spaces import Space, numbers_at_atoms


@final
@dataclass(frozen=True, eq=False)
class Sorted(Solver):
    """Sort the row means of both spaces.

    The estimate is a lower bound, the plan the sorting coupling.

    Parameters
    ----------
    kind : {"row_means", "norm", "spectral"}
        Which closed form is the estimate: theorem 1 (W_p^p between row means, the
        "approximate GW" of InfiGFusion), 3 or 4.
    p : float
        Power of the row-means estimate, at least 1; the other kinds are of power 2.

    Raises
    ------
    ValueError
        If the kind is unknown, or p is no finite number of at least 1.

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
        """Estimate from above how many numbers are held at once.

        Blocks of rows and, for spectra of spaces without a low-rank form, R and its
        weighted copy.
        """
        # Spectra of a low-rank form are those of a small covariance.
        spectra = 0.0
        if self.kind == "spectral":
            spectra = 2 * (x.numbers_held + y.numbers_held)
        return max(spectra, numbers_at_atoms(x, y))

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Evaluate the closed form and build the sorting coupling.

        Parameters
        ----------
        problem : GWProblem
            The problem to answer.
        callback : callable or None
            Not called, as nothing is iterated.

        Raises
        ------
        TypeError
            If ``problem`` is no :class:`gwtools.GWProblem`.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        x = problem.x
        y = problem.y
        # The bounds of theorems 3 and 4 are of GW_2² (theorem 1 has every power).
        power = 2.0
        if self.kind == "row_means":
            power = self.p
            estimate = bounds.row_means(x, y, p=self.p)
        elif self.kind == "norm":
            estimate = bounds.norm(x, y)
        else:
            estimate = bounds.spectral(x, y)
        # Every coupling's objective is an upper bound of GW_2² (theorem 8 a).
        plan = sorting_coupling(problem)
        return Outcome(
            plan=plan,
            status=Status.CLOSED_FORM,
            estimate=estimate,
            power=power,
        )
