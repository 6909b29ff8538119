"""The linear program of a node: the largest chord value under cuts, by a dual simplex.

Over z = (w, Z) in a box, with cuts w + ⟨B, Z⟩ ≤ h, of w + Σ_e (l_e + u_e) Z_e / 2 less
Σ_e l_e u_e / 2. A loop for numba and the same steps in array operations beside it. Both
return weights of cuts, which prove a bound whatever the simplex did (theorem 17).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gwtools._compiled import available, compiled

_VIOLATED = 1e-11  # relative to the value: what counts as a violated constraint
_PIVOTABLE = 1e-12  # entries of an image that are smaller are not divided by
_MOST_PIVOTS = 500


class NodeProgram(NamedTuple):
    """A solved program of a node.

    Parameters
    ----------
    value : float
        Its value as computed; no bound before it is rounded up.
    point : numpy array of shape (q + 1,)
        z = (w, Z) at the end, within the box.
    cuts : integer array of shape (k,)
        The cuts that bind, k ≤ q + 1.
    weights : numpy array of shape (k,)
        Their multipliers θ > 0.
    """

    value: float
    point: Any
    cuts: Any
    weights: Any


def node_program(
    slopes: Any,
    heights: Any,
    low: Any,
    high: Any,
    target: float,
    use_numba: bool | None = None,
) -> NodeProgram:
    """Solve the program of a node, or stop once its value is at most a target.

    Parameters
    ----------
    slopes : numpy array of shape (K, q)
        The B of the cuts, at least one.
    heights : numpy array of shape (K,)
        Their h(B).
    low, high : numpy arrays of shape (q + 1,)
        Ends of the box, of w and of the entries of Z.
    target : float
        A value at which the node needs no further work.
    use_numba : bool, optional
        Whether to run the compiled loop; by default where numba is installed.
    """
    if use_numba is None:
        use_numba = available()
    solver = _loop if use_numba else _in_arrays
    z, basis, multipliers = solver(slopes, heights, low, high, target)
    is_cut = (basis >= 0) & (multipliers > 0)
    cuts = basis[is_cut]
    weights = multipliers[is_cut]
    point = np.minimum(np.maximum(z, low), high)
    # The value that these weights prove, up to float error.
    middle = (low + high) / 2
    middle[0] = 1.0
    rest = middle.copy()
    rest[0] -= weights.sum()
    rest[1:] -= weights @ slopes[cuts]
    largest = np.maximum(rest * low, rest * high).sum()
    corners = (low[1:] @ high[1:]) / 2
    value = float(weights @ heights[cuts] + largest - corners)
    return NodeProgram(value, point, cuts, weights)


# Constraints have numbers: cuts k ≥ 0; below them −1 − 2e for the upper end of
# coordinate e and −2 − 2e for the lower one.


@compiled
def _loop(slopes: Any, heights: Any, low: Any, high: Any, target: float) -> Any:
    """Run the dual simplex, one number at a time."""
    size = len(low)
    middle = (low + high) / 2
    middle[0] = 1.0
    corners = 0.0
    for e in range(1, size):
        corners += low[e] * high[e] / 2
    # 1. Start at the cut that is best alone, and the corner of the box beyond it.
    first = _best_alone(slopes, heights, low, high, middle)
    basis, sides, inverse = _started(slopes, heights, low, high, middle, first)
    z = np.zeros(size)
    multipliers = np.zeros(size)
    row = np.empty(size)
    image = np.empty(size)
    for pivot in range(_MOST_PIVOTS + 1):
        value = _solve_basis(inverse, sides, middle, z, multipliers) - corners
        if value <= target or pivot == _MOST_PIVOTS:
            break
        # 2. The constraint that is violated most.
        allowed = _VIOLATED * (1 + abs(value))
        found, enters = _most_violated(slopes, heights, low, high, z, allowed)
        if not found:
            break
        side = _read_constraint(slopes, heights, low, high, enters, row)
        # 3. The constraint that leaves, by the least ratio of multipliers.
        leaves = _leaving(row, inverse, multipliers, image)
        if leaves < 0:
            break
        # 4. The inverse after one row is replaced.
        basis[leaves] = enters
        sides[leaves] = side
        _replace_row(inverse, image, leaves)
    return z, basis, multipliers


@compiled
def _best_alone(slopes: Any, heights: Any, low: Any, high: Any, middle: Any) -> Any:
    """Return the cut whose bound over the box is least where its weight is 1."""
    best = 0
    least = np.inf
    for k in range(len(heights)):
        value = heights[k]
        for e in range(1, len(low)):
            rest = middle[e] - slopes[k, e - 1]
            value += rest * (high[e] if rest > 0 else low[e])
        if value < least:
            least = value
            best = k
    return best


@compiled
def _started(
    slopes: Any, heights: Any, low: Any, high: Any, middle: Any, first: Any
) -> Any:
    """Return the first basis: a cut, and the ends of the box where it is least.

    With its right-hand sides, (q + 1,), and the inverse of its rows.
    """
    size = len(low)
    basis = np.empty(size, np.int64)
    sides = np.empty(size)
    matrix = np.zeros((size, size))
    basis[0] = first
    sides[0] = heights[first]
    matrix[0, 0] = 1.0
    for e in range(1, size):
        matrix[0, e] = slopes[first, e - 1]
        if middle[e] - slopes[first, e - 1] > 0:
            basis[e] = -1 - 2 * e
            matrix[e, e] = 1.0
            sides[e] = high[e]
        else:
            basis[e] = -2 - 2 * e
            matrix[e, e] = -1.0
            sides[e] = -low[e]
    return basis, sides, np.linalg.inv(matrix)


@compiled
def _solve_basis(
    inverse: Any, sides: Any, middle: Any, z: Any, multipliers: Any
) -> Any:
    """Write the point and the multipliers of a basis, and return their value."""
    size = len(z)
    for i in range(size):
        total = 0.0
        multiplier = 0.0
        for j in range(size):
            total += inverse[i, j] * sides[j]
            multiplier += middle[j] * inverse[j, i]
        z[i] = total
        multipliers[i] = multiplier
    value = 0.0
    for i in range(size):
        value += multipliers[i] * sides[i]
    return value


@compiled
def _most_violated(
    slopes: Any, heights: Any, low: Any, high: Any, z: Any, allowed: float
) -> Any:
    """Return whether a constraint is violated by more than allowed, and the worst."""
    size = len(z)
    worst = allowed
    found = False
    enters = 0
    for k in range(len(heights)):
        violation = z[0] - heights[k]
        for e in range(1, size):
            violation += slopes[k, e - 1] * z[e]
        if violation > worst:
            worst = violation
            enters = k
            found = True
    for e in range(size):
        if z[e] - high[e] > worst:
            worst = z[e] - high[e]
            enters = -1 - 2 * e
            found = True
        if low[e] - z[e] > worst:
            worst = low[e] - z[e]
            enters = -2 - 2 * e
            found = True
    return found, enters


@compiled
def _read_constraint(
    slopes: Any, heights: Any, low: Any, high: Any, number: Any, row: Any
) -> Any:
    """Write the row of a constraint, and return its right-hand side."""
    row[:] = 0.0
    if number >= 0:
        row[0] = 1.0
        row[1:] = slopes[number]
        return heights[number]
    e = (-number - 1) // 2
    if (-number - 1) % 2 == 0:
        row[e] = 1.0
        return high[e]
    row[e] = -1.0
    return -low[e]


@compiled
def _leaving(row: Any, inverse: Any, multipliers: Any, image: Any) -> Any:
    """Return the place in the basis that a row takes, or −1; write its image."""
    size = len(row)
    leaves = -1
    least = np.inf
    for i in range(size):
        total = 0.0
        for j in range(size):
            total += row[j] * inverse[j, i]
        image[i] = total
        if total > _PIVOTABLE:
            ratio = max(multipliers[i], 0.0) / total
            if ratio < least:
                least = ratio
                leaves = i
    return leaves


@compiled
def _replace_row(inverse: Any, image: Any, leaves: Any) -> None:
    """Update the inverse, in place, for a new row whose image is given."""
    size = len(image)
    for i in range(size):
        scaled = inverse[i, leaves] / image[leaves]
        for j in range(size):
            if j != leaves:
                inverse[i, j] -= scaled * image[j]
        inverse[i, leaves] = scaled


def _in_arrays(slopes: Any, heights: Any, low: Any, high: Any, target: float) -> Any:
    """Run the same dual simplex, all constraints at once."""
    count, q = slopes.shape
    size = q + 1
    middle = (low + high) / 2
    middle[0] = 1.0
    corners = (low[1:] @ high[1:]) / 2
    # 1. Start at the cut that is best alone, and the corner of the box beyond it.
    rest = middle[1:] - slopes  # (K, q)
    alone = heights + np.maximum(rest * high[1:], rest * low[1:]).sum(axis=1)
    first = int(alone.argmin())
    rows = np.concatenate([np.ones((count, 1)), slopes], axis=1)  # (K, q + 1)
    upward = rest[first] > 0
    basis = np.concatenate([[first], np.zeros(q, dtype=np.int64)])
    matrix = np.diag(np.concatenate([[1.0], np.where(upward, 1.0, -1.0)]))
    matrix[0] = rows[first]
    sides = np.concatenate(
        [[heights[first]], np.where(upward, high[1:], -low[1:])],
    )
    for e in range(1, size):
        basis[e] = -1 - 2 * e if upward[e - 1] else -2 - 2 * e
    inverse = np.linalg.inv(matrix)
    for pivot in range(_MOST_PIVOTS + 1):
        z = inverse @ sides
        multipliers = middle @ inverse
        value = float(multipliers @ sides) - corners
        if value <= target or pivot == _MOST_PIVOTS:
            break
        # 2. The constraint that is violated most.
        of_cuts = rows @ z - heights
        of_box = np.stack([z - high, low - z], axis=1).ravel()
        violations = np.concatenate([of_cuts, of_box])
        worst = int(violations.argmax())
        if violations[worst] <= _VIOLATED * (1 + abs(value)):
            break
        row = np.zeros(size)
        if worst < count:
            enters = worst
            row = rows[enters]
            side = heights[enters]
        else:
            e, is_lower = divmod(worst - count, 2)
            enters = -1 - 2 * e - is_lower
            row[e] = -1.0 if is_lower else 1.0
            side = -low[e] if is_lower else high[e]
        # 3. The constraint that leaves, by the least ratio of multipliers.
        image = row @ inverse
        ratios = np.full(size, np.inf)
        positive = image > _PIVOTABLE
        ratios[positive] = np.maximum(multipliers[positive], 0.0) / image[positive]
        leaves = int(ratios.argmin())
        if not positive[leaves]:
            break
        # 4. The inverse after one row is replaced.
        basis[leaves] = enters
        sides[leaves] = side
        column = inverse[:, leaves] / image[leaves]
        inverse = inverse - np.outer(column, image)
        inverse[:, leaves] = column
    return z, basis, multipliers
