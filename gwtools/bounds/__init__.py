"""Lower bounds of Gromov-Wasserstein distances, one function a theorem of THEORY.md.

Each returns the plain, differentiable value in the arrays' own dtype, in units of C to the power p; :func:`gwtools.certify`
takes the best of them and rounds it down.
"""

from gwtools.bounds.distributions import second, third
from gwtools.bounds.moments import first, norm, rank_one, row_means, spectral
from gwtools.bounds.projected_quadratic import convex

# Mémoli's names.
flb, slb, tlb = first, second, third

__all__ = ["convex", "first", "flb", "norm", "rank_one", "row_means", "second", "slb", "spectral", "third", "tlb"]
