"""Many problems at once: lists of spaces in, a list of results out, each what the single call returns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.batch import certificates, gather, lines, stacks
from gwtools.batch.gather import Profile
from gwtools.batch.lines import Atoms
from gwtools.certify import EFFORTS, certify
from gwtools.plans import Plan, SparsePlan
from gwtools.results import Certificate, ConvergenceError, ConvergenceWarning, GWResult, Status
from gwtools.solve import solve
from gwtools.solvers import ConditionalGradient, Solver, Sorted
from gwtools.spaces import Space, as_space

_STEP = 8
_ENTRIES = 2**18


def spaces(xs: Sequence[Any], ys: Sequence[Any]) -> tuple[list[Space], list[Space]]:
    """Read two lists of as many spaces, all of one library, dtype and device."""
    left, right = (
        [as_space(v, f"{name}[{i}]") for i, v in enumerate(values)] for values, name in ((xs, "xs"), (ys, "ys"))
    )
    if len(left) != len(right):
        raise ValueError(
            f"xs and ys must have the same length, but have {len(left)} and {len(right)}: pass one y for each x."
        )
    kinds: dict[Any, Array] = {}
    for space in (*left, *right):
        weights = space.weights
        kinds.setdefault((type(weights), weights.dtype, _array.device(weights)), weights)
    for weights in kinds.values():
        _check.same_kind(weights, left[0].weights, "every space", "the first one")
    return left, right


def groups(left: Sequence[Space], right: Sequence[Space]) -> Iterator[list[int]]:
    """Split problems by sizes that round up to the same multiple of eight, a few hundred thousand entries at a time."""
    buckets: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(zip(left, right, strict=True)):
        buckets.setdefault((-(-x.size // _STEP), -(-y.size // _STEP)), []).append(i)
    for key, members in buckets.items():
        count = max(1, _ENTRIES // (max(key) * _STEP) ** 2)
        yield from (members[start : start + count] for start in range(0, len(members), count))


def solve_batch(
    xs: Sequence[Any], ys: Sequence[Any], solver: Solver | None = None, *, effort: str = "linear", throw: bool = False
) -> list[GWResult]:
    """Solve many problems at once; each result is that of :func:`gwtools.solve`.

    Problems are grouped by size, padded with atoms without weight and computed together; each stops by itself. Fast where
    spaces are small and many: a padded group holds the matrices of its spaces, whatever form they are stored in.

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes, all of one array library, dtype and device.
    solver : Solver, optional
        :class:`gwtools.Sorted` runs together; any other one, as by default :class:`gwtools.ConditionalGradient`, problem
        by problem.
    effort : {"linear", "quadratic", "cubic"}
        What each certificate may spend. Those of linear effort are computed together, except between two spaces that both
        have a low-rank form.
    throw : bool
        Raise :class:`gwtools.ConvergenceError` for the first problem whose criterion is not met, instead of warning once.

    Returns
    -------
    list of B GWResult
        In the order of the problems. Objectives, distances and estimates keep library, dtype, device and gradient graph.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work; so where the lists differ in length.
    ConvergenceError
        With ``throw=True``, where a criterion is not met.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of problems whose criterion is not met.
    """
    left, right = spaces(xs, ys)
    solver = ConditionalGradient() if solver is None else solver
    _check.choice(effort, "effort", EFFORTS)
    results: list[Any] = [None] * len(left)
    if isinstance(solver, Sorted) and left:
        easy = _in_range(left, right)
        found = _sorted([left[i] for i in easy], [right[i] for i in easy], solver, effort) if easy else []
        for i, result in zip(easy, found, strict=True):
            results[i] = result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for i, result in enumerate(results):
            if result is None:
                results[i] = solve(left[i], right[i], solver, effort=effort)
    _report(results, throw)
    return results


def _in_range(left: Sequence[Space], right: Sequence[Space]) -> list[int]:
    """Find the problems in which squares keep their digits without a change of units; others are solved by themselves."""
    tops = [_array.to_numpy(gather.gathered(side, lambda s: (s.largest,), dense=True)[0]) for side in (left, right)]
    top, safe = np.maximum(*tops), 2.0**200 if _array.epsilon(left[0].weights) < 1e-10 else 2.0**24
    return np.nonzero(((1 / safe < top) & (top < safe)) | (top == 0.0))[0].tolist()


def _report(results: Sequence[GWResult], throw: bool) -> None:
    missed = [r for r in results if not r.status.success]
    if missed and throw:
        raise ConvergenceError(missed[0])
    if missed:
        text = f"{len(missed)} of {len(results)} problems: {missed[0].status.value}"
        warnings.warn(text, ConvergenceWarning, stacklevel=3)


def _sorted(left: Sequence[Space], right: Sequence[Space], solver: Sorted, effort: str) -> list[GWResult]:
    """:class:`gwtools.Sorted` on all problems."""
    x, y = (gather.profile(side, dense=True) for side in (left, right))
    atoms = lines.comonotone(x.row_means, x.weights, y.row_means, y.weights)
    if solver.kind == "row_means":
        estimate = lines.total(atoms, x.row_means, y.row_means, solver.p)
    else:
        estimate = norm_of(x, y) if solver.kind == "norm" else spectral_of(left, right, x, y)
    objective = _objectives(left, right, atoms, _array.at_least_single)
    plans = _plans(left, right, atoms)
    proofs: list[Certificate] | None = None
    if effort == "linear":
        proofs = _certificates(left, right, (x, y), atoms, objective)
    return results(
        left,
        right,
        plans,
        objective,
        estimate,
        [Status.CLOSED_FORM] * len(plans),
        [0] * len(plans),
        proofs,
        solver,
        effort,
    )


def _objectives(left: Sequence[Space], right: Sequence[Space], atoms: Atoms, convert: gather.Convert) -> Array:
    """Objectives of sorting couplings, shape (B,), group by group."""
    places: list[int] = []
    parts = []
    for group in groups(left, right):
        sides = ([side[i] for i in group] for side in (left, right))
        x, y = (gather.stack(side, max(s.size for s in side), convert) for side in sides)
        rows, cols, mass = (gather.taken(v, group) for v in atoms[:3])
        width = int(_array.namespace(mass).max(lines.support(mass)))
        parts.append(stacks.objective(x, y, rows[:, :width], cols[:, :width], convert(mass[:, :width])))
        places.extend(group)
    return gather.in_order(parts, places)


def _plans(left: Sequence[Space], right: Sequence[Space], atoms: Atoms) -> list[SparsePlan]:
    rows, cols, mass = atoms[:3]
    counts = _array.to_numpy(lines.support(mass)).tolist()
    return [
        SparsePlan(rows[i, :k], cols[i, :k], mass[i, :k], (x.size, y.size))
        for i, (k, x, y) in enumerate(zip(counts, left, right, strict=True))
    ]


def _certificates(
    left: Sequence[Space],
    right: Sequence[Space],
    known: tuple[Profile, Profile],
    atoms: Atoms,
    objective: Array,
) -> list[Certificate]:
    """Certify sorting couplings together, in float64."""
    x, y = known
    wide = _array.widen(atoms.mass)
    if wide.dtype != atoms.mass.dtype:
        x, y = (gather.profile(side, _array.widen, dense=True) for side in (left, right))
        if _array.library(wide) != _array.library(atoms.mass):
            atoms = Atoms(*(_array.to_numpy(v) for v in atoms))
        atoms = atoms._replace(mass=wide)
        objective = _objectives(left, right, atoms, _array.widen)
    of_x, of_y = (certificates.facts(side) for side in (left, right))
    radii = certificates.radii(x, of_x), certificates.radii(y, of_y)
    upper = certificates.of_atoms(x, y, atoms, _array.to_numpy(objective), radii)
    return certificates.certify(x, y, of_x, of_y, radii, upper)


def results(
    left: Sequence[Space],
    right: Sequence[Space],
    plans: Sequence[Plan],
    objective: Array,
    estimate: Array,
    statuses: Sequence[Status],
    iterations: Sequence[int],
    proofs: Sequence[Certificate] | None,
    solver: Solver,
    effort: str,
) -> list[GWResult]:
    """Cut arrays over all problems into results; certificates that need more than these bounds are made one by one."""
    distance, name, found = stacks.rooted(objective, 2.0), str(solver), []
    for i, (x, y, plan) in enumerate(zip(left, right, plans, strict=True)):
        # Two low-rank forms have a bound of their own at linear effort.
        alone = proofs is None or (x.low_rank is not None and y.low_rank is not None)
        proof = certify(x, y, plan, effort) if alone or proofs is None else proofs[i]
        found.append(
            GWResult(objective[i], distance[i], estimate[i], plan, statuses[i], proof, iterations[i], None, name)
        )
    return found


def norm_of(x: Profile, y: Profile) -> Array:
    """Theorem 3 for two lists of spaces, shape (B,)."""
    gap = stacks.rooted(x.residual_norm_squared, 2.0) - stacks.rooted(y.residual_norm_squared, 2.0)
    return _additive_part(x, y) + gap**2


def spectral_of(left: Sequence[Space], right: Sequence[Space], x: Profile, y: Profile) -> Array:
    """Theorem 4 for two lists of spaces, shape (B,)."""
    size = max(s.size for s in (*left, *right))
    spectra = [gather.gathered(side, lambda s: (s.spectrum(),), size=size)[0] for side in (left, right)]
    xp = _array.namespace(spectra[0])
    # Padding zeros stand behind the eigenvalues: sorted, both signs are matched by rank.
    values = [xp.sort(v, axis=1) for v in spectra]
    parts = [[xp.clip(v, **side) for v in values] for side in ({"min": 0.0}, {"max": 0.0})]
    return _additive_part(x, y) + sum(xp.sum((first - second) ** 2, axis=1) for first, second in parts)


def _additive_part(x: Profile, y: Profile) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β), shape (B,)."""
    return (x.mean - y.mean) ** 2 + 2 * lines.line(x.deviations, x.weights, y.deviations, y.weights, 2.0)
