"""The convex quadratic bound and its mixture with the third lower bound, by alternating directions (THEORY.md, theorem 10)."""

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
    refuse_gradients,
)
from gwtools.bounds.memory import require_memory
from gwtools.problems import prepare
from gwtools.transport.local_distributions import Centred, transports
from gwtools.transport.programs import exact

_TINY = 1e-300
Eigenpairs: TypeAlias = tuple[NumpyArray, NumpyArray]


@dataclass(frozen=True, eq=False)
class Minorants:
    """Three functions of a coupling, each at most F(π) − (m_C − m_D)²; a bound is the least value of any mixture of them.

    The first is the convex quadratic ``costs[0]`` + Σ d q² + constant, the other two
    are linear: residual TLB and TLB.
    """

    costs: NumpyArray  # (3, n, m): 2 (α − β)²; that + W_2²(R_i, S_j); W_2²(C_i, D_j) − (m_C − m_D)²
    lam: NumpyArray  # (n − 1,) eigenvalues of diag(√a) R diag(√a) without that of its null vector √a
    U: NumpyArray  # (n, n − 1)
    mu: NumpyArray  # (m − 1,)
    V: NumpyArray  # (m, m − 1)
    a: NumpyArray
    b: NumpyArray

    @cached_property
    def root(self) -> NumpyArray:
        """√(a_i b_j): what turns a plan into the contraction Q, and the product coupling's Q itself."""
        return np.sqrt(self.a)[:, None] * np.sqrt(self.b)

    @property
    def norms(self) -> float:
        """‖λ‖² + ‖μ‖² = ‖R‖² + ‖S‖²."""
        return float(self.lam @ self.lam + self.mu @ self.mu)


class Point(NamedTuple):
    """A point at which a bound is evaluated: weights θ of the three functions, the duals' slack d and sum, a real matrix q."""

    theta: NumpyArray
    d: NumpyArray
    duals: float
    q: NumpyArray

    def constant(self, minorants: Minorants) -> float:
        """Return θ_0 (‖λ‖² + ‖μ‖² + Σs + Σt − Σ d q²)."""
        return float(
            self.theta[0] * (minorants.norms + self.duals - np.sum(self.d * self.q**2))
        )

    def slope(self, minorants: Minorants) -> NumpyArray:
        """Return the costs of the linear program that bounds the mixture from below (theorem 10 i), shape (n, m).

        They leave the range where weights do.
        """
        curved = minorants.U @ (self.d * self.q) @ minorants.V.T
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(
                np.tensordot(self.theta, minorants.costs, 1)
                + (2 * self.theta[0] / minorants.root) * curved
            )

    def bound(self, minorants: Minorants) -> float:
        """Return value minus Frank-Wolfe gap: a lower bound for every q, coupling or not."""
        slope = self.slope(minorants)
        if not np.isfinite(slope).all():
            return -np.inf
        return self.constant(minorants) + exact(slope, minorants.a, minorants.b).lower


def linear_point(minorants: Minorants, index: int) -> Point:
    """Return the point at which only the function ``index`` counts: 1 for residual TLB, 2 for TLB."""
    zeros = np.zeros((len(minorants.lam), len(minorants.mu)))
    return Point(np.eye(3)[index], zeros, 0.0, zeros)


def minorants(
    x: Centred,
    y: Centred,
    eigenpairs_x: Eigenpairs | None = None,
    eigenpairs_y: Eigenpairs | None = None,
) -> Minorants:
    """Compute the costs of the three functions, and spectra that are not given; O(n m min(n, m)) beside them."""
    additive = 2 * (x.deviations[:, None] - y.deviations) ** 2
    residual = transports(x.residual, x.weights, y.residual, y.weights)
    full = transports(x.matrix, x.weights, y.matrix, y.weights) - (x.mean - y.mean) ** 2
    eigenpairs_x, eigenpairs_y = (
        eigenpairs_x or spectrum(x),
        eigenpairs_y or spectrum(y),
    )
    return Minorants(
        np.stack([additive, additive + residual, full]),
        *eigenpairs_x,
        *eigenpairs_y,
        x.weights,
        y.weights,
    )


