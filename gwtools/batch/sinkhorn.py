"""Many problems by Sinkhorn's scaling at once: padded, and iterated by :class:`gwtools.Sinkhorn` until each stops by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools._stacks import Mask, chosen, filled, is_finite, repeated, split, together
from gwtools.batch import certificates, gather, threads
from gwtools.batch.gather import Pairs
from gwtools.batch.results import Group, results
from gwtools.certify import CertifiedObjective
from gwtools.plans import DensePlan, make_unchecked
from gwtools.problems import GWProblem, PaddedSpaces, Prepared, Quadratic, prepare
from gwtools.results import GWResult, Status
from gwtools.solve import result_of
from gwtools.solvers import Outcome, Sinkhorn
from gwtools.solvers.base import QUIET
from gwtools.solvers.entropic_state import STATUSES, State
from gwtools.solvers.starts import is_stationary_at_product
from gwtools.spaces import Space


def problems(
    left: Sequence[Space],
    right: Sequence[Space],
    convert: gather.Convert = _array.at_least_single,
) -> Quadratic:
    """Bring B pairs of spaces together; gradients pass."""
    return Quadratic(_padded(left, convert), _padded(right, convert))


def _padded(spaces: Sequence[Space], convert: gather.Convert) -> PaddedSpaces:
    size = max(space.size for space in spaces)
    parts, positions = [], []
    for block, stack in gather.stacks(spaces, convert):
        weights = _array.padded(stack.weights, size)
        deviations = _array.padded(stack.deviations, size)
        residual = _array.padded(stack.residual().dense(), size, axes=2)
        parts.append(
            PaddedSpaces(
                weights, deviations, stack.mean, residual, stack.residual_norm_squared()
            )
        )
        positions += block
    return together(parts, positions)


class Scaled(NamedTuple):
    """Pairs whose kernels were scaled together, and what was found of them."""

    positions: list[int]  # of the pairs among all
    problem: Quadratic  # outside any gradient graph
    plan: Array  # (b, n, m)
    gap: Array  # Frank-Wolfe gaps (b,), NaN where none was computed
    statuses: list[Status]
    iterations: list[int]

    def outcome(self, k: int, x: Space, y: Space) -> Outcome:
        """Return what the k-th pair came to."""
        plan = make_unchecked(DensePlan, matrix=self.plan[k, : x.size, : y.size])
        gap = float(self.gap[k])
        return Outcome(
            plan, self.statuses[k], self.iterations[k], None if math.isnan(gap) else gap
        )


def solve(
    pairs: Pairs, solver: Sinkhorn, effort: str
) -> Iterator[tuple[int, GWResult]]:
    """Yield positions and results of the pairs that can be scaled together: those that have a slope at the product coupling.

    None in JAX, which compiles for every new shape, and none where gradients in the
    weights are asked for.
    """
    like = pairs.left[0].weights
    if solver.epsilon is not None:
        _check.representable(solver.epsilon, "epsilon", like)
    if _array.library(like) == "jax":
        return
    usable = _finite_or_zero(pairs)
    usable_pairs = pairs.at(usable).detached()
    groups = list(gather.groups(usable_pairs))

    def scale(group: NumpyArray) -> Scaled | None:
        return _scaled(usable_pairs, group, solver)

    entries = sum(x.size * y.size for x, y in zip(*usable_pairs, strict=True)) / max(
        len(groups), 1
    )
    for scaled in threads.each(scale, groups, like, entries):
        if scaled is None:
            continue
        scaled = scaled._replace(positions=usable[scaled.positions].tolist())
        if solver.proximal and _array.on_cpu(like):
            yield from _finished(pairs, scaled, solver, effort)
        else:
            yield from results(
                _evaluated(pairs.at(scaled.positions), scaled, solver, effort),
                solver,
                effort,
            )


def _finite_or_zero(pairs: Pairs) -> NumpyArray:
    """Return the positions of pairs whose values are in range, and of whose weights no gradients are asked for."""
    x, y = gather.read_fields(pairs, _extremes, dense=True).at(
        np.arange(len(pairs.left))
    )
    usable = gather.are_in_range((x[0], y[0]), (x[1], y[1]))
    tracked = [
        _array.tracked(x.weights) or _array.tracked(y.weights)
        for x, y in zip(*pairs, strict=True)
    ]
    return np.flatnonzero(usable & ~np.array(tracked))


def _extremes(s: Space) -> tuple[Array, Array]:
    """Read the least and the largest value of each matrix of a stack."""
    xp, matrix = _array.namespace(s.weights), s.dense()
    return xp.min(matrix, axis=(1, 2)), xp.max(matrix, axis=(1, 2))


def _scaled(pairs: Pairs, positions: NumpyArray, solver: Sinkhorn) -> Scaled | None:
    """Scale the kernels of pairs, but for those where no step from the product coupling starts by its slope."""
    problem = problems(*pairs.at(positions))
    stationary = is_stationary_at_product(problem, solver.negligible(problem))
    without_slope, sloping = split(
        stationary | (problem.variation <= problem.float_error)
    )
    if not sloping:
        return None
    if without_slope:
        positions = positions[sloping]
        problem = problems(*pairs.at(positions))
    last, iterations = _repeated(problem, solver)
    codes = _array.to_numpy(last.code).astype(int).tolist()
    statuses = [STATUSES[code] or Status.MAX_ITERATIONS for code in codes]
    return Scaled(
        positions.tolist(), problem, last.plan, last.gap, statuses, iterations
    )


class _Run(NamedTuple):
    problem: Quadratic
    state: State


class _Last(NamedTuple):
    plan: Array
    gap: Array
    code: Array


def _repeated(problem: Quadratic, solver: Sinkhorn) -> tuple[_Last, list[int]]:
    """Repeat the solver's step until each problem stops; what is not finite stops a problem at its last state."""

    def step(run: _Run) -> _Run:
        following = solver.step(run.problem, run.state)
        code = filled(following.code, STATUSES.index(Status.NON_FINITE))
        finite = is_finite(following.relative_objective)
        return run._replace(
            state=chosen(finite, following, run.state._replace(code=code))
        )

    def is_done(run: _Run) -> Mask:
        return run.state.code > 0

    def last(run: _Run) -> _Last:
        return _Last(run.state.matrix, run.state.gap, run.state.code)

    with QUIET():
        start = _Run(problem, solver.start(problem))
        return repeated(step, is_done, start, last, solver.max_iterations)


