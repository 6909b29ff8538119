"""Closed-form lower bounds as a solver: sorting, and at most one small spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from gwtools import _array, _check, _check_fused, _check_spaces, bounds
from gwtools._array import Array
from gwtools.bounds.moments import number_of_rows
from gwtools.plans import SparsePlan
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.base import Callback, Outcome, Solver
from gwtools.solvers.starts import couplings_of_one_row, sorting_coupling
from gwtools.spaces import Space, numbers_at_atoms

_KINDS = ("row_means", "norm", "spectral", "rank_one")


@final
@dataclass(frozen=True, eq=False)
class Sorted(Solver):
    """Sort the row means of both spaces, or the numbers of two spaces C = h hᵀ.

    The estimate is a lower bound, the plan the sorting coupling.

    Parameters
    ----------
    kind : {"row_means", "norm", "spectral", "rank_one"}
        Which closed form is the estimate: theorem 1 (W_p^p between row means, the
        "approximate GW" of InfiGFusion), 3 or 4; or GW_2² itself between Gram spaces
        with a factor of one row, whose plan is then optimal (theorem 12 f).
    p : float
        Power of the row-means estimate, at least 1; the other kinds are of power 2.

    Raises
    ------
    ValueError
        If the kind is unknown, or p is no finite number of at least 1. ``solve`` raises
        it where the kind is "rank_one" and a space is none of these.

    Notes
    -----
    O(n log n) after the row means. The estimate is never above GW_p^p; the plan's
    objective is never below GW_2², and a poor answer in general: theorem 8. Between C =
    h hᵀ and D = k kᵀ the better of two plans is optimal, which sort h and k alike, or
    against each other. Matrices of rank one are not recognised: pass h and k as
    :class:`gwtools.GramSpace`.

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

    Between inner products of numbers the estimate is the objective, and that is proved.

    >>> x = gw.GramSpace(np.array([[0.0, 1.0, 3.0]]), np.array([0.5, 0.25, 0.25]))
    >>> y = gw.GramSpace(np.array([[-2.0, 0.5, 1.0]]))
    >>> result = gw.solve(x, y, gw.Sorted("rank_one"))
    >>> round(float(result.estimate), 4), result.certificate.kind.value
    (4.2986, 'global')
    """

    kind: str = "row_means"
    p: float = 1.0

    def __post_init__(self) -> None:
        _check.choice(self.kind, "kind", _KINDS)
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
        ValueError
            If the kind is "rank_one" and a space is no Gram space with a factor of one
            row.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        _check_fused.carried(problem.linear is None, str(self))
        x = problem.x
        y = problem.y
        # The bounds of theorems 3 and 4 are of GW_2² (theorem 1 has every power).
        power = 2.0
        if self.kind == "row_means":
            power = self.p
            estimate = bounds.row_means(x, y, p=self.p)
        elif self.kind == "norm":
            estimate = bounds.norm(x, y)
        elif self.kind == "spectral":
            estimate = bounds.spectral(x, y)
        else:
            _require_one_row(problem)
            estimate = bounds.rank_one(x, y)
        # Every coupling's objective is an upper bound of GW_2² (theorem 8 a).
        plan = self._plan(problem)
        return Outcome(
            plan=plan,
            status=Status.CLOSED_FORM,
            estimate=estimate,
            power=power,
        )

    def _plan(self, problem: GWProblem) -> SparsePlan:
        """Return the sorting coupling of the row means, or the best of C = h hᵀ."""
        if self.kind != "rank_one":
            return sorting_coupling(problem)
        alike, against = couplings_of_one_row(problem)
        h = problem.x.data[0, :]
        k = problem.y.data[0, :]
        # The larger |Z| is that of the lesser distance, in which no digits cancel where
        # spaces nearly agree.
        if _squared_distance(against, h, -k) < _squared_distance(alike, h, k):
            return against
        return alike


def _squared_distance(plan: SparsePlan, h: Array, k: Array) -> float:
    """Return Σ π_ij (h_i − k_j)²."""
    xp = _array.namespace(h)
    differences = xp.take(h, plan.rows) - xp.take(k, plan.cols)
    return _array.number(xp.vecdot(plan.mass, differences**2))


def _require_one_row(problem: GWProblem) -> None:
    """Require two Gram spaces C = h hᵀ and D = k kᵀ."""
    remedy = (
        "pass gwtools.GramSpace(h[None, :]) where C is h hᵀ, or take "
        'gwtools.Sorted("spectral"), which takes any space'
    )
    for space, name in ((problem.x, "x"), (problem.y, "y")):
        _check_spaces.one_row(number_of_rows(space), space, name, remedy)
