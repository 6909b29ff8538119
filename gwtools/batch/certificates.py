"""Certificates of many problems at once, at linear effort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.fields import Fields, read_fields
from gwtools.batch.gather import Pairs
from gwtools.bounds import float_error
from gwtools.bounds.enclosures import EnclosedPair, Enclosure, on_cpu
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.moments import Moments, moments
from gwtools.certify import CertifiedObjective, certified_interval
from gwtools.spaces import DenseSpace, Space
from gwtools.spaces.double_centering import Residual
from gwtools.transport.one_dimensional import equal_weights
from gwtools.transport.quantile_cells import SortingCoupling


class Summary(NamedTuple):
    """What certificates of linear effort read of B spaces."""

    moments: Moments
    low: Array  # (B,), the least C_ik
    high: Array  # (B,), the largest C_ik
    skew: Array  # (B,), the largest |C_ik − C_ki|


def read(space: Space, residual: Residual | None = None) -> tuple[Array, ...]:
    """Return the fields of a :class:`Summary`, those of its moments one by one.

    Parameters
    ----------
    space : Space
        A stack of spaces.
    residual : Residual, optional
        The residual of the stack, if it is known.
    """
    matrix = space.dense()  # (g, n, n)
    xp = _array.namespace(matrix)
    axes = (1, 2)
    low = xp.min(matrix, axis=axes)
    high = xp.max(matrix, axis=axes)
    # Each difference comes with both signs: no absolute values are needed.
    skew = xp.max(matrix - _array.transposed(matrix), axis=axes)
    of_moments = moments(space, residual)
    return (*of_moments, low, high, skew)


def summary(fields: Sequence[Array]) -> Summary:
    """Name the fields that :func:`read` returns."""
    count = len(Moments._fields)
    of_moments = Moments(*fields[:count])
    return Summary(of_moments, *fields[count:])


def summaries(fields: Fields, positions: NumpyArray) -> tuple[Summary, Summary]:
    """Return what :func:`read` returned of both spaces of some pairs."""
    left, right = fields.at(positions)
    return summary(left), summary(right)


def widened_summaries(pairs: Pairs) -> tuple[Summary, Summary]:
    """Read what certificates need of pairs, in float64."""
    fields = read_fields(pairs, read, _array.widen, dense=True)
    every_pair = np.arange(len(pairs.left))
    return summaries(fields, every_pair)


def enclosed(
    pairs: Pairs,
    x: Summary,
    y: Summary,
) -> EnclosedPair:
    """Enclose both spaces of each pair."""
    left = enclosures(pairs.left, x)
    right = enclosures(pairs.right, y)
    return EnclosedPair(left, right)


def enclosures(spaces: Sequence[Space], known: Summary) -> Enclosure:
    """Enclose the parts of B spaces (theorem 13 a and c)."""
    sizes = np.array([space.size for space in spaces])
    operations = np.array([space.float_operations for space in spaces])
    is_stored = np.array([isinstance(space, DenseSpace) for space in spaces])
    low = on_cpu(known.low)  # (B,)
    high = on_cpu(known.high)
    weights = known.moments.weights  # (B, N)
    # 1. Radii, from Λ ≥ max |C_ik| of the exact entries, which computed ones miss by
    # the float error of their operations.
    largest = np.maximum(high, -low)  # of |C_ik|
    largest = largest * (1 + gamma(operations + 2))
    # Computed matrices are symmetric but for float errors, which the radii count.
    skew = on_cpu(known.skew) * is_stored
    omega = float_error.weight_terms(weights)
    radii = float_error.dense_radii(sizes, omega, operations, largest, skew)
    # 2. Sizes of the parts, from the ends of α and of C − m_C.
    alpha = on_cpu(known.moments.deviations)  # (B, N)
    least, most, _ = float_error.extremes(alpha, on_cpu(weights))
    deviation = np.maximum(most, -least)
    mean = on_cpu(known.moments.mean)
    spread = np.maximum(high - mean, mean - low)
    extent = float_error.dense_extent(deviation, spread, radii)
    return Enclosure(known.moments, radii, extent, operations)


def certify(
    pair: EnclosedPair,
    upper: Bound,
    tolerance: NumpyArray,
    coupling: SortingCoupling | None = None,
) -> list[CertifiedObjective]:
    """Prove an interval around GW_2² for each of B problems by theorems 1 and 3.

    The objective of each problem's coupling lies within it.

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
    transport = pair.additive_transport(coupling)
    row_means, norm, a_priori = pair.row_means_and_norm(transport)
    best = np.maximum(row_means.lower, norm.lower)
    error_width = pair.float_error_above(best)
    columns = (
        row_means.lower,
        norm.lower,
        upper.value,
        upper.upper,
        a_priori,
        error_width,
        tolerance,
    )
    numbers_of_problems = np.stack(columns, axis=1).tolist()
    proofs = []
    for of_row_means, of_norm, value, highest, *widths in numbers_of_problems:
        bounds = {"row_means": of_row_means, "norm": of_norm}
        objective = Bound(value, 0.0, highest)
        proofs.append(certified_interval(bounds, objective, *widths))
    return proofs


