"""Stability under changes of the stored values: quantization, dtypes, truncation.

Stored values are the entries of C, the coordinates of points, the columns of a factor
or the lengths of edges (theorem 6 c to e).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.bounds.float_error import eigenpair_error, gamma
from gwtools.preparation import restrict_to_support
from gwtools.spaces import DenseSpace, GramSpace, GraphSpace, PointCloud, Space
from gwtools.stability.norms import (
    lengths_of_rows,
    norm_above,
    norm_of_space,
    radius_of_entries,
    terms_of_sums,
)
from gwtools.stability.units import (
    in_float64,
    in_safe_units,
    product_rounded_up,
    rounded_up,
)

# Unit roundoff of a conversion to nearest, and half the smallest subnormal.
_PRECISIONS = {
    "bfloat16": (2.0**-8, 2.0**-134),
    "float16": (2.0**-11, 2.0**-25),
    "float32": (2.0**-24, 2.0**-150),
    "float64": (2.0**-53, 0.0),  # 2⁻¹⁰⁷⁵ is below every float
}
# Of other kinds it is not known how C depends on the stored values.
_KINDS = (DenseSpace, GraphSpace, GramSpace, PointCloud)


def quantization(x: Any, step: float) -> float:
    """Bound the move of GW_2 when stored values are quantized (theorem 6 d).

    Every stored value becomes the nearest multiple of ``step``.

    Parameters
    ----------
    x : Space or square array
        The space before quantization. Its stored values are the entries of C, the
        coordinates, the factor or the edge lengths.
    step : float
        Distance between the allowed values, in units of what is stored; half the move
        of a quantization downwards.

    Returns
    -------
    float
        In units of C, rounded up: step/2 for entries of C.

    Raises
    ------
    TypeError
        If the space is of none of gwtools' kinds.
    ValueError
        If the step is not positive, or values of C or the bound are beyond the range of
        float64.

    Examples
    --------
    Distances kept to the nearest half: what is bounded, and how much these three moved.

    >>> import numpy as np, gwtools as gw
    >>> C = np.array([[0.0, 1.2, 2.9], [1.2, 0.0, 2.1], [2.9, 2.1, 0.0]])
    >>> a = np.array([0.5, 0.25, 0.25])
    >>> x = gw.DenseSpace(C, a)
    >>> halves = gw.DenseSpace(np.round(2 * C) / 2, a)
    >>> round(gw.stability.quantization(x, step=0.5), 4)
    0.25
    >>> round(gw.stability.perturbation(x, halves), 4)
    0.1173
    """
    _check.number(step, "step", above=0.0)
    x = in_float64(x)
    return _stored_values_moved(x, relative=0.0, absolute=step / 2)


def rounding(x: Any, dtype: Any) -> float:
    """Bound the move of GW_2 when stored values are converted to a lower precision.

    "Rounding" is that of a conversion between dtypes, to nearest (theorem 6 e).

    Parameters
    ----------
    x : Space or square array
        The space before the conversion; none of its stored values may overflow.
    dtype : {"bfloat16", "float16", "float32", "float64"} or a dtype of that name
        The precision that stored values are converted to, to nearest.

    Returns
    -------
    float
        In units of C, rounded up: u‖C‖ for entries of C, u the unit roundoff, as long
        as none is subnormal. For clouds it depends on where the origin is, as the
        conversion does.

    Raises
    ------
    TypeError
        If the space is of none of gwtools' kinds.
    ValueError
        If the dtype is none of these, or values of C or the bound are beyond the range
        of float64.

    Examples
    --------
    How far storage in float32, and in bfloat16, can move any distance from a space, in
    units of C.

    >>> import numpy as np, gwtools as gw
    >>> hours = np.array([[0.0, 1.2, 2.9], [1.2, 0.0, 2.1], [2.9, 2.1, 0.0]])
    >>> towns = gw.DenseSpace(hours, weights=np.array([0.5, 0.25, 0.25]))
    >>> print(f"{gw.stability.rounding(towns, 'float32'):.1e}")
    1.0e-07
    >>> print(f"{gw.stability.rounding(towns, 'bfloat16'):.1e}")
    6.8e-03
    """
    full_name = getattr(dtype, "__name__", str(dtype))
    name = full_name.rpartition(".")[2]  # torch.float32 is "torch.float32"
    _check.choice(name, "dtype", _PRECISIONS)
    roundoff, smallest = _PRECISIONS[name]
    x = in_float64(x)
    return _stored_values_moved(x, relative=roundoff, absolute=smallest)


def truncation(x: GramSpace, k: int) -> float:
    """Bound the move of GW_2 when each row of a factor keeps its k largest values.

    The other values become zero (theorem 6 c).

    Parameters
    ----------
    x : GramSpace
        C = FᵀF of a factor of shape (t, n): for logits H of t positions, F = H/√t. Of
        equal values the first are kept.
    k : int
        Values kept in a row.

    Returns
    -------
    float
        (‖A‖ + ‖A′‖)·‖A − A′‖_F with A = F diag(√a) and spectral norms, in units of C,
        rounded up; 0 where nothing is cut. O(t n min(t, n)); no matrix C is formed.

    Raises
    ------
    TypeError
        If the space is no GramSpace.
    ValueError
        If k is below 1, or values of C or the bound are beyond the range of float64.

    Examples
    --------
    Three positions of logits over four tokens: what the graph on the two largest of
    each position can miss.

    >>> import numpy as np, gwtools as gw
    >>> logits = np.array(
    ...     [[4.0, 1.0, 0.5, 0.0], [0.0, 3.0, 1.0, 0.5], [2.0, 0.0, 0.5, 3.0]]
    ... )
    >>> x = gw.GramSpace(logits / 3**0.5, weights=np.array([0.4, 0.2, 0.2, 0.2]))
    >>> [round(gw.stability.truncation(x, k), 4) for k in (2, 3, 4)]
    [0.7613, 0.0, 0.0]
    """
    remedy = "pass the factor whose rows are truncated, as gwtools.GramSpace(factor)"
    _check.instance(x, "x", GramSpace, remedy)
    _check.integer(k, "k", least=1)
    wide = in_float64(x)
    (wide,), exponent = in_safe_units(wide)
    factor = wide.data  # (t, n)
    a = wide.weights
    xp = _array.namespace(factor)
    # 1. The rank of each value in its row, the largest first: by value, not by size,
    # as a model's likely tokens are those of the largest logits.
    order = xp.argsort(factor, axis=1, descending=True)
    is_kept = xp.argsort(order, axis=1) < k
    # 2. ‖A − A′‖_F, the weighted norm of what is cut.
    nothing = xp.zeros_like(factor)
    kept = xp.where(is_kept, factor, nothing)
    cut = xp.where(is_kept, nothing, xp.abs(factor))
    terms = terms_of_sums(sum(factor.shape))
    norm_of_cut = norm_above(cut, 2.0, terms, columns=a)
    # 3. Its product with the spectral norms.
    norms = _spectral_norm(factor, a) + _spectral_norm(kept, a)
    bound = norms * norm_of_cut
    return rounded_up(bound, 8, exponent)


def _spectral_norm(factor: Array, weights: Array) -> float:
    """Bound the largest singular value of A = F diag(√a)."""
    xp = _array.namespace(factor)
    A = factor * xp.sqrt(weights)[None, :]
    # 1. ‖A‖² is the largest eigenvalue of either product; the smaller one is cheaper.
    t, n = A.shape
    product = A @ A.T if t <= n else A.T @ A
    square = _array.to_numpy(product)
    symmetric = (square + square.T) / 2
    values, vectors = np.linalg.eigh(symmetric)
    largest = max(float(values[-1]), 0.0)
    # 2. What the eigensolver missed (theorem 13 e).
    missed, _ = eigenpair_error(square, values, vectors)
    # 3. The float error of the product: ‖|A||A|ᵀ‖_F is at most ‖A‖_F², its trace.
    trace = float(np.trace(square))
    product_error = gamma(terms_of_sums(t + n)) * trace
    root = math.sqrt(largest + (missed + product_error))
    return float(root * (1 + gamma(4)))


def _stored_values_moved(
    x: Space,
    relative: float,
    absolute: float,
) -> float:
    """Bound ‖C − C′‖_2 where stored values v move by up to relative·|v| + absolute.

    The formulas are those of theorem 6 d, with u = relative and η = absolute.
    """
    _check_spaces.stored_values(x, _KINDS, "x")
    terms = terms_of_sums(x.size)
    x, _ = restrict_to_support(x)
    # For ‖C‖ and m_C alone; all else is computed of the values as they are stored.
    (scaled,), exponent = in_safe_units(x)
    if isinstance(x, DenseSpace | GraphSpace):
        # ‖C‖ costs a pass over C, which a move that is absolute alone need not pay.
        norm = _norm_of_scaled(scaled, exponent) if relative else 0.0
        bound = relative * norm + _summands(x) * absolute
        return rounded_up(bound, 8)
    a = x.weights
    vectors = x.data.T if isinstance(x, GramSpace) else x.data  # (n, d)
    dimension = vectors.shape[1]
    terms += dimension
    # e, how far each vector may move, and its norm ‖e‖ = (Σ a_i e_i²)^½.
    lengths = lengths_of_rows(vectors)  # (n,)
    e = relative * lengths + math.sqrt(dimension) * absolute  # (n,)
    norm_of_e = norm_above(e, 2.0, terms, rows=a)
    if isinstance(x, GramSpace):
        # ⟨v_i + e_i, v_k + e_k⟩ − ⟨v_i, v_k⟩ has a norm of at most 2 ‖v‖ ‖e‖ + ‖e‖².
        norm_of_lengths = norm_above(lengths, 2.0, terms, rows=a)
        return product_rounded_up(norm_of_e, 2 * norm_of_lengths + norm_of_e)
    if isinstance(x, PointCloud) and x.metric == "sqeuclidean":
        xp = _array.namespace(a)
        # v = v_i − v_k moves by at most 2 max e, and |v|² by 4 max e (|v| + max e).
        farthest = rounded_up(float(xp.max(e)), terms)
        # Distances have half the exponent of their squares.
        root_of_mean = rounded_up(_root_of_mean_entry(scaled), 4, exponent // 2)
        return product_rounded_up(4 * farthest, root_of_mean + farthest)
    # Distances move by at most e_i + e_k, and Σ a_i a_k (e_i + e_k)² is twice the sum
    # of ‖e‖² and of the squared mean of e.
    mean_of_e = norm_above(e, 1.0, terms, rows=a)
    bound = math.sqrt(2.0) * math.hypot(norm_of_e, mean_of_e)
    return rounded_up(bound, 8)


def _norm_of_scaled(scaled: Space, exponent: int) -> float:
    """Bound ‖C‖_2 of a space whose C was divided by 2^exponent."""
    norm = norm_of_space(scaled) + radius_of_entries(scaled)
    return rounded_up(norm, 4, exponent)


def _summands(x: DenseSpace | GraphSpace) -> int:
    """Return how many stored values an entry of C is a sum of, at most."""
    if isinstance(x, GraphSpace):
        # A shortest path visits no node twice.
        nodes: int = x.adjacency.shape[0]
        return nodes - 1
    return 1


def _root_of_mean_entry(x: Space) -> float:
    """Bound √m_C of squared distances C."""
    # m_C, the mean of C, is twice the mean square of the points about their mean; about
    # the computed mean, or any other point, the mean square is no less. Rows of the
    # factor are √2 times the centred points.
    form: Any = x.low_rank
    lengths = lengths_of_rows(form.factor)
    terms = terms_of_sums(x.size + form.rank)
    norm = norm_above(lengths, 2.0, terms, rows=x.weights)
    error = float(gamma(8)) * math.sqrt(x.largest())
    return norm + error
