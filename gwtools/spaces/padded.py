"""Spaces of unlike sizes in one stack, padded with atoms of weight 0."""

from __future__ import annotations

from typing import NamedTuple

from gwtools._array import Array
from gwtools.spaces.double_centering import DenseResidual, Residual


class PaddedSpaces(NamedTuple):
    """What the objective needs of B spaces of unlike sizes, padded with zeros.

    Parameters
    ----------
    weights, deviations : arrays of shape (B, n)
        The weights a and the deviations α.
    mean : array of shape (B,)
        The means m_C.
    matrix : array of shape (B, n, n)
        The residuals R.
    norm_squared : array of shape (B,)
        The squared norms ‖R‖².
    """

    weights: Array
    deviations: Array
    mean: Array
    matrix: Array
    norm_squared: Array

    def residual(self) -> Residual:
        """Return R."""
        return DenseResidual(self.weights, self.matrix)

    def residual_norm_squared(self) -> Array:
        """Return ‖R‖², shape (B,), in squared units of C."""
        return self.norm_squared
