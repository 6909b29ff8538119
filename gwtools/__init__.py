"""Gromov-Wasserstein distances between spaces that share no coordinates, each with a certificate."""

from gwtools import batch, bounds, stability
from gwtools.batch import solve_batch
from gwtools.certify import certify
from gwtools.plans import DensePlan, Plan, SparsePlan, round_plan
from gwtools.problems import GWProblem
from gwtools.results import Certificate, ConvergenceError, ConvergenceWarning, GWResult, Kind, Status
from gwtools.solve import solve
from gwtools.solvers import ConditionalGradient, Progress, Sinkhorn, Solver, Sorted
from gwtools.spaces import DenseSpace, GramSpace, GraphSpace, PointCloud, Space, as_space

__all__ = [
    "Certificate",
    "ConditionalGradient",
    "ConvergenceError",
    "ConvergenceWarning",
    "DensePlan",
    "DenseSpace",
    "GWProblem",
    "GWResult",
    "GramSpace",
    "GraphSpace",
    "Kind",
    "Plan",
    "PointCloud",
    "Progress",
    "Sinkhorn",
    "Solver",
    "Sorted",
    "Space",
    "SparsePlan",
    "Status",
    "as_space",
    "batch",
    "bounds",
    "certify",
    "round_plan",
    "solve",
    "solve_batch",
    "stability",
]
