"""Solvers: each takes a problem and returns a coupling with the reason it stopped."""

from gwtools.solvers.base import Outcome, Progress, Solver
from gwtools.solvers.branch_and_bound import BranchAndBound
from gwtools.solvers.choice import Choice, chosen_solver
from gwtools.solvers.closed_form import Sorted
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.multi_start import MultiStart
from gwtools.solvers.sinkhorn import Sinkhorn

__all__ = [
    "BranchAndBound",
    "Choice",
    "ConditionalGradient",
    "MultiStart",
    "Outcome",
    "Progress",
    "Sinkhorn",
    "Solver",
    "Sorted",
    "chosen_solver",
]
