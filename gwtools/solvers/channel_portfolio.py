"""The portfolio of starts for directed spaces and other losses than squares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.channel_problems import ChannelProblem
from gwtools.plans import Plan
from gwtools.problems import GWProblem
from gwtools.solvers.active_set import ActiveSet
from gwtools.solvers.exact_copies import exact_copy
from gwtools.solvers.portfolio import (
    MEDIUM,
    PARTS,
    SMALL,
    Candidate,
    Part,
    Search,
    annealing,
    first_bound,
    linear_transport,
    numpy64,
    product_coupling,
    second_bound,
)
from gwtools.solvers.starts import product_plan
from gwtools.solvers.vertices import linear_program, vertex_like
from gwtools.spaces import Space
from gwtools.spaces.dense import dense_space
from gwtools.transport.local_distributions import Centred, centred, transports

_SAME = 1000  # spacings of 1.0: values of exact copies that differ by less are equal
# M = C + θ Cᵀ tells both C_ik and C_ki, unless two pairs happen to have one sum.
_THETA = 0.3819660112501051
# And a power of it for each further entry of vectors.
_OF_ENTRIES = 0.7548776662466927
_SINGLE_STEPS = 100


def parts_of(problem: GWProblem) -> tuple[Part, ...]:
    """Return the parts of the portfolio for a problem, in their order."""
    if not isinstance(problem, ChannelProblem):
        return PARTS
    has_vectors = problem.x.edge_features is not None
    return EDGE_PARTS if has_vectors else CHANNEL_PARTS


def copies(search: Search) -> Iterator[Candidate]:
    """The bijection that keeps all values, in both directions, if there is one."""
    problem = cast(ChannelProblem, search.problem)
    if problem.linear is not None or len({*problem.shape}) > 1:
        return
    tolerance = _SAME * _array.epsilon(problem.x.weights)
    images = exact_copy(*_both_directions(search), tolerance)
    if images is not None:
        yield Candidate("exact copy", search.bijection(images))


def _both_directions(search: Search) -> tuple[Centred, Centred]:
    """Return both spaces with C + θ Cᵀ for C, as copies are looked for in them."""
    problem = search.problem
    first, second = zip(*_matrices(search), strict=True)
    return _told_apart(problem.x, first), _told_apart(problem.y, second)


def _told_apart(space: Space, entries: Sequence[NumpyArray]) -> Centred:
    """Return a space with one number for all entries C_ik and C_ki of a pair."""
    numbers = entries[0] + _THETA * entries[0].T
    for place, C in enumerate(entries[1:], start=1):
        numbers = numbers + _OF_ENTRIES**place * (C + _THETA * C.T)
    matrix = _array.from_numpy(numbers, space.weights)
    return centred(dense_space(matrix, space.weights))._replace(matrix=numbers)


def rows(search: Search) -> Iterator[Candidate]:
    """The coupling of atoms whose values are distributed alike, from them and to them.

    Its costs are W_2² between rows of C and of D, and between columns where these
    differ, as in Mémoli's third bound (theorem 7).
    """
    problem = search.problem
    a, b = search.weights
    costs = np.zeros(problem.shape)
    for C, D in _matrices(search):
        of_rows = transports(C, a, D, b)
        if problem.x.directed or problem.y.directed:
            of_columns = transports(
                np.ascontiguousarray(C.T), a, np.ascontiguousarray(D.T), b
            )
            of_rows = (of_rows + of_columns) / 2
        costs += of_rows
    if problem.linear is not None:
        costs = problem.share * costs + numpy64(problem.linear.costs)
    yield Candidate("third bound", search.vertex(costs))


def single_steps(search: Search) -> Iterator[Candidate]:
    """Where steps towards one vertex at a time lead from the product coupling.

    Fully corrective steps, which conditional gradient takes, may end elsewhere.
    """
    problem = search.problem
    plan: Plan = product_plan(problem)
    vertex = None
    for _ in range(_SINGLE_STEPS):
        cross = problem.cross(plan)
        program = linear_program(problem, problem.gradient(cross), vertex)
        vertex = vertex_like(program.plan, problem.x.weights)
        pair = ActiveSet.of(problem, plan, cross)
        before = pair.relative_objective
        pair = pair.extended(problem, vertex, problem.cross(vertex))
        pair = pair.minimised(0.0, 16 * _array.epsilon(problem.x.weights))
        plan = pair.plan()
        if before - pair.relative_objective <= problem.float_error:
            break
    yield Candidate("single steps", plan)


def _matrices(search: Search) -> tuple[tuple[NumpyArray, NumpyArray], ...]:
    """Return C and D in NumPy and float64; one pair for each entry of vectors."""
    problem = cast(ChannelProblem, search.problem)
    C, D = (numpy64(values) for values in problem.matrices)
    return tuple(problem.loss.entries(C, D))


CHANNEL_PARTS = (
    Part("the product coupling", product_coupling, math.inf),
    Part("exact copies", copies, MEDIUM),
    Part("linear transport", linear_transport, math.inf),
    Part("single steps", single_steps, MEDIUM),
    Part("the third bound", rows, SMALL),
    Part("the first bound", first_bound, SMALL),
    Part("the second bound", second_bound, SMALL),
    Part("annealing", annealing, SMALL),
)
# Without those that sort one number for each pair of atoms.
_OF_NUMBERS = (first_bound, second_bound)
EDGE_PARTS = tuple(part for part in CHANNEL_PARTS if part.starts not in _OF_NUMBERS)
