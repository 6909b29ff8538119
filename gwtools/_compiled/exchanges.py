"""The best exchanges of two atoms of a coupling, by passes over all pairs of them.

Atoms s at (i, k) and t at (j, l) exchange their columns: mass goes to (i, l) and to
(j, k). Arrays over pairs of atoms are filled for s < t alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._compiled.compilation import compiled

_TILE = 32  # atoms: tiles of two matrices stay in the cache together
_LANES = 16  # running minima side by side: two registers of eight numbers


@compiled
def pairs(
    slopes: Any,
    curvatures: Any,
    gradient: Any,
    left: Any,
    right: Any,
    rows: Any,
    cols: Any,
) -> None:
    """Compute what exchanges of all pairs of K atoms change.

    Parameters
    ----------
    slopes, curvatures : numpy arrays of at least shape (K, K)
        Overwritten for s < t by g_il + g_jk − g_ik − g_jl, and by (R_ii − 2 R_ij +
        R_jj) (S_kk − 2 S_kl + S_ll); their other entries mean nothing afterwards. The
        caller makes them by NumPy, which asks the system for large pages of memory.
    gradient : numpy array of shape (n, m)
        That of F at the coupling, g.
    left, right : numpy arrays of shape (n, n) and (m, m)
        R and S.
    rows, cols : integer arrays of shape (K,)
        The positions of the atoms.
    """
    count = len(rows)
    own_left = np.empty(count)
    own_right = np.empty(count)
    own_slopes = np.empty(count)
    for s in range(count):
        own_left[s] = left[rows[s], rows[s]]
        own_right[s] = right[cols[s], cols[s]]
        own_slopes[s] = gradient[rows[s], cols[s]]
    # 1. Row by row: g_il of atom s with all others, and the curvatures.
    for s in range(count):
        of_row = gradient[rows[s]]
        of_left = left[rows[s]]
        of_right = right[cols[s]]
        of_s = slopes[s]
        curvatures_of_s = curvatures[s]
        for t in range(count):
            of_s[t] = of_row[cols[t]]
        for t in range(s + 1, count):
            along_x = own_left[s] + own_left[t] - 2 * of_left[rows[t]]
            along_y = own_right[s] + own_right[t] - 2 * of_right[cols[t]]
            curvatures_of_s[t] = along_x * along_y
    # 2. g_il + g_jk − g_ik − g_jl. Tile by tile, as g_jk of a pair is read down a
    # column.
    for low in range(0, count, _TILE):
        for begin in range(low, count, _TILE):
            end = min(begin + _TILE, count)
            for s in range(low, min(low + _TILE, count)):
                for t in range(max(begin, s + 1), end):
                    both = slopes[s, t] + slopes[t, s]
                    slopes[s, t] = both - own_slopes[s] - own_slopes[t]


@compiled
def best_pair(
    slopes: Any,
    curvatures: Any,
    mass: Any,
    along_x: Any,
    along_y: Any,
    moved: float,
) -> Any:
    """Make the slopes those after an exchange, and return the best next one.

    Parameters
    ----------
    slopes, curvatures : numpy arrays of at least shape (K, K)
        Those of :func:`pairs`; the slopes are overwritten.
    mass : numpy array of shape (K,)
        The masses of the atoms.
    along_x, along_y : numpy arrays of shape (K,)
        Of the exchange that was made between atoms at (i, k) and (j, l): the entries
        of R in column i less those in column j, at the row of each atom, and those of
        S in row l less those in row k, at its column.
    moved : float
        The mass that it moved; 0 where none was made.

    Returns
    -------
    (float, int, int)
        The change of the objective, and the positions of both atoms in the list; three
        zeros where no exchange lowers it.
    """
    count = len(mass)
    changes = np.empty(count)
    minima = np.empty(_LANES)
    least = 0.0
    first = 0
    second = 0
    for s in range(count - 1):
        of_s = slopes[s]
        curvatures_of_s = curvatures[s]
        x_s = along_x[s]
        y_s = along_y[s]
        mass_s = mass[s]
        for t in range(s + 1, count):
            # The gradient has changed by −4 τ x yᵀ, and so has the slope of a pair by
            # 4 τ (x_s − x_t)(y_s − y_t).
            of_s[t] += 4 * moved * (x_s - along_x[t]) * (y_s - along_y[t])
            lesser = mass_s if mass_s < mass[t] else mass[t]
            changes[t] = lesser * (of_s[t] - 2 * lesser * curvatures_of_s[t])
        value = _least(changes[s + 1 :], minima)
        if value < least:
            least = value
            first = s
            for t in range(s + 1, count):
                if changes[t] == value:
                    second = t
                    break
    return least, first, second


@compiled
def _least(values: Any, minima: Any) -> float:
    """Return the least value; ``minima`` (16,) is overwritten.

    Sixteen running minima side by side, which processors update in one instruction.
    """
    minima[:] = np.inf
    whole = len(values) - len(values) % _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            value = values[start + lane]
            minima[lane] = value if value < minima[lane] else minima[lane]
    least = np.inf
    for lane in range(_LANES):
        least = min(least, minima[lane])
    for t in range(whole, len(values)):
        least = min(least, values[t])
    return least


@compiled
def renew_pairs(
    slopes: Any,
    curvatures: Any,
    gradient: Any,
    left: Any,
    right: Any,
    rows: Any,
    cols: Any,
    s: int,
) -> None:
    """Compute again what exchanges with one atom change, after it has moved.

    Parameters
    ----------
    slopes, curvatures : numpy arrays of at least shape (K, K)
        Those of :func:`pairs`; overwritten for the pairs of that atom.
    gradient, left, right, rows, cols : numpy arrays
        As there, with the rows and columns after the move.
    s : int
        The atom.
    """
    i = rows[s]
    k = cols[s]
    for t in range(len(rows)):
        j = rows[t]
        c = cols[t]  # l
        slope = gradient[i, c] + gradient[j, k] - gradient[i, k] - gradient[j, c]
        along_x = left[i, i] + left[j, j] - 2 * left[i, j]
        along_y = right[k, k] + right[c, c] - 2 * right[k, c]
        low = min(s, t)
        high = max(s, t)
        slopes[low, high] = slope
        curvatures[low, high] = along_x * along_y


@compiled
def add_product(matrix: Any, column: Any, row: Any) -> None:
    """Add a product of a column and a row to a matrix, in place.

    Parameters
    ----------
    matrix : numpy array of shape (n, m)
        Overwritten.
    column, row : numpy arrays of shape (n,) and (m,)
        The factors.
    """
    for i in range(len(column)):
        factor = column[i]
        of_row = matrix[i]
        for j in range(len(row)):
            of_row[j] += factor * row[j]


@compiled
def made_exchanges(
    problem: Any,
    atoms: Any,
    count: int,
    of_pairs: Any,
    least: float,
    sliver: float,
    most: int,
) -> Any:
    """Make the best exchange, as long as one lowers the objective by over ``least``.

    At most ``most`` of them, and as long as there is room for one more atom.

    Parameters
    ----------
    problem : tuple of arrays
        The gradient, R and S, as for :func:`pairs`; the gradient is overwritten by
        that after the exchanges.
    atoms : tuple of arrays
        Rows, columns and masses of atoms, with room for more; overwritten.
    count : int
        How many atoms there are.
    of_pairs : tuple of arrays
        The slopes and curvatures of :func:`pairs`; overwritten.
    least : float
        In units of the objective.
    sliver : float
        The share of the largest mass up to which the rest of an atom is left out.
    most : int
        Exchanges at most.

    Returns
    -------
    (int, int)
        How many exchanges were made, and how many atoms there are then.
    """
    gradient, left, right = problem
    rows, cols, mass = atoms
    slopes, curvatures = of_pairs
    along_x = np.zeros(len(rows))
    along_y = np.zeros(len(rows))
    moved = 0.0
    made = 0
    while made < most and count < len(rows):
        # 1. The slopes are brought up to date with the last exchange, and the best one
        # is found, in one pass.
        now = mass[:count]
        change, s, t = best_pair(slopes, curvatures, now, along_x, along_y, moved)
        # Written so that changes that are no numbers end the search.
        if not change < -least:
            break
        made += 1
        if mass[t] > mass[s]:
            s, t = t, s
        moved = mass[t]
        # 2. Δ = τ (e_i − e_j)(e_l − e_k)ᵀ changes the gradient by −4 R Δ S. Where mass
        # of s is left, s stays with it, and a new atom is at (i, l).
        i, k, j, c = rows[s], cols[s], rows[t], cols[t]  # c is l
        x = left[:, i] - left[:, j]
        y = right[c] - right[k]
        rest = mass[s] - moved
        if rest > sliver * now.max():
            mass[s] = rest
            s = count
            count += 1
        cols[t] = k
        rows[s] = i
        cols[s] = c
        mass[s] = moved
        # 3. Two atoms have moved: their slopes are taken from the gradient before the
        # exchange, as the next pass adds the change to theirs as to all others.
        for atom in (s, t):
            renew_pairs(
                slopes, curvatures, gradient, left, right, rows[:count], cols, atom
            )
        add_product(gradient, -4 * moved * x, y)
        for atom in range(count):
            along_x[atom] = x[rows[atom]]
            along_y[atom] = y[cols[atom]]
    return made, count
