"""Many problems by Sinkhorn's algorithm at once: padded, each stops by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools._stacks import (
    Mask,
    chosen,
    filled,
    is_finite,
    repeated,
    split,
    together,
)
from gwtools.batch import certificates, fused_stacks, gather, threads
from gwtools.batch.fields import read_fields
from gwtools.batch.gather import Convert, Pairs
from gwtools.batch.history import StackHistory
from gwtools.batch.results import Group, results
from gwtools.certified_results import result_of
from gwtools.certify import CertifiedObjective
from gwtools.fused import Fused, problem_of
from gwtools.history import Step
from gwtools.plans import DensePlan, make_unchecked
from gwtools.preparation import Prepared, prepare
from gwtools.problems import Quadratic
from gwtools.results import GWResult, Status
from gwtools.solvers import Outcome, Sinkhorn
from gwtools.solvers.base import QUIET
from gwtools.solvers.entropic_state import STATUSES, State
from gwtools.solvers.starts import is_stationary_at_product
from gwtools.spaces import Space
from gwtools.spaces.padded import PaddedSpaces


def problems(
    left: Sequence[Space],
    right: Sequence[Space],
    convert: Convert = _array.at_least_single,
) -> Quadratic:
    """Return the problems between B pairs of spaces as one padded stack.

    Gradients pass.
    """
    return Quadratic(_padded(left, convert), _padded(right, convert))


def _stacked(pairs: Pairs) -> Quadratic:
    """Return the problems between pairs outside any gradient graph, fused or not."""
    plain = problems(pairs.left, pairs.right)
    return fused_stacks.stacked(plain, pairs) if pairs.fused else plain


def _padded(spaces: Sequence[Space], convert: Convert) -> PaddedSpaces:
    """Return the weights and the parts m, α and R of spaces, padded with zeros."""
    sizes = [space.size for space in spaces]
    size = max(sizes)
    parts: list[PaddedSpaces] = []
    positions: list[int] = []
    for block, stack in gather.stacks(spaces, convert):
        residual = stack.residual().dense()  # (g, n, n)
        part = PaddedSpaces(
            weights=_array.padded(stack.weights, size),
            deviations=_array.padded(stack.deviations, size),
            mean=stack.mean,
            matrix=_array.padded(residual, size, axes=2),
            norm_squared=stack.residual_norm_squared(),
        )
        parts.append(part)
        positions.extend(block)
    return together(parts, positions)


class Scaled(NamedTuple):
    """Pairs whose kernels were scaled together, and what the last step of each left."""

    positions: list[int]  # of the pairs among all
    problem: Quadratic  # outside any gradient graph
    plan: Array  # (b, n, m)
    gap: Array  # Frank-Wolfe gaps (b,), NaN where none was computed
    f: Array  # potentials (b, n) and
    g: Array  # (b, m), in squared units of C
    statuses: list[Status]
    iterations: list[int]
    histories: list[tuple[Step, ...]]
    started: float  # in seconds, by the clock of the histories

    def outcome(
        self,
        k: int,
        x: Space,
        y: Space,
    ) -> Outcome:
        """Return the outcome of the k-th pair, its plan without padding."""
        matrix = self.plan[k, : x.size, : y.size]
        gap = float(self.gap[k])
        # Copies, which do not keep the potentials of all pairs.
        xp = _array.namespace(matrix)
        f = xp.asarray(self.f[k, : x.size], copy=True)
        g = xp.asarray(self.g[k, : y.size], copy=True)
        return Outcome(
            plan=make_unchecked(DensePlan, matrix=matrix),
            status=self.statuses[k],
            iterations=self.iterations[k],
            frank_wolfe_gap=None if math.isnan(gap) else gap,
            potentials=(f, g),
            history=self.histories[k],
            started=self.started,
        )


def solve(
    pairs: Pairs,
    solver: Sinkhorn,
    effort: str,
) -> Iterator[tuple[int, GWResult]]:
    """Yield positions and results of the pairs that can be scaled together.

    These are the pairs whose values are in range, that are not stationary at the
    product coupling, and of whose weights no gradients are asked for. In JAX, which
    compiles for every new shape, there are none.
    """
    like = pairs.like
    if solver.epsilon is not None:
        _check.representable(solver.epsilon, "epsilon", like)
    if _array.library(like) == "jax":
        return
    # 1. Kernels are scaled outside any gradient graph, groups of them on threads.
    usable = _usable(pairs)
    usable_pairs = pairs.at(usable).detached()

    def scale(group: NumpyArray) -> Scaled | None:
        return _scaled(usable_pairs, group, solver)

    groups = list(gather.groups(usable_pairs))
    entries = 0
    for x, y in usable_pairs.each():
        entries += x.size * y.size
    entries_of_group = entries / max(len(groups), 1)
    for scaled in threads.each(scale, groups, like, entries_of_group):
        if scaled is None:
            continue
        # 2. Plans are evaluated within the graph of the pairs as they were given.
        positions = usable[scaled.positions].tolist()  # among all pairs
        scaled = scaled._replace(positions=positions)
        # On the CPU a proximal solver goes on by conditional gradient, plan by plan.
        one_by_one = solver.proximal and _array.on_cpu(like)
        # Fused plans are certified one by one.
        if one_by_one or pairs.fused:
            yield from _finished(pairs, scaled, solver, effort)
        else:
            group = _evaluated(pairs.at(positions), scaled, solver, effort)
            yield from results(group, solver, effort)


def _usable(pairs: Pairs) -> NumpyArray:
    """Return the positions of pairs in range without gradients in their weights."""
    fields = read_fields(pairs, _extremes, dense=True)
    every_pair = np.arange(len(pairs.left))
    (low_x, high_x), (low_y, high_y) = fields.at(every_pair)  # (B,) each
    in_range = gather.are_in_range((low_x, low_y), (high_x, high_y))
    # Gradients in the weights need the potentials, which padded problems do not keep.
    tracked = []
    for x, y in pairs.each():
        is_tracked = _array.tracked(x.weights) or _array.tracked(y.weights)
        tracked.append(is_tracked)
    usable = in_range & ~np.array(tracked)
    if pairs.fused:
        usable &= fused_stacks.are_in_range(pairs)
    return np.flatnonzero(usable)


def _extremes(stack: Space) -> tuple[Array, Array]:
    """Return the least and the largest value of each matrix of a stack, (g,)."""
    xp = _array.namespace(stack.weights)
    matrices = stack.dense()  # (g, n, n)
    axes = (1, 2)
    low = xp.min(matrices, axis=axes)
    high = xp.max(matrices, axis=axes)
    return low, high


def _scaled(
    pairs: Pairs,
    positions: NumpyArray,
    solver: Sinkhorn,
) -> Scaled | None:
    """Scale the kernels of the pairs that have a slope at the product coupling.

    None if there are none: no step starts from a stationary product coupling (theorem
    8 d), and where float errors exceed the variation there is nothing to minimise.
    These problems are solved by themselves.
    """
    problem = _stacked(pairs.at(positions))
    stationary = is_stationary_at_product(problem, solver.negligible(problem))
    constant = problem.variation <= problem.float_error
    without_slope, sloping = split(stationary | constant)
    if not sloping:
        return None
    # The others are made again without them: a stack is padded to its largest space.
    if without_slope:
        positions = positions[sloping]
        problem = _stacked(pairs.at(positions))
    history = StackHistory(problem)
    last, iterations = _repeated(problem, solver, history)
    codes = _array.to_numpy(last.code).astype(int)
    statuses = []
    for code in codes.tolist():
        # Of a problem that would go on, steps have run out.
        statuses.append(STATUSES[code] or Status.MAX_ITERATIONS)
    return Scaled(
        positions=positions.tolist(),
        problem=problem,
        plan=last.plan,
        gap=last.gap,
        f=last.f,
        g=last.g,
        statuses=statuses,
        iterations=iterations,
        histories=history.finished(),
        started=history.started,
    )


class _Run(NamedTuple):
    """What is iterated: problems leave the stack together with their states."""

    position: Array  # (b,), in the stack at the start
    problem: Quadratic
    state: State


class _Last(NamedTuple):
    """What is kept of the state in which a problem stops."""

    plan: Array  # (b, n, m)
    gap: Array  # (b,)
    f: Array  # (b, n), potentials
    g: Array  # (b, m)
    code: Array  # (b,), positions in STATUSES


def _repeated(
    problem: Quadratic,
    solver: Sinkhorn,
    history: StackHistory,
) -> tuple[_Last, list[int]]:
    """Repeat the solver's step until each problem stops.

    A problem whose objective is no longer finite stops at its last finite state.
    """

    def step(run: _Run) -> _Run:
        following = solver.step(run.problem, run.state)
        history.record(run.position, run.state, following)
        non_finite = filled(following.code, STATUSES.index(Status.NON_FINITE))
        stopped = run.state._replace(code=non_finite)
        finite = is_finite(following.relative_objective)
        return run._replace(state=chosen(finite, following, stopped))

    def is_done(run: _Run) -> Mask:
        return run.state.code > 0

    def last(run: _Run) -> _Last:
        state = run.state
        f, g = solver.potentials(run.problem, state)
        return _Last(state.matrix, state.gap, f, g, state.code)

    with QUIET():
        state = solver.start(problem)
        positions = np.arange(state.code.shape[0])
        position = _array.from_numpy(positions, state.code)
        start = _Run(position, problem, state)
        return repeated(step, is_done, start, last, solver.max_iterations)


def _finished(
    pairs: Pairs,
    scaled: Scaled,
    solver: Sinkhorn,
    effort: str,
) -> Iterator[tuple[int, GWResult]]:
    """Finish and certify the plan of each problem by itself."""
    for k, position in enumerate(scaled.positions):
        x = pairs.left[position]
        y = pairs.right[position]
        fused = pairs.fused[position] if pairs.fused else None
        ready = prepare(x, y, beside=0.0 if fused is None else fused.size(x, y))
        outcome = scaled.outcome(k, x, y)
        outcome = _finished_outcome(ready, outcome, solver, fused)
        yield position, result_of(x, y, ready, outcome, solver, effort, fused)


def _finished_outcome(
    ready: Prepared,
    outcome: Outcome,
    solver: Sinkhorn,
    fused: Fused | None = None,
) -> Outcome:
    """Have the solver go on with a plan, or judge it, on the atoms with weight."""
    matrix = outcome.plan.dense()
    f, g = cast(tuple[Array, Array], outcome.potentials)
    xp = _array.namespace(matrix)
    kept_x, kept_y = ready.atoms
    if kept_x is not None:
        matrix = xp.take(matrix, kept_x, axis=0)
        f = xp.take(f, kept_x)
    if kept_y is not None:
        matrix = xp.take(matrix, kept_y, axis=1)
        g = xp.take(g, kept_y)
    plan = make_unchecked(DensePlan, matrix=matrix)
    outcome = replace(outcome, plan=plan, potentials=(f, g))
    if not solver.proximal:
        return outcome
    problem = problem_of(
        ready.x, ready.y, None if fused is None else fused.prepared(ready)
    )
    return solver.finished(problem, outcome)


def _evaluated(
    pairs: Pairs,
    scaled: Scaled,
    solver: Sinkhorn,
    effort: str,
) -> Group:
    """Evaluate plans within the spaces' gradient graph, and certify them."""
    # 1. Objectives, by problems with gradients in the data where these are asked for.
    problem = scaled.problem
    if _is_data_tracked(pairs):
        problem = problems(pairs.left, pairs.right)
    objective = _objectives(problem, scaled.plan)  # (b,)
    accepted_gaps = solver.tolerance * _array.to_numpy(scaled.problem.variation)
    # 2. At a fixed ε the entropy is part of what is minimised.
    epsilons = None
    if not solver.proximal:
        epsilons = _array.to_numpy(solver.final_epsilon(scaled.problem))
    # 3. At higher effort each plan is certified by itself.
    proofs: list[CertifiedObjective | None] = [None] * len(scaled.positions)
    if effort == "linear":
        certified = _proofs(pairs, scaled.plan, objective, accepted_gaps)
        proofs = _kept_proofs(pairs, certified)
    return Group(
        positions=scaled.positions,
        pairs=pairs,
        outcomes=_outcomes(pairs, scaled, solver),
        objective=objective,
        proofs=proofs,
        accepted_gaps=accepted_gaps,
        epsilons=epsilons,
    )


