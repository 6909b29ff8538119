"""Stability: bounds of the change of GW distances when a space is perturbed, quantized, converted, truncated or sampled.

By theorem 6 of THEORY.md. Every function returns a bound in units of C, computed in
float64 and rounded up: it holds for the stored values and the exactly normalised
weights, over the whole range of float64. It bounds |GW(C, D) − GW(C′, D)| for every
space D, hence also GW(C, C′), for the *distance*: where that moves by at most δ, GW_2²
moves by at most δ (2 GW_2 + δ). Where the atoms stay, the roots of the bounds of
theorems 1, 3, 4 and 7 move by no more. What holds for p = 2 holds for every p in [1,
2]. Weights stay exact.

Examples
--------
What storing a cloud in float32 instead of float64 can change any distance from it by.

>>> import numpy as np, gwtools as gw
>>> x = gw.PointCloud(
...     np.array([[0.0, 0.1], [0.7, 0.0], [1.3, 0.9]]),
...     weights=np.array([0.5, 0.25, 0.25]),
... )
>>> bound = gw.stability.rounding(x, "float32")
>>> stored = gw.PointCloud(x.points.astype("float32").astype("float64"), x.weights)
>>> 0 < gw.stability.perturbation(x, stored) <= bound < 1e-6
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.bounds.float_error import eigenvalue_error, gamma, radii
from gwtools.certify import coupling_distance
from gwtools.plans import SparsePlan
from gwtools.problems import restrict_to_support
from gwtools.spaces import (
    DenseSpace,
    GramSpace,
    GraphSpace,
    PointCloud,
    Space,
    as_space,
    converted,
)
from gwtools.spaces.base import copy_unchecked
from gwtools.transport.programs import exact

__all__ = [
    "perturbation",
    "quantization",
    "rounding",
    "row_means_perturbation",
    "row_means_sampling",
    "sampling",
    "subsampling",
    "truncation",
]

# Unit roundoff of a conversion to nearest, and half the smallest subnormal.
_PRECISIONS = {
    "bfloat16": (2.0**-8, 2.0**-134),
    "float16": (2.0**-11, 2.0**-25),
    "float32": (2.0**-24, 2.0**-150),
    "float64": (2.0**-53, 0.0),  # 2⁻¹⁰⁷⁵ is below every float
}
_TINY = 2.0**-1070  # more than what a few numbers lose below the normal ones
_SAFE = 200  # exponents of C whose squares neither over- nor underflow
_NOTHING = -10_000  # exponent of zero


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
        In units of C, rounded up: for stored matrices by a few n units in the last
        place, so that equal ones give 0; else also by the float errors of the entries
        of C. O(n²) time, O(n) memory.

    Raises
    ------
    TypeError
        If the spaces differ in array library or device.
    ValueError
        If they differ in size or weights, p is below 1, or values of C or the bound are
        beyond the range of float64.

    Examples
    --------
    All distances a quarter longer: the distance between the two spaces is just what the
    bound allows.

    >>> import numpy as np, gwtools as gw
    >>> C, a = (
    ...     np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]),
    ...     np.array([0.5, 0.25, 0.25]),
    ... )
    >>> x, x2 = gw.DenseSpace(C, a), gw.DenseSpace(1.25 * C, a)
    >>> (
    ...     round(gw.stability.perturbation(x, x2), 4),
    ...     round(float(gw.solve(x, x2).distance), 4),
    ... )
    (0.433, 0.433)
    """
    x, x2 = _same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    return _moved(x, x2, x.weights, p)


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
        In units of C, rounded up; up to float error never above :func:`perturbation`,
        and the cost is that of the row means.

    Raises
    ------
    TypeError, ValueError
        As :func:`perturbation`.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> C, a = (
    ...     np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]),
    ...     np.array([0.5, 0.25, 0.25]),
    ... )
    >>> x, x2 = gw.DenseSpace(C, a), gw.DenseSpace(1.25 * C, a)
    >>> (
    ...     round(gw.stability.row_means_perturbation(x, x2), 4),
    ...     round(gw.stability.perturbation(x, x2), 4),
    ... )
    (0.3307, 0.433)
    """
    x, x2 = _same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    (x, x2), exponent = _scaled(x, x2)
    a, terms = x.weights, _terms(x.size)
    if x.low_rank is not None and x2.low_rank is not None:
        moved = _array.namespace(a).abs(x.row_means - x2.row_means)
        off = radii(x).row_means + radii(x2).row_means
    else:
        moved = _array.joined(
            [_means_above(x.rows(i, j) - x2.rows(i, j), a) for i, j in x.blocks()]
        )
        off = _entries_off(x) + _entries_off(x2)
    return _up(_norm(moved, lambda powers: a @ powers, p, terms) + off, 8, exponent)


def quantization(x: Any, step: float) -> float:
    """Bound the move of GW_2 when the stored values are quantized to the nearest multiple of ``step`` (theorem 6 d).

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
    >>> C, a = (
    ...     np.array([[0.0, 1.2, 2.9], [1.2, 0.0, 2.1], [2.9, 2.1, 0.0]]),
    ...     np.array([0.5, 0.25, 0.25]),
    ... )
    >>> moved = gw.stability.perturbation(
    ...     gw.DenseSpace(C, a), gw.DenseSpace(np.round(2 * C) / 2, a)
    ... )
    >>> (
    ...     round(gw.stability.quantization(gw.DenseSpace(C, a), step=0.5), 4),
    ...     round(moved, 4),
    ... )
    (0.25, 0.1173)
    """
    _check.number(step, "step", above=0.0)
    return _stored_values_moved(_wide(x), 0.0, step / 2)


def rounding(x: Any, dtype: Any) -> float:
    """Bound the move of GW_2 when the stored values are converted to a lower precision (theorem 6 e).

    "Rounding" is that of a conversion between dtypes, to nearest.

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
    >>> [
    ...     f"{gw.stability.rounding(towns, dtype):.1e}"
    ...     for dtype in ("float32", "bfloat16")
    ... ]
    ['1.0e-07', '6.8e-03']
    """
    name = getattr(dtype, "__name__", str(dtype)).rpartition(".")[2]
    _check.choice(name, "dtype", _PRECISIONS)
    return _stored_values_moved(_wide(x), *_PRECISIONS[name])


def truncation(x: GramSpace, k: int) -> float:
    """Bound the move of GW_2 when each row of the factor keeps its k largest values, the others becoming zero (theorem 6 c).

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
    _check.instance(
        x,
        "x",
        GramSpace,
        "pass the factor whose rows are truncated, as gwtools.GramSpace(factor)",
    )
    _check.integer(k, "k", least=1)
    (wide,), exponent = _scaled(_wide(x))
    factor, a, xp = wide.data, wide.weights, _array.namespace(wide.data)
    # The rank of each value in its row, the largest first.
    ranks = xp.argsort(xp.argsort(factor, axis=1, descending=True), axis=1)
    nothing = xp.zeros_like(factor)
    kept, cut = (
        xp.where(ranks < k, factor, nothing),
        xp.where(ranks < k, nothing, xp.abs(factor)),
    )
    moved = _norm(
        cut, lambda powers: xp.sum(powers @ a), 2.0, _terms(sum(factor.shape))
    )
    return _up(
        (_spectral_norm(factor, a) + _spectral_norm(kept, a)) * moved, 8, exponent
    )