def _finished(
    pairs: Pairs, scaled: Scaled, solver: Sinkhorn, effort: str
) -> Iterator[tuple[int, GWResult]]:
    """Finish and certify each plan as that of a single problem."""
    for k, position in enumerate(scaled.positions):
        x, y = pairs.left[position], pairs.right[position]
        ready = prepare(x, y)
        outcome = _finished_outcome(ready, scaled.outcome(k, x, y), solver)
        yield position, result_of(x, y, ready, outcome, solver, effort)


def _finished_outcome(ready: Prepared, outcome: Outcome, solver: Sinkhorn) -> Outcome:
    """Have the solver go on with a plan, or judge it, on the atoms that carry weight."""
    matrix = outcome.plan.dense()
    for axis, atoms in enumerate(ready.atoms):
        if atoms is not None:
            matrix = _array.namespace(matrix).take(matrix, atoms, axis=axis)
    plan = make_unchecked(DensePlan, matrix=matrix)
    return solver.finished(GWProblem(ready.x, ready.y), replace(outcome, plan=plan))


def _evaluated(pairs: Pairs, scaled: Scaled, solver: Sinkhorn, effort: str) -> Group:
    """Evaluate plans within the spaces' gradient graph and, at linear effort, certify them."""
    is_tracked = any(_array.tracked(s.data) for s in (*pairs.left, *pairs.right))
    objective = _objectives(
        problems(*pairs) if is_tracked else scaled.problem, scaled.plan
    )
    accepted_gaps = solver.tolerance * _array.to_numpy(scaled.problem.variation)
    certified = (
        _proofs(pairs, scaled.plan, objective, accepted_gaps)
        if effort == "linear"
        else None
    )
    outcomes, proofs = [], []
    for k, (x, y) in enumerate(zip(*pairs, strict=True)):
        outcome = scaled.outcome(k, x, y)
        if solver.proximal:
            judged = _finished_outcome(prepare(x, y), outcome, solver)
            outcome = replace(
                outcome, status=judged.status, frank_wolfe_gap=judged.frank_wolfe_gap
            )
        outcomes.append(outcome)
        # Forms of low rank evaluate a plan in another way, with other float errors.
        is_low_rank = math.isfinite(min(gather.rank(x), gather.rank(y)))
        proofs.append(None if certified is None or is_low_rank else certified[k])
    epsilons = (
        None
        if solver.proximal
        else _array.to_numpy(solver.final_epsilon(scaled.problem))
    )
    return Group(
        scaled.positions, pairs, outcomes, objective, proofs, accepted_gaps, epsilons
    )


def _objectives(problem: Quadratic, matrix: Array) -> Array:
    plan = make_unchecked(DensePlan, matrix=matrix)
    return problem.value(plan, problem.cross(plan))


def _proofs(
    pairs: Pairs, plan: Array, objective: Array, accepted_gaps: NumpyArray
) -> list[CertifiedObjective]:
    """Certify plans (b, n, m) in float64."""
    pairs = pairs.detached()
    wide = _array.widen(plan)
    if wide.dtype != plan.dtype:
        objective = _objectives(problems(*pairs, _array.widen), wide)
    pair = certificates.enclosed(pairs, *certificates.widened_summaries(pairs))
    upper = certificates.of_matrices(pair, wide, _array.to_numpy(objective))
    return certificates.certify(pair, upper, accepted_gaps)
