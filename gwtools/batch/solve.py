"""Many problems at once: lists of spaces in, a list of results out, each what the single call returns."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from gwtools import _array, _check, _check_spaces, _memory
from gwtools._array import Array, NumpyArray
from gwtools._stacks import at, split
from gwtools.batch import certificates, gather, sinkhorn, threads
from gwtools.batch.certificates import Summary
from gwtools.batch.gather import groups, spaces, without_null_values
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.moments import norm_bound, spectral_bound
from gwtools.certify import EFFORTS, CertifiedObjective, certified_objective
from gwtools.plans import DensePlan, Plan, SparsePlan, make_unchecked, relative_entropy
from gwtools.problems import GWProblem, Prepared, Quadratic, common_offset, detached, prepare, safe_size
from gwtools.results import ConvergenceError, ConvergenceWarning, GWResult, Status
from gwtools.solve import final_status, require_memory, result_of, solve, within_certificate
from gwtools.solvers import ConditionalGradient, Outcome, Sinkhorn, Solver, Sorted
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import SortingCoupling, comonotone, cost, equal_weights

R = TypeVar("R")


class Solved(NamedTuple):
    """What is known of b problems: their places, the fields of their results, their plans before they are cut, profiles."""

    places: Sequence[int]
    plans: Sequence[Plan]
    objective: Array
    estimate: Array
    statuses: Sequence[Status]
    iterations: Sequence[int]
    gaps: Sequence[float | None]
    stacked: Any
    leaves: NumpyArray  # how far above the minimum the solver may stop, in squared units of C
    known: tuple[Summary, Summary] | None = None
    epsilons: NumpyArray | None = None  # where the entropy is part of what the solver minimises


def solve_batch(
    xs: Sequence[Any],
    ys: Sequence[Any],
    solver: Solver | None = None,
    *,
    effort: str = "linear",
    throw: bool = False,
    memory_limit: float | None = None,
) -> list[GWResult]:
    """Solve many problems at once; each result is that of :func:`gwtools.solve`.

    Equal up to rounding, which a tie of the stopping criterion, and the path of an entropic solver from a cold start at
    small ε, can magnify. Problems are grouped by size, padded with atoms without weight and computed together; each stops
    by itself. Fast where spaces are small and many: a padded group holds the matrices of its spaces, whatever form they are
    stored in; spaces whose matrices are larger than all that the solver needs of them are solved by themselves. In NumPy what
    takes long, eigenvalues and the iterations of Sinkhorn, runs on as many threads as the process may use processors, or as
    the environment variable GWTOOLS_NUM_THREADS says; their number changes no digit.

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes, all of one array library, dtype and device.
    solver : Solver, optional
        :class:`gwtools.Sorted` and :class:`gwtools.Sinkhorn` run together; any other one, as by default
        :class:`gwtools.ConditionalGradient`, problem by problem. So does Sinkhorn in JAX, which compiles for every new shape,
        where row means are constant, and where gradients with respect to weights are asked for.
    effort : {"linear", "quadratic", "cubic"}
        What each certificate may spend. Those of linear effort are computed together, except between two spaces that both
        have a form of lower rank than their size.
    throw : bool
        Raise :class:`gwtools.ConvergenceError` for the first problem whose criterion is not met, instead of warning once.
    memory_limit : float, optional
        Bytes that one problem may use; by default what is free, as in :func:`gwtools.solve`.

    Returns
    -------
    list of B GWResult
        In the order of the problems. Objectives, distances and estimates keep library, dtype, device and gradient graph.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work; so where the lists differ in length.
    MemoryError
        If what a problem needs does not fit, before any work.
    ConvergenceError
        With ``throw=True``, where a criterion is not met.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of problems whose criterion is not met.
    """
    left, right = spaces(xs, ys)
    solver = ConditionalGradient() if solver is None else solver
    _check.instance(solver, "solver", Solver, "pass an instance such as gwtools.Sinkhorn()")
    _check.choice(effort, "effort", EFFORTS)
    _check.flag(throw, "throw")
    _check.memory_limit(memory_limit)
    is_torch = bool(left) and _array.library(left[0].weights) == "torch"
    for i, (x, y) in enumerate(zip(left, right, strict=True)):
        require_memory(x, y, solver, effort, memory_limit, f"xs[{i}] and ys[{i}]")
        if is_torch:
            _check_spaces.readable((x.data, x.weights, y.data, y.weights), f"xs[{i}] and ys[{i}]")
    threads.processors()  # a wrong number of threads is refused here
    results: list[Any] = [None] * len(left)
    places = [i for i in range(len(left)) if _may_be_padded(left[i], right[i], solver, memory_limit)]
    usable = [[without_null_values(side[i]) for i in places] for side in (left, right)]
    for k, result in _together(usable[0], usable[1], solver, effort):
        results[places[k]] = result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for i, result in enumerate(results):
            if result is None:
                results[i] = _alone(i, left[i], right[i], solver, effort)
    # Of the given spaces: those without null values name copies.
    results = [replace(r, names=(x.names, y.names)) for r, x, y in zip(results, left, right, strict=True)]
    _report(results, throw)
    return results


def _may_be_padded(x: Space, y: Space, solver: Solver, limit: float | None) -> bool:
    """Tell whether matrices of both spaces, as padded groups hold them, are few or no more than what the solver needs alone."""
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return True
    squares, entries = float(x.size**2 + y.size**2), float(x.size * y.size)
    held = 6 * squares if isinstance(solver, Sorted) else 4 * squares + 8 * entries
    return _memory.numbers_surely_fit(held, limit) or held <= solver.numbers_held(x, y)


Proofs = Sequence[CertifiedObjective | None]
Run = Callable[[Solved], tuple[Solved, Proofs]]


def _together(
    left: Sequence[Space], right: Sequence[Space], solver: Solver, effort: str
) -> Iterator[tuple[int, GWResult]]:
    """Solve and certify what can be solved together; the other problems are solved by themselves."""
    if not left or not isinstance(solver, Sorted | Sinkhorn):
        return

    def proved(solved: Solved) -> tuple[Solved, Proofs]:
        xs, ys = ([side[i] for i in solved.places] for side in (left, right))
        return solved, _certificates(xs, ys, solved) if effort == "linear" else [None] * len(xs)

    if isinstance(solver, Sorted):
        found = _sorted(left, right, solver, proved)
    elif solver.proximal and _array.on_cpu(left[0].weights):
        yield from _annealed(left, right, solver, effort)
        return
    else:
        found = _scaled(left, right, solver, proved)
    for solved, proofs in found:
        yield from zip(solved.places, _results(left, right, solved, proofs, solver, effort), strict=True)


def _extremes(s: Space) -> tuple[Array, Array]:
    """Read the least and the largest value of each matrix of a stack."""
    xp, matrix = _array.namespace(s.weights), s.dense()
    return xp.min(matrix, axis=(1, 2)), xp.max(matrix, axis=(1, 2))


def _in_range(x: Sequence[Array], y: Sequence[Array]) -> NumpyArray:
    """Tell by the ends of the values of C and D which problems need neither other units nor a shift, shape (B,)."""
    low, high = (np.stack([_array.to_numpy(v) for v in ends]) for ends in zip(x, y, strict=True))
    top, safe = np.maximum(high, -low).max(axis=0), safe_size(x[0])
    offset = np.array([common_offset(*ends) for ends in np.concatenate([low, high]).T.tolist()])
    return np.asarray((((1 / safe < top) & (top < safe)) | (top == 0.0)) & (offset == 0.0))


def _alone(place: int, x: Space, y: Space, solver: Solver, effort: str) -> GWResult:
    try:
        return solve(x, y, solver, effort=effort)
    except ValueError as error:  # of values out of range
        raise ValueError(f"xs[{place}] and ys[{place}]: {error}") from None


def _report(results: Sequence[GWResult], throw: bool) -> None:
    missed = [r for r in results if r.status.failure]
    if missed and throw:
        raise ConvergenceError(missed[0])
    if missed:
        text = f"{len(missed)} of {len(results)} problems: {missed[0].status.value}"
        warnings.warn(text, ConvergenceWarning, stacklevel=3)


def _sorted(left: Sequence[Space], right: Sequence[Space], solver: Sorted, run: Run) -> Sequence[tuple[Solved, Proofs]]:
    """Run the problems that :class:`gwtools.Sorted` solves together; spectra are computed beside all else on threads."""

    def coupled(survey: gather.Survey) -> list[tuple[Solved, Proofs]]:
        parts = (_coupled(left, right, survey, group) for group in groups(left, right, lists=True))
        return [run(part) for part in parts if part is not None]

    convert, spectra = _array.at_least_single, None
    if solver.kind == "spectral":
        with gather.surveyed(left, right, _with_matrices, convert, dense=True) as (survey, finish):
            found, spectra = coupled(survey), finish()
    else:
        found = coupled(gather.survey(left, right, certificates.read, convert, dense=True))
    return [(solved._replace(estimate=_estimate(solved, solver, spectra)), proofs) for solved, proofs in found]


def _with_matrices(s: Space) -> tuple[Array, ...]:
    """Read the matrices whose eigenvalues are wanted, too."""
    residual = s.residual()
    return (*certificates.read(s, residual), gather.finite(residual.compact()))


def _coupled(left: Sequence[Space], right: Sequence[Space], survey: gather.Survey, group: NumpyArray) -> Solved | None:
    """Compute the sorting couplings of a group of problems, but for those of values out of range; estimates are to follow."""
    known = _known(survey.at(group))
    places = group[_in_range(*((of.low, of.high) for of in known))]
    if not places.size:
        return None
    if places.size < group.size:
        known = _known(survey.at(places))
    x, y = (of.moments for of in known)
    atoms = comonotone(x.row_means, x.weights, y.row_means, y.weights)
    xs, ys = ([side[i] for i in places] for side in (left, right))
    objective, plans = _objective(xs, ys, atoms, _array.at_least_single), _plans(xs, ys, atoms)
    rest = [Status.CLOSED_FORM] * len(xs), [0] * len(xs), [None] * len(xs), atoms, np.zeros(len(xs)), known
    return Solved(places.tolist(), plans, objective, None, *rest)


def _estimate(solved: Solved, solver: Sorted, spectra: gather.Survey | None) -> Array:
    """Return the closed forms of sorted values, shape (B,)."""
    (x, y), atoms = (of.moments for of in cast(tuple[Summary, Summary], solved.known)), solved.stacked
    if spectra is not None:
        (first,), (second,) = spectra.at(np.asarray(solved.places))
        return spectral_bound(x, y, first, second, atoms)
    if solver.kind == "norm":
        return norm_bound(x, y, atoms)
    return cost(atoms, x.row_means, y.row_means, solver.p)


class Iterated(NamedTuple):
    """Problems whose kernels were scaled together: their places, the problems without gradients, what was found."""

    places: Sequence[int]
    still: Quadratic
    found: sinkhorn.Found


def _iterated(
    left: Sequence[Space], right: Sequence[Space], solver: Sinkhorn, run: Callable[[Iterated], R]
) -> Sequence[R]:
    """Scale the kernels of problems together, and do something with each group of them: those with a slope at the start."""
    if solver.epsilon is not None:
        _check.representable(solver.epsilon, "epsilon", left[0].weights)
    if _array.library(left[0].weights) == "jax":
        return []
    easy = _in_range(*(gather.gathered(side, _extremes, dense=True) for side in (left, right)))
    fixed = [i for i in range(len(left)) if easy[i] and not any(_array.tracked(s.weights) for s in (left[i], right[i]))]

    def part(group: NumpyArray) -> R | None:
        places = [fixed[i] for i in group]
        xs, ys = ([detached(side[i]) for i in places] for side in (left, right))
        still = sinkhorn.problems(xs, ys)
        motionless, sloping = split(sinkhorn.is_still(still, solver))
        if not sloping:
            return None
        places = [places[i] for i in sloping]
        problem = still
        if motionless:
            n, m = (max(side[i].size for i in places) for side in (left, right))
            problem = sinkhorn.cut(at(still, sloping), n, m)
        return run(Iterated(places, problem, sinkhorn.solve(problem, solver)))

    parts = list(groups([left[i] for i in fixed], [right[i] for i in fixed]))
    entries = sum(left[i].size * right[i].size for i in fixed) / max(len(parts), 1)
    found = threads.each(part, parts, left[0].weights, entries)
    return [of_group for of_group in found if of_group is not None]


def _annealed(
    left: Sequence[Space], right: Sequence[Space], solver: Sinkhorn, effort: str
) -> Iterator[tuple[int, GWResult]]:
    """Anneal together; each plan is then finished and certified as that of a single problem."""
    for places, _, found in _iterated(left, right, solver, lambda iterated: iterated):
        for k, i in enumerate(places):
            ready = prepare(left[i], right[i])
            outcome = _outcome(found, k, left[i], right[i], ready)
            outcome = solver.finished(GWProblem(ready.x, ready.y), outcome)
            yield i, result_of(left[i], right[i], ready, outcome, solver, effort)


def _outcome(found: sinkhorn.Found, k: int, x: Space, y: Space, ready: Prepared) -> Outcome:
    """Return what the k-th problem of a group came to, over the atoms that carry weight."""
    plan = found.plan[k, : x.size, : y.size]
    for axis, atoms in enumerate(ready.atoms):
        plan = plan if atoms is None else _array.namespace(plan).take(plan, atoms, axis=axis)
    return Outcome(make_unchecked(DensePlan, matrix=plan), found.status[k], found.iterations[k])


def _scaled(
    left: Sequence[Space], right: Sequence[Space], solver: Sinkhorn, run: Run
) -> Sequence[tuple[Solved, Proofs]]:
    """Scale kernels together to the end, and evaluate the plans within the spaces' gradient graph."""

    def evaluated(iterated: Iterated) -> tuple[Solved, Proofs]:
        places, still, found = iterated
        xs, ys = ([side[i] for i in places] for side in (left, right))
        live = any(_array.tracked(s.data) for s in (*xs, *ys))
        problem = sinkhorn.problems(xs, ys) if live else still
        plan = make_unchecked(DensePlan, matrix=found.plan)
        objective = problem.value(plan, problem.cross(plan))
        plans = [
            make_unchecked(DensePlan, matrix=found.plan[i, : x.size, : y.size])
            for i, (x, y) in enumerate(zip(xs, ys, strict=True))
        ]
        status, gaps = list(found.status), [None if math.isnan(g) else g for g in _array.to_numpy(found.gap).tolist()]
        if solver.proximal:
            for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
                ready = prepare(x, y)
                judged = solver.finished(GWProblem(ready.x, ready.y), _outcome(found, k, x, y, ready))
                status[k], gaps[k] = judged.status, judged.frank_wolfe_gap if gaps[k] is None else gaps[k]
        leaves = solver.tolerance * _array.to_numpy(still.variation)
        epsilons = None if solver.proximal else _array.to_numpy(solver.final_epsilon(still))
        rest = status, found.iterations, gaps, found.plan, leaves, None, epsilons
        return run(Solved(places, plans, objective, objective, *rest))

    return _iterated(left, right, solver, evaluated)


