"""The network simplex of transport programs, started from a plan and potentials.

On all arcs: the arc that enters is the one of least reduced cost c_ij − u_i − v_j of a
row, rows in turn. On listed arcs: that of a block of the list, blocks in turn. Pivots
keep the tree strongly feasible, so that they do not cycle (Cunningham 1976, A network
simplex method, Mathematical Programming 11).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gwtools._compiled.compilation import compiled

_LANES = 16  # running minima side by side: two registers of eight numbers
_BESIDE = 4 * _LANES  # entries at a time: four for each running minimum
_FLOAT_ERROR = 1e-14  # of reduced costs, relative to costs and potentials


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
    depths : integer array
        How many arcs lead to the root.
    flows : array
        The mass of the arc that a node hangs on.
    potentials : array
        u and v, by which the arcs of the tree have reduced cost 0; 0 at the root.
    costs : array
        The cost of the arc that a node hangs on.
    stack : integer array
        Nodes still to be visited.
    """

    parents: Any
    children: Any
    nexts: Any
    previous: Any
    depths: Any
    flows: Any
    potentials: Any
    costs: Any
    stack: Any


@compiled
def empty_tree(n: int, m: int, given: Any) -> Tree:
    """Return a tree without arcs, whose arcs to the root cost ``given`` (n,)."""
    size = n + m + 1
    links = np.full((4, size), -1, np.int32)
    places = np.zeros((2, size), np.int32)
    values = np.zeros((3, size))
    values[2, :n] = given
    return Tree(
        parents=links[0],
        children=links[1],
        nexts=links[2],
        previous=links[3],
        depths=places[0],
        flows=values[0],
        potentials=values[1],
        costs=values[2],
        stack=places[1],
    )


@compiled
def plant(tree: Tree, n: int, rows: Any, cols: Any, costs: Any, masses: Any) -> None:
    """Hang all nodes on arcs of a plan, each component by one row on the root.

    Parameters
    ----------
    tree : Tree
        Without arcs, and overwritten.
    n : int
        The number of rows.
    rows, cols : integer arrays of shape (k,)
        The arcs of the plan, which touches every column. Mass goes round the cycle
        that one closes until an arc of it is empty, and that one is left out.
    costs, masses : numpy arrays of shape (k,)
        Their costs, and their masses, above 0.
    """
    root = len(tree.parents) - 1
    # 1. The arcs at each node: those at node q are at[first[q] : first[q + 1]].
    first = np.zeros(root + 1, np.int64)
    for t in range(len(masses)):
        first[rows[t] + 1] += 1
        first[n + cols[t] + 1] += 1
    for q in range(root):
        first[q + 1] += first[q]
    at = np.empty(2 * len(masses), np.int64)
    free = first[:-1].copy()
    for t in range(len(masses)):
        i = rows[t]
        j = n + cols[t]
        at[free[i]] = t
        at[free[j]] = t
        free[i] += 1
        free[j] += 1
    # 2. From each row that is not yet reached along all arcs.
    reached = np.zeros(root, np.bool_)
    is_hung = np.zeros(len(masses), np.bool_)
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
                child = n + cols[t] if q < n else rows[t]
                if reached[child]:
                    continue
                reached[child] = True
                is_hung[t] = True
                _hang(tree, child, q)
                tree.costs[child] = costs[t]
                tree.flows[child] = masses[t]
                tree.stack[top] = child
                top += 1
        _renew(tree, i)
    # 3. The arcs that close cycles enter the tree, each with its mass.
    for t in range(len(masses)):
        if not is_hung[t]:
            _pivot(tree, n, rows[t], n + cols[t], costs[t], masses[t])


@compiled
def pivoted(tree: Tree, cost: Any, least: Any, allowed: float, most: int) -> int:
    """Make pivots until no arc has a reduced cost below minus ``allowed``.

    Parameters
    ----------
    tree : Tree
        Strongly feasible, and overwritten.
    cost : numpy array of shape (n, m)
        Costs, of C order.
    least : numpy array of shape (n,)
        Overwritten by the least reduced cost of each row.
    allowed : float
        What float error may do to reduced costs.
    most : int
        Pivots at most.

    Returns
    -------
    int
        How many pivots were made; ``most`` where that ended them.
    """
    n, m = cost.shape
    v = tree.potentials[n : n + m]
    minima = np.empty(_LANES)
    row = 0
    pivots = 0
    # Rows in turn, until all were passed without a pivot.
    passed = 0
    while passed < n:
        # 1. The arc of least reduced cost of a row.
        of_row = cost[row]
        value = _least_difference(of_row, v, minima)
        least[row] = value - tree.potentials[row]
        if not least[row] < -allowed:
            passed += 1
            row = row + 1 if row + 1 < n else 0
            continue
        col = _place(of_row, v, value)
        if pivots == most or col < 0:
            return most
        # 2. It enters, and the row is read again.
        _pivot(tree, n, row, n + col, of_row[col], 0.0)
        pivots += 1
        passed = 0
    return pivots


