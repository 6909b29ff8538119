"""The convex quadratic bound, mixed with the third bounds (THEORY.md, theorem 10).

Notation of the theorem: λ, U and μ, V are the eigenpairs of diag(√a) R diag(√a) and of
diag(√b) S diag(√b) without their null vectors √a and √b; Q = diag(a)^(−1/2) π
diag(b)^(−1/2) is the contraction of a coupling π, and q = Uᵀ Q V.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.bounds.arguments import (
    centred_pair,
    in_given_units,
    read_pair,
    refuse_jax_gradients,
)
from gwtools.bounds.distributions import additive_costs
from gwtools.bounds.memory import require_memory
from gwtools.preparation import prepare
from gwtools.transport.local_distributions import Centred, transports
from gwtools.transport.programs import exact

_TINY = 1e-300  # keeps quotients of zero finite
Eigenpairs: TypeAlias = tuple[NumpyArray, NumpyArray]


@dataclass(frozen=True, eq=False)
class Minorants:
    """Three functions of a coupling π, each at most F(π) − (m_C − m_D)² (theorem 10).

    A bound is the least value of any mixture of them (vii). With ⟨·, ·⟩ the sum of
    products of entries, they are

    0. ⟨costs[0], π⟩ + Σ d q(π)² + constant, the convex quadratic;
    1. ⟨costs[1], π⟩, whose minimum is the residual TLB;
    2. ⟨costs[2], π⟩, whose minimum is TLB.
    """

    # (3, n, m), in squared units of C: 2 (α_i − β_j)², to which the convex quadratic
    # is added; that + W_2²(R_i, S_j); and W_2²(C_i, D_j) − (m_C − m_D)².
    costs: NumpyArray
    lam: NumpyArray  # (n − 1,)
    U: NumpyArray  # (n, n − 1)
    mu: NumpyArray  # (m − 1,)
    V: NumpyArray  # (m, m − 1)
    a: NumpyArray  # (n,)
    b: NumpyArray  # (m,)

    @cached_property
    def root(self) -> NumpyArray:
        """√(a_i b_j), by which π is divided for Q: the product coupling's Q itself."""
        root_a = np.sqrt(self.a)
        root_b = np.sqrt(self.b)
        return root_a[:, None] * root_b

    @property
    def norms(self) -> float:
        """‖λ‖² + ‖μ‖² = ‖R‖² + ‖S‖²."""
        squared_norm_R = self.lam @ self.lam
        squared_norm_S = self.mu @ self.mu
        return float(squared_norm_R + squared_norm_S)


class Point(NamedTuple):
    """Weights, duals and a matrix q at which theorem 10 (i) gives a bound."""

    theta: NumpyArray  # (3,): weights of the three functions, of sum 1
    d: NumpyArray  # (n − 1, m − 1): −2 λ_i μ_j − s_i − t_j, not negative
    duals: float  # Σs + Σt
    q: NumpyArray  # (n − 1, m − 1): any real numbers; the tangent is taken here

    def constant(self, minorants: Minorants) -> float:
        """Return θ_0 (‖λ‖² + ‖μ‖² + Σs + Σt − Σ d q²)."""
        quadratic = np.sum(self.d * self.q**2)
        constant = minorants.norms + self.duals - quadratic
        return float(self.theta[0] * constant)

    def slope(self, minorants: Minorants) -> NumpyArray:
        """Return the costs W of the linear program of theorem 10 (i), shape (n, m).

        They are the gradient of the mixture at q; tiny weights may make them infinite.
        """
        weighted = self.d * self.q
        curved = minorants.U @ weighted @ minorants.V.T
        with np.errstate(over="ignore", invalid="ignore"):
            linear = np.tensordot(self.theta, minorants.costs, 1)
            factor = 2 * self.theta[0] / minorants.root
            return np.asarray(linear + factor * curved)

    def bound(self, minorants: Minorants) -> float:
        """Return value minus Frank-Wolfe gap: a bound for every q, coupling or not."""
        slope = self.slope(minorants)
        if not np.isfinite(slope).all():
            return -np.inf
        program = exact(slope, minorants.a, minorants.b)
        return self.constant(minorants) + program.lower


def linear_point(minorants: Minorants, index: int) -> Point:
    """Return the point where one function counts: 1 for the residual TLB, 2 for TLB."""
    theta = np.eye(3)[index]
    shape = (len(minorants.lam), len(minorants.mu))
    zeros = np.zeros(shape)
    return Point(theta, zeros, 0.0, zeros)


