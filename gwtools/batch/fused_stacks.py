"""Fused problems of many pairs as one padded stack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools._stacks import Numbers, at_pairs
from gwtools.batch.gather import Pairs
from gwtools.linear_terms import LinearTerm
from gwtools.preparation import safe_size
from gwtools.problems import Quadratic


@dataclass(frozen=True, eq=False)
class FusedStack(Quadratic):
    """The fused objectives α F(π) + ⟨L, π⟩ of each problem of a stack.

    Parameters
    ----------
    x, y : PaddedSpaces
        The spaces of B problems.
    shares : array of shape (B,)
        The shares α.
    costs : array of shape (B, n, m)
        L, in squared units of C; 0 at padding.
    """

    shares: Array
    costs: Array

    @property
    def share(self) -> Numbers:
        """α, the factor of F."""
        return self.shares

    @cached_property
    def linear(self) -> LinearTerm:
        """The linear term ⟨L, π⟩."""
        return LinearTerm(self.costs, self.x.weights, self.y.weights)


def stacked(plain: Quadratic, pairs: Pairs) -> FusedStack:
    """Return fused problems as a stack.

    Parameters
    ----------
    plain : Quadratic
        The stack of the spaces of the pairs, padded.
    pairs : Pairs
        The pairs with their features, outside any gradient graph.
    """
    n, m = plain.shape
    costs = []
    for x, y, fused in zip(pairs.left, pairs.right, pairs.fused, strict=True):
        # Features of atoms without weight count nothing, and may be of any size.
        a = x.weights[None, :]
        b = y.weights[None, :]
        counted = at_pairs(a, b, fused.features[None, :, :], 0.0)[0, :, :]
        linear = (1.0 - fused.share) * _array.at_least_single(counted)
        with_rows = _array.transposed(_array.padded(_array.transposed(linear), n))
        costs.append(_array.padded(with_rows, m))
    xp = _array.namespace(costs[0])
    shares = np.array([fused.share for fused in pairs.fused])
    return FusedStack(
        plain.x,
        plain.y,
        shares=_array.from_numpy(shares, costs[0]),
        costs=xp.stack(costs),
    )


def are_in_range(pairs: Pairs) -> NumpyArray:
    """Tell which pairs have features that need no other units, (B,)."""
    safe = safe_size(pairs.like)
    in_range = []
    for x, y, fused in zip(pairs.left, pairs.right, pairs.fused, strict=True):
        size = fused.size(x, y)
        in_range.append(size == 0.0 or 1 / safe < size < safe)
    return np.array(in_range)