@compiled
def pivoted_on_arcs(tree: Tree, arcs: Arcs, n: int, allowed: float, most: int) -> int:
    """Make pivots until no listed arc has a reduced cost below minus ``allowed``.

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
        # 2. It enters.
        i = arcs.rows[entering]
        j = n + arcs.cols[entering]
        _pivot(tree, n, i, j, arcs.costs[entering], 0.0)
    return most


@compiled
def _least_difference(of_row: Any, v: Any, minima: Any) -> float:
    """Return the least c_j − v_j; ``minima`` (16,) is overwritten.

    Sixteen running minima side by side, which processors update in one instruction.
    Each takes the least of four entries at a time, so that it is read and written once
    for four.
    """
    minima[:] = np.inf
    begin = len(v) - len(v) % _BESIDE
    for start in range(0, begin, _BESIDE):
        for lane in range(start, start + _LANES):
            first = of_row[lane] - v[lane]
            second = of_row[lane + _LANES] - v[lane + _LANES]
            third = of_row[lane + 2 * _LANES] - v[lane + 2 * _LANES]
            fourth = of_row[lane + 3 * _LANES] - v[lane + 3 * _LANES]
            first = first if first < second else second
            third = third if third < fourth else fourth
            first = first if first < third else third
            value = minima[lane - start]
            minima[lane - start] = first if first < value else value
    whole = len(v) - len(v) % _LANES
    for start in range(begin, whole, _LANES):
        for lane in range(_LANES):
            value = of_row[start + lane] - v[start + lane]
            minima[lane] = value if value < minima[lane] else minima[lane]
    least = np.inf
    for lane in range(_LANES):
        least = min(least, minima[lane])
    for j in range(whole, len(v)):
        least = min(least, of_row[j] - v[j])
    return least


@compiled
def _place(of_row: Any, v: Any, value: float) -> int:
    """Return the first j of c_j − v_j = value, or −1."""
    whole = len(v) - len(v) % _BESIDE
    # Blocks without it are passed as a whole, many entries at once.
    begin = whole
    for start in range(0, whole, _BESIDE):
        found = 0
        for j in range(start, start + _BESIDE):
            found += of_row[j] - v[j] == value
        if found > 0:
            begin = start
            break
    for j in range(begin, len(v)):
        if of_row[j] - v[j] == value:
            return j
    return -1


@compiled
def _pivot(tree: Tree, n: int, i: int, j: int, cost: float, mass: float) -> None:
    """Let the arc from a row i to a column's node j enter the tree.

    At its cost, and with the mass that it has before.
    """
    # 1. Mass goes round the cycle that it closes, until an arc is empty.
    above, leaving, below_row, moved = _cycle(tree, i, j, n)
    if moved > 0.0:
        _move(tree, i, above, n, moved)
        _move(tree, j, above, n, -moved)
    # 2. The part of the tree below that arc hangs on the entering one.
    low = i if below_row else j
    high = j if below_row else i
    _rehang(tree, low, high, leaving, cost, mass + moved)
    _renew(tree, low)


@compiled
def _cycle(tree: Tree, i: int, j: int, n: int) -> Any:
    """Follow the cycle that the arc from row i to node j closes.

    Returns the node where the ways of both to the root meet, their common ancestor; the
    node whose arc leaves; whether that is on the row's side; and its mass. Of the
    emptiest arcs it is the last one on the way round from the common ancestor, down to
    row i, over to column j and up again: so the tree stays strongly feasible. Mass that
    goes this way leaves the arcs of rows on the first side, of columns on the second.
    """
    of_row_side = np.inf
    of_col_side = np.inf
    on_row_side = -1
    on_col_side = -1
    while i != j:
        if tree.depths[i] >= tree.depths[j]:
            if i < n and tree.flows[i] < of_row_side:
                of_row_side = tree.flows[i]
                on_row_side = i
            i = tree.parents[i]
        else:
            if j >= n and tree.flows[j] <= of_col_side:
                of_col_side = tree.flows[j]
                on_col_side = j
            j = tree.parents[j]
    if of_col_side <= of_row_side:
        return i, on_col_side, False, of_col_side
    return i, on_row_side, True, of_row_side


@compiled
def _move(tree: Tree, q: int, above: int, n: int, moved: float) -> None:
    """On the way up take mass off the arcs of rows, and add it to those of columns."""
    while q != above:
        if q < n:
            tree.flows[q] -= moved
        else:
            tree.flows[q] += moved
        q = tree.parents[q]


@compiled
def _rehang(
    tree: Tree, low: int, high: int, leaving: int, cost: float, moved: float
) -> None:
    """Turn the arcs from ``low`` up to ``leaving`` round, and hang ``low`` on ``high``.

    By the entering arc, whose cost and mass are given.
    """
    q = low
    parent = high
    flow = moved
    while True:
        old_parent = tree.parents[q]
        old_cost = tree.costs[q]
        old_flow = tree.flows[q]
        _unhang(tree, q)
        _hang(tree, q, parent)
        tree.costs[q] = cost
        tree.flows[q] = flow
        if q == leaving:
            break
        parent = q
        q = old_parent
        cost = old_cost
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
def _renew(tree: Tree, top_node: int) -> None:
    """Compute depths and potentials of a node and all below it, from its parent's."""
    tree.stack[0] = top_node
    top = 1
    while top > 0:
        top -= 1
        q = tree.stack[top]
        parent = tree.parents[q]
        tree.depths[q] = tree.depths[parent] + 1
        tree.potentials[q] = tree.costs[q] - tree.potentials[parent]
        child = tree.children[q]
        while child >= 0:
            tree.stack[top] = child
            top += 1
            child = tree.nexts[child]


