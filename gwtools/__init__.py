"""Gromov-Wasserstein distances between spaces, each with a certificate.

The spaces need not share coordinates. Data become spaces, with any weights:
`PointCloud` from points, `DenseSpace` from a matrix of distances, `GramSpace` from
features, `GraphSpace` from a graph. `solve` compares two spaces, `solve_batch` lists of
them, `pairwise` all of them with each other; `nearest` finds neighbours, `barycenter`
the space in the middle:

>>> import numpy as np, gwtools as gw
>>> x = gw.PointCloud(
...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
... )
>>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
>>> result = gw.solve(x, y)
>>> result
GWResult(distance=0.858896, objective=0.737702,
         certificate=[0.215718, 0.737702] (bracket, lower bound by norm),
         status=STATIONARY, iterations=2, solver=auto: MultiStart(),
         plan=SparsePlan of shape (3, 3))

A result holds the distance, in units of the data's distances, and the objective, its
square; the plan, which `result.matching()` reads as pairs; why the solver stopped; and
a certificate, an interval that is proved to contain GW_2^2. `certify` proves more for
more work:

>>> print(gw.certify(x, y, result.plan, effort="quadratic"))
[0.268576, 0.737702] (bracket, lower bound by second)

`bounds` are the lower bounds alone, `batch` those of many pairs at once, `stability`
how far a distance moves when data do, `plot` draws results. Features, free marginals,
directions and other losses than squares are told in `help(gw.solve)`. Read on there and
in `help(gw.GWResult)`; every theorem is proved in THEORY.md, in the folder of this
package.
"""

from importlib import import_module as _import_module
from importlib import metadata as _metadata
from typing import Any as _Any

from gwtools import batch, bounds, stability
from gwtools.barycenter import Barycenter, barycenter
from gwtools.batch import solve_batch
from gwtools.certify import certify, landmark_interval
from gwtools.free_marginals import Partial, Unbalanced
from gwtools.gaussian_distance import GaussianDistance, gaussian
from gwtools.glued_plans import glued_plan
from gwtools.history import Step
from gwtools.linear_embedding import LinearEmbedding
from gwtools.marginals import round_plan
from gwtools.nearest_spaces import NearestResult, nearest
from gwtools.pairwise import PairwiseResult, pairwise
from gwtools.plans import DensePlan, Plan, SparsePlan
from gwtools.problems import GWProblem
from gwtools.proofs import Proof, Verification
from gwtools.results import (
    Certificate,
    ConvergenceError,
    ConvergenceWarning,
    Excess,
    GWResult,
    Kind,
    Status,
)
from gwtools.solve import solve
from gwtools.solvers import (
    BranchAndBound,
    ConditionalGradient,
    MultiStart,
    Progress,
    Sinkhorn,
    Solver,
    Sorted,
)
from gwtools.spaces import (
    DenseSpace,
    GramSpace,
    GraphSpace,
    PointCloud,
    Space,
    as_space,
)
from gwtools.start_records import Start, Starts

__all__ = [
    "Barycenter",
    "BranchAndBound",
    "Certificate",
    "ConditionalGradient",
    "ConvergenceError",
    "ConvergenceWarning",
    "DensePlan",
    "DenseSpace",
    "Excess",
    "GWProblem",
    "GWResult",
    "GaussianDistance",
    "GramSpace",
    "GraphSpace",
    "Kind",
    "LinearEmbedding",
    "MultiStart",
    "NearestResult",
    "PairwiseResult",
    "Partial",
    "Plan",
    "PointCloud",
    "Progress",
    "Proof",
    "Sinkhorn",
    "Solver",
    "Sorted",
    "Space",
    "SparsePlan",
    "Start",
    "Starts",
    "Status",
    "Step",
    "Unbalanced",
    "Verification",
    "as_space",
    "barycenter",
    "batch",
    "bounds",
    "certify",
    "gaussian",
    "glued_plan",
    "landmark_interval",
    "nearest",
    "pairwise",
    "round_plan",
    "solve",
    "solve_batch",
    "stability",
]

try:
    __version__ = _metadata.version("gwfusion")
except _metadata.PackageNotFoundError:  # a copy of the sources that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> _Any:
    """Import the modules of extras when they are asked for."""
    if name in ("plot", "sklearn"):
        return _import_module(f"gwtools.{name}")
    raise AttributeError(f"module 'gwtools' has no attribute {name!r}")
