"""The search of branch and bound: cuts, a tree of boxes, the best coupling so far."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools._compiled.node_programs import NodeProgram, node_program
from gwtools.bounds.node_bounds import (
    Coordinates,
    cut_height,
    gain_of,
    node_values,
    root_box,
)
from gwtools.branch_proofs import BranchProof
from gwtools.plans import SparsePlan
from gwtools.transport.programs import exact

# Larger programs start from those at near slopes, of which so many are kept.
_DENSE_PROGRAM = 300**2
_RECENT = 256
# Starts of the upper end at random slopes, for each coordinate of Z.
_RANDOM_STARTS = 4
_MOST_STEPS = 50  # of conditional gradient from a start
_LEAST_ASCENT = 1e-12  # of Ψ: a vertex whose step gains less is at rest
_MOST_ROUNDS = 30  # of cuts for one node
# Cutting a node goes on while a round closes this share of what the chords leave open.
_WORTHWHILE = 0.2
# A child holds at least this share of its parent's box.
_LEAST_CHILD = 0.15
# Objectives below this share of 4‖α‖‖β‖ + 2‖R‖‖S‖ count as this: the tolerance is a
# share of the objective, and that of exact copies is 0.
LEAST_SHARE = 1e-4
# The interval is closed a little further than asked for: float errors widen it again.
_MARGIN = 0.9
_NO_CUTS = np.zeros(0, dtype=np.int64)
_NO_WEIGHTS = np.zeros(0)


@dataclass(eq=False)
class Node:
    """A box of coordinates, and the cuts that bound Ψ in it.

    Parameters
    ----------
    low, high : numpy arrays of shape (q + 1,)
        Its ends, of w and of the entries of Z.
    value : float
        The bound as computed; infinite before any program.
    proof : pair of arrays of shape (k,)
        Positions of cuts and their weights θ, which prove it.
    coordinate, split : int and float
        Where it was split; no coordinate in a leaf.
    children : pair of Node or None
        The lower and the upper half.
    """

    low: NumpyArray
    high: NumpyArray
    value: float = math.inf
    proof: tuple[NumpyArray, NumpyArray] = (_NO_CUTS, _NO_WEIGHTS)
    coordinate: int = -1
    split: float = 0.0
    children: tuple[Node, Node] | None = None

    def leaves(self) -> Iterator[Node]:
        """Yield the leaves below, or the node itself."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.children is None:
                yield node
            else:
                waiting.extend(node.children)


class _Vertex(NamedTuple):
    """A solved program: where the cut at a slope touches the couplings."""

    height: float  # h(B), proved
    point: NumpyArray  # (w, Z) of the vertex
    gain: float  # its Ψ


class _Solved(NamedTuple):
    """What the next program at a near slope starts from."""

    slope: NumpyArray
    plan: SparsePlan
    potentials: tuple[NumpyArray, NumpyArray]


@dataclass(eq=False)
class Cuts:
    """The cuts w + ⟨B, Z⟩ ≤ h(B) of all programs so far.

    Parameters
    ----------
    slopes, heights : numpy arrays of shape (capacity, q) and (capacity,)
        B and h(B), of which the first ``count`` are made.
    count : int
        How many there are.
    potentials : list of numpy arrays of shape (m,)
        What proves each height.
    """

    slopes: NumpyArray
    heights: NumpyArray
    count: int = 0
    potentials: list[NumpyArray] = field(default_factory=list)

    def add(self, slope: NumpyArray, height: float, potential: NumpyArray) -> None:
        """Add a cut; it counts once all of it is there."""
        if self.count == len(self.heights):
            self.slopes = np.concatenate([self.slopes, np.zeros_like(self.slopes)])
            self.heights = np.concatenate([self.heights, np.zeros_like(self.heights)])
        self.slopes[self.count] = slope
        self.heights[self.count] = height
        del self.potentials[self.count :]
        self.potentials.append(potential)
        self.count += 1