@compiled
def settled(tree: Tree, a: Any, b: Any, least: float) -> Any:
    """Compute the masses of the tree's arcs from the weights a and b below them.

    Sums over a tree have less float error than what many pivots leave. Returns rows,
    columns and masses, arrays (k,), of the arcs that carry more than ``least``.
    """
    n = len(a)
    root = n + len(b)
    # 1. The nodes, deepest first: those of depth d end at ends[d].
    ends = np.zeros(root + 1, np.int64)
    for q in range(root):
        ends[tree.depths[q]] += 1
    for depth in range(root - 1, 0, -1):
        ends[depth] += ends[depth + 1]
    order = np.empty(root, np.int64)
    for q in range(root - 1, -1, -1):
        ends[tree.depths[q]] -= 1
        order[ends[tree.depths[q]]] = q
    # 2. An arc carries what its node and all below it have or take in total.
    supplies = np.zeros(root + 1)
    supplies[:n] = a
    supplies[n:root] = -b
    for node in order:
        tree.flows[node] = supplies[node] if node < n else -supplies[node]
        supplies[tree.parents[node]] += supplies[node]
    # 3. Arcs to the root carry nothing but float error.
    nodes = np.nonzero((tree.flows > least) & (tree.parents < root))[0]
    parents = tree.parents[nodes]
    rows = np.minimum(nodes, parents)
    cols = np.maximum(nodes, parents) - n
    return rows, cols, tree.flows[nodes]


@compiled
def optimum(
    cost: Any,
    weights: Any,
    plan: Any,
    given: Any,
    largest: float,
    sliver: float,
    most: int,
) -> Any:
    """Make at most ``most`` pivots from a plan until no arc improves it.

    Costs (n, m) are of C order, and ``largest`` is their largest absolute value. The
    plan is a tuple of rows, columns and masses, as for :func:`plant`; each part of it
    keeps one of the ``given`` potentials of rows. Arcs that carry at most the share
    ``sliver`` of the largest weight count as empty. Returns how many pivots were made,
    ``most`` where that ended them; the potentials (n + m + 1,); the least reduced cost
    of each row (n,); and what :func:`settled` does.
    """
    a, b = weights
    rows, cols, masses = plan
    n, m = cost.shape
    tree = empty_tree(n, m, given)
    costs = np.empty(len(rows))
    for t in range(len(rows)):
        costs[t] = cost[rows[t], cols[t]]
    plant(tree, n, rows, cols, costs, masses)
    size = max(largest, np.abs(tree.potentials).max())
    least = np.empty(n)
    pivots = pivoted(tree, cost, least, _FLOAT_ERROR * size, most)
    arcs = settled(tree, a, b, sliver * max(a.max(), b.max()))
    return pivots, tree.potentials, least, arcs