def subsampling(x: Any, index: Array, weights: Array = None) -> float:
    """Bound the move of GW_2 when a space is replaced by some of its atoms: the cost of a coupling (theorem 6 f 0).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms.
    index : integer array of shape (m,)
        The atoms kept, as drawn: they may repeat. Of the array library and on the
        device of the space.
    weights : array of shape (m,), optional
        Their new probability weights; uniform by default.

    Returns
    -------
    float
        The root of the objective of a coupling that sends each atom to atoms whose rows
        of C are near its own, in units of C, rounded up; it includes what the computed
        coupling may miss of its marginals. O(n² m) and one linear program.

    Raises
    ------
    TypeError, ValueError
        If the index holds anything but positions of the n atoms, the weights are not
        those of a space of m atoms, or values of C or the bound are beyond the range of
        float64.

    Examples
    --------
    Two pairs of near points, and one point kept of each.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [0.1], [3.0], [3.1]]),
    ...     weights=np.array([0.3, 0.2, 0.25, 0.25]),
    ... )
    >>> kept = np.array([0, 2])
    >>> bound = gw.stability.subsampling(x, kept, weights=np.array([0.5, 0.5]))
    >>> (
    ...     round(bound, 4),
    ...     round(float(gw.solve(x, gw.PointCloud(x.points[kept])).distance), 4),
    ... )
    (0.0704, 0.0704)
    """
    given = as_space(x, "x")
    _check.indices(index, "index", given.size)
    _check.same_library(index, given.weights, "index", "the space")
    part = given.restrict(index)
    part = _wide(
        part.with_data(
            part.data, _check_spaces.weights(weights, given.weights, part.size)
        )
    )
    (x, part), exponent = _scaled(_wide(given), part, squares=True)
    xp, a = _array.namespace(x.weights), x.weights
    # 1. Squared distances of rows, in units in which no square over- or underflows.
    C, _ = _near_one(x.dense())
    chosen, (x, atoms), (part, drawn) = (
        xp.take(C, index, axis=0),
        restrict_to_support(x),
        restrict_to_support(part),
    )
    rows, chosen = (
        v if k is None else xp.take(v, k, axis=0)
        for v, k in ((C, atoms), (chosen, drawn))
    )
    distances = (
        (rows**2 @ a)[:, None]
        + (chosen**2 @ a)[None, :]
        - 2 * (rows * a[None, :]) @ chosen.T
    )
    # 2. A coupling of near rows: whatever it is, it bounds the distance (theorem 13 g).
    vertex = exact(
        _array.to_numpy(distances),
        _array.to_numpy(x.weights),
        _array.to_numpy(part.weights),
    ).plan
    to, onto, mass = (
        _array.from_numpy(values, x.weights)
        for values in (vertex.rows, vertex.cols, vertex.mass)
    )
    return _up(
        coupling_distance(x, part, SparsePlan(to, onto, mass, vertex.size)), 8, exponent
    )


