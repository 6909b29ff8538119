"""Certificates of many problems at once: the bounds and the rounding of :func:`gwtools.certify` at linear effort, in arrays.

Everything after the sums is arithmetic on NumPy arrays of shape (B,), by the formulas of :mod:`gwtools.bounds.float_error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Profile, profile
from gwtools.batch.lines import Atoms, comonotone, support, total
from gwtools.batch.stacks import Stack
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, Extent, Radii, gamma
from gwtools.certify import Certified, judged
from gwtools.results import Certificate, Kind
from gwtools.spaces import DenseSpace, Space


class Known(NamedTuple):
    """What is computed of B spaces for their certificates.

    Their profiles; the least and the largest C_ik and the largest |C_ik − C_ki|, shape (B,).
    """

    profile: Profile
    low: Array
    high: Array
    skew: Array


class Sides(NamedTuple):
    """B spaces with what their certificates need, all of shape (B,) but the profile.

    The profile, radii, sizes of parts, and how many roundings lie behind an entry.
    """

    profile: Profile
    radii: Radii
    extent: Extent
    roundings: NumpyArray


def known(fields: Sequence[Array]) -> Known:
    """Name the fields that :func:`read` returns."""
    size = len(Profile._fields)
    return Known(Profile(*fields[:size]), *fields[size:])


def read(s: Stack) -> tuple[Array, ...]:
    """Read what certificates need of a stack of matrices."""
    return (*profile(s), *s.extremes, s.skew)


def sides(spaces: Sequence[Space], of: Known) -> Sides:
    """Say how large the parts of spaces are and how far they may be from the exact ones (theorem 13 a and c)."""
    x, low, high = of.profile, _numpy(of.low), _numpy(of.high)
    sizes, roundings = (np.array([getattr(s, name) for s in spaces]) for name in ("size", "roundings"))
    skew = _numpy(of.skew) * np.array([isinstance(s, DenseSpace) for s in spaces])
    largest = np.maximum(high, -low) * (1 + gamma(roundings + 2))
    radii = float_error.dense_radii(sizes, weight_terms(x), roundings, largest, skew)
    mean, ends = _numpy(x.mean), _ends(x)
    extent = float_error.dense_extent(np.maximum(ends[1], -ends[0]), np.maximum(high - mean, mean - low), radii)
    return Sides(x, radii, extent, roundings)


def weight_terms(x: Profile) -> NumpyArray:
    """ω of each problem, from a sum that is itself rounded: see :func:`gwtools.bounds.float_error.weight_terms`."""
    sums = _numpy(_array.namespace(x.weights).sum(x.weights, axis=1))
    return np.asarray(np.abs(sums - 1) / float_error.UNIT + x.weights.shape[1] + 4)


def certify(x: Sides, y: Sides, found: Bound, tolerance: NumpyArray, atoms: Atoms | None = None) -> list[Certified]:
    """Prove an interval around GW_2² for each problem by theorems 1 and 3, and the objective of its coupling.

    Parameters
    ----------
    x, y : Sides
        The spaces.
    found : Bound
        Objectives of couplings, rounded up.
    tolerance : array of shape (B,)
        Widths of intervals that were asked to count as closed, in squared units of C.
    atoms : Atoms, optional
        Couplings that sort the deviations on both sides, if they are known.
    """
    of_x, of_y = x.profile, y.profile
    norms = np.sqrt(_numpy(of_x.residual_norm_squared)), np.sqrt(_numpy(of_y.residual_norm_squared))
    if atoms is None:
        atoms = comonotone(of_x.deviations, of_x.weights, of_y.deviations, of_y.weights)
    between = _line(x, y, atoms)
    row_means, norm, a_priori = float_error.additive_bounds(apart(x, y), between, norms, x.radii, y.radii)
    bounds = {"row_means": row_means.lower, "norm": norm.lower}
    roundings = np.maximum(x.roundings, y.roundings)
    rounded = float_error.tolerance(np.maximum(*bounds.values()), largest(x, y), roundings, x.radii, y.radii)
    return _certificates(bounds, found, a_priori, rounded, tolerance)


def _certificates(
    lower: dict[str, NumpyArray], found: Bound, a_priori: NumpyArray, rounded: NumpyArray, tolerance: NumpyArray
) -> list[Certified]:
    names = list(lower)
    proved = np.stack([lower[name] for name in names])
    value = np.maximum(found.value, proved.max(axis=0)).tolist()
    proved = np.where(proved > 0, np.nextafter(proved, 0.0), 0.0)
    best = np.argmax(proved, axis=0).tolist()
    upper = np.where(found.upper > 0, np.nextafter(found.upper, np.inf), 0.0).tolist()
    # The bound has been rounded down by another unit in the last place.
    above = np.nextafter(a_priori + 2 * np.spacing(lower["norm"]), np.inf)
    rest = above.tolist(), np.nextafter(rounded, np.inf).tolist(), tolerance.tolist()
    each = zip(proved.T.tolist(), upper, best, *rest, value, strict=True)
    return [_certified(names, *numbers) for numbers in each]


def _certified(
    names: list[str], low: list[float], high: float, best: int, prior: float, rounded: float, asked: float, value: float
) -> Certified:
    closed, tolerance = judged(high - low[best], rounded, asked)
    kind = Kind.GLOBAL if closed else Kind.BRACKET
    bounds = dict(zip(names, low, strict=True))
    certificate = Certificate(low[best], high, kind, names[best], bounds, prior, tolerance, rounded)
    return Certified(certificate, value, value**0.5)


def apart(x: Sides, y: Sides) -> NumpyArray:
    """|m_C − m_D|, as computed."""
    return np.asarray(np.abs(_numpy(x.profile.mean) - _numpy(y.profile.mean)))


def largest(x: Sides, y: Sides) -> NumpyArray:
    """Ω ≥ max |C_ik − D_jl|."""
    return np.asarray(float_error.max_difference(apart(x, y), x.radii, y.radii, x.extent, y.extent))


def _numpy(values: Array) -> NumpyArray:
    return _array.to_numpy(values)


def _line(x: Sides, y: Sides, atoms: Atoms) -> Bound:
    """W_2²(α, β) as computed, and rounded outward (theorem 13 b)."""
    value = _numpy(total(atoms, x.profile.deviations, y.profile.deviations, 2.0))
    (low_x, high_x), (low_y, high_y) = _ends(x.profile), _ends(y.profile)
    terms = np.maximum(x.radii.weights, y.radii.weights)
    ends = (low_x, high_x, x.radii.size), (low_y, high_y, y.radii.size)
    return float_error.line_bound(value, 2.0, *ends, terms, _numpy(atoms.balanced))


def _ends(stack: Profile) -> tuple[NumpyArray, NumpyArray]:
    """Least and largest α of each problem."""
    xp, alpha, here = _array.namespace(stack.weights), stack.deviations, stack.weights > 0
    top = xp.where(here, alpha, -xp.inf * xp.ones_like(alpha))
    low = xp.where(here, alpha, xp.inf * xp.ones_like(alpha))
    return _numpy(xp.min(low, axis=1)), _numpy(xp.max(top, axis=1))


def of_atoms(x: Sides, y: Sides, plan: Atoms, value: NumpyArray) -> Bound:
    """Round the objectives of sorting couplings up: sums of squares, whose error is relative (theorem 13 g)."""
    xp, a, b = _array.namespace(plan.mass), x.profile.weights, y.profile.weights
    count = _numpy(support(plan.mass))
    rows, cols = (_sums(i, plan.mass, w.shape) for i, w in ((plan.rows, a), (plan.cols, b)))
    # Where all weights are equal, atoms pair off: a coupling without any rounding, but for that of the plan's masses.
    matched = _numpy(plan.balanced)
    missed = np.where(matched, 0.0, _missed(rows, cols, x, y, count))
    meant = np.where(matched, _numpy(xp.max(a, axis=1)) / _numpy(xp.max(plan.mass, axis=1)), 1.0) ** 2 * value
    ends = [float_error.squares_upper(v, count, missed, largest(x, y), x.radii, y.radii) for v in (meant, value)]
    return Bound(value, 0.0, np.maximum(*ends))


def of_matrices(x: Sides, y: Sides, plan: Array, value: NumpyArray) -> Bound:
    """Round the objectives of couplings (B, N, M) up (theorem 13 g)."""
    xp, sums = _array.namespace(plan), plan.shape[1] + plan.shape[2]
    missed = _missed(xp.sum(plan, axis=2), xp.sum(plan, axis=1), x, y, sums)
    parts = x.radii, y.radii, x.extent, y.extent
    return Bound(value, 0.0, float_error.parts_upper(value, sums, missed, apart(x, y), largest(x, y), *parts))


def _sums(index: Array, mass: Array, shape: tuple[int, int]) -> Array:
    """Sum masses by atom, shape (B, N)."""
    xp, (count, size) = _array.namespace(mass), shape
    flat = index + size * xp.arange(count, device=_array.device(index))[:, None]
    sums = _array.scatter_sum(xp.reshape(flat, (-1,)), xp.reshape(mass, (-1,)), count * size)
    return xp.reshape(sums, shape)


def _missed(rows: Array, cols: Array, x: Sides, y: Sides, sums: Any) -> Any:
    """Distance from a plan to the nearest coupling of the exactly normalised weights, at most."""
    xp = _array.namespace(rows)
    of_rows, of_cols = (_numpy(xp.sum(xp.abs(v - s.profile.weights), axis=1)) for v, s in ((rows, x), (cols, y)))
    return float_error.missed_mass(of_rows, of_cols, sums, x.radii, y.radii)