def minorants(
    x: Centred,
    y: Centred,
    eigenpairs_x: Eigenpairs | None = None,
    eigenpairs_y: Eigenpairs | None = None,
) -> Minorants:
    """Compute the costs of the three functions, and the spectra that are not given.

    O(n m min(n, m)) time beside the spectra.
    """
    additive = additive_costs(x, y)
    residual = transports(x.residual, x.weights, y.residual, y.weights)
    whole = transports(x.matrix, x.weights, y.matrix, y.weights)
    # All three leave out the means, which a bound adds once.
    whole = whole - (x.mean - y.mean) ** 2
    if eigenpairs_x is None:
        eigenpairs_x = spectrum(x)
    if eigenpairs_y is None:
        eigenpairs_y = spectrum(y)
    lam, U = eigenpairs_x
    mu, V = eigenpairs_y
    costs = np.stack([additive, additive + residual, whole])
    return Minorants(costs, lam, U, mu, V, x.weights, y.weights)


def spectrum(space: Centred) -> Eigenpairs:
    """Return the eigenpairs of diag(√a) R diag(√a) on the complement of √a."""
    root = np.sqrt(space.weights)
    matrix = root[:, None] * space.residual * root
    # The null vector √a is shifted above all other eigenvalues, comes last and is
    # dropped: rounding cannot mix it with other null vectors.
    shift = 2 * np.linalg.norm(matrix) + _TINY
    shifted = matrix + shift * np.outer(root, root)
    values, vectors = np.linalg.eigh(shifted)
    return values[:-1], vectors[:, :-1]


def eigenvalue_duals(
    lam: NumpyArray,
    mu: NumpyArray,
    mass_lam: NumpyArray,
    mass_mu: NumpyArray,
) -> tuple[NumpyArray, NumpyArray]:
    """Maximise s · mass_lam + t · mass_mu over s, t ≤ 0 with s_i + t_j ≤ −2 λ_i μ_j.

    For each sign this is a one-dimensional transport with the product cost, solved by
    one sort. Where the potentials are not unique (equal masses: everywhere) the middle
    ones are taken: theorem 10 (iii) with θ = ½.
    """
    s = np.zeros_like(lam)
    t = np.zeros_like(mu)
    # Each sign is solved alone: pairs of opposite signs are feasible as s, t ≤ 0.
    for sign in (1.0, -1.0):
        # 1. The eigenvalues of this sign, downward, and 0 behind them.
        sizes_lam = sign * lam
        sizes_mu = sign * mu
        i = _positive_downward(sizes_lam)
        j = _positive_downward(sizes_mu)
        x = np.append(sizes_lam[i], 0.0)
        y = np.append(sizes_mu[j], 0.0)
        # 2. They are matched where their masses, summed from the largest on, are equal;
        #    mass that is left over costs nothing.
        level_x = np.cumsum(mass_lam[i])
        level_y = np.cumsum(mass_mu[j])
        s[i] = -2 * _potential(x, level_x, y, level_y)
        t[j] = -2 * _potential(y, level_y, x, level_x)
    return s, t


def _positive_downward(values: NumpyArray) -> NumpyArray:
    """Return the positions of the positive values, the largest value first."""
    positive = np.flatnonzero(values > 0)
    order = np.argsort(-values[positive])
    return positive[order]


def _potential(
    x: NumpyArray,
    level_x: NumpyArray,
    y: NumpyArray,
    level_y: NumpyArray,
) -> NumpyArray:
    """Return the area under the monotone matching curve y(x) from 0 to each x.

    Both lists decrease and end in 0.
    """
    # Between x_r and x_{r+1} the curve may have any height between those of its ends:
    # it takes their mean.
    last_y = np.searchsorted(level_y, level_x, "left")
    next_y = np.searchsorted(level_y, level_x, "right")
    twice_height = y[last_y] + y[next_y]
    areas = -np.diff(x) * twice_height / 2
    upward = areas[::-1]
    return np.cumsum(upward)[::-1]


def slack(
    lam: NumpyArray,
    mu: NumpyArray,
    s: NumpyArray,
    t: NumpyArray,
    least: float = 0.0,
) -> tuple[NumpyArray, NumpyArray]:
    """Return d_ij = −2 λ_i μ_j − s_i − t_j and s, lowered where d is below ``least``.

    Duals are feasible up to float error only, and the bound needs d ≥ 0.
    """
    d = -2 * np.outer(lam, mu) - s[:, None] - t
    smallest = d.min(axis=1, initial=np.inf)  # (n − 1,)
    excess = np.minimum(smallest - least, 0.0)
    return d - excess[:, None], s + excess