def _objective(left: Sequence[Space], right: Sequence[Space], atoms: SortingCoupling, convert: gather.Convert) -> Array:
    """Objectives of sorting couplings, shape (B,); matrices are made for few problems at a time."""
    mass, parts = convert(atoms.mass), []
    step = max(1, gather.block_entries(mass) // mass.shape[1] ** 2)
    for start in range(0, len(left), step):
        few = slice(start, min(start + step, len(left)))
        x, y = ([s.dense() for s in gather.converted_all(side[few], convert)] for side in (left, right))
        parts.append(gather.objective(x, y, atoms.rows[few, :], atoms.cols[few, :], mass[few, :]))
    return _array.namespace(mass).concat(parts)


def _plans(left: Sequence[Space], right: Sequence[Space], atoms: SortingCoupling) -> list[SparsePlan]:
    rows, cols, mass = atoms
    counts = _array.to_numpy(_array.namespace(mass).count_nonzero(mass, axis=1)).tolist()
    return [
        make_unchecked(SparsePlan, rows=rows[i, :k], cols=cols[i, :k], mass=mass[i, :k], size=(x.size, y.size))
        for i, (k, x, y) in enumerate(zip(counts, left, right, strict=True))
    ]


def _results(
    left: Sequence[Space], right: Sequence[Space], solved: Solved, proofs: Proofs, solver: Solver, effort: str
) -> Iterator[GWResult]:
    """Cut arrays over all problems into results; certificates that need more than these bounds are made one by one."""
    distance, name = _array.root(solved.objective), str(solver)
    equal = None  # weights, known of sorting couplings
    if solved.known is not None:
        equal = _array.to_numpy(equal_weights(*(of.moments.weights for of in solved.known)))
    for i, (place, plan, proof) in enumerate(zip(solved.places, solved.plans, proofs, strict=True)):
        x, y = left[place], right[place]
        tolerance = float(solved.leaves[i])
        if equal is not None:
            # Two forms of low rank have a bound of their own at linear effort, and atoms of equal weights a better upper end.
            alone = gather.saves_work(x) and gather.saves_work(y)
            alone |= plan.masses.shape[0] == x.size == y.size and not equal[i]
        else:
            # Matrices of masses are evaluated by the forms of low rank, whose rounding is another.
            alone = gather.is_low_rank(x) or gather.is_low_rank(y)
        # An objective of 0 may be that of copies, which is without rounding.
        if proof is None or proof.objective == 0.0 or alone:
            proof = certified_objective(x, y, plan, effort, tolerance)
        objective, root, certificate = within_certificate(solved.objective[i], distance[i], proof, tolerance)
        estimate = objective if solved.estimate is solved.objective else solved.estimate[i]
        status, steps, gap = final_status(solved.statuses[i], certificate), solved.iterations[i], solved.gaps[i]
        regularized = None
        if solved.epsilons is not None:
            regularized = objective + float(solved.epsilons[i]) * relative_entropy(plan, x.weights, y.weights)
        yield GWResult(objective, root, estimate, plan, status, certificate, steps, gap, name, regularized)


def _certificates(left: Sequence[Space], right: Sequence[Space], solved: Solved) -> Sequence[CertifiedObjective]:
    """Certify couplings together, in float64."""
    atoms = solved.stacked if isinstance(solved.stacked, SortingCoupling) else None
    mass = _array.detached(solved.stacked if atoms is None else atoms.mass)
    wide, objective, known = _array.widen(mass), solved.objective, solved.known
    if atoms is not None:
        if _array.library(wide) != _array.library(mass):
            atoms = SortingCoupling(*(_array.to_numpy(v) for v in atoms))
        atoms = atoms._replace(mass=wide)
    # Row means as stored are sorted by the atoms, and so are deviations from their mean; wider ones need not be.
    order = atoms
    if known is None or wide.dtype != mass.dtype:
        order = None
        left, right = ([detached(s) for s in side] for side in (left, right))
        survey = gather.survey(left, right, certificates.read, _array.widen, dense=True)
        known = _known(survey.at(np.arange(len(left))))
    if wide.dtype != mass.dtype and atoms is not None:
        objective = _objective(left, right, atoms, _array.widen)
    elif wide.dtype != mass.dtype:
        problem = sinkhorn.problems(left, right, _array.widen)
        plan = make_unchecked(DensePlan, matrix=wide)
        objective = problem.value(plan, problem.cross(plan))
    value = _array.to_numpy(objective)
    pair = EnclosedPair(certificates.enclosures(left, known[0]), certificates.enclosures(right, known[1]))
    upper = certificates.of_matrices(pair, wide, value) if atoms is None else certificates.of_atoms(pair, atoms, value)
    return certificates.certify(pair, upper, solved.leaves, order)


def _known(fields: tuple[Sequence[Array], Sequence[Array]]) -> tuple[Summary, Summary]:
    x, y = fields
    return certificates.summary(x), certificates.summary(y)