def of_atoms(
    pair: EnclosedPair,
    plan: SortingCoupling,
    value: NumpyArray,
) -> Bound:
    """Round up the objectives of sorting couplings, summed over their atoms.

    As sums of squares, they have relative errors (theorem 13 g).

    Parameters
    ----------
    pair : EnclosedPair
        The spaces.
    plan : SortingCoupling
        Couplings of B problems, of at most K atoms.
    value : array of shape (B,)
        Their objectives as computed, in squared units of C.
    """
    xp = _array.namespace(plan.mass)
    a = pair.x.moments.weights  # (B, N)
    b = pair.y.moments.weights  # (B, M)
    atoms = on_cpu(xp.count_nonzero(plan.mass, axis=1))  # (B,)
    row_sums = _marginals(plan.rows, plan.mass, a.shape)
    col_sums = _marginals(plan.cols, plan.mass, b.shape)
    missed = pair.missed_mass(row_sums, col_sums, atoms)
    # Where all weights are equal, atoms pair off. The coupling whose masses are the
    # weights misses no mass; these are the plan's masses times one ratio near 1.
    matched = on_cpu(equal_weights(a, b))
    missed = np.where(matched, 0.0, missed)
    weight = on_cpu(xp.max(a, axis=1))
    mass = on_cpu(xp.max(plan.mass, axis=1))
    ratio = np.where(matched, weight / mass, 1.0)
    upper_of_coupling = pair.squares_upper(ratio**2 * value, atoms, missed)
    upper_of_plan = pair.squares_upper(value, atoms, missed)
    upper = np.maximum(upper_of_coupling, upper_of_plan)
    return Bound(value, 0.0, upper)


def of_matrices(
    pair: EnclosedPair,
    plan: Array,
    value: NumpyArray,
) -> Bound:
    """Round up the objectives (B,) of plans (B, N, M), computed from m, α and R.

    See theorem 13 g.
    """
    xp = _array.namespace(plan)
    terms = plan.shape[1] + plan.shape[2]
    row_sums = xp.sum(plan, axis=2)
    col_sums = xp.sum(plan, axis=1)
    missed = pair.missed_mass(row_sums, col_sums, terms)
    upper = pair.parts_upper(value, terms, missed)
    return Bound(value, 0.0, upper)


def _marginals(
    atoms: Array,
    mass: Array,
    shape: tuple[int, int],
) -> Array:
    """Sum the masses (B, K) of couplings by the atoms (B, K) of one side, (B, N)."""
    xp = _array.namespace(mass)
    count, size = shape
    # Atoms of all problems are numbered one after the other, to be summed in one call.
    device = _array.device(atoms)
    problem = xp.arange(count, device=device)  # (B,)
    first = size * problem[:, None]  # (B, 1)
    flat_atoms = xp.reshape(atoms + first, (-1,))
    flat_mass = xp.reshape(mass, (-1,))
    sums = _array.scatter_sum(flat_atoms, flat_mass, count * size)
    return xp.reshape(sums, shape)
