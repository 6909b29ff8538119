"""Barycenters: the space whose mean squared distance to given spaces is least."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array, _check, _check_fused, _check_lists, _check_spaces
from gwtools._array import Array
from gwtools.barycenter_starts import drawn, varied
from gwtools.block_descent import State, Task, minimised
from gwtools.certify import certify
from gwtools.history import Step, in_units
from gwtools.linear_terms import share_of
from gwtools.plans import Plan
from gwtools.preparation import (
    common_unit,
    embed,
    most_size,
    require_in_range,
    restrict_to_support,
)
from gwtools.results import Certificate, ConvergenceWarning, Status
from gwtools.solve import require_memory
from gwtools.solvers import BranchAndBound, ConditionalGradient, Solver
from gwtools.spaces import DenseSpace, Space, converted, detached, undirected_space
from gwtools.spaces.dense import dense_space
from gwtools.spaces.lists import read_spaces, require_one_kind


@dataclass(frozen=True, eq=False)
class Barycenter:
    """A matrix B in the middle of S spaces, with its coupling to each of them.

    Attributes
    ----------
    space : DenseSpace
        The barycenter: B, of shape (k, k), the weights p of its atoms, and features
        (k, d) of these where the spaces have features.
    objective : float
        Σ_s λ_s F_s, the mean of the objectives of the plans, in squared units of C;
        rounded up, so that Σ_s λ_s GW_2²(B, C_s) is at most this. With features these
        are the fused objectives, here as in what follows.
    plans : tuple of S Plan
        Couplings of p and the weights of each space, of shape (k, n_s).
    certificates : tuple of S Certificate
        A proved interval for GW_2² between the barycenter and each space.
    weights : tuple of S float
        The weights λ of the spaces, of sum 1.
    status : Status
        STATIONARY where neither the matrix nor any plan can be improved to first order,
        beyond the tolerance; else why the descent ended.
    frank_wolfe_gap : float
        Σ_s λ_s times the Frank-Wolfe gap of plan s at B, in squared units of C: how far
        the linearisation at the plans could still fall. B itself is the best matrix for
        the plans, so that this is the measure of stationarity of both together.
    history : tuple of Step
        The objective after each round of plans and matrix, which never rises.
    alpha : float or None
        The share α of the matrices beside features; None without features.

    Examples
    --------
    The middle between two segments is a segment.

    >>> import numpy as np, gwtools as gw
    >>> short, long = (gw.as_space(s * (1 - np.eye(2))) for s in (1.0, 4.0))
    >>> middle = gw.barycenter([short, long], weights=[2 / 3, 1 / 3])
    >>> middle.space.dense().round(6)
    array([[0., 2.],
           [2., 0.]])
    >>> round(middle.objective, 6), middle.status.name
    (1.0, 'STATIONARY')
    """

    space: DenseSpace
    objective: float  # in squared units of C
    plans: tuple[Plan, ...]
    certificates: tuple[Certificate, ...]
    weights: tuple[float, ...]
    status: Status
    frank_wolfe_gap: float  # in squared units of C
    history: tuple[Step, ...]
    alpha: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """An interval that holds Σ_s λ_s GW_2²(B, C_s) of this B, in squared units.

        The upper end is the objective. Another matrix may have a lower value.
        """
        pairs = zip(self.weights, self.certificates, strict=True)
        # No objective is below 0, which rounding down may have gone past.
        lower = math.fsum(share * max(each.lower, 0.0) for share, each in pairs)
        return lower * (1 - _rounding(len(self.weights))), self.objective

    def __str__(self) -> str:
        """Lay the numbers and the status out for a reader."""
        lower, upper = self.interval
        rounds = len(self.history)
        of_plans = "mean GW_2^2 of the plans"
        if self.alpha is not None:
            of_plans = f"mean fused objective of the plans, alpha={self.alpha:g}"
        return "\n".join(
            [
                f"Barycenter of {len(self.plans)} spaces, {self.space.size} atoms",
                f"  objective    {self.objective:.6g}  ({of_plans})",
                f"  interval     [{lower:.6g}, {upper:.6g}] for this matrix",
                f"  status       {self.status.value} ({rounds} rounds)",
            ]
        )

    def __repr__(self) -> str:
        """Return the numbers on one line."""
        return (
            f"Barycenter(objective={self.objective:.6g}, status={self.status.name}, "
            f"space={self.space!r})"
        )


def barycenter(
    spaces: Sequence[Any],
    weights: Any = None,
    size: int | None = None,
    *,
    alpha: float | None = None,
    barycenter_weights: Any = None,
    init: Any = None,
    solver: Solver | None = None,
    starts: int = 8,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> Barycenter:
    """Compute a Gromov-Wasserstein barycenter, the space in the middle of others.

    It lowers Σ_s λ_s GW_2²(B, C_s) over symmetric matrices B of k atoms, by turns over
    the plans and over B, which has a closed form for given plans (THEORY.md,
    "Barycenters"). Where the spaces have features, the objectives are fused, and the
    atoms of the barycenter get features, too.

    Parameters
    ----------
    spaces : sequence of S spaces or square arrays
        Spaces of any sizes and weights, all of one array library, dtype and device.
    weights : sequence of S numbers, optional
        The weights λ ≥ 0 of the spaces, of sum 1; equal ones by default.
    size : int, optional
        Number of atoms k; by default that of ``barycenter_weights`` or ``init`` where
        one is given, else that of the largest space.
    alpha : float, optional
        The share α of the matrices, from 0 to 1, beside features that all spaces were
        made with (``features=``); they come together. The objective of a plan is then
        (1 − α) ⟨M, π⟩ + α F(π), as in :func:`gwtools.solve`, where M holds the squared
        distances between features of the barycenter and of the space.
    barycenter_weights : array of shape (k,), optional
        Weights p > 0 of the barycenter's atoms; by default those of ``init`` if that is
        a space, else equal ones.
    init : Space or square array of shape (k, k), optional
        A matrix to begin with, where the spaces have features a space with some.
        Without it, and beside it, that between atoms of one of the spaces is, the one
        whose λ_s times the standard deviation of its values is largest, of equal ones
        the largest: all of its atoms in their order where it has k; where it has more,
        k that are drawn by their weights; where it has fewer, all of them as often as
        they fit, and then drawn ones.
    solver : Solver, optional
        What finds the plans at first, and searches again where descents gain nothing
        more; by default as :func:`gwtools.solve` chooses, mostly
        :class:`gwtools.MultiStart`. Between these, plans are improved by
        :class:`gwtools.ConditionalGradient` from where they are.
    starts : int
        Further descents to make, of one start for each plan: from atoms of other
        spaces, at most half of them, and from the best matrices for random plans.
    max_iterations : int
        Rounds of plans and matrix at most.
    tolerance : float
        That of :class:`gwtools.ConditionalGradient`, here of the mean over the spaces:
        the descent ends where the mean Frank-Wolfe gap is at most this share of the
        mean variation.
    seed : int
        Of drawn atoms and plans.

    Returns
    -------
    Barycenter
        The matrix, a plan and a certificate for each space, the objective and its
        history. Arrays are of the library, dtype and device of the spaces, outside any
        gradient graph.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work: no list, an empty one, spaces of unlike array
        libraries or dtypes, weights that are negative or do not sum to 1, or atoms of
        the barycenter without weight; features of some spaces alone, or of unlike
        lengths, without ``alpha``, or with a solver that carries none.
    MemoryError
        If what the solver needs for a space does not fit, before it is asked for.

    Warns
    -----
    ConvergenceWarning
        Where the rounds ran out, or the plans are not stationary.

    Notes
    -----
    No round raises the objective: plans are replaced by better ones alone. At each
    matrix to begin with a descent begins with plans that are searched for, at the first
    one and at those of ``starts`` with plans of one start each, and the lowest goes on.
    Where the descent ends, neither another matrix nor, to first order, other plans
    lower it; the problem is not convex, and another ``init`` may end lower. The
    certificates are proved for the matrix that was found; that it is the best one is
    not.

    Entries of B are means of values of the spaces: of distances, they need not be
    distances themselves, and of graphs they are no edges. A threshold on B reads a
    graph off it.

    Interrupted (KeyboardInterrupt) after its first round, it returns the best so far,
    with the status STOPPED.

    Examples
    --------
    Between a cycle of eight nodes and a path of eight nodes, by shortest paths: the
    pairs of atoms at a distance below 1.6 form a graph, which is the cycle where that
    has most of the weight, and the path where that has.

    >>> import networkx as nx, numpy as np, gwtools as gw
    >>> cycle, path = nx.cycle_graph(8), nx.path_graph(8)
    >>> spaces = [gw.GraphSpace(cycle), gw.GraphSpace(path)]
    >>> for share in (0.9, 0.1):
    ...     middle = gw.barycenter(spaces, weights=[share, 1 - share])
    ...     near = middle.space.dense() < 1.6
    ...     graph = nx.from_numpy_array(near & ~np.eye(8, dtype=bool))
    ...     print(nx.is_isomorphic(graph, cycle), nx.is_isomorphic(graph, path))
    True False
    False True

    Halfway between two molecules, a ring and a chain of six atoms, two of which carry
    charges: neighbours in the ring, the ends of the chain. The ring opens between them,
    and charges are the means of those of the atoms that are coupled.

    >>> ring, chain = nx.cycle_graph(6), nx.path_graph(6)
    >>> nx.set_node_attributes(ring, {0: 1.0, 1: -1.0}, "charge")
    >>> nx.set_node_attributes(chain, {0: 3.0, 5: -3.0}, "charge")
    >>> def space(graph):
    ...     charges = [graph.nodes[node].get("charge", 0.0) for node in graph]
    ...     return gw.GraphSpace(graph, features=np.array(charges)[:, None])
    >>> middle = gw.barycenter([space(ring), space(chain)], alpha=0.5)
    >>> middle.space.features.round(6).T + 0.0
    array([[ 2.,  0.,  0.,  0.,  0., -2.]])
    >>> round(float(middle.space.dense()[0, 5]), 6)
    3.0
    """
    # 1. The arguments.
    given = read_spaces(spaces, "spaces")
    _check_lists.not_empty(given, "spaces")
    require_one_kind({"spaces": given})
    shares = _check_lists.shares(weights, len(given))
    descent = ConditionalGradient(tolerance=tolerance)  # which checks the tolerance
    _check.integer(max_iterations, "max_iterations", least=1)
    _check.integer(starts, "starts", least=0)
    _check.integer(seed, "seed", least=0)
    start = None if init is None else undirected_space(init, "init")
    share = _share(given, start, alpha)
    p = _weights(given, size, barycenter_weights, start)
    _require_solver(solver, share < 1.0)
    for i, space in enumerate(given):
        arrays = (space.data, space.weights)
        _check_spaces.readable(arrays, f"spaces[{i}]")
        model = dense_space(p[:, None], p)
        held = descent if solver is None else solver
        is_fused = share < 1.0
        require_memory(model, space, held, "linear", None, f"spaces[{i}]", is_fused)
    # 2. The spaces in units near 1, without atoms of no weight, and the first one.
    ready = _prepared(given, start, p)
    if solver is not None:
        solver = solver.in_units(ready.unit)
    task = Task(ready.spaces, shares, ready.weights, solver, descent, share)
    begins = [drawn(task, seed)]
    if start is not None:
        begins.insert(0, _in_units_of(ready, start))
    others = varied(task, starts, seed)
    state, status, steps = minimised(task, begins, max_iterations, others)
    # 3. The result, in the units and on the atoms of the spaces.
    result = _result(given, p, ready, task, state, status, steps)
    if result.status.failure:
        # The warning is shown at the line that called ``barycenter``.
        warnings.warn(result.status.value, ConvergenceWarning, stacklevel=2)
    return result


def _share(spaces: Sequence[Space], start: Space | None, alpha: Any) -> float:
    """Return the share α of the matrices; 1 where the spaces have no features."""
    named = {f"spaces[{i}]": space for i, space in enumerate(spaces)}
    if start is not None:
        named["init"] = start
    if not _check_fused.of_list(named, alpha):
        return 1.0
    return share_of(_check_fused.share(alpha, spaces[0].weights))


def _require_solver(solver: Any, is_fused: bool) -> None:
    """Require a solver for matrices, that carries features where there are, or None."""
    if solver is None:
        return
    advice = "pass an instance such as gwtools.MultiStart()"
    _check.instance(solver, "solver", Solver, advice)
    _check_lists.takes_matrices(solver, BranchAndBound)
    if is_fused:
        _check_fused.carried(solver.carries_features, str(solver))


def _weights(
    spaces: Sequence[Space],
    size: int | None,
    given: Any,
    start: Space | None,
) -> Array:
    """Return the weights p of the barycenter's atoms."""
    like = spaces[0].weights
    if size is not None:
        _check.integer(size, "size", least=1)
    if start is not None:
        _check.same_kind(start.weights, like, "init", "spaces[0]")
        _check_lists.one_size(size, start.size, "init")
        size = start.size
        if given is None:
            given = _array.detached(start.weights)
    if size is None and _array.is_array(given) and given.ndim == 1:
        size = int(given.shape[0])
    if size is None:
        size = max(space.size for space in spaces)
    p = _check_spaces.weights(given, like, size, "barycenter_weights")
    _check_lists.positive_weights(p, "barycenter_weights")
    return _array.detached(p)


