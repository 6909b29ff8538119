"""Many problems by Sinkhorn's scaling at once: padded, and iterated by :class:`gwtools.Sinkhorn` until each stops by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import Mask, chosen, filled, is_finite, repeated
from gwtools.batch.gather import Convert, gathered
from gwtools.problems import PaddedSpaces, Quadratic
from gwtools.results import Status
from gwtools.solvers import Sinkhorn
from gwtools.solvers.base import QUIET
from gwtools.solvers.sinkhorn import STATUSES, State
from gwtools.solvers.starts import is_stationary_at_product
from gwtools.spaces import Space


def problems(left: Sequence[Space], right: Sequence[Space], convert: Convert = _array.at_least_single) -> Quadratic:
    """Bring B pairs of spaces together; gradients pass."""
    return Quadratic(_padded(left, convert), _padded(right, convert))


def _padded(spaces: Sequence[Space], convert: Convert) -> PaddedSpaces:
    size = max(space.size for space in spaces)

    def read(s: Space) -> tuple[Array, ...]:
        residual = _array.padded(s.residual().dense(), size, axes=2)
        return s.weights, s.deviations, s.mean, residual, s.residual_norm_squared()

    return PaddedSpaces(*gathered(spaces, read, convert))


def cut(problem: Quadratic, n: int, m: int) -> Quadratic:
    """Return problems without the padding behind n and m atoms."""
    return Quadratic(_cut(problem.x, n), _cut(problem.y, m))


def _cut(spaces: PaddedSpaces, n: int) -> PaddedSpaces:
    weights, deviations, matrix = spaces.weights[:, :n], spaces.deviations[:, :n], spaces.matrix[:, :n, :n]
    return spaces._replace(weights=weights, deviations=deviations, matrix=matrix)


def is_still(problem: Quadratic, solver: Sinkhorn) -> Mask:
    """Tell where no step from the product coupling starts by its slope: where it is a saddle, or no worse than any plan."""
    stationary = is_stationary_at_product(problem, solver.negligible(problem))
    return stationary | (problem.variation <= problem.float_error)


class Found(NamedTuple):
    """Couplings (B, n, m), Frank-Wolfe gaps (B,), NaN where none was computed, statuses and iterations."""

    plan: Array
    gap: Array
    status: list[Status]
    iterations: list[int]


class _Run(NamedTuple):
    problem: Quadratic
    state: State


class _Result(NamedTuple):
    plan: Array
    gap: Array
    code: Array


def solve(problem: Quadratic, solver: Sinkhorn) -> Found:
    """Run the solver on problems outside any gradient graph, each of which has a slope at the product coupling."""

    def step(run: _Run) -> _Run:
        following = solver.step(run.problem, run.state)
        code = filled(following.code, STATUSES.index(Status.NON_FINITE))
        finite = is_finite(following.relative_objective)
        return run._replace(state=chosen(finite, following, run.state._replace(code=code)))

    def is_done(run: _Run) -> Mask:
        return run.state.code > 0

    def result(run: _Run) -> _Result:
        return _Result(run.state.matrix, run.state.gap, run.state.code)

    with QUIET():
        start = _Run(problem, solver.start(problem))
        found, iterations = repeated(step, is_done, start, result, solver.max_iterations)
    codes = _array.to_numpy(found.code).astype(int).tolist()
    return Found(found.plan, found.gap, [STATUSES[c] or Status.MAX_ITERATIONS for c in codes], iterations)
