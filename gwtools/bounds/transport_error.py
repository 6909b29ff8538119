"""Float errors of optimal transport: on the line, and of dual values (theorem 13 b, f).

On the line, values may be those of a stack of problems: numbers are arrays (B,) then.
"""

from __future__ import annotations

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools._stacks import Numbers
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, gamma, lower_end
from gwtools.transport.one_dimensional import (
    comonotone,
    cost,
    equal_weights,
    pairs_off,
    wasserstein,
)
from gwtools.transport.quantile_cells import SortingCoupling


def transport_on_line(
    x: Array,
    a: Array,
    y: Array,
    b: Array,
    p: float = 2.0,
    terms: Numbers = 0.0,
    same_factors: bool | None = None,
    coupling: SortingCoupling | None = None,
) -> Bound:
    """Enclose W_p^p between stored values, for exactly normalised weights.

    By theorem 13 (b).

    Parameters
    ----------
    x, a : arrays of shape (…, N)
        Values and weights; in a stack, atoms of weight zero are padding.
    y, b : arrays of shape (…, M)
        Values and weights.
    p : float
        1 or 2.
    terms : number or array of shape (…)
        Float operations behind each weight.
    same_factors : bool, optional
        Where the weights of one pair are computed products of others: whether these
        factors are the same for x and for y.
    coupling : SortingCoupling, optional
        The comonotone coupling, if it is known.
    """
    # In NumPy, whose cumulative sums of weights never decrease.
    x = _array.to_numpy(x)
    a = _array.to_numpy(a)
    y = _array.to_numpy(y)
    b = _array.to_numpy(b)
    matched = equal_weights(a, b)  # (…): whether atoms of the same weight pair off
    if coupling is None and bool(np.all(matched)):
        # Sorted values pair off, whatever their order.
        value = wasserstein(x, a, y, b, p)
    else:
        if coupling is None:
            pairs = comonotone(x, a, y, b)
        else:
            fields = [_array.to_numpy(field) for field in coupling]
            pairs = SortingCoupling(*fields)
        value = cost(pairs, x, y, p)
        pairing = pairs_off(pairs, a, b)
        if same_factors is not None:
            # Equal floats may be rounded products of unequal exact ones: only products
            # of the same factors are surely equal.
            same_atoms = np.array_equal(pairs.rows, pairs.cols)
            pairing &= same_factors and same_atoms
        matched = matched | pairing
    if x.ndim == 1:
        value = float(value)
    extremes_x = float_error.extremes(x, a)
    extremes_y = float_error.extremes(y, b)
    return transport_bound(value, p, extremes_x, extremes_y, terms, matched)


def transport_bound(
    value: Numbers,
    p: float,
    extremes_x: tuple[Numbers, Numbers, Numbers],
    extremes_y: tuple[Numbers, Numbers, Numbers],
    terms: Numbers,
    matched: Numbers,
) -> Bound:
    """Round a computed W_p^p outward.

    Parameters
    ----------
    value : number or array
        W_p^p as computed.
    p : float
        1 or 2.
    extremes_x, extremes_y : tuple
        The least value, the largest one and the number of atoms of each list.
    terms : number or array
        Float operations behind each weight.
    matched : bool or array
        Whether each atom pairs off with one of the same weight: then the ends of
        quantile cells are exact.
    """
    low_x, high_x, n = extremes_x
    low_y, high_y, m = extremes_y
    # 1. μ, the larger of both differences, without a branch: numbers and arrays alike.
    up = high_x - low_y
    down = high_y - low_x
    largest_difference = (up + down + abs(up - down)) / 2
    # 2. Ends of quantile cells, off by η each: ∫|Â − A| ≤ η (max − min).
    range_x = high_x - low_x
    range_y = high_y - low_y
    shift_x = gamma(2 * n + 3 + terms) * range_x
    shift_y = gamma(2 * m + 3 + terms) * range_y
    #    By p μ^(p − 1) they move the p-th powers. Where matched is 1, atoms of the same
    #    weight pair off, and the ends are exact.
    slope = p * largest_difference ** (p - 1)
    moved = slope * (shift_x + shift_y)
    moved = moved * (1 + gamma(8)) * (1 - matched)
    # 3. The sum over the cells, whose terms are ≥ 0.
    atoms = n + m
    largest_term = largest_difference**p
    sum_error = gamma(3 * atoms + terms + 6) * value
    underflow = atoms * float_error.UNDERFLOW * (1 + largest_term)
    loss = sum_error + underflow + moved
    lower = lower_end(value, loss)
    upper = value + loss
    return Bound(value, lower, upper)


def dual_value(
    costs: NumpyArray,
    potential: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    omega: float,
    costs_error: NumpyArray | float = 0.0,
) -> float:
    """Return a lower bound of Σ costs_ij π_ij over all couplings π.

    Any potential ψ of the second space proves one (theorem 13 f).

    Parameters
    ----------
    costs : numpy array of shape (n, m)
        Costs w of the linear program.
    potential : numpy array of shape (m,)
        ψ, from whatever solver.
    a, b : numpy arrays of shape (n,) and (m,)
        Stored weights.
    omega : float
        ω, the larger one of both weights.
    costs_error : float or numpy array of shape (n, m)
        By how much the costs may be too large.
    """
    costs = costs - costs_error
    n, m = costs.shape
    # 1. φ_i = min_j (w_ij − ψ_j), lowered until both are surely feasible.
    largest_potential = np.abs(potential).max()
    largest_costs = np.abs(costs).max(axis=1)  # (n,)
    size = largest_costs + float(largest_potential)
    least = (costs - potential).min(axis=1)  # (n,)
    dual = least - 6 * float_error.UNIT * size
    # 2. Σ a_i φ_i + Σ b_j ψ_j, less the float error of these sums.
    reach = float(np.abs(dual).max() + largest_potential)
    terms = max(n, m) + omega + 4
    underflow = (n + m) * float_error.UNDERFLOW
    sums = 2 * gamma(terms) * reach + underflow
    return float(a @ dual + b @ potential - sums)