class _Ready(NamedTuple):
    """Spaces made ready to compute with, and how they differ from those given."""

    spaces: tuple[DenseSpace, ...]  # with matrices, in units near 1
    atoms: tuple[Array | None, ...]  # those that carry weight; None for all
    weights: Array  # p, of the precision that is computed in
    unit: float  # values of C are this many times those of ``spaces``


def _prepared(given: Sequence[Space], start: Space | None, p: Array) -> _Ready:
    """Make spaces ready to compute with."""
    matrices = []
    atoms = []
    for space in given:
        kept, positions = restrict_to_support(detached(space))
        # Sums of half-precision numbers need single precision.
        kept = converted(kept, _array.at_least_single)
        # Shortest paths and distances are computed once, not in every round.
        matrices.append(_as_matrix(kept))
        atoms.append(positions)
    require_in_range(*matrices)
    extent = _extent(matrices if start is None else [*matrices, start])
    _check_fused.in_range(extent, most_size(p), p)
    unit = common_unit(*matrices, beside=extent)
    scaled = tuple(_scaled(space, 1 / unit) for space in matrices)
    weights = converted(dense_space(p[:, None], p), _array.at_least_single).weights
    return _Ready(scaled, tuple(atoms), weights, unit)


def _as_matrix(space: Space) -> DenseSpace:
    """Return a space by its matrix, with features of single precision at least."""
    features = space.features
    if features is not None:
        features = _array.at_least_single(features)
    return dense_space(space.dense(), space.weights, features)


