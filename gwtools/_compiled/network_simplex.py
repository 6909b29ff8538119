"""The network simplex of transport programs, started from a plan and potentials.

On the arcs that are listed. Pivots keep the tree strongly feasible, so that they do not
cycle (Cunningham 1976, A network simplex method, Mathematical Programming 11).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gwtools._compiled.compilation import compiled


class Arcs(NamedTuple):
    """The arcs that may carry mass: from rows to columns, at costs; arrays (k,)."""

    rows: Any
    cols: Any
    costs: Any


class Tree(NamedTuple):
    """A spanning tree of rows 0 … n − 1, columns n … n + m − 1 and a root n + m.

    Each node but the root hangs on its parent by an arc. Arcs go from rows to columns,
    and thus up from a row and down to a column. Rows alone hang on the root, by arcs
    that carry nothing, whose costs are given potentials. An arc without mass goes up:
    that is strong feasibility. All are arrays of shape (n + m + 1,).

    Parameters
    ----------
    parents, children, nexts, previous : integer arrays
        The parent, the first child, and the siblings of a node; −1 where none is.
    arcs : integer array
        Which arc a node hangs on; −1 for the root and the rows that hang on it.
    depths : integer array
        How many arcs lead to the root.
    flows : array
        The mass of the arc that a node hangs on.
    potentials : array
        u and v, by which the arcs of the tree have reduced cost 0; 0 at the root.
    given : array
        The costs of arcs to the root.
    stack : integer array
        Nodes still to be visited.
    """

    parents: Any
    children: Any
    nexts: Any
    previous: Any
    arcs: Any
    depths: Any
    flows: Any
    potentials: Any
    given: Any
    stack: Any


def empty_tree(n: int, m: int, given: Any) -> Tree:
    """Return a tree without arcs, whose arcs to the root cost ``given`` (n,)."""
    size = n + m + 1
    links = np.full((5, size), -1, dtype=np.int32)
    costs = np.zeros(size)
    costs[:n] = given
    return Tree(
        parents=links[0],
        children=links[1],
        nexts=links[2],
        previous=links[3],
        arcs=links[4],
        depths=np.zeros(size, dtype=np.int32),
        flows=np.zeros(size),
        potentials=np.zeros(size),
        given=costs,
        stack=np.zeros(size, dtype=np.int32),
    )


@compiled
def plant(tree: Tree, arcs: Arcs, masses: Any, n: int) -> None:
    """Hang all nodes on arcs of a plan, each component by one row on the root.

    Parameters
    ----------
    tree : Tree
        Without arcs, and overwritten.
    arcs : Arcs
        The first of them are those of the plan, which touches every column. One that
        closes a circle is left out.
    masses : numpy array of shape (k,)
        Those of the plan's arcs, above 0.
    n : int
        The number of rows.
    """
    root = len(tree.parents) - 1
    # 1. The arcs at each node: those at node q are at[first[q] : first[q + 1]].
    first = np.zeros(root + 1, np.int64)
    for t in range(len(masses)):
        first[arcs.rows[t] + 1] += 1
        first[n + arcs.cols[t] + 1] += 1
    for q in range(root):
        first[q + 1] += first[q]
    at = np.empty(2 * len(masses), np.int64)
    free = first[:-1].copy()
    for t in range(len(masses)):
        i = arcs.rows[t]
        j = n + arcs.cols[t]
        at[free[i]] = t
        at[free[j]] = t
        free[i] += 1
        free[j] += 1
    # 2. From each row that is not yet reached along all arcs.
    reached = np.zeros(root, np.bool_)
    for i in range(n):
        if reached[i]:
            continue
        reached[i] = True
        _hang(tree, i, root)
        tree.stack[0] = i
        top = 1
        while top > 0:
            top -= 1
            q = tree.stack[top]
            for s in range(first[q], first[q + 1]):
                t = at[s]
                child = n + arcs.cols[t] if q < n else arcs.rows[t]
                if reached[child]:
                    continue
                reached[child] = True
                _hang(tree, child, q)
                tree.arcs[child] = t
                tree.flows[child] = masses[t]
                tree.stack[top] = child
                top += 1
        _renew(tree, arcs, i)


@compiled
def pivoted(tree: Tree, arcs: Arcs, n: int, allowed: float, most: int) -> int:
    """Make pivots until no arc has a reduced cost below minus ``allowed``.

    Parameters
    ----------
    tree : Tree
        Strongly feasible, and overwritten.
    arcs : Arcs
        All arcs that may enter.
    n : int
        The number of rows.
    allowed : float
        What float error may do to reduced costs.
    most : int
        Pivots at most.

    Returns
    -------
    int
        How many pivots were made; ``most`` where that ended them.
    """
    count = len(arcs.costs)
    block = max(int(np.sqrt(count)), 20)
    place = 0
    for pivot in range(most):
        # 1. The arc of least reduced cost of the first block that has a negative one.
        entering = -1
        least = -allowed
        left = block
        for _ in range(count):
            i = arcs.rows[place]
            j = n + arcs.cols[place]
            reduced = arcs.costs[place] - tree.potentials[i] - tree.potentials[j]
            if reduced < least:
                least = reduced
                entering = place
            place += 1
            if place == count:
                place = 0
            left -= 1
            if left == 0:
                if entering >= 0:
                    break
                left = block
        if entering < 0:
            return pivot
        i = arcs.rows[entering]
        j = n + arcs.cols[entering]
        # 2. Mass goes round the circle that it closes, until an arc is empty.
        above = _common_ancestor(tree, i, j)
        leaving, below_row, moved = _leaving(tree, i, j, above, n)
        if moved > 0.0:
            _move(tree, i, above, n, moved)
            _move(tree, j, above, n, -moved)
        # 3. The part of the tree below that arc hangs on the entering one.
        low = i if below_row else j
        high = j if below_row else i
        _rehang(tree, low, high, leaving, entering, moved)
        _renew(tree, arcs, low)
    return most


@compiled
def _common_ancestor(tree: Tree, i: int, j: int) -> int:
    """Return the node where the ways of two nodes to the root meet."""
    while tree.depths[i] > tree.depths[j]:
        i = tree.parents[i]
    while tree.depths[j] > tree.depths[i]:
        j = tree.parents[j]
    while i != j:
        i = tree.parents[i]
        j = tree.parents[j]
    return i


@compiled
def _leaving(tree: Tree, i: int, j: int, above: int, n: int) -> Any:
    """Return the node whose arc leaves, whether it is on the row's side, and its mass.

    Of the emptiest arcs the last one on the way round from the common ancestor, down to
    row i, over to column j and up again: so the tree stays strongly feasible. Mass that
    goes this way leaves the arcs of rows on the first side, of columns on the second.
    """
    moved = np.inf
    leaving = -1
    below_row = True
    q = i
    while q != above:
        if q < n and tree.flows[q] < moved:
            moved = tree.flows[q]
            leaving = q
        q = tree.parents[q]
    q = j
    while q != above:
        if q >= n and tree.flows[q] <= moved:
            moved = tree.flows[q]
            leaving = q
            below_row = False
        q = tree.parents[q]
    return leaving, below_row, moved


@compiled
def _move(tree: Tree, q: int, above: int, n: int, moved: float) -> None:
    """Take mass off the arcs of rows on the way up, and add it to those of columns."""
    while q != above:
        if q < n:
            tree.flows[q] -= moved
        else:
            tree.flows[q] += moved
        q = tree.parents[q]


@compiled
def _rehang(
    tree: Tree, low: int, high: int, leaving: int, entering: int, moved: float
) -> None:
    """Turn the arcs from ``low`` up to ``leaving`` round, and hang ``low`` on ``high``.

    By the entering arc, whose mass is given.
    """
    q = low
    parent = high
    arc = entering
    flow = moved
    while True:
        old_parent = tree.parents[q]
        old_arc = tree.arcs[q]
        old_flow = tree.flows[q]
        _unhang(tree, q)
        _hang(tree, q, parent)
        tree.arcs[q] = arc
        tree.flows[q] = flow
        if q == leaving:
            break
        parent = q
        q = old_parent
        arc = old_arc
        flow = old_flow


@compiled
def _hang(tree: Tree, q: int, parent: int) -> None:
    """Make a node the first child of a parent."""
    child = tree.children[parent]
    tree.parents[q] = parent
    tree.nexts[q] = child
    tree.previous[q] = -1
    if child >= 0:
        tree.previous[child] = q
    tree.children[parent] = q


@compiled
def _unhang(tree: Tree, q: int) -> None:
    """Take a node off its parent's list of children."""
    after = tree.nexts[q]
    before = tree.previous[q]
    if before >= 0:
        tree.nexts[before] = after
    else:
        tree.children[tree.parents[q]] = after
    if after >= 0:
        tree.previous[after] = before


