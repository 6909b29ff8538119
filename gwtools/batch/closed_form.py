"""Many problems by sorting at once: couplings, closed forms and certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch import certificates, gather, threads
from gwtools.batch.certificates import Summary
from gwtools.batch.fields import Fields, read_fields
from gwtools.batch.gather import Convert, Pairs
from gwtools.batch.results import Group, results
from gwtools.bounds.moments import norm_bound, spectral_bound
from gwtools.certify import CertifiedObjective
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.results import GWResult, Status
from gwtools.solvers import Outcome, Sorted
from gwtools.spaces import Space, converted
from gwtools.transport.one_dimensional import (
    comonotone,
    cost,
    equal_weights,
    wasserstein,
)
from gwtools.transport.quantile_cells import SortingCoupling


class Coupled(NamedTuple):
    """Pairs whose row means are sorted together, with the couplings this gives."""

    positions: NumpyArray  # (b,), of the pairs among all
    pairs: Pairs
    x: Summary
    y: Summary
    coupling: SortingCoupling  # (b, K)
    objective: Array  # (b,), in squared units of C


def solve(
    pairs: Pairs,
    solver: Sorted,
    effort: str,
) -> Iterator[tuple[int, GWResult]]:
    """Yield positions and results of the pairs whose values are in range."""
    is_spectral = solver.kind == "spectral"
    with threads.Background[Array](pairs.like) as background:

        def read(stack: Space) -> tuple[Array, ...]:
            if not is_spectral:
                return certificates.read(stack)
            residual = stack.residual()
            # (g, k, k), of the same non-zero eigenvalues as diag(√a) R diag(√a).
            matrices = gather.finite(residual.compact())
            background.add_eigenvalues(matrices)
            return certificates.read(stack, residual)

        # Couplings are certified while other threads compute the spectra.
        fields = read_fields(pairs, read, dense=True)
        solved: list[tuple[Coupled, list[CertifiedObjective] | None]] = []
        for positions in gather.groups(pairs, lists=True):
            coupled = _coupled(pairs, fields, positions)
            if coupled is None:
                continue
            proofs = _proofs(coupled) if effort == "linear" else None
            solved.append((coupled, proofs))
        if is_spectral:
            spectra = background.finish()
            fields.add(spectra)
    for coupled, proofs in solved:
        estimates = _estimates(coupled, fields, solver)
        group = _group(coupled, proofs, estimates)
        yield from results(group, solver, effort)


def _coupled(
    pairs: Pairs,
    fields: Fields,
    positions: NumpyArray,
) -> Coupled | None:
    """Sort row means of the pairs whose values are in range; None if there are none."""
    x, y = certificates.summaries(fields, positions)
    lows = (x.low, y.low)
    highs = (x.high, y.high)
    usable = gather.are_in_range(lows, highs)  # (b,)
    if not usable.any():
        return None
    if not usable.all():
        positions = positions[usable]
        x, y = certificates.summaries(fields, positions)
    coupling = comonotone(
        x.moments.row_means,
        x.moments.weights,
        y.moments.row_means,
        y.moments.weights,
    )
    pairs = pairs.at(positions)
    objective = _objectives(pairs, coupling, _array.at_least_single)
    return Coupled(positions, pairs, x, y, coupling, objective)


def _proofs(coupled: Coupled) -> list[CertifiedObjective]:
    """Certify sorting couplings in float64."""
    pairs = coupled.pairs
    x = coupled.x
    y = coupled.y
    objective = coupled.objective
    stored = _array.detached(coupled.coupling.mass)
    mass = _array.widen(stored)
    coupling = coupled.coupling
    # Where there is no float64, masses are now in NumPy: positions must be, too.
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
    value = _array.to_numpy(objective)
    upper = certificates.of_atoms(pair, coupling, value)
    tolerance = np.zeros(len(coupled.positions))
    return certificates.certify(pair, upper, tolerance, sorts_deviations)


def _estimates(
    coupled: Coupled,
    fields: Fields,
    solver: Sorted,
) -> Array:
    """Return the closed forms of the solver's kind, (b,)."""
    x = coupled.x.moments
    y = coupled.y.moments
    coupling: SortingCoupling | None = coupled.coupling
    if _array.tracked(coupled.coupling.mass):
        # Where quantile cells of both sides end together, one-sided derivatives in the
        # weights differ. The bounds' gradients are their mean; those of one coupling
        # would be of one side.
        coupling = None
    if solver.kind == "norm":
        return norm_bound(x, y, coupling)
    if solver.kind == "spectral":
        fields_x, fields_y = fields.at(coupled.positions)
        spectra_x = fields_x[-1]  # (b, k)
        spectra_y = fields_y[-1]
        return spectral_bound(x, y, spectra_x, spectra_y, coupling)
    if coupling is None:
        return wasserstein(x.row_means, x.weights, y.row_means, y.weights, solver.p)
    return cost(coupling, x.row_means, y.row_means, solver.p)