def sampling(x: Any, draws: int, failure: float = 0.05, p: float = 2.0) -> float:
    """Bound the move of GW_p when a space is replaced by independent draws of its atoms, with high probability (theorem 6 f).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space
        is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    float
        In units of C, rounded up; a statement before drawing, useful where draws are
        many times n. After drawing,
        :func:`subsampling` is sharper, and certain.

    Raises
    ------
    ValueError
        If ``draws`` is below 1, ``failure`` not between 0 and 1 or p below 1, or values
        of C are beyond the range of float64.

    Examples
    --------
    Four times as many draws halve what may be missed, as long as they are many.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> [round(gw.stability.sampling(x, draws, p=1.0), 4) for draws in (10_000, 40_000)]
    [0.1147, 0.0576]
    """
    (x,), exponent = _scaled(_wide(x))
    _check_draws(draws, failure)
    _check.number(p, "p", least=1.0)
    atoms = int(np.count_nonzero(_array.to_numpy(x.weights)))
    missing = 0.5 * math.sqrt((atoms - 1) / draws) + math.sqrt(
        -math.log(failure) / (2 * draws)
    )
    missing = min(missing, 1.0)
    share = missing * (2 - missing)
    return _up(
        _oscillation(x) * math.pow(share, 1.0 / p),
        32 + _terms_of_root(share, p),
        exponent,
    )


def row_means_sampling(x: Any, draws: int, failure: float = 0.05) -> float:
    """Bound the move of ``bounds.row_means(p=1)`` under independent draws, with high probability (theorem 6 f).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space
        is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.

    Returns
    -------
    float
        In units of C, rounded up, of order draws^(−1/2) whatever n is.

    Raises
    ------
    ValueError
        If ``draws`` is below 1 or ``failure`` not between 0 and 1, or values of C are
        beyond the range of float64.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> [
    ...     round(gw.stability.row_means_sampling(x, draws), 4)
    ...     for draws in (10_000, 40_000)
    ... ]
    [0.1037, 0.0518]
    """
    (x,), exponent = _scaled(_wide(x))
    _check_draws(draws, failure)
    share = 1 / math.sqrt(draws) + 1 / draws + math.sqrt(-2 * math.log(failure) / draws)
    return _up(_oscillation(x) * min(share, 1.0), 32, exponent)


