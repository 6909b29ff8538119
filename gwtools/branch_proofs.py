"""Proofs of branch and bound, and their check in plain NumPy, which knows no solver.

What theorem 17 says is computed here a second time, from the stored values of the
spaces: the cuts from their potentials, the boxes from the splits of the tree, the bound
of each leaf from its weights. No number of a solver is believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.spaces import GramSpace, Space

_UNIT = 2.0**-53  # u, of float64
_UNDERFLOW = 2.0**-900  # more than underflow costs an operation,
_UNDERFLOW_OF_ROOTS = 2.0**-450  # and a root


@dataclass(frozen=True, eq=False)
class BranchProof:
    """A tree of boxes with cuts that bound the objective in its leaves.

    Parameters
    ----------
    axes : pair of arrays of shape (d, k) and (d', k')
        What the points, or the columns of factors, are multiplied by.
    slopes : array of shape (K, k k')
        The B of each cut.
    potentials : array of shape (K, m)
        What proves its height.
    coordinates : integer array of shape (N,)
        The entry of Z, from 1, in which each node is split; −1 for leaves. Node 0 is
        the root.
    splits : array of shape (N,)
        Where it is split.
    children : integer array of shape (N, 2)
        The nodes below and above the split, behind the node itself.
    cuts : integer array of shape (N, p)
        Of a leaf, the cuts that bound it.
    weights : array of shape (N, p)
        Their weights θ ≥ 0.
    """

    axes: tuple[NumpyArray, NumpyArray]
    slopes: NumpyArray
    potentials: NumpyArray
    coordinates: NumpyArray
    splits: NumpyArray
    children: NumpyArray
    cuts: NumpyArray
    weights: NumpyArray


class _Side(NamedTuple):
    """A space as the check reads it: C is near m + α_i + α_k ± ⟨g_i, g_k⟩."""

    a: NumpyArray
    mean: float
    alpha: NumpyArray
    factor: NumpyArray  # on the axes of the proof
    square: float  # at most 2 ‖α‖² + ‖GᵀG‖²
    operations: float  # of a sum over the atoms, weights included
    radius: float


def check_branches(x: Space, y: Space, proof: BranchProof) -> float:
    """Return the lower bound of GW_2² that a proof proves, in squared units of C.

    Parameters
    ----------
    x, y : Space
        The spaces that were solved: clouds with squared distances or Gram spaces, whose
        weights are positive.
    proof : BranchProof
        What a solver kept.

    Returns
    -------
    float
        Rounded down; 0 for a proof that proves nothing. A proof that was tampered with
        may prove less, never more than is true.

    Notes
    -----
    O(leaves · k k' + cuts · n m).
    """
    if isinstance(x, GramSpace) != isinstance(y, GramSpace):
        return 0.0  # the residuals would have opposite signs
    left = _side(x, proof.axes[0])
    right = _side(y, proof.axes[1])
    heights = np.array(
        [
            _height(left, right, slope, potential)
            for slope, potential in zip(proof.slopes, proof.potentials, strict=True)
        ]
    )
    gain = _largest_gain(proof, heights, *_root_box(left, right))
    # F = F₀ − 4 Ψ, and the root of the objective is off by the radius.
    gap = abs(left.mean - right.mean) * (1 - 2 * _UNIT)
    constant = (gap**2 + left.square + right.square) * (1 - 16 * _UNIT)
    value = constant - 4 * gain
    value -= 8 * _UNIT * (constant + 4 * abs(gain))
    root = math.sqrt(max(value, 0.0)) * (1 - 8 * _UNIT)
    root = max(root - left.radius - right.radius, 0.0)
    lower = root**2 * (1 - 8 * _UNIT)
    return lower if math.isfinite(lower) else 0.0


def _gamma(terms: float) -> float:
    """Return γ_k = k u / (1 − k u), enlarged by two per cent for its own error."""
    return 1.02 * terms * _UNIT / (1 - terms * _UNIT)


def _side(space: Space, axes: NumpyArray) -> _Side:
    """Read a space on the axes of a proof, with its radius (theorem 13 e)."""
    a = _array.to_numpy(space.weights).astype(np.float64)
    data = _array.to_numpy(space.data).astype(np.float64)
    # Of the exactly normalised weights: sums of narrow ones are further off 1.
    a = a / math.fsum(a)
    narrow = _array.epsilon(space.weights) > 1e-10
    n = len(a)
    operations = n + abs(math.fsum(a) - 1) / _UNIT + 4
    if isinstance(space, GramSpace):
        mean = 0.0
        alpha = np.zeros(n)
        factor = data.T
        radius = 0.0
    else:
        from_first = data - data[0]
        points = from_first - a @ from_first
        squares = (points**2).sum(axis=1)
        variance = float(a @ squares)
        mean = 2 * variance
        alpha = squares - variance
        factor = 2.0**0.5 * points
        sides = data.max(axis=0) - data.min(axis=0)
        largest = 1.01 * float((sides**2).sum())
        # 9 γ Λ for m and each α, 5 γ Λ for the products of the factor: the vector (m,
        # √2 α, GGᵀ) is off by √(9² + 2 · 9² + 5²) < 17 of these.
        radius = 17 * _gamma(operations + 2 * data.shape[1] + 24) * largest
    # The axes leave out G N Gᵀ with N = I − U Uᵀ, whatever U is.
    moments = factor.T @ (a[:, None] * factor)
    trace = 1.01 * float(np.trace(moments))
    dimension = factor.shape[1]
    left_out = np.eye(dimension) - axes @ axes.T
    radius += 1.01 * float(np.linalg.norm(left_out @ moments))
    size = 2 + dimension**0.5 + 3 * float((axes**2).sum())
    radius += _gamma(operations + 8 * dimension + 16) * size * trace
    # 2 ‖α‖² + ‖GᵀG‖² on these axes.
    turned = factor @ axes
    moments = turned.T @ (a[:, None] * turned)
    error = _gamma(operations + moments.size + 8) * float(np.trace(moments))
    norm = max(float(np.linalg.norm(moments)) - 2 * error, 0.0)
    of_alpha = 2 * float(a @ alpha**2) * (1 - _gamma(operations + 8))
    square = max(of_alpha + norm**2 - n * _UNDERFLOW, 0.0)
    narrow_radius = 2.0**-100 if narrow else 0.0
    radius += _UNDERFLOW_OF_ROOTS + narrow_radius
    return _Side(a, mean, alpha, turned, square, operations, 1.01 * radius)


def _height(x: _Side, y: _Side, slope: NumpyArray, potential: NumpyArray) -> float:
    """Return h with w + ⟨B, Z⟩ ≤ h for every coupling, from one potential."""
    B = slope.reshape(x.factor.shape[1], y.factor.shape[1])
    gains = np.outer(x.alpha, y.alpha) + x.factor @ B @ y.factor.T
    sizes = np.abs(x.alpha).max() * np.abs(y.alpha).max()
    largest_x = np.abs(x.factor).max(axis=0)
    largest_y = np.abs(y.factor).max(axis=0)
    sizes = sizes + largest_x @ np.abs(B) @ largest_y
    # Feasible: u_i + v_j ≥ gain_ij for u_i = max_j (gain_ij − v_j), and float errors.
    # The potential is that of the least −gain.
    v = -potential
    u = (gains - v).max(axis=1)
    reach = float(np.abs(u).max() + np.abs(v).max() + sizes)
    terms = max(x.operations, y.operations) + sum(B.shape) + 24
    error = 3 * _gamma(terms) * reach + (len(u) + len(v)) * _UNDERFLOW
    return float(x.a @ u + y.a @ v) + error


def _root_box(x: _Side, y: _Side) -> tuple[NumpyArray, NumpyArray]:
    """Return the least and the largest w and Z of all couplings, each (k k' + 1,)."""
    values = [(x.alpha, y.alpha)]
    for g in x.factor.T:
        values.extend((g, h) for h in y.factor.T)
    high = [_largest_product(x, y, g, h) for g, h in values]
    low = [-_largest_product(x, y, g, -h) for g, h in values]
    return np.array(low), np.array(high)


def _largest_product(x: _Side, y: _Side, g: NumpyArray, h: NumpyArray) -> float:
    """Return the largest Σ π_ij g_i h_j, attained by sorting both (lemma A)."""
    order_g = np.argsort(g, kind="stable")
    order_h = np.argsort(h, kind="stable")
    levels_g = np.minimum(np.cumsum(x.a[order_g]), 1.0)
    levels_h = np.minimum(np.cumsum(y.a[order_h]), 1.0)
    levels_g[-1] = levels_h[-1] = 1.0
    ends = np.unique(np.concatenate([levels_g, levels_h]))
    lengths = np.diff(ends, prepend=0.0)
    of_g = g[order_g][np.searchsorted(levels_g, ends)]
    of_h = h[order_h][np.searchsorted(levels_h, ends)]
    value = float(lengths @ (of_g * of_h))
    # Equal weights pair off, but levels are summed: each is off by γ of its sum.
    off = _gamma(2 * max(x.operations, y.operations) + 8)
    largest_g = float(np.abs(g).max())
    largest_h = float(np.abs(h).max())
    error = 6 * off * largest_g * largest_h + 2 * _UNDERFLOW
    return value + error


def _largest_gain(
    proof: BranchProof, heights: NumpyArray, low: NumpyArray, high: NumpyArray
) -> float:
    """Return the largest bound of Ψ in a leaf of the tree, rounded up."""
    nodes = len(proof.coordinates)
    of_nodes = (proof.splits, proof.children, proof.cuts, proof.weights)
    if any(len(values) != nodes for values in of_nodes) or nodes == 0:
        return math.inf
    if proof.cuts.size and int(proof.cuts.max()) >= len(heights):
        return math.inf
    waiting = [(0, low, high)]
    most = -math.inf
    visited = 0
    while waiting:
        node, low, high = waiting.pop()
        visited += 1
        if visited > nodes:
            return math.inf  # nodes that are shared are no tree
        e = int(proof.coordinates[node])
        if e < 0:
            most = max(most, _gain(proof, heights, node, low, high))
            continue
        below, above = (int(child) for child in proof.children[node])
        is_behind = node < min(below, above) and max(below, above) < nodes
        if not is_behind or e == 0 or e >= len(low):
            return math.inf  # no tree over the entries of Z
        split = float(proof.splits[node])
        less = high.copy()
        less[e] = split
        more = low.copy()
        more[e] = split
        waiting.append((below, low, less))
        waiting.append((above, more, high))
    return most


def _gain(
    proof: BranchProof,
    heights: NumpyArray,
    node: int,
    low: NumpyArray,
    high: NumpyArray,
) -> float:
    """Bound Ψ = w + ½ ‖Z‖² in the box of a leaf by its cuts, rounded up."""
    theta = np.maximum(proof.weights[node], 0.0)
    used = proof.cuts[node]
    rows = np.concatenate([np.ones((len(used), 1)), proof.slopes[used]], axis=1)
    middle = (low + high) / 2
    middle[0] = 1.0
    rest = middle - theta @ rows
    largest = np.maximum(rest * low, rest * high)
    corners = low[1:] * high[1:] / 2
    gain = theta @ heights[used] + largest.sum() - corners.sum()
    reach = np.maximum(np.abs(low), np.abs(high))
    size = theta @ np.abs(heights[used]) + np.abs(corners).sum()
    size = size + (theta @ np.abs(rows) + np.abs(middle)) @ reach
    terms = 2 * len(used) + 4 * len(low) + 12
    gain = float(gain + _gamma(terms) * size + _UNDERFLOW)
    return math.inf if math.isnan(gain) else gain
