"""The choice of a solver by the structure of a problem: what ``solver="auto"`` runs."""

from __future__ import annotations

from typing import NamedTuple

from gwtools.bounds.moments import has_one_row
from gwtools.channel_problems import ChannelProblem
from gwtools.problems import GWProblem
from gwtools.solvers.base import Solver
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.multi_start import MultiStart
from gwtools.solvers.portfolio import SMALL, curvatures
from gwtools.spaces.double_centering import LowRankResidual


class Choice(NamedTuple):
    """A solver, and why it suits the problem; no reason where it is the usual one."""

    solver: Solver
    reason: str = ""

    def __str__(self) -> str:
        """Name the solver, and why it was chosen."""
        if not self.reason:
            return f"auto: {self.solver}"
        return f"auto: {self.solver}, {self.reason}"


_ONE_START = ConditionalGradient()


def chosen_solver(problem: GWProblem, gradients: bool) -> Choice:
    """Choose a solver by the structure of a problem, by the table of ``solve``.

    Parameters
    ----------
    problem : GWProblem
        The problem of the atoms that carry weight.
    gradients : bool
        Whether gradients are asked for.

    Returns
    -------
    Choice
        The solver, and the reason.
    """
    if gradients:
        return Choice(_ONE_START, "one start where gradients are asked for")
    n, m = problem.shape
    if min(n, m) == 1:
        return Choice(_ONE_START, "as one atom leaves one coupling")
    if isinstance(problem, ChannelProblem):
        return Choice(MultiStart())
    plain = problem.is_plain
    if plain and has_one_row(problem.x) and has_one_row(problem.y):
        return Choice(_ONE_START, "as one of two sorts is optimal (theorem 12)")
    (_, left), (_, right) = problem.norms
    if problem.share * (2 * left * right) <= problem.float_error:
        if not plain:
            return Choice(_ONE_START, "as one linear program is optimal")
        return Choice(_ONE_START, "as one sort is optimal: a space is additive")
    if _is_convex(problem):
        return Choice(_ONE_START, "as the objective is convex over couplings")
    return Choice(MultiStart())


def _is_convex(problem: GWProblem) -> bool:
    """Tell whether F is known to be convex over couplings.

    Between large spaces only their kinds tell, or few eigenvalues of both, as those of
    matrices take as long as a start.
    """
    signs = problem.left.sign * problem.right.sign
    if signs != 0:
        return signs < 0
    n, m = problem.shape
    low_rank_x = isinstance(problem.left, LowRankResidual)
    low_rank_y = isinstance(problem.right, LowRankResidual)
    small = max(n, m) <= SMALL
    return (small or (low_rank_x and low_rank_y)) and curvatures(problem).is_convex