def _wide(x: Any) -> Space:
    return converted(as_space(x, "x"), _array.widen)


def _same_atoms(x: Any, x2: Any) -> tuple[Space, Space]:
    x, x2 = _wide(x), _wide(as_space(x2, "x2"))
    _check.same_library(x.weights, x2.weights, "x", "x2")
    _check_spaces.same_weights(x.weights, x2.weights, "x2", "x")
    # Atoms without weight do not count, and the weights of x are those of both, which
    # are equal up to float error only.
    x, atoms = restrict_to_support(x)
    x2 = x2 if atoms is None else x2.restrict(atoms)
    return x, x2.with_data(x2.data, x.weights)


def _check_draws(draws: int, failure: float) -> None:
    _check.integer(draws, "draws", least=1)
    _check.number(failure, "failure", above=0.0, below=1.0)


def _stored_values_moved(x: Space, relative: float, absolute: float) -> float:
    """Bound ‖C − C′‖_2 where every stored value v moves by at most relative · |v| + absolute."""
    _check_spaces.stored_values(x, (DenseSpace, GraphSpace, GramSpace, PointCloud), "x")
    (scaled,), exponent = _scaled(restrict_to_support(x)[0])
    x, terms = restrict_to_support(x)[0], _terms(x.size)
    if isinstance(x, DenseSpace | GraphSpace):
        # A shortest path has at most one edge fewer than the graph has nodes.
        edges = x.adjacency.shape[0] - 1 if isinstance(x, GraphSpace) else 1
        size = (
            _up(_size(scaled) + _entries_off(scaled), 4, exponent) if relative else 0.0
        )
        return _up(relative * size + edges * absolute, 8)
    xp, a = _array.namespace(x.weights), x.weights
    vectors = x.data.T if isinstance(x, GramSpace) else x.data
    terms += vectors.shape[1]
    lengths = _lengths(vectors)
    moved = relative * lengths + math.sqrt(vectors.shape[1]) * absolute
    mean_square, mean = (
        _norm(moved, lambda powers: a @ powers, p, terms) for p in (2.0, 1.0)
    )
    if isinstance(x, GramSpace):
        return _product(
            mean_square,
            2 * _norm(lengths, lambda powers: a @ powers, 2.0, terms) + mean_square,
        )
    if isinstance(x, PointCloud) and x.metric == "sqeuclidean":
        farthest = _up(float(xp.max(moved)), terms)
        return _product(
            4 * farthest, _up(_root_of_mean(scaled), 4, exponent // 2) + farthest
        )
    return _up(math.sqrt(2.0) * math.hypot(mean_square, mean), 8)


def _root_of_mean(x: Space) -> float:
    """Bound √m_C of squared distances: the root of twice the mean square of the points about any centre."""
    form: Any = x.low_rank
    a, off = x.weights, float(gamma(8)) * math.sqrt(x.largest())
    return (
        _norm(
            _lengths(form.factor),
            lambda powers: a @ powers,
            2.0,
            _terms(x.size + form.rank),
        )
        + off
    )


def _size(x: Space) -> float:
    """Bound ‖C‖_2 of the rows as computed."""
    xp, a, terms = _array.namespace(x.weights), x.weights, _terms(x.size)
    return _joint(
        [
            _block_norm(xp.abs(x.rows(i, j)), a[i:j], a, 2.0, terms)
            for i, j in x.blocks()
        ],
        2.0,
    )


def _moved(x: Space, x2: Space, weights: Array, p: float) -> float:
    """Bound (Σ w_i w_k |C_ik − C′_ik|^p)^(1/p) for weights w (n,) that sum to 1 up to float error."""
    (x, x2), exponent = _scaled(x, x2)
    xp, terms = _array.namespace(weights), _terms(x.size)
    norms = [
        _block_norm(
            xp.abs(x.rows(i, j) - x2.rows(i, j)), weights[i:j], weights, p, terms
        )
        for i, j in x.blocks()
    ]
    return _up(_joint(norms, p) + _entries_off(x) + _entries_off(x2), 8, exponent)


def _block_norm(
    values: Array, left: Array, right: Array, p: float, terms: int
) -> float:
    """Bound (Σ left_i right_k values_ik^p)^(1/p)."""
    return _norm(values, lambda powers: left @ (powers @ right), p, terms)


def _joint(norms: list[float], p: float) -> float:
    """Bound (Σ norms_k^p)^(1/p)."""
    top = max(norms)
    if len(norms) == 1 or top == 0.0:
        return top
    total = math.fsum((v / top) ** p for v in norms)
    return _up(top * total ** (1 / p), 16 + _terms_of_root(total, p))


def _norm(
    values: Array, weigh: Callable[[Array], Array], p: float, terms: int
) -> float:
    """Bound the p-th root of weighted p-th powers of values ≥ 0, whose sum has a relative float error of at most γ_terms.

    Powers are taken of values up to 1, the largest above 1/2; what underflows is paid
    in full.
    """
    scaled, exponent = _near_one(values)
    if exponent == _NOTHING:
        return 0.0
    total = (
        _array.number(weigh(scaled if p == 1 else scaled**p))
        + math.prod(values.shape) * 2.0**-1074
    )
    return _up(math.pow(total, 1.0 / p), terms + _terms_of_root(total, p), exponent)


def _terms_of_root(power: float, p: float) -> float:
    """Index of γ for the float error of 1/p in a p-th root: |ln power| u / p, none where 1/p is exact."""
    return 0.0 if p in (1, 2) or power == 0.0 else abs(math.log(power)) / p


def _means_above(differences: Array, a: Array) -> Array:
    """Bound |Σ_k a_k differences_ik| for every row."""
    xp, n = _array.namespace(a), int(a.shape[0])
    differences, exponent = _near_one(differences)
    if exponent == _NOTHING:
        return xp.zeros_like(differences[:, 0])
    means = (
        xp.abs(differences @ a)
        + gamma(_terms(n)) * (xp.abs(differences) @ a)
        + n * 2.0**-1074
    )
    return _times(means, exponent)


def _lengths(vectors: Array) -> Array:
    """Return the Euclidean length of every row, in units in which squares neither over- nor underflow."""
    xp = _array.namespace(vectors)
    largest = xp.max(xp.abs(vectors), axis=1)
    unit = xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(xp.sum((vectors / unit[:, None]) ** 2, axis=1))


def _spectral_norm(factor: Array, weights: Array) -> float:
    """Bound the largest singular value of F diag(√a), from the smaller of the two products with the transpose."""
    matrix = factor * _array.namespace(factor).sqrt(weights)[None, :]
    square = _array.to_numpy(
        matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    )
    values, vectors = np.linalg.eigh((square + square.T) / 2)
    # What the eigensolver missed, and the float error of the product, whose terms are
    # at most ‖A‖_F² in the Frobenius norm.
    error = eigenvalue_error(square, values, vectors)[0] + gamma(
        _terms(sum(matrix.shape))
    ) * float(np.trace(square))
    return float(math.sqrt(max(float(values[-1]), 0.0) + error) * (1 + gamma(4)))


def _oscillation(x: Space) -> float:
    """Bound max C − min C over the atoms of positive weight, in units of C."""
    xp = _array.namespace(x.weights)
    x = restrict_to_support(x)[0]
    extremes = [
        (float(xp.max(rows)), float(xp.min(rows)))
        for rows in (x.rows(i, j) for i, j in x.blocks())
    ]
    width = max(top for top, _ in extremes) - min(bottom for _, bottom in extremes)
    return _up(width + 2 * _entries_off(x), 4)


def _entries_off(x: Space) -> float:
    """How far a computed entry of C may be from the exact one: 0 for stored matrices.

    Squares of coordinates may also underflow under the root of a distance.
    """
    largest = x.largest() if x.float_operations else 0.0
    return (
        gamma(x.float_operations) * largest + math.sqrt(x.float_operations) * 2.0**-537
        if largest
        else 0.0
    )


def _terms(size: int) -> int:
    """Index of γ for sums over two indices with weights: 2n, twice the 4n of the weights, and some single operations."""
    return 10 * size + 64


def _scaled(*spaces: Space, squares: bool = False) -> tuple[tuple[Space, ...], int]:
    """Return spaces with C divided by one power of four, and the exponent of two of that power.

    Squares of their values neither over- nor underflow. Stored matrices are left as
    they are unless their differences overflow, or ``squares`` of them are needed.
    """
    sizes = [_exponent_of_values(space) for space in spaces]
    top, dense = (
        max(sizes),
        all(isinstance(space, DenseSpace) for space in spaces) and not squares,
    )
    near = top <= 1023 if dense else abs(top) < _SAFE or top <= _NOTHING
    half = 0 if near else 1 if dense else -(-top // 2)
    scaled = spaces if near else tuple(_divided(space, half) for space in spaces)
    for space in scaled:
        _in_range(space.largest(), 2 * half, "C")
    return scaled, 2 * half


def _divided(space: Space, half: int) -> Space:
    """Return the space with C divided by 4^half."""
    if isinstance(space, GramSpace) or (
        isinstance(space, PointCloud) and space.metric == "sqeuclidean"
    ):
        return space.with_data(_times(space.data, -half), space.weights)
    if isinstance(space, DenseSpace | GraphSpace | PointCloud):
        return space.with_data(_times(space.data, -2 * half), space.weights)
    # Of other kinds it is not known how C depends on the stored values; the power alone
    # may overflow.
    first = half // 2
    return space.scaled(4.0**-first).scaled(4.0 ** (first - half))


def _exponent_of_values(space: Space) -> int:
    """Return e with the largest |C_ik| about 2^e, from stored values that need not be squared."""
    if isinstance(space, GramSpace):
        xp = _array.namespace(space.data)
        return 2 * _exponent(_array.number(xp.max(xp.abs(space.data))))
    if isinstance(space, PointCloud):
        exponent = _exponent(copy_unchecked(space, metric="euclidean").largest())
        return exponent if space.metric == "euclidean" else 2 * exponent
    return _exponent(space.largest())


def _exponent(size: float) -> int:
    """Return e with a size in [2^(e−1), 2^e)."""
    _in_range(size, 0, "C")
    return math.frexp(size)[1] if size else _NOTHING


def _near_one(values: Array) -> tuple[Array, int]:
    """Return values divided by a power of two, the largest in [1/2, 1), and its exponent."""
    xp = _array.namespace(values)
    exponent = _exponent(_array.number(xp.max(xp.abs(values))))
    return (
        (values, exponent)
        if exponent == _NOTHING
        else (_times(values, -exponent), exponent)
    )


def _times(values: Array, exponent: int) -> Array:
    """Multiply by a power of two, in two steps, as the power alone may overflow."""
    half = exponent // 2
    return values if exponent == 0 else values * 2.0**half * 2.0 ** (exponent - half)


def _product(first: float, second: float) -> float:
    """Bound a product of two numbers ≥ 0, whose parts may be farther apart than the range of float64."""
    (one, exponent), (other, exponent2) = math.frexp(first), math.frexp(second)
    return _up(one * other, 16, exponent + exponent2)


def _up(value: float, terms: float, exponent: int = 0) -> float:
    """Enlarge a number ≥ 0 that is known up to γ_terms and multiply it by a power of two; 0 stays 0."""
    if value == 0.0:
        return 0.0
    value *= 1 + gamma(terms)
    _in_range(value, exponent, "the bound")
    # In the normal range the last term vanishes beside the enlargement.
    return math.ldexp(value, exponent) + _TINY


def _in_range(value: float, exponent: int, name: str) -> None:
    """Require that a number times a power of two is a float64."""
    _check.within_range(
        math.isfinite(value) and math.frexp(value)[1] + exponent <= 1024, name
    )