def _scaled(space: DenseSpace, factor: float) -> DenseSpace:
    """Return a space in other units, those of its features included."""
    features = space.features
    if features is not None:
        features = _array.scaled(features, factor)
    return dense_space(space.scaled(factor).distances, space.weights, features)


def _extent(spaces: Sequence[Space]) -> float:
    """Return a number that no distance between features exceeds, 0 without features."""
    if spaces[0].features is None:
        return 0.0
    parts = [_array.to_numpy(_array.detached(space.features)) for space in spaces]
    features = np.concatenate(parts).astype(np.float64)
    # Means of features, as a barycenter has, lie between the least and the largest.
    return math.hypot(*np.ptp(features, axis=0))


def _in_units_of(ready: _Ready, start: Space) -> DenseSpace:
    """Return the given space to begin with, in the units of the computation."""
    kept = converted(detached(start), _array.at_least_single)
    begin = _scaled(_as_matrix(kept), 1 / ready.unit)
    return dense_space(begin.distances, ready.weights, begin.features)


def _result(
    given: Sequence[Space],
    p: Array,
    ready: _Ready,
    task: Task,
    state: State,
    status: Status,
    steps: tuple[Step, ...],
) -> Barycenter:
    """Return the barycenter in the units and on the atoms of the given spaces."""
    xp = _array.namespace(p)
    unit = ready.unit
    middle = _scaled(state.middle, unit)
    features = middle.features
    alpha = None
    if features is not None:
        features = xp.astype(features, p.dtype)
        alpha = task.alpha
    space = DenseSpace(xp.astype(middle.distances, p.dtype), p, features=features)
    plans = []
    certificates = []
    for y, atoms, plan in zip(given, ready.atoms, state.plans, strict=True):
        if atoms is not None:
            rows = xp.arange(space.size, device=_array.device(p))
            plan = embed(plan, rows, atoms, (space.size, y.size))
        plans.append(plan)
        certificates.append(certify(space, detached(y), plan, alpha=alpha))
    gap = steps[-1].frank_wolfe_gap
    if gap is None:
        gap = task.gap(state)
    return Barycenter(
        space=space,
        objective=_mean_rounded_up(task.shares, certificates),
        plans=tuple(plans),
        certificates=tuple(certificates),
        weights=task.shares,
        status=status,
        frank_wolfe_gap=gap * unit * unit,
        history=in_units(steps, unit),
        alpha=alpha,
    )


def _mean_rounded_up(
    shares: Sequence[float],
    certificates: Sequence[Certificate],
) -> float:
    """Return Σ_s λ_s upper_s, rounded up."""
    pairs = zip(shares, certificates, strict=True)
    total = math.fsum(share * certificate.upper for share, certificate in pairs)
    return total * (1 + _rounding(len(shares)))


def _rounding(count: int) -> float:
    """Bound the float error of a sum of ``count`` products, as a share of it."""
    return (count + 2) * float(np.finfo(float).eps)