def convex(
    x: Any,
    y: Any,
    steps: int = 500,
    tolerance: float = 1e-3,
) -> Array:
    """Return the convex quadratic bound, mixed with both third bounds, at most GW_2².

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    steps : int
        Steps of the ascent at most; each costs a few n × m matrix products, and every
        tenth a linear program.
    tolerance : float
        Stop when fifty steps gained less than this share of the bound.

    Returns
    -------
    0-d array
        In squared units of C; a bound whenever the ascent stops, and never below
        :func:`third` of either kind (theorem 10). Computed in NumPy and float64 on the
        CPU; gradients do not pass.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device, or are within ``jax.grad`` or
        ``torch.func.grad``.
    ValueError
        If an array is empty, not square, not symmetric or not finite, values of C are
        so large that squared differences are no numbers of the dtype, ``steps`` is no
        integer of at least 0, or ``tolerance`` no finite number of at least 0.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

    Examples
    --------
    Between distances and a kernel the problem is convex, and the bound nearly meets the
    objective.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> y = gw.GramSpace(np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> values = gw.bounds.third(x, y), gw.bounds.convex(x, y), gw.solve(x, y).objective
    >>> [round(float(value), 2) for value in values]
    [1.05, 1.72, 1.72]
    """
    x, y = read_pair(x, y)
    _check.integer(steps, "steps", least=0)
    _check.number(tolerance, "tolerance", least=0.0)
    refuse_jax_gradients(x, y, "bounds.convex")
    require_memory(x, y, "convex")
    # Computed in the units of a problem, which keep squares within the range of floats.
    ready = prepare(x, y)
    left, right = centred_pair(ready)
    offset = (left.mean - right.mean) ** 2
    functions = minorants(left, right)
    _, value = maximise(functions, steps=int(steps), tolerance=tolerance)
    bound = np.asarray(max(offset + value, 0.0))
    in_units = _array.from_numpy(bound, ready.x.weights)
    return in_given_units(in_units, ready.unit, 2.0, x.weights)


def maximise(
    minorants: Minorants,
    steps: int = 500,
    tolerance: float = 1e-3,
    every: int = 10,
    patience: int = 5,
) -> tuple[Point, float]:
    """Search for the point with the largest bound, and return both.

    Parameters
    ----------
    minorants : Minorants
        What :func:`minorants` returns.
    steps : int
        Steps of the ascent at most.
    tolerance : float
        Stop when the last ``patience`` points gained less than this share of the bound.
    every : int
        Steps from one point that is evaluated to the next.
    patience : int
        Points after which the gain is measured; at least twice as many are evaluated.

    Returns
    -------
    point : Point
        The point of the largest bound.
    value : float
        Its bound, without (m_C − m_D)².

    Notes
    -----
    The bound is never below those of the two linear functions, which are tried first.
    """
    best, value = _better_third(minorants)
    if _a_residual_vanishes(minorants):
        return best, value  # the residual TLB is exact
    record = [value]  # the largest bound after each point
    for point in _points(minorants, steps, every):
        value = point.bound(minorants)
        if value > record[-1]:
            best = point
        record.append(max(record[-1], value))
        if len(record) <= 2 * patience:
            continue
        gain = record[-1] - record[-1 - patience]
        if gain <= tolerance * max(record[-1], 0.0):
            break
    return best, record[-1]


def _better_third(minorants: Minorants) -> tuple[Point, float]:
    """Return the better of the two third bounds, as a point and its value."""
    points = [linear_point(minorants, index) for index in (1, 2)]
    values = [point.bound(minorants) for point in points]
    best = int(np.argmax(values))
    return points[best], max(values)


def _a_residual_vanishes(minorants: Minorants) -> bool:
    """Tell whether R = 0 or S = 0 up to float error."""
    square_lam = _largest(minorants.lam) ** 2
    square_mu = _largest(minorants.mu) ** 2
    scale = max(square_lam, square_mu, _largest(minorants.costs))
    return min(square_lam, square_mu) <= 1e-30 * scale


def _largest(values: NumpyArray) -> float:
    """Return the largest absolute value; 0 if there is none."""
    return float(np.abs(values).max(initial=0.0))


class _Duals(NamedTuple):
    """Feasible duals s and t of the eigenvalues, with their slack d."""

    s: NumpyArray  # (n − 1,), at most 0
    t: NumpyArray  # (m − 1,), at most 0
    d: NumpyArray  # (n − 1, m − 1), at least 0

    @property
    def total(self) -> float:
        """Σs + Σt."""
        return float(self.s.sum() + self.t.sum())


