"""Lower bounds of Gromov-Wasserstein distances, one function a theorem of THEORY.md.

Each returns the plain, differentiable value in the arrays' own dtype, in units of C to
the power p; :func:`gwtools.certify` takes the best of them and rounds it down. But for
:func:`permutation_spectral`, which is below bijections and not below couplings, so that
no certificate uses it.

Examples
--------
A lower bound is below every objective, of whatever plan.

>>> import numpy as np, gwtools as gw
>>> x = gw.PointCloud(
...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
... )
>>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
>>> values = gw.bounds.norm(x, y), gw.bounds.spectral(x, y), gw.solve(x, y).objective
>>> [round(float(value), 4) for value in values]
[0.2157, 0.2315, 0.7377]
"""

from gwtools.bounds.distributions import second, third
from gwtools.bounds.level_one_values import find_multipliers, reformulation
from gwtools.bounds.moment_matrix_values import semidefinite
from gwtools.bounds.moments import first, norm, rank_one, row_means, spectral
from gwtools.bounds.nested_programs import Multipliers
from gwtools.bounds.permutations import permutation_spectral
from gwtools.bounds.projected_quadratic import convex

# Mémoli's names.
flb, slb, tlb = first, second, third

__all__ = [
    "Multipliers",
    "convex",
    "find_multipliers",
    "first",
    "flb",
    "norm",
    "permutation_spectral",
    "rank_one",
    "reformulation",
    "row_means",
    "second",
    "semidefinite",
    "slb",
    "spectral",
    "third",
    "tlb",
]
