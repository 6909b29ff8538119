"""Certificates of many problems at once: the bounds and the float errors of :func:`gwtools.certify` at linear effort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Fields, Pairs, read_fields
from gwtools.bounds import float_error
from gwtools.bounds.enclosures import EnclosedPair, Enclosure, on_cpu
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.moments import Moments, moments
from gwtools.certify import CertifiedObjective, certified_interval
from gwtools.spaces import DenseSpace, Space
from gwtools.spaces.double_centering import Residual
from gwtools.transport.one_dimensional import SortingCoupling, equal_weights


class Summary(NamedTuple):
    """What the certificates of B spaces need: moments; the least and largest C_ik and the largest |C_ik − C_ki|, (B,)."""

    moments: Moments
    low: Array
    high: Array
    skew: Array


def summary(fields: Sequence[Array]) -> Summary:
    """Name the fields that :func:`read` returns."""
    size = len(Moments._fields)
    return Summary(Moments(*fields[:size]), *fields[size:])


def read(space: Space, residual: Residual | None = None) -> tuple[Array, ...]:
    """Read what certificates need of a stack of matrices; a ``residual`` that is at hand is not made again."""
    matrix = space.dense()
    xp, axes = _array.namespace(matrix), (1, 2)
    low = xp.min(matrix, axis=axes)
    high = xp.max(matrix, axis=axes)
    skew = xp.max(
        matrix - _array.transposed(matrix), axis=axes
    )  # each difference comes with both signs
    return (*moments(space, residual), low, high, skew)


def enclosures(spaces: Sequence[Space], of: Summary) -> Enclosure:
    """Say how far the parts of spaces may be from the exact ones, and how large they are (theorem 13 a and c)."""
    low, high, mean = on_cpu(of.low), on_cpu(of.high), on_cpu(of.moments.mean)
    sizes = np.array([s.size for s in spaces])
    operations = np.array([s.float_operations for s in spaces])
    is_stored = np.array([isinstance(s, DenseSpace) for s in spaces])
    skew = on_cpu(of.skew) * is_stored
    largest = np.maximum(high, -low) * (1 + gamma(operations + 2))
    radii = float_error.dense_radii(
        sizes, float_error.weight_terms(of.moments.weights), operations, largest, skew
    )
    least, most, _ = float_error.ends(
        on_cpu(of.moments.deviations), on_cpu(of.moments.weights)
    )
    extent = float_error.dense_extent(
        np.maximum(most, -least), np.maximum(high - mean, mean - low), radii
    )
    return Enclosure(of.moments, radii, extent, operations)


def summaries(fields: Fields, positions: NumpyArray) -> tuple[Summary, Summary]:
    """Return what :func:`read` returned of both spaces of some pairs."""
    left, right = fields.at(positions)
    return summary(left), summary(right)


def widened_summaries(pairs: Pairs) -> tuple[Summary, Summary]:
    """Read what certificates need of pairs in float64."""
    fields = read_fields(pairs, read, _array.widen, dense=True)
    return summaries(fields, np.arange(len(pairs.left)))


def enclosed(pairs: Pairs, x: Summary, y: Summary) -> EnclosedPair:
    """Enclose both spaces of each pair."""
    return EnclosedPair(enclosures(pairs.left, x), enclosures(pairs.right, y))


def certify(
    pair: EnclosedPair,
    upper: Bound,
    tolerance: NumpyArray,
    coupling: SortingCoupling | None = None,
) -> list[CertifiedObjective]:
    """Prove an interval around GW_2² for each problem by theorems 1 and 3, and the objective of its coupling.

    Parameters
    ----------
    pair : EnclosedPair
        The spaces.
    upper : Bound
        Objectives of couplings, rounded up.
    tolerance : array of shape (B,)
        Widths of intervals that were asked to count as closed, in squared units of C.
    coupling : SortingCoupling, optional
        Couplings that sort the deviations on both sides, if they are known.
    """
    row_means, norm, a_priori = pair.row_means_and_norm(
        pair.additive_transport(coupling)
    )
    rounding = pair.float_error_above(np.maximum(row_means.lower, norm.lower))
    columns = (
        row_means.lower,
        norm.lower,
        upper.value,
        upper.upper,
        a_priori,
        rounding,
        tolerance,
    )
    proofs = []
    for of_row_means, of_norm, value, highest, *rest in np.stack(
        columns, axis=1
    ).tolist():
        bounds = {"row_means": of_row_means, "norm": of_norm}
        proofs.append(certified_interval(bounds, Bound(value, 0.0, highest), *rest))
    return proofs


def of_atoms(pair: EnclosedPair, plan: SortingCoupling, value: NumpyArray) -> Bound:
    """Round the objectives of sorting couplings up: sums of squares, whose error is relative (theorem 13 g)."""
    xp, a, b = (
        _array.namespace(plan.mass),
        pair.x.moments.weights,
        pair.y.moments.weights,
    )
    count = on_cpu(xp.count_nonzero(plan.mass, axis=1))
    rows, cols = (
        _sums(plan.rows, plan.mass, a.shape),
        _sums(plan.cols, plan.mass, b.shape),
    )
    # Where all weights are equal, atoms pair off: a coupling without any float error,
    # but for that of the plan's masses.
    matched = on_cpu(equal_weights(a, b))
    missed = np.where(matched, 0.0, pair.missed_mass(rows, cols, count))
    ratio = np.where(
        matched, on_cpu(xp.max(a, axis=1)) / on_cpu(xp.max(plan.mass, axis=1)), 1.0
    )
    meant = pair.squares_upper(ratio**2 * value, count, missed)
    return Bound(
        value, 0.0, np.maximum(meant, pair.squares_upper(value, count, missed))
    )


def of_matrices(pair: EnclosedPair, plan: Array, value: NumpyArray) -> Bound:
    """Round the objectives of couplings (B, N, M) up (theorem 13 g)."""
    xp, terms = _array.namespace(plan), plan.shape[1] + plan.shape[2]
    missed = pair.missed_mass(xp.sum(plan, axis=2), xp.sum(plan, axis=1), terms)
    return Bound(value, 0.0, pair.parts_upper(value, terms, missed))


def _sums(index: Array, mass: Array, shape: tuple[int, int]) -> Array:
    """Sum masses by atom, shape (B, N)."""
    xp, (count, size) = _array.namespace(mass), shape
    flat = index + size * xp.arange(count, device=_array.device(index))[:, None]
    sums = _array.scatter_sum(
        xp.reshape(flat, (-1,)), xp.reshape(mass, (-1,)), count * size
    )
    return xp.reshape(sums, shape)
