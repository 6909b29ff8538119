"""How far GW distances can move when a space is perturbed, rounded, truncated or sampled: THEORY.md, theorem 6.

Every function returns a bound in units of C, computed in float64. It bounds |GW(C, D) − GW(C′, D)| for every space D, hence
also GW(C, C′), for the *distance*: where that moves by at most δ, GW_2² moves by at most δ (2 GW_2 + δ). Where the atoms
stay, the roots of the bounds of theorems 1, 3, 4 and 7 move by no more. What holds for p = 2 holds for every p between 1
and 2. Weights stay exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.linear import exact
from gwtools.plans import SparsePlan
from gwtools.problems import GWProblem
from gwtools.spaces import DenseSpace, GramSpace, GraphSpace, PointCloud, Space, as_space, converted

# Unit roundoff of rounding to nearest, and half the smallest subnormal.
_PRECISIONS = {
    "bfloat16": (2.0**-8, 2.0**-134),
    "float16": (2.0**-11, 2.0**-25),
    "float32": (2.0**-24, 2.0**-150),
    "float64": (2.0**-53, 0.0),  # 2⁻¹⁰⁷⁵ is below every float
}


def perturbation(x: Any, x2: Any, p: float = 2.0) -> float:
    """Return ‖C − C′‖_p = (Σ a_i a_k |C_ik − C′_ik|^p)^(1/p), at least |GW_p(C, D) − GW_p(C′, D)| (theorem 6 a).

    Parameters
    ----------
    x, x2 : Space or square array
        Spaces over the same n atoms in the same order, with equal weights.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    float
        In units of C. O(n²) time, O(n) memory.

    Raises
    ------
    TypeError
        If the spaces differ in array library or device.
    ValueError
        If they differ in size or weights.
    """
    x, x2 = _same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    xp, a = _array.namespace(x.weights), x.weights
    moved = [float(a[i:j] @ (xp.abs(x.rows(i, j) - x2.rows(i, j)) ** p @ a)) for i, j in x.blocks()]
    return math.pow(math.fsum(moved), 1.0 / p)


def row_means_perturbation(x: Any, x2: Any, p: float = 2.0) -> float:
    """Return (Σ a_i |f_C(i) − f_C′(i)|^p)^(1/p), at least the move of the root of ``bounds.row_means`` (theorem 6 a).

    Parameters
    ----------
    x, x2 : Space or square array
        Spaces over the same n atoms in the same order, with equal weights.
    p : float
        Power of the bound, at least 1.

    Returns
    -------
    float
        In units of C; never above :func:`perturbation`, and the cost is that of the row means.

    Raises
    ------
    TypeError, ValueError
        As :func:`perturbation`.
    """
    x, x2 = _same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    moved = _array.namespace(x.weights).abs(x.row_means - x2.row_means)
    return math.pow(float(x.weights @ moved**p), 1.0 / p)


def quantization(x: Any, step: float) -> float:
    """Bound the move of GW_2 when the stored values are rounded to the nearest multiple of ``step`` (theorem 6 d).

    Parameters
    ----------
    x : Space or square array
        The space before rounding. Its stored values are the entries of C, the coordinates, the factor or the edge lengths.
    step : float
        Distance between the allowed values, in units of what is stored; half the move that rounding down can make.

    Returns
    -------
    float
        In units of C: step/2 for entries of C.

    Raises
    ------
    ValueError
        If the step is not positive.
    """
    _check.number(step, "step", above=0.0)
    return _stored_values_moved(_wide(x), 0.0, step / 2)


def rounding(x: Any, dtype: Any) -> float:
    """Bound the move of GW_2 when the stored values are rounded to a lower precision (theorem 6 e).

    Parameters
    ----------
    x : Space or square array
        The space before rounding; none of its stored values may overflow.
    dtype : {"bfloat16", "float16", "float32", "float64"} or a dtype of that name
        The precision that stored values are rounded to, to nearest.

    Returns
    -------
    float
        In units of C: u‖C‖ for entries of C, u the unit roundoff, as long as none is subnormal. For clouds it depends on where
        the origin is, as rounding does.

    Raises
    ------
    ValueError
        If the dtype is none of these.
    """
    name = getattr(dtype, "__name__", str(dtype)).rpartition(".")[2]
    _check.choice(name, "dtype", _PRECISIONS)
    return _stored_values_moved(_wide(x), *_PRECISIONS[name])


def truncation(x: GramSpace, k: int) -> float:
    """Bound the move of GW_2 when each row of the factor keeps its k largest values, the others becoming zero (theorem 6 c).

    Parameters
    ----------
    x : GramSpace
        C = FᵀF of a factor of shape (t, n): for logits H of t positions, F = H/√t. Of equal values the first are kept.
    k : int
        Values kept in a row.

    Returns
    -------
    float
        (‖A‖ + ‖A′‖)·‖A − A′‖_F with A = F diag(√a) and spectral norms, in units of C. O(t n min(t, n)); no matrix C is formed.

    Raises
    ------
    TypeError
        If the space is no GramSpace.
    ValueError
        If k is below 1.
    """
    if not isinstance(x, GramSpace):
        raise TypeError(f"x must be a gwtools.GramSpace, but is {x!r}: pass the factor whose rows are truncated.")
    _check.number(k, "k", least=1)
    wide = _wide(x)
    factor, xp = wide.data, _array.namespace(wide.data)
    # The place of each value in its row, the largest first.
    places = xp.argsort(xp.argsort(factor, axis=1, descending=True), axis=1)
    whole = factor * xp.sqrt(wide.weights)[None, :]
    kept = xp.where(places < k, whole, xp.zeros_like(whole))
    cut = float(xp.linalg.vector_norm(whole - kept))
    return (_spectral_norm(whole) + _spectral_norm(kept)) * cut


def subsampling(x: Any, index: Array, weights: Array = None) -> float:
    """Bound the move of GW_2 when a space is replaced by some of its atoms: the cost of a coupling (theorem 6 b).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms.
    index : integer array of shape (m,)
        The atoms kept, as drawn: they may repeat.
    weights : array of shape (m,), optional
        Their new probability weights; uniform by default.

    Returns
    -------
    float
        The root of the objective of a coupling that sends each atom to atoms whose rows of C are near its own, in units of C.
        O(n² m) and one linear program.

    Raises
    ------
    TypeError, ValueError
        If the weights are not those of a space of m atoms.
    """
    given = as_space(x, "x")
    part = given.restrict(index)
    part = _wide(part.with_data(part.data, _check.weights(weights, given.weights, part.size)))
    x = _wide(given)
    C, a = x.dense(), x.weights
    kept = _array.namespace(a).take(C, index, axis=0)
    apart = (C**2 @ a)[:, None] + (kept**2 @ a)[None, :] - 2 * (C * a[None, :]) @ kept.T
    vertex = exact(_array.to_numpy(apart), _array.to_numpy(a), _array.to_numpy(part.weights)).plan
    rows, cols, mass = (_array.from_numpy(values, a) for values in (vertex.rows, vertex.cols, vertex.mass))
    return math.sqrt(float(GWProblem(x, part).objective(SparsePlan(rows, cols, mass, vertex.size))))


def sampling(x: Any, draws: int, failure: float = 0.05, p: float = 2.0) -> float:
    """Bound the move of GW_p when a space is replaced by independent draws of its atoms, with high probability (theorem 6 f).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    float
        In units of C; a statement before drawing, useful where draws are many times n. After drawing, :func:`subsampling` is
        sharper, and certain.

    Raises
    ------
    ValueError
        If ``draws`` is below 1, ``failure`` not between 0 and 1 or p below 1.
    """
    x = _wide(x)
    _check_draws(draws, failure)
    _check.number(p, "p", least=1.0)
    atoms = int(np.count_nonzero(_array.to_numpy(x.weights)))
    missing = 0.5 * math.sqrt((atoms - 1) / draws) + math.sqrt(math.log(1 / failure) / (2 * draws))
    missing = min(missing, 1.0)
    return _oscillation(x) * math.pow(2 * missing - missing**2, 1.0 / p)


def row_means_sampling(x: Any, draws: int, failure: float = 0.05) -> float:
    """Bound the move of ``bounds.row_means(p=1)`` under independent draws, with high probability (theorem 6 f).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.

    Returns
    -------
    float
        In units of C, of order draws^(−1/2) whatever n is.

    Raises
    ------
    ValueError
        If ``draws`` is below 1 or ``failure`` not between 0 and 1.
    """
    x = _wide(x)
    _check_draws(draws, failure)
    share = 1 / math.sqrt(draws) + 1 / draws + math.sqrt(2 * math.log(1 / failure) / draws)
    return _oscillation(x) * min(share, 1.0)


def _wide(x: Any) -> Space:
    return converted(as_space(x, "x"), _array.widen)


def _same_atoms(x: Any, x2: Any) -> tuple[Space, Space]:
    x, x2 = _wide(x), _wide(as_space(x2, "x2"))
    _check.same_library(x.weights, x2.weights, "x", "x2")
    _check.same_weights(x.weights, x2.weights, "x2", "x")
    return x, x2


def _check_draws(draws: int, failure: float) -> None:
    _check.number(draws, "draws", least=1)
    _check.number(failure, "failure", above=0.0, below=1.0)


def _stored_values_moved(x: Space, relative: float, absolute: float) -> float:
    """Bound ‖C − C′‖_2 where every stored value v moves by at most relative · |v| + absolute."""
    if isinstance(x, DenseSpace | GraphSpace):
        # A shortest path has at most one edge fewer than the graph has nodes.
        edges = x.adjacency.shape[0] - 1 if isinstance(x, GraphSpace) else 1
        return relative * math.sqrt(float(x.second_moment())) + edges * absolute
    xp, a = _array.namespace(x.weights), x.weights
    vectors = x.data.T if isinstance(x, GramSpace) else x.data
    lengths = xp.sqrt(xp.sum(vectors**2, axis=1))
    moved = relative * lengths + math.sqrt(vectors.shape[1]) * absolute
    if isinstance(x, GramSpace):
        moves, sizes = (math.sqrt(float(a @ v**2)) for v in (moved, lengths))
        return 2 * moves * sizes + moves**2
    if isinstance(x, PointCloud) and x.metric == "sqeuclidean":
        farthest = float(xp.max(moved))
        return 4 * farthest * (math.sqrt(float(x.mean)) + farthest)
    return math.sqrt(2 * float(a @ moved**2) + 2 * float(a @ moved) ** 2)


def _spectral_norm(matrix: Array) -> float:
    """Largest singular value, from the smaller of the two products with the transpose."""
    square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(float(_array.eigenvalues(square)[-1]), 0.0))


def _oscillation(x: Space) -> float:
    """Return max C − min C over the atoms of positive weight, in units of C."""
    xp = _array.namespace(x.weights)
    x = x.restrict(xp.nonzero(x.weights > 0)[0])
    extremes = [(float(xp.max(rows)), float(xp.min(rows))) for rows in (x.rows(i, j) for i, j in x.blocks())]
    return max(top for top, _ in extremes) - min(bottom for _, bottom in extremes)