def _group(
    coupled: Coupled,
    proofs: list[CertifiedObjective] | None,
    estimates: Array,
) -> Group:
    """Cut couplings into plans; drop certificates where the single one is sharper."""
    mass = coupled.coupling.mass  # (b, K)
    xp = _array.namespace(mass)
    counts = xp.count_nonzero(mass, axis=1)  # (b,)
    atoms = _array.to_numpy(counts).tolist()
    a = coupled.x.moments.weights  # (b, N)
    b = coupled.y.moments.weights  # (b, M)
    has_equal_weights = _array.to_numpy(equal_weights(a, b)).tolist()
    outcomes: list[Outcome] = []
    kept: list[CertifiedObjective | None] = []
    for k, (x, y) in enumerate(coupled.pairs.each()):
        size = (x.size, y.size)
        plan = _plan(coupled.coupling, k, atoms[k], size)
        outcome = Outcome(plan, Status.CLOSED_FORM, estimate=estimates[k])
        outcomes.append(outcome)
        # By itself a pair has a sharper certificate in two cases. Two spaces of low
        # rank have one bound more. A plan of n atoms between n and n of unequal weights
        # may be a matching, which is an exact coupling (theorem 13 g).
        both_low_rank = gather.is_low_rank(x) and gather.is_low_rank(y)
        may_match = atoms[k] == x.size == y.size and not has_equal_weights[k]
        is_sharper_alone = both_low_rank or may_match
        proof = None if proofs is None or is_sharper_alone else proofs[k]
        kept.append(proof)
    return Group(
        positions=coupled.positions.tolist(),
        pairs=coupled.pairs,
        outcomes=outcomes,
        objective=coupled.objective,
        proofs=kept,
        accepted_gaps=np.zeros(len(outcomes)),
    )


def _plan(
    coupling: SortingCoupling,
    k: int,
    atoms: int,
    size: tuple[int, int],
) -> SparsePlan:
    """Return the k-th coupling, whose atoms without mass come last, as a plan."""
    kept = (k, slice(atoms))
    return make_unchecked(
        SparsePlan,
        rows=coupling.rows[kept],
        cols=coupling.cols[kept],
        mass=coupling.mass[kept],
        size=size,
    )


def _objectives(
    pairs: Pairs,
    coupling: SortingCoupling,
    convert: Convert,
) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl of sorting couplings, (b,).

    Matrices are made for few pairs at a time.
    """
    mass = convert(coupling.mass)  # (b, K)
    is_numpy = _array.library(mass) == "numpy"
    sums = _sums_of_squares if is_numpy else _sums_of_squares_together
    is_wide = pairs.like.dtype == mass.dtype
    entries = mass.shape[1] ** 2  # of C or D on the atoms of a coupling
    step = max(1, gather.block_entries(mass) // entries)
    count = len(pairs.left)
    parts = []
    for start in range(0, count, step):
        few = slice(start, min(start + step, count))
        xs = pairs.left[few]
        ys = pairs.right[few]
        if not is_wide:
            xs = [converted(x, convert) for x in xs]
            ys = [converted(y, convert) for y in ys]
        matrices_x = [x.dense() for x in xs]
        matrices_y = [y.dense() for y in ys]
        rows = coupling.rows[few, :]
        cols = coupling.cols[few, :]
        part = sums(matrices_x, matrices_y, rows, cols, mass[few, :])
        parts.append(part)
    return _array.namespace(mass).concat(parts)


def _sums_of_squares(
    xs: Sequence[Array],
    ys: Sequence[Array],
    rows: Array,
    cols: Array,
    mass: Array,
) -> Array:
    """Sum over the atoms of each coupling (b, K) by itself.

    NumPy's calls cost less than passes over arrays that are padded.
    """
    values = []
    atoms = np.count_nonzero(mass, axis=1).tolist()
    for k, count in enumerate(atoms):
        C = xs[k]
        D = ys[k]
        i = rows[k, :count]
        j = cols[k, :count]
        weights = mass[k, :count]
        # In place, as C and D are copied by taking rows and columns of them.
        difference = C.take(i, axis=1).take(i, axis=0)  # (count, count)
        difference -= D.take(j, axis=1).take(j, axis=0)
        difference *= difference
        value = weights @ (difference @ weights)
        values.append(value)
    return np.stack(values)


def _sums_of_squares_together(
    xs: Sequence[Array],
    ys: Sequence[Array],
    rows: Array,
    cols: Array,
    mass: Array,
) -> Array:
    """Sum over the atoms of all couplings (b, K) in one call.

    Atoms without mass, which come last and name atom 0, add nothing.
    """
    difference = _submatrices(xs, rows) - _submatrices(ys, cols)  # (b, K, K)
    sums = _array.times(difference * difference, mass)  # (b, K)
    return _array.dot(mass, sums)


def _submatrices(matrices: Sequence[Array], atoms: Array) -> Array:
    """Return C[i, i] for b symmetric matrices C and lists i of K atoms, (b, K, K).

    Whole rows are taken twice, of C and of the transpose of what that gives.
    """
    xp = _array.namespace(atoms)
    count, width = atoms.shape
    sizes = [matrix.shape[0] for matrix in matrices]
    size = max(sizes)
    # Rows of all matrices are numbered one after the other.
    device = _array.device(atoms)
    problem = xp.arange(count, device=device)  # (b,)
    first = size * problem[:, None]  # (b, 1)
    flat_atoms = xp.reshape(atoms + first, (-1,))
    rows = xp.reshape(_array.stacked(matrices, size), (count * size, size))
    rows = xp.take(rows, flat_atoms, axis=0)
    rows = xp.reshape(rows, (count, width, size))
    cols = xp.permute_dims(rows, (0, 2, 1))
    cols = xp.reshape(cols, (count * size, width))
    submatrices = xp.take(cols, flat_atoms, axis=0)
    return xp.reshape(submatrices, (count, width, width))