@dataclass(eq=False)
class Search:
    """Branch and bound over the coordinates of couplings, best node first.

    Parameters
    ----------
    pair : Coordinates
        The spaces.
    least_objective : float
        Objectives below this count as this, in squared units of C.
    tolerance : float
        What share of the objective the interval may be wide.
    is_over : callable
        Tells whether the time is over.
    """

    pair: Coordinates
    least_objective: float
    tolerance: float
    is_over: Callable[[], bool]
    gain: float = -math.inf  # the largest Ψ found, of the best coupling
    plan: SparsePlan | None = None
    nodes: int = 0

    def __post_init__(self) -> None:
        q = self.pair.number
        low, high = root_box(self.pair)
        self.root = Node(low, high)
        self.cuts = Cuts(np.zeros((64, q)), np.zeros(64))
        self._recent: deque[_Solved] = deque(maxlen=_RECENT)
        self._order = itertools.count()  # of equal bounds the older node comes first
        self._open: list[tuple[float, int, Node]] = []

    # 1. The upper end of GW_2², a lower end of the largest Ψ.

    @property
    def objective(self) -> float:
        """The objective of the best coupling, in squared units of C."""
        return max(self.pair.constant - 4 * self.gain, 0.0)

    @property
    def accepted(self) -> float:
        """The width of an interval that counts as closed, in squared units of C."""
        # Before any coupling is found, its objective says nothing.
        objective = 0.0 if self.plan is None else self.objective
        return self.tolerance * max(objective, self.least_objective)

    @property
    def target(self) -> float:
        """The Ψ that a node need not be searched below."""
        return self.gain + _MARGIN * self.accepted / 4

    @property
    def is_zero(self) -> bool:
        """Whether the objective is so small that 0 closes the interval."""
        return self.objective <= _MARGIN * self.accepted

    @property
    def is_closed(self) -> bool:
        """Whether no open node may hold a coupling that is better enough."""
        if self.is_zero:
            return True
        return not self._open or -self._open[0][0] <= self.target

    def enter(self, plan: SparsePlan) -> None:
        """Compare a coupling, and go on from it."""
        point = self.pair.point(plan)
        self._keep(plan, gain_of(point))
        self.ascend(point[1:])

    def starts(self) -> Iterator[NumpyArray]:
        """Yield slopes to start from: 0, all signs of principal axes, random ones.

        Each of shape (q,).
        """
        low = self.root.low[1:]
        high = self.root.high[1:]
        yield np.zeros(self.pair.number)
        d, other = self.pair.shape
        axes = np.arange(min(d, other))
        diagonal = axes * other + axes
        for signs in itertools.product((1.0, -1.0), repeat=len(axes)):
            slope = np.zeros(self.pair.number)
            ends = np.where(np.array(signs) > 0, high[diagonal], low[diagonal])
            slope[diagonal] = ends
            yield slope
        rng = np.random.default_rng(0)
        for _ in range(_RANDOM_STARTS * self.pair.number):
            yield 0.7 * rng.uniform(low, high)

    def ascend(self, slope: NumpyArray) -> None:
        """Raise Ψ by conditional gradient, whose every program is a cut too."""
        last = -math.inf
        for _ in range(_MOST_STEPS):
            if self.is_over():
                return
            vertex = self._program(slope)
            # At first the right side is NaN, and this is not true.
            if vertex.gain <= last + _LEAST_ASCENT * abs(last):
                return
            last = vertex.gain
            # Ψ is convex: its slope at Z is Z.
            slope = vertex.point[1:]

    def _keep(self, plan: SparsePlan, gain: float) -> None:
        if gain > self.gain:
            self.plan = plan
            self.gain = gain

    def _program(self, slope: NumpyArray) -> _Vertex:
        """Solve the program at a slope: a cut, and a vertex."""
        pair = self.pair
        costs = pair.costs(slope)
        near = self._nearest(slope)
        if near is None:
            program = exact(costs, pair.a, pair.b)
        else:
            program = exact(costs, pair.a, pair.b, near.plan, near.potentials)
        potential = program.potentials[1]
        height = cut_height(pair, slope, costs, potential)
        self.cuts.add(slope, height, potential)
        if costs.size > _DENSE_PROGRAM:
            self._recent.append(_Solved(slope, program.plan, program.potentials))
        point = pair.point(program.plan)
        gain = gain_of(point)
        self._keep(program.plan, gain)
        return _Vertex(height, point, gain)

    def _nearest(self, slope: NumpyArray) -> _Solved | None:
        if not self._recent:
            return None
        distances = [float(((s.slope - slope) ** 2).sum()) for s in self._recent]
        return self._recent[int(np.argmin(distances))]

    # 2. The lower end of GW_2², an upper end of the largest Ψ.

    def begin(self) -> None:
        """Bound the root."""
        if self.cuts.count == 0:
            self._program(np.zeros(self.pair.number))
        self._tighten(self.root, -math.inf)
        self._push(self.root)

    def step(self) -> None:
        """Take the open node of the largest bound, cut it, and split it if need be.

        The node stays open where the time ends within.
        """
        _, _, node = self._open[0]
        self.nodes += 1
        point = self._cut(node)
        if node.value > self.target:
            if self.is_over():
                return
            self._split(node, point)
        heapq.heappop(self._open)
        for child in node.children or ():
            if child.value > self.target:
                self._push(child)

    def bound(self) -> float:
        """Return a proved upper bound of Ψ over all couplings."""
        leaves = list(self.root.leaves())
        return float(self.proved_values(leaves).max())

    def proved_values(self, leaves: list[Node]) -> NumpyArray:
        """Return the bounds of Ψ in boxes, recomputed and rounded up, (N,)."""
        most = max(len(leaf.proof[0]) for leaf in leaves)
        cuts = np.zeros((len(leaves), most), dtype=np.int64)
        weights = np.zeros((len(leaves), most))
        for place, leaf in enumerate(leaves):
            of_leaf, theta = leaf.proof
            cuts[place, : len(theta)] = of_leaf
            weights[place, : len(theta)] = theta
        low = np.array([leaf.low for leaf in leaves])
        high = np.array([leaf.high for leaf in leaves])
        slopes = self.cuts.slopes[cuts]
        heights = self.cuts.heights[cuts]
        return node_values(low, high, slopes, heights, weights)

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends of the interval as computed, in squared units of C."""
        most = -self._open[0][0] if self._open else self.target
        lower = self.pair.constant - 4 * max(most, self.target)
        return max(lower, 0.0), self.objective

    def _push(self, node: Node) -> None:
        heapq.heappush(self._open, (-node.value, next(self._order), node))

    def _tighten(self, node: Node, target: float) -> NodeProgram:
        """Solve the program of a node, whose bound is lowered by it or stays."""
        count = self.cuts.count
        program = node_program(
            self.cuts.slopes[:count],
            self.cuts.heights[:count],
            node.low,
            node.high,
            target,
        )
        if program.value < node.value:
            node.value = program.value
            node.proof = (program.cuts, program.weights)
        return program

    def _cut(self, node: Node) -> NumpyArray:
        """Add cuts while they lower the bound enough; return the point that is left."""
        last = math.inf
        program = self._tighten(node, self.target)
        for rounds in range(_MOST_ROUNDS):
            value = program.value
            if value <= self.target or self.is_over():
                break
            # What the chords of the box may hide, and what is left to close.
            open_chords = _open_chords(node, program.point)
            left = value - self.gain
            if rounds and last - value < _WORTHWHILE * max(open_chords, 0.3 * left):
                break
            last = value
            slope, height = self._mean_cut(program)
            vertex = self._program(slope)
            if height - vertex.height < 0.1 * open_chords + 1e-3 * left:
                # This cut hardly gains: the chords are what is open, or a cut at
                # another slope is what is missing.
                if rounds and open_chords > 0.7 * left:
                    break
                # That is where w + ⟨B, Z⟩ − h(B) at the point is largest. Its gradient
                # in B is the Z of the point less that of the vertex: take one step.
                if not self.is_over():
                    self._program(slope + program.point[1:] - vertex.point[1:])
            program = self._tighten(node, self.target)
        return np.asarray(program.point)

    def _mean_cut(self, program: NodeProgram) -> tuple[NumpyArray, float]:
        """Return the mean of the cuts that bind, and the height it had from them."""
        total = float(program.weights.sum())
        if total <= 0.0:
            return program.point[1:], math.inf
        shares = program.weights / total
        slope = shares @ self.cuts.slopes[program.cuts]
        height = float(shares @ self.cuts.heights[program.cuts])
        return slope, height

    def _split(self, node: Node, point: NumpyArray) -> None:
        """Split a box where the chord is farthest above the square."""
        widths = node.high - node.low
        # At corners no chord is open, and the widest side is split.
        areas = (node.high - point) * (point - node.low) + 1e-6 * widths**2
        e = 1 + int(areas[1:].argmax())  # Ψ is linear in w
        margin = _LEAST_CHILD * widths[e]
        split = float(np.clip(point[e], node.low[e] + margin, node.high[e] - margin))
        below = Node(node.low, _replaced(node.high, e, split), node.value, node.proof)
        above = Node(_replaced(node.low, e, split), node.high, node.value, node.proof)
        for child in (below, above):
            self._tighten(child, self.target)
        # The children come last: an interrupt before leaves the node a leaf.
        node.coordinate = e
        node.split = split
        node.children = (below, above)


def _open_chords(node: Node, point: NumpyArray) -> float:
    """Return how far the chords of the box are above ½ ‖Z‖² at a point."""
    Z = point[1:]
    return float((node.high[1:] - Z) @ (Z - node.low[1:])) / 2


def _replaced(values: NumpyArray, place: int, value: float) -> NumpyArray:
    changed = values.copy()
    changed[place] = value
    return changed


def kept_proof(search: Search) -> BranchProof:
    """Write the tree and the cuts that its leaves use as arrays."""
    # 1. Number the nodes, each before its children.
    nodes: list[Node] = [search.root]
    children: list[tuple[int, int]] = []
    for node in nodes:  # which grows on the way
        if node.children is None:
            children.append((-1, -1))
            continue
        children.append((len(nodes), len(nodes) + 1))
        nodes.extend(node.children)
    # 2. The cuts of the leaves, numbered anew.
    leaves = [node.children is None for node in nodes]
    used = [node.proof[0] for node, leaf in zip(nodes, leaves, strict=True) if leaf]
    kept = np.unique(np.concatenate(used))
    most = max(len(cuts) for cuts in used)
    cuts = np.zeros((len(nodes), most), dtype=np.int64)
    weights = np.zeros((len(nodes), most))
    for place, node in enumerate(nodes):
        if not leaves[place]:
            continue
        of_node, theta = node.proof
        cuts[place, : len(theta)] = np.searchsorted(kept, of_node)
        weights[place, : len(theta)] = theta
    pair: Coordinates = search.pair
    potentials: list[NumpyArray] = [search.cuts.potentials[k] for k in kept]
    return BranchProof(
        axes=pair.axes,
        slopes=search.cuts.slopes[kept],
        potentials=np.array(potentials).reshape(len(kept), len(pair.b)),
        coordinates=np.array([node.coordinate for node in nodes]),
        splits=np.array([node.split for node in nodes]),
        children=np.array(children),
        cuts=cuts,
        weights=weights,
    )
