"""Lower bounds of Gromov-Wasserstein distances, one function a theorem of THEORY.md.

Each returns the plain, differentiable value in the arrays' own dtype, in units of C to the power p; :func:`gwtools.certify`
takes the best of them and rounds it down.
"""

from gwtools.bounds.moments import convex, first, norm, rank_one, row_means, second, spectral, third

__all__ = ["convex", "first", "norm", "rank_one", "row_means", "second", "spectral", "third"]