@compiled
def _renew(tree: Tree, arcs: Arcs, top_node: int) -> None:
    """Compute depths and potentials of a node and all below it, from its parent's."""
    tree.stack[0] = top_node
    top = 1
    while top > 0:
        top -= 1
        q = tree.stack[top]
        parent = tree.parents[q]
        tree.depths[q] = tree.depths[parent] + 1
        arc = tree.arcs[q]
        if arc >= 0:
            tree.potentials[q] = arcs.costs[arc] - tree.potentials[parent]
        else:
            tree.potentials[q] = tree.given[q]
        child = tree.children[q]
        while child >= 0:
            tree.stack[top] = child
            top += 1
            child = tree.nexts[child]


@compiled
def settle(tree: Tree, supplies: Any, order: Any, n: int) -> None:
    """Compute the masses of the tree's arcs from the supplies below them.

    Sums over a tree have less float error than what many pivots leave.

    Parameters
    ----------
    tree : Tree
        Its masses are overwritten.
    supplies : numpy array of shape (n + m + 1,)
        What each row has, and minus what each column takes; overwritten.
    order : integer array of shape (n + m + 1,)
        The nodes, deepest first.
    n : int
        The number of rows.
    """
    for q in order:
        parent = tree.parents[q]
        if parent < 0:
            continue
        tree.flows[q] = supplies[q] if q < n else -supplies[q]
        supplies[parent] += supplies[q]
