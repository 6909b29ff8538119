"""Many problems by sorting at once: couplings, objectives and certificates together, spectra on threads beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch import certificates, gather, threads
from gwtools.batch.certificates import Summary
from gwtools.batch.gather import Pairs
from gwtools.batch.results import Group, results
from gwtools.bounds.moments import norm_bound, spectral_bound
from gwtools.certify import CertifiedObjective
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.results import GWResult, Status
from gwtools.solvers import Outcome, Sorted
from gwtools.spaces import Space, converted
from gwtools.transport.one_dimensional import (
    SortingCoupling,
    comonotone,
    cost,
    equal_weights,
    wasserstein,
)


class Coupled(NamedTuple):
    """Pairs whose sorted row means are coupled: their positions among all, what was read of them, and objectives (b,)."""

    positions: NumpyArray
    pairs: Pairs
    x: Summary
    y: Summary
    coupling: SortingCoupling
    objective: Array


def solve(pairs: Pairs, solver: Sorted, effort: str) -> Iterator[tuple[int, GWResult]]:
    """Yield positions and results of the pairs whose values are in range."""
    is_spectral = solver.kind == "spectral"
    with threads.Background[Array](pairs.left[0].weights) as background:

        def read(s: Space) -> tuple[Array, ...]:
            if not is_spectral:
                return certificates.read(s)
            residual = s.residual()
            background.add_eigenvalues(gather.finite(residual.compact()))
            return certificates.read(s, residual)

        fields = gather.read_fields(pairs, read, dense=True)
        solved = []
        for positions in gather.groups(pairs, lists=True):
            coupled = _coupled(pairs, fields, positions)
            if coupled is not None:
                solved.append(
                    (coupled, _proofs(coupled) if effort == "linear" else None)
                )
        if is_spectral:
            fields.add(background.finish())
    for coupled, proofs in solved:
        yield from results(
            _group(coupled, proofs, _estimates(coupled, fields, solver)), solver, effort
        )


def _coupled(
    pairs: Pairs, fields: gather.Fields, positions: NumpyArray
) -> Coupled | None:
    """Sort the row means of pairs whose values are in range, and evaluate the couplings."""
    x, y = certificates.summaries(fields, positions)
    usable = gather.are_in_range((x.low, y.low), (x.high, y.high))
    if not usable.any():
        return None
    if not usable.all():
        positions = positions[usable]
        x, y = certificates.summaries(fields, positions)
    coupling = comonotone(
        x.moments.row_means, x.moments.weights, y.moments.row_means, y.moments.weights
    )
    pairs = pairs.at(positions)
    return Coupled(
        positions,
        pairs,
        x,
        y,
        coupling,
        _objectives(pairs, coupling, _array.at_least_single),
    )


def _proofs(coupled: Coupled) -> list[CertifiedObjective]:
    """Certify sorting couplings in float64."""
    _, pairs, x, y, coupling, objective = coupled
    stored = _array.detached(coupling.mass)
    mass = _array.widen(stored)
    if _array.library(mass) != _array.library(stored):
        coupling = SortingCoupling(*map(_array.to_numpy, coupling))
    coupling = coupling._replace(mass=mass)
    sorts_deviations: SortingCoupling | None = coupling
    if mass.dtype != stored.dtype:
        # The coupling sorts row means as stored, and their deviations with them; wider
        # ones need not be sorted by it.
        sorts_deviations = None
        pairs = pairs.detached()
        x, y = certificates.widened_summaries(pairs)
        objective = _objectives(pairs, coupling, _array.widen)
    pair = certificates.enclosed(pairs, x, y)
    upper = certificates.of_atoms(pair, coupling, _array.to_numpy(objective))
    return certificates.certify(
        pair, upper, np.zeros(len(coupled.positions)), sorts_deviations
    )


def _estimates(coupled: Coupled, fields: gather.Fields, solver: Sorted) -> Array:
    """Return the closed forms of sorted values, shape (b,)."""
    x, y = coupled.x.moments, coupled.y.moments
    # Gradients in weights are those of the bounds, which are in the middle where
    # quantile cells end together.
    coupling = None if _array.tracked(coupled.coupling.mass) else coupled.coupling
    if solver.kind == "row_means":
        if coupling is None:
            return wasserstein(x.row_means, x.weights, y.row_means, y.weights, solver.p)
        return cost(coupling, x.row_means, y.row_means, solver.p)
    if solver.kind == "norm":
        return norm_bound(x, y, coupling)
    spectra_x, spectra_y = fields.at(coupled.positions)
    return spectral_bound(x, y, spectra_x[-1], spectra_y[-1], coupling)


def _group(
    coupled: Coupled,
    proofs: Sequence[CertifiedObjective | None] | None,
    estimates: Array,
) -> Group:
    """Cut couplings into plans, and leave out certificates of pairs for which there are sharper bounds."""
    rows, cols, mass = coupled.coupling
    counts = _array.to_numpy(
        _array.namespace(mass).count_nonzero(mass, axis=1)
    ).tolist()
    equal = _array.to_numpy(
        equal_weights(coupled.x.moments.weights, coupled.y.moments.weights)
    ).tolist()
    outcomes, kept = [], []
    for k, (x, y) in enumerate(zip(*coupled.pairs, strict=True)):
        atoms = (k, slice(counts[k]))
        plan = make_unchecked(
            SparsePlan,
            rows=rows[atoms],
            cols=cols[atoms],
            mass=mass[atoms],
            size=(x.size, y.size),
        )
        outcomes.append(Outcome(plan, Status.CLOSED_FORM, estimate=estimates[k]))
        # Two forms of low rank have a bound of their own at linear effort, and atoms
        # that pair off a better upper end.
        both_low_rank = gather.rank(x) <= x.size and gather.rank(y) <= y.size
        pairs_off = counts[k] == x.size == y.size and not equal[k]
        kept.append(None if proofs is None or both_low_rank or pairs_off else proofs[k])
    nowhere = np.zeros(len(outcomes))
    return Group(
        coupled.positions.tolist(),
        coupled.pairs,
        outcomes,
        coupled.objective,
        kept,
        nowhere,
    )


def _objectives(
    pairs: Pairs, coupling: SortingCoupling, convert: gather.Convert
) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl of sorting couplings, shape (b,); matrices are made for few pairs at a time."""
    rows, cols, mass = coupling.rows, coupling.cols, convert(coupling.mass)
    sums = (
        _sums_of_squares
        if _array.library(mass) == "numpy"
        else _sums_of_squares_together
    )
    step = max(1, gather.block_entries(mass) // mass.shape[1] ** 2)
    is_wide = pairs.left[0].weights.dtype == mass.dtype
    parts = []
    for start in range(0, len(pairs.left), step):
        few = slice(start, min(start + step, len(pairs.left)))
        left, right = pairs.left[few], pairs.right[few]
        if not is_wide:
            left, right = (
                [converted(s, convert) for s in left],
                [converted(s, convert) for s in right],
            )
        x, y = [s.dense() for s in left], [s.dense() for s in right]
        parts.append(sums(x, y, rows[few, :], cols[few, :], mass[few, :]))
    return _array.namespace(mass).concat(parts)


def _sums_of_squares(
    xs: Sequence[Array], ys: Sequence[Array], rows: Array, cols: Array, mass: Array
) -> Array:
    """Sum over the atoms of each coupling (b, K) by itself: NumPy's calls cost less than passes over more arrays."""
    values = []
    for k, count in enumerate(np.count_nonzero(mass, axis=1).tolist()):
        of_x, of_y, weights = rows[k, :count], cols[k, :count], mass[k, :count]
        apart = xs[k].take(of_x, axis=1).take(of_x, axis=0)
        apart -= ys[k].take(of_y, axis=1).take(of_y, axis=0)
        apart *= apart
        values.append(weights @ (apart @ weights))
    return np.stack(values)


def _sums_of_squares_together(
    xs: Sequence[Array], ys: Sequence[Array], rows: Array, cols: Array, mass: Array
) -> Array:
    """Sum over the atoms of couplings (b, K), of which those without mass come last and name atom 0."""
    apart = _submatrices(xs, rows) - _submatrices(ys, cols)
    return _array.dot(mass, _array.times(apart * apart, mass))


def _submatrices(matrices: Sequence[Array], index: Array) -> Array:
    """Return C[index, index] for each matrix, shape (b, K, K), by whole rows: matrices are symmetric."""
    xp, (count, width) = _array.namespace(index), index.shape
    size = max(m.shape[0] for m in matrices)
    first = size * xp.arange(count, device=_array.device(index))[:, None]
    flat = xp.reshape(index + first, (-1,))
    rows = xp.reshape(_array.stacked(matrices, size), (count * size, size))
    rows = xp.reshape(xp.take(rows, flat, axis=0), (count, width, size))
    cols = xp.reshape(xp.permute_dims(rows, (0, 2, 1)), (count * size, width))
    return xp.reshape(xp.take(cols, flat, axis=0), (count, width, width))
