"""Certificates of many problems at once: the bounds and the rounding of :func:`gwtools.certify` at linear effort, in arrays.

Everything after the sums is arithmetic on NumPy arrays of shape (B,), as in :mod:`gwtools.rounding` on single numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Profile, profile
from gwtools.batch.lines import Atoms, comonotone, counted, support, total
from gwtools.batch.stacks import Stack
from gwtools.results import Certificate, Kind
from gwtools.rounding import Radii, floor
from gwtools.rounding import gamma as _gamma
from gwtools.spaces import DenseSpace, Space


@dataclass(frozen=True, eq=False)
class Facts:
    """What rounding depends on, shape (B,).

    Sizes n, largest |C_ik|, roundings of an entry, height of the stored data, largest |C_ik − C_ki| of stored matrices.
    """

    sizes: NumpyArray
    largest: NumpyArray
    roundings: NumpyArray
    height: NumpyArray
    skew: NumpyArray


class Upper(NamedTuple):
    """Objectives of couplings as computed and rounded up, shape (B,), in squared units of C."""

    value: NumpyArray
    upper: NumpyArray


class Known(NamedTuple):
    """What is computed of B spaces for their certificates: profiles, largest |C_ik| and largest |C_ik − C_ki|, shape (B,)."""

    profile: Profile
    largest: Array
    skew: Array


def known(fields: Sequence[Array]) -> Known:
    """Name the fields that :func:`read` returns."""
    size = len(Profile._fields)
    return Known(Profile(*fields[:size]), *fields[size:])


def read(s: Stack) -> tuple[Array, ...]:
    """Read what certificates need of a stack of matrices."""
    return (*profile(s), s.largest, s.skew)


def facts(spaces: Sequence[Space], of: Known) -> Facts:
    """Read what rounding depends on from the spaces, and from what is computed of them."""
    roundings = np.array([s.roundings for s in spaces])
    return Facts(
        sizes=np.array([s.size for s in spaces]),
        largest=_numpy(of.largest) * (1 + gamma(roundings + 2)),
        roundings=roundings,
        height=np.array([max(s.data.shape) for s in spaces]),
        skew=_numpy(of.skew) * np.array([isinstance(s, DenseSpace) for s in spaces]),
    )


def certify(
    x: Profile,
    y: Profile,
    of_x: Facts,
    of_y: Facts,
    radii: tuple[Radii, Radii],
    found: Upper,
    atoms: Atoms | None = None,
) -> list[Certificate]:
    """Prove an interval around GW_2² for each problem by theorems 1 and 3, and the objective of its coupling.

    ``atoms`` are couplings that sort the deviations on both sides, if they are known.
    """
    off = radii[0].deviations + radii[1].deviations
    means, squares = (
        [_numpy(v) for v in pair] for pair in ((x.mean, y.mean), (x.residual_norm_squared, y.residual_norm_squared))
    )
    norms: Any = [np.sqrt(v) for v in squares]
    if atoms is None:
        atoms = comonotone(x.deviations, x.weights, y.deviations, y.weights)
    between, proved = _line(x, y, of_x, of_y, atoms)
    proved = _shrunk(np.sqrt(proved), off) ** 2
    apart, root = np.abs(means[0] - means[1]), np.abs(norms[0] - norms[1])
    mean_part: Any = _shrunk(apart, radii[0].mean + radii[1].mean) ** 2
    norm_part: Any = _shrunk(root, radii[0].norm(norms[0]) + radii[1].norm(norms[1])) ** 2
    values = {"row_means": apart**2 + between, "norm": apart**2 + 2 * between + root**2}
    lower: Any = {"row_means": floor(mean_part + proved), "norm": floor(mean_part + 2 * proved + norm_part)}
    terms = of_x.sizes + of_y.sizes + of_x.height + of_y.height + 64
    scale = 16 * terms * 2.0**-52 * (of_x.largest + of_y.largest) ** 2
    return _certificates(values, lower, found.value, found.upper, scale, 4 * norms[0] * norms[1])


def _certificates(
    values: dict[str, NumpyArray],
    lower: dict[str, NumpyArray],
    value: NumpyArray,
    upper: NumpyArray,
    scale: NumpyArray,
    a_priori: NumpyArray,
) -> list[Certificate]:
    names = list(values)
    computed, proved = (np.stack([side[name] for name in names]) for side in (values, lower))
    # A gap is closed up to what rounding may account for.
    best = np.argmax(proved, axis=0)
    chosen = best[None, :]
    bottom, loss = (np.take_along_axis(v, chosen, axis=0)[0] for v in (proved, computed - proved))
    closed = upper - bottom <= 4 * (scale + loss + upper - value)
    proved = np.where(proved > 0, np.maximum(np.nextafter(proved, -np.inf), 0.0), 0.0)
    ends = proved.T.tolist(), np.where(upper > 0, np.nextafter(upper, np.inf), upper).tolist()
    rest = best.tolist(), closed.tolist(), np.nextafter(a_priori + scale, np.inf).tolist()
    return [
        Certificate(
            low[i], high, Kind.GLOBAL if done else Kind.BRACKET, names[i], dict(zip(names, low, strict=True)), prior
        )
        for low, high, i, done, prior in zip(*ends, *rest, strict=True)
    ]


def gamma(terms: Any) -> Any:
    """:func:`gwtools.rounding.gamma`, which is arithmetic and takes arrays."""
    return _gamma(terms)


def _numpy(values: Array) -> NumpyArray:
    return _array.to_numpy(values)


def _shrunk(value: NumpyArray, radius: Any) -> NumpyArray:
    return np.asarray(np.maximum(value - radius, 0.0))


def radii(x: Profile, of: Facts) -> Radii:
    """:func:`gwtools.rounding.dense_radii` of every space: its fields are arrays (theorem 13 a and c)."""
    xp, a = _array.namespace(x.weights), x.weights
    uniform = _numpy(xp.all((a == xp.max(a, axis=1, keepdims=True)) | (a == 0), axis=1))
    skew = 0.51 * of.skew
    omega, rounded = np.where(uniform, 2, 4 * of.sizes), of.roundings + 1
    terms, largest = of.sizes + omega + rounded, of.largest
    row_means, mean, deviations = (gamma(k) * largest + skew for k in (terms + 3, 2 * terms + 4, 3 * terms + 6))
    fields: dict[str, Any] = {
        "size": of.sizes,
        "weights": omega,
        "largest": largest,
        "entries": gamma(of.roundings) * largest + skew + np.where(skew > 0, gamma(1) * largest, 0.0),
        "row_means": row_means,
        "mean": mean,
        "deviations": deviations + skew,
        "residual": 2 * deviations + mean + 7 * gamma(3 + rounded) * largest + 3 * skew,
        "norm_terms": 2 * (2 * of.sizes + 2 * omega + 2),
    }
    return Radii(**fields)


def _line(x: Profile, y: Profile, of_x: Facts, of_y: Facts, atoms: Atoms) -> tuple[NumpyArray, NumpyArray]:
    """W_2²(α, β) as computed, and rounded down (theorem 13 b)."""
    value = _numpy(total(atoms, x.deviations, y.deviations, 2.0))
    lists = of_x.sizes + of_y.sizes
    lower = value - gamma(3 * lists + 6) * value - lists * 2.0**-1000
    ends = [_extremes(s) for s in (x, y)]
    (low_x, high_x), (low_y, high_y) = ends
    apart = np.maximum(np.maximum(high_x - low_y, high_y - low_x), 0.0)
    shifts: Any = sum(
        gamma(2 * of.sizes + 3) * (high - low) for of, (low, high) in zip((of_x, of_y), ends, strict=True)
    )
    moved = np.where(_numpy(atoms.balanced), 0.0, 2 * apart * shifts * (1 + gamma(8)))
    return value, _shrunk(lower, moved)


def _extremes(stack: Profile) -> tuple[NumpyArray, NumpyArray]:
    """Least and largest α of each problem."""
    xp, alpha, here = _array.namespace(stack.weights), stack.deviations, stack.weights > 0
    top = xp.where(here, alpha, -xp.inf * xp.ones_like(alpha))
    low = xp.where(here, alpha, xp.inf * xp.ones_like(alpha))
    return _numpy(xp.min(low, axis=1)), _numpy(xp.max(top, axis=1))


def of_atoms(x: Profile, y: Profile, plan: Atoms, value: NumpyArray, radii: tuple[Radii, Radii]) -> Upper:
    """Round the objectives of sorting couplings up: sums of squares, whose error is relative (theorem 13 g)."""
    (of_x, of_y), xp = radii, _array.namespace(x.weights)
    count = _numpy(support(plan.mass))
    rounded = (np.sqrt(value * (1 + gamma(2 * count + 20))) + of_x.entries + of_y.entries) ** 2
    rows, cols = (_sums(i, plan.mass, s.weights.shape) for i, s in ((plan.rows, x), (plan.cols, y)))
    # One atom for each of x and of y, with equal weights, is a coupling without any rounding.
    exact = (
        xp.all(rows == x.weights, axis=1) & xp.all(cols == y.weights, axis=1) & counted(x.weights, y.weights).balanced
    )
    missed = np.where(_numpy(exact), 0.0, _missed(rows, cols, x, y, count, radii))
    top = of_x.largest + of_y.largest
    return Upper(value, rounded * (1 + gamma(20)) + 1.01 * top**2 * missed * (2 + missed))


def of_matrices(x: Profile, y: Profile, plan: Array, value: NumpyArray, radii: tuple[Radii, Radii]) -> Upper:
    """Round the objectives of couplings (B, N, M) up (theorem 13 g)."""
    (of_x, of_y), xp = radii, _array.namespace(plan)
    top, size = of_x.largest + of_y.largest, of_x.size + of_y.size
    missed: Any = _missed(xp.sum(plan, axis=2), xp.sum(plan, axis=1), x, y, of_x.size, radii)
    error: Any = of_x.whole() + of_y.whole() + gamma(4 * size + of_x.norm_terms + of_y.norm_terms + 60) * 8 * top
    upper = (np.sqrt(value) + error) ** 2 + 26 * top**2 * missed * (1 + missed) + gamma(8 * size + 60) * 8 * top**2
    return Upper(value, upper)


def _sums(index: Array, mass: Array, shape: tuple[int, int]) -> Array:
    """Sum masses by atom, shape (B, N)."""
    xp, (count, size) = _array.namespace(mass), shape
    flat = index + size * xp.arange(count, device=_array.device(index))[:, None]
    sums = _array.scatter_sum(xp.reshape(flat, (-1,)), xp.reshape(mass, (-1,)), count * size)
    return xp.reshape(sums, shape)


def _missed(rows: Array, cols: Array, x: Profile, y: Profile, count: Any, radii: tuple[Radii, Radii]) -> NumpyArray:
    """Distance from a plan to the nearest coupling of the exactly normalised weights, at most."""
    xp, (of_x, of_y) = _array.namespace(rows), radii
    missed = xp.sum(xp.abs(rows - x.weights), axis=1) + 2 * xp.sum(xp.abs(cols - y.weights), axis=1)
    terms: Any = np.maximum(of_x.size, of_y.size) + count + of_x.weights + of_y.weights
    return np.asarray(1.01 * _numpy(missed) + 3 * gamma(terms))