def _points(
    p: Minorants,
    steps: int,
    every: int,
) -> Iterator[Point]:
    """Yield the points of an ascent in q, duals and weights, one in ``every`` steps.

    Over-relaxed alternating directions (ADMM) for the least value of the mixture over
    contractions Q, between X in the set {marginals} with the quadratic and Z in the set
    {Q ≥ 0} with the linear costs; Y are the multipliers of X = Z. By theorem 10 (i) the
    iterates need not be couplings.
    """
    theta = np.array([0.5, 0.4, 0.1])
    duals = _largest_duals(p)
    spread = 0.0
    rho = _first_penalty(p, duals)
    least_rho = 1e-2 * rho
    largest_rho = 1e2 * rho
    Z = p.root.copy()  # Q_ij = π_ij / √(a_i b_j), of the product coupling
    Y = np.zeros_like(p.root)
    for step in range(every, steps + 1, every):
        shrinkage = rho / (rho + 2 * theta[0] * duals.d)  # of q, by the quadratic
        linear = np.tensordot(theta, p.costs, 1)
        shift = linear * (p.root / rho)  # of Q, by the linear costs
        for _ in range(every):
            # 1. The quadratic is diagonal in the eigenbases, and the marginals say
            #    that Q has no part along √a and √b but that of the product coupling.
            q = p.U.T @ (Z - Y) @ p.V
            q *= shrinkage
            X = p.U @ q @ p.V.T + p.root
            # 2. Q ≥ 0 and the linear costs, entry by entry.
            before = Z
            relaxed = 1.6 * X - 0.6 * Z
            Z = np.maximum(relaxed + Y - shift, 0.0)
            # 3. The multipliers.
            Y += relaxed - Z
        yield Point(theta, duals.d, duals.total, q)
        # 4. Better duals at this q, and more weight on the function that is largest.
        share = every / (step + 2 * every)
        duals = _improved_duals(p, duals, q, share)
        previous = theta
        theta, spread = _reweighted(p, theta, spread, Z, duals, q)
        # 5. A penalty that balances the distance of both sets and the last move.
        with np.errstate(over="ignore"):  # an infinite balance is clipped
            distance = np.linalg.norm(X - Z)
            move = float(np.linalg.norm(Z - before))
            balance = distance / max(move, _TINY)
        factor = np.clip(np.sqrt(balance), 0.5, 2.0)
        wanted = rho * factor * theta[0] / previous[0]
        change = np.clip(wanted, least_rho, largest_rho) / rho
        rho = rho * change
        Y = Y / change  # the multipliers are divided by ρ


def _largest_duals(p: Minorants) -> _Duals:
    """Return the duals of the largest sum, of the spectral bound (theorem 10 ii)."""
    ones_lam = np.ones_like(p.lam)
    ones_mu = np.ones_like(p.mu)
    s, t = eigenvalue_duals(p.lam, p.mu, ones_lam, ones_mu)
    d, s = slack(p.lam, p.mu, s, t)
    return _Duals(s, t, d)


def _first_penalty(p: Minorants, duals: _Duals) -> float:
    """Return a penalty ρ of the size of d, as the best one is."""
    size = np.sqrt(np.mean(duals.d**2))
    return float(size + 1e-3 * np.sqrt(p.norms))


def _improved_duals(
    p: Minorants,
    duals: _Duals,
    q: NumpyArray,
    share: float,
) -> _Duals:
    """Average the duals with the best response to q (theorem 10 iv).

    Their set is convex and the bound concave in them.
    """
    squares = q**2
    # What rows and columns of a contraction leave of 1: a supergradient in s and t.
    mass_lam = np.maximum(1 - squares.sum(axis=1), 0.0)
    mass_mu = np.maximum(1 - squares.sum(axis=0), 0.0)
    best_s, best_t = eigenvalue_duals(p.lam, p.mu, mass_lam, mass_mu)
    s = duals.s + share * (best_s - duals.s)
    t = duals.t + share * (best_t - duals.t)
    d, s = slack(p.lam, p.mu, s, t)
    return _Duals(s, t, d)


def _reweighted(
    p: Minorants,
    theta: NumpyArray,
    spread: float,
    Z: NumpyArray,
    duals: _Duals,
    q: NumpyArray,
) -> tuple[NumpyArray, float]:
    """Ascend in the weights of the three functions by a multiplicative step.

    The step is divided by ``spread``, the root of the sum of the squared largest
    deviations of all steps, so that its size does not depend on units.
    """
    plan = Z * p.root
    values = np.tensordot(p.costs, plan, 2)  # (3,)
    quadratic = np.sum(duals.d * q**2)
    values[0] += p.norms + duals.total + quadratic
    # Above their mean, of weights θ, a function gains weight; below, it loses some.
    values -= theta @ values
    largest = np.abs(values).max()
    spread = float(np.hypot(spread, largest))
    growth = np.exp(values / max(spread, _TINY))
    theta = theta * growth
    return theta / theta.sum(), spread