def _is_data_tracked(pairs: Pairs) -> bool:
    """Tell whether gradients in the data of any space are asked for."""
    spaces = (*pairs.left, *pairs.right)
    are_tracked = [_array.tracked(space.data) for space in spaces]
    return any(are_tracked)


def _outcomes(
    pairs: Pairs,
    scaled: Scaled,
    solver: Sinkhorn,
) -> list[Outcome]:
    """Return the outcomes of pairs, those of proximal steps with a judged gap."""
    outcomes = []
    for k, (x, y) in enumerate(pairs.each()):
        outcome = scaled.outcome(k, x, y)
        if solver.proximal:
            # Here, off the CPU, the solver only judges the plan, on atoms with weight:
            # its status and gap are taken, and the plan over all atoms is kept.
            judged = _finished_outcome(prepare(x, y), outcome, solver)
            outcome = replace(
                outcome,
                status=judged.status,
                frank_wolfe_gap=judged.frank_wolfe_gap,
            )
        outcomes.append(outcome)
    return outcomes


def _objectives(problem: Quadratic, matrix: Array) -> Array:
    """Return the objectives (b,) of plans (b, n, m)."""
    plan = make_unchecked(DensePlan, matrix=matrix)
    return problem.value(plan, problem.cross(plan))


def _proofs(
    pairs: Pairs,
    plan: Array,
    objective: Array,
    accepted_gaps: NumpyArray,
) -> list[CertifiedObjective]:
    """Certify plans (b, n, m) in float64."""
    pairs = pairs.detached()
    wide = _array.widen(plan)
    # The objective must be that of the stored values, which float64 holds exactly.
    if wide.dtype != plan.dtype:
        objective = _objectives(problems(pairs.left, pairs.right, _array.widen), wide)
    x, y = certificates.widened_summaries(pairs)
    pair = certificates.enclosed(pairs, x, y)
    value = _array.to_numpy(objective)
    upper = certificates.of_matrices(pair, wide, value)
    return certificates.certify(pair, upper, accepted_gaps)


def _kept_proofs(
    pairs: Pairs,
    proofs: Sequence[CertifiedObjective],
) -> list[CertifiedObjective | None]:
    """Drop the proofs of pairs with a space that has a low-rank form, of any rank.

    By itself such a pair evaluates a plan from the form, with other float errors.
    """
    kept: list[CertifiedObjective | None] = []
    for (x, y), proof in zip(pairs.each(), proofs, strict=True):
        least_rank = min(gather.rank(x), gather.rank(y))
        either_has_form = math.isfinite(least_rank)
        kept.append(None if either_has_form else proof)
    return kept