def spectrum(space: Centred) -> Eigenpairs:
    """Return the eigenpairs of diag(√a) R diag(√a) on the complement of its null vector √a.

    That one is shifted to the largest eigenvalue and dropped.
    """
    root = np.sqrt(space.weights)
    matrix = root[:, None] * space.residual * root
    values, vectors = np.linalg.eigh(
        matrix + (2 * np.linalg.norm(matrix) + _TINY) * np.outer(root, root)
    )
    return values[:-1], vectors[:, :-1]


def eigenvalue_duals(
    lam: NumpyArray, mu: NumpyArray, mass_lam: NumpyArray, mass_mu: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """Maximise s · mass_lam + t · mass_mu over s, t ≤ 0 with s_i + t_j ≤ −2 λ_i μ_j.

    For each sign a one-dimensional transport with the product cost, solved by one sort.
    Where the potentials are not unique (equal masses: everywhere) the middle ones are
    taken: theorem 10 (iii) with θ = ½.
    """
    s, t = np.zeros_like(lam), np.zeros_like(mu)
    for sign in (1.0, -1.0):
        i, j = np.flatnonzero(sign * lam > 0), np.flatnonzero(sign * mu > 0)
        i, j = i[np.argsort(-sign * lam[i])], j[np.argsort(-sign * mu[j])]
        x, y = np.append(sign * lam[i], 0.0), np.append(sign * mu[j], 0.0)
        level_x, level_y = np.cumsum(mass_lam[i]), np.cumsum(mass_mu[j])
        s[i] = -2 * _potential(x, level_x, y, level_y)
        t[j] = -2 * _potential(y, level_y, x, level_x)
    return s, t


def _potential(
    x: NumpyArray, level_x: NumpyArray, y: NumpyArray, level_y: NumpyArray
) -> NumpyArray:
    """Area under the monotone matching curve, from 0 to each x (both lists decrease and end in 0)."""
    left, right = (
        y[np.searchsorted(level_y, level_x, side)] for side in ("left", "right")
    )
    return np.cumsum((-np.diff(x) * (left + right) / 2)[::-1])[::-1]


def slack(
    lam: NumpyArray, mu: NumpyArray, s: NumpyArray, t: NumpyArray, least: float = 0.0
) -> tuple[NumpyArray, NumpyArray]:
    """Return d_ij = −2 λ_i μ_j − s_i − t_j and s, lowered where d would be below ``least``."""
    d = -2 * np.outer(lam, mu) - s[:, None] - t
    excess = np.minimum(d.min(axis=1, initial=np.inf) - least, 0.0)
    return d - excess[:, None], s + excess


def convex(x: Any, y: Any, steps: int = 500, tolerance: float = 1e-3) -> Array:
    """Return the convex quadratic bound, mixed with both third bounds, at most GW_2² (theorem 10).

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
        :func:`third` of either kind. Computed in NumPy and float64 on the CPU;
        gradients do not pass.

    Raises
    ------
    TypeError
        Within ``jax.grad``.

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
    refuse_gradients(x, y, "bounds.convex")
    require_memory(x, y, "convex")
    ready = prepare(x, y)
    left, right = centred_pair(ready)
    offset = (left.mean - right.mean) ** 2
    _, value = maximise(minorants(left, right), steps=int(steps), tolerance=tolerance)
    value = max(offset + value, 0.0)
    return in_given_units(
        _array.from_numpy(np.asarray(value), ready.x.weights),
        ready.unit,
        2.0,
        x.weights,
    )


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
        Steps at most.
    tolerance : float
        Stop when the bound has gained less than this share of itself ...
    every, patience : int
        ... in ``patience`` times ``every`` steps, after at least twice as many.

    Notes
    -----
    The bound is never below those of the two linear functions, which are tried first.
    """
    candidates = [linear_point(minorants, index) for index in (1, 2)]
    values = [point.bound(minorants) for point in candidates]
    best, record = candidates[int(np.argmax(values))], [max(values)]
    sizes = [
        float(np.abs(values).max(initial=0.0)) ** 2
        for values in (minorants.lam, minorants.mu)
    ]
    if min(sizes) <= 1e-30 * max(*sizes, float(np.abs(minorants.costs).max())):
        return best, record[0]  # R = 0 or S = 0: residual TLB is exact
    for point in _points(minorants, steps, every):
        value = point.bound(minorants)
        best = point if value > record[-1] else best
        record.append(max(record[-1], value))
        late = len(record) > 2 * patience
        if late and record[-1] - record[-1 - patience] <= tolerance * max(
            record[-1], 0.0
        ):
            break
    return best, record[-1]


def _points(p: Minorants, steps: int, every: int) -> Iterator[Point]:
    """Over-relaxed alternating directions between {marginals, quadratic} and {plan ≥ 0, linear costs}, for Q."""
    theta = np.array([0.5, 0.4, 0.1])
    s, t = eigenvalue_duals(p.lam, p.mu, np.ones_like(p.lam), np.ones_like(p.mu))
    d, s = slack(p.lam, p.mu, s, t)
    linear, spread = np.tensordot(theta, p.costs, 1), 0.0
    rho = first = np.sqrt(np.mean(d**2)) + 1e-3 * np.sqrt(
        p.norms
    )  # the penalty; its optimum scales like d
    Z, Y = p.root.copy(), np.zeros_like(p.root)
    for step in range(1, steps + 1):
        # 1. The quadratic is diagonal in the eigenbases, and the marginals say: no part
        #    along √a, √b but the root.
        q = (p.U.T @ (Z - Y) @ p.V) * (rho / (rho + 2 * theta[0] * d))
        X = p.U @ q @ p.V.T + p.root
        # 2. Plan ≥ 0 and the linear costs, entry by entry. 3. The multipliers.
        relaxed, before = 1.6 * X - 0.6 * Z, Z
        Z = np.maximum(relaxed + Y - linear * (p.root / rho), 0.0)
        Y += relaxed - Z
        if step % every:
            continue
        yield Point(theta, d, float(s.sum() + t.sum()), q)
        # 4. Better duals at this plan; more weight on the function that is largest
        #    there; a penalty that balances both sets.
        d, s, t = _improved_duals(p, s, t, q, every / (step + 2 * every))
        theta, spread, previous = (
            *_reweighted(p, theta, spread, Z, d, float(s.sum() + t.sum()), q),
            theta,
        )
        linear = np.tensordot(theta, p.costs, 1)
        with np.errstate(over="ignore"):  # what is infinite here is clipped below
            balance = np.linalg.norm(X - Z) / max(
                float(np.linalg.norm(Z - before)), _TINY
            )
        wanted = rho * np.clip(np.sqrt(balance), 0.5, 2.0) * theta[0] / previous[0]
        change = np.clip(wanted, 1e-2 * first, 1e2 * first) / rho
        rho, Y = rho * change, Y / change


def _improved_duals(
    p: Minorants, s: NumpyArray, t: NumpyArray, q: NumpyArray, share: float
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Average the duals with the best response to q: their set is convex and the bound concave in them."""
    masses = (np.maximum(1 - (q**2).sum(axis=axis), 0.0) for axis in (1, 0))
    best_s, best_t = eigenvalue_duals(p.lam, p.mu, *masses)
    s, t = s + share * (best_s - s), t + share * (best_t - t)
    d, s = slack(p.lam, p.mu, s, t)
    return d, s, t


def _reweighted(
    p: Minorants,
    theta: NumpyArray,
    spread: float,
    Z: NumpyArray,
    d: NumpyArray,
    duals: float,
    q: NumpyArray,
) -> tuple[NumpyArray, float]:
    """Ascend in the weights of the three functions by a normalised multiplicative step."""
    values = np.tensordot(p.costs, Z * p.root, 2)
    values[0] += p.norms + duals + np.sum(d * q**2)
    values -= theta @ values
    spread = float(np.hypot(spread, np.abs(values).max()))
    theta = theta * np.exp(values / max(spread, _TINY))
    return theta / theta.sum(), spread
