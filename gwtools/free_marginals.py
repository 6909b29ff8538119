"""Free marginals: which plans compete with couplings where not all mass is matched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from gwtools import _array, _check_free
from gwtools._array import Array
from gwtools._check_free import BALANCED, KL, SEMI_RELAXED
from gwtools.plans import DensePlan, Plan, make_unchecked
from gwtools.spaces import Space


@final
@dataclass(frozen=True)
class Partial:
    """Plans that move a part of the mass: no atom gives or gets more than its weight.

    For ``gw.solve(x, y, marginals=gw.Partial(mass))``: π1 ≤ a, πᵀ1 ≤ b and Σ π =
    ``mass``. Which atoms are left out is part of the answer.

    Parameters
    ----------
    mass : float
        The mass that is moved, above 0 and at most 1. At 1 the plans are the couplings
        of both weights, and the problem is the balanced one.

    Raises
    ------
    ValueError
        If ``mass`` is no number above 0 and at most 1.

    Examples
    --------
    A handwritten three as a cloud of its dark pixels, and the same with its lower half
    erased and stray ink elsewhere. The mass of what is left is matched without a
    distortion, every pixel to itself.

    >>> import numpy as np, gwtools as gw
    >>> from sklearn.datasets import load_digits
    >>> whole = np.argwhere(load_digits().images[3] > 8).astype(float)
    >>> erased = whole[:, 0] >= 6
    >>> damaged = whole.copy()
    >>> rng = np.random.default_rng(0)
    >>> damaged[erased] = 20 + 5 * rng.standard_normal((erased.sum(), 2))
    >>> x, y = gw.PointCloud(whole), gw.PointCloud(damaged)
    >>> result = gw.solve(x, y, marginals=gw.Partial(1 - erased.mean()))
    >>> round(float(result.objective), 12)
    0.0
    >>> [i for i, j, share in result.matching() if i != j], len(result.matching())
    ([], 11)
    """

    mass: float

    def __post_init__(self) -> None:
        mass = _check_free.mass(self.mass)
        # The dataclass is frozen: its field is set past it.
        object.__setattr__(self, "mass", mass)


@final
@dataclass(frozen=True)
class Unbalanced:
    """Plans of any marginals, at a price for what these miss of the weights.

    For ``gw.solve(x, y, marginals=gw.Unbalanced(rho))``: over all π ≥ 0, with the
    marginals p = π1 and q = πᵀ1, F(π) + ρ₁ Pen(p, a) + ρ₂ Pen(q, b) is least. Atoms
    that fit nowhere get less than their weight, and the mass of the plan is part of the
    answer.

    Parameters
    ----------
    rho : float or pair of float
        Prices ρ₁ and ρ₂, above 0, in squared units of C: one for both, or one each. As
        both grow, plans become couplings and the objective rises to GW_2²; a distortion
        far above ρ costs more than to leave the mass out.
    penalty : {"kl", "tv"}
        ``"kl"``: KL(p⊗p | a⊗a), the quadratic divergence of Séjourné, Vialard and
        Peyré, equal to 2 s Σ p_i log(p_i/a_i) − s² + 1 for the mass s. ``"tv"``: Σ |p_i
        − a_i|, of one price: a partial plan whose mass is paid for by 2ρ (1 − s). The
        plain KL(p | a) and the quadratic total variation are not offered.

    Raises
    ------
    ValueError
        If ``rho`` is no finite number above 0 and no two of these, two different ones
        come with "tv", or the penalty is another word.

    Notes
    -----
    ``ot.gromov.fused_unbalanced_gromov_wasserstein`` of POT 0.9.7 with ``epsilon=0``,
    ``divergence="kl"`` and ``reg_marginals=rho`` has the same objective as "kl", where
    both of its plans are the same one; it has no "tv", but squared differences ("l2").
    With features it is the same where its ``alpha`` is (1 − α)/α and its price ρ/α.

    By theorem 18 (vii) "kl" separates shape from mass: the plan is s times the
    probability π of least L = F + 2ρ₁ Σ p_i log(p_i/a_i) + 2ρ₂ Σ q_j log(q_j/b_j), for
    which s = exp(−L / 2(ρ₁ + ρ₂)), and the objective is (ρ₁ + ρ₂)(1 − s²): never above
    that of no plan at all, ρ₁ + ρ₂.

    References
    ----------
    Séjourné, Vialard and Peyré, The unbalanced Gromov-Wasserstein distance: conic
    formulation and relaxation, NeurIPS 2021, arXiv:2009.04266.

    Examples
    --------
    Two pictures of handwritten zeros as clouds of dark pixels; the second has a blot in
    a corner. Couplings must send mass into the blot, unbalanced plans leave it out.

    >>> import numpy as np, gwtools as gw
    >>> from sklearn.datasets import load_digits
    >>> clouds = [np.argwhere(image > 8) / 8 for image in load_digits().images[[0, 10]]]
    >>> blot = np.array([[3.0, 3.0], [3.0, 3.1], [3.1, 3.0]])
    >>> x = gw.PointCloud(clouds[0])
    >>> y = gw.PointCloud(np.concatenate([clouds[1], blot]))
    >>> balanced = gw.solve(x, y, gw.ConditionalGradient())
    >>> free = gw.solve(x, y, marginals=gw.Unbalanced(0.1))
    >>> for result in (balanced, free):
    ...     _, received = result.plan.marginals()
    ...     print(round(float(result.objective), 3), received[-3:].round(4))
    2.254 [0.0435 0.0435 0.0435]
    0.031 [0. 0. 0.]
    >>> round(float(free.plan.masses.sum()), 3)
    0.918
    """

    rho: float | tuple[float, float]
    penalty: str = KL

    def __post_init__(self) -> None:
        first, second = _check_free.prices(self.rho, self.penalty)
        # The dataclass is frozen: its field is set past it.
        object.__setattr__(self, "rho", first if first == second else (first, second))

    @property
    def prices(self) -> tuple[float, float]:
        """Both prices, ρ₁ and ρ₂, in squared units of C."""
        return self.rho if isinstance(self.rho, tuple) else (self.rho, self.rho)


# "semi_relaxed", a part of the mass, or prices of what is left out.
FreeMarginals = str | Partial | Unbalanced


def given_marginals(value: Any) -> FreeMarginals | None:
    """Return free marginals as they were passed, checked.

    None where the plans are the couplings of both weights.

    Raises
    ------
    TypeError, ValueError
        If they are neither a word for marginals nor a :class:`Partial` or an
        :class:`Unbalanced`.
    """
    _check_free.marginals(value, Partial, Unbalanced)
    if value == BALANCED or value == Partial(1.0):
        return None
    marginals: FreeMarginals = value
    return marginals


def with_read_weights(y: Space, marginals: FreeMarginals) -> Space:
    """Return y with uniform weights where its marginal is free: no weight is read.

    Atoms of weight 0 may receive mass then as all others.
    """
    if marginals != SEMI_RELAXED or y.equal_weights:
        return y
    weights = _array.detached(y.weights)
    xp = _array.namespace(weights)
    uniform = xp.ones_like(weights) / y.size
    return y.with_data(y.data, uniform)


def in_units(marginals: Unbalanced, unit: float) -> Unbalanced:
    """Return the same prices for spaces whose C is divided by ``unit``."""
    first, second = (price / unit / unit for price in marginals.prices)
    return Unbalanced((first, second), marginals.penalty)


def mass_of(marginals: FreeMarginals) -> float:
    """Return the mass of all plans; of unbalanced ones the most that one can need."""
    return marginals.mass if isinstance(marginals, Partial) else 1.0


def largest_root(marginals: FreeMarginals) -> float:
    """Return the root of the largest price, in units of C; 0 where there is none."""
    if not isinstance(marginals, Unbalanced):
        return 0.0
    return math.sqrt(max(marginals.prices))


def moved_mass(plan: Plan, marginals: FreeMarginals) -> float:
    """Return the mass of a plan, that of all plans where they have one."""
    if not isinstance(marginals, Unbalanced):
        return mass_of(marginals)
    rows, _ = plan.marginals()
    return float(_array.to_numpy(rows).sum())


def word_of(marginals: FreeMarginals) -> str:
    """Return the word for marginals: "partial", say."""
    if isinstance(marginals, str):
        return marginals
    return type(marginals).__name__.lower()


def title_of(marginals: FreeMarginals) -> str:
    """Return what a result is called whose marginals are free."""
    if isinstance(marginals, Partial):
        return f"Partial Gromov-Wasserstein of mass {marginals.mass:.6g}"
    kind = "Unbalanced" if isinstance(marginals, Unbalanced) else "Semi-relaxed"
    return f"{kind} Gromov-Wasserstein"


def meaning_of(marginals: FreeMarginals) -> str:
    """Return what an objective is whose marginals are free."""
    meaning = "squared distortion of the plan"
    is_unbalanced = isinstance(marginals, Unbalanced)
    return f"{meaning}, and its penalties" if is_unbalanced else meaning


def require_marginals(
    plan: Plan, x: Space, y: Space, marginals: FreeMarginals, name: str
) -> None:
    """Require that a plan keeps its constraints up to a thousandth of the mass.

    Parameters
    ----------
    plan : Plan
        The plan.
    x, y : Space
        The spaces.
    marginals : "semi_relaxed", Partial or Unbalanced
        Which plans there are. With penalties of total variation these are nowhere above
        the weights; with divergences they are 0 where weights are.
    name : str
        What errors call the plan.

    Raises
    ------
    ValueError
        If it does not.
    """
    rows, cols = plan.marginals()
    if isinstance(marginals, Unbalanced) and marginals.penalty == KL:
        _check_free.mass_at_weights(rows, x.weights, "x", name)
        _check_free.mass_at_weights(cols, y.weights, "y", name)
        return
    if isinstance(marginals, str):
        _check_free.row_sums(rows, x.weights, name)
        return
    _check_free.marginal_below(rows, x.weights, "x", name)
    _check_free.marginal_below(cols, y.weights, "y", name)
    if isinstance(marginals, Partial):
        xp = _array.namespace(rows)
        _check_free.moved_mass(_array.number(xp.sum(rows)), marginals.mass, name)


def misses(plan: Plan, x: Space, y: Space, marginals: FreeMarginals) -> float:
    """Return by how much mass a plan misses its constraints, in total.

    Semi-relaxed: ‖π1 − a‖₁. Partial: Σ (π1 − a)₊ + Σ (πᵀ1 − b)₊ + |Σ π − s|.
    Unbalanced: nothing, as all plans compete.
    """
    if isinstance(marginals, Unbalanced):
        return 0.0
    rows, cols = plan.marginals()
    xp = _array.namespace(rows)
    if not isinstance(marginals, Partial):
        return _array.number(xp.sum(xp.abs(rows - x.weights)))
    above_a = xp.sum(xp.clip(rows - x.weights, min=0.0))
    above_b = xp.sum(xp.clip(cols - y.weights, min=0.0))
    moved = xp.sum(rows)
    off = abs(_array.number(moved) - marginals.mass)
    return _array.number(above_a) + _array.number(above_b) + off


def below_weights(matrix: Array, a: Array, b: Array) -> Array:
    """Scale down the rows, then the columns, that give or get more than the weights."""
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    row_sums = xp.clip(xp.sum(matrix, axis=1), min=tiny)
    matrix = matrix * xp.clip(a / row_sums, max=1.0)[:, None]
    col_sums = xp.clip(xp.sum(matrix, axis=0), min=tiny)
    return matrix * xp.clip(b / col_sums, max=1.0)[None, :]


def rounded_free(
    matrix: Array, x: Space, y: Space, marginals: FreeMarginals
) -> DensePlan:
    """Round a non-negative matrix of masses onto free marginals.

    Rows and columns that give or get too much are scaled down, and what is missing is
    spread: semi-relaxed in proportion to the columns' mass, partial as a product of
    what all atoms have left.
    """
    a = x.weights
    b = y.weights
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    # 1. Scale down.
    if not isinstance(marginals, Partial):
        row_sums = xp.clip(xp.sum(matrix, axis=1), min=tiny)
        matrix = matrix * xp.clip(a / row_sums, max=1.0)[:, None]
    else:
        matrix = below_weights(matrix, a, b)
        moved = _array.number(xp.sum(matrix))
        matrix = matrix * min(1.0, marginals.mass / max(moved, float(tiny)))
    # 2. Spread what is missing.
    rows = xp.clip(a - xp.sum(matrix, axis=1), min=0.0)
    received = xp.sum(matrix, axis=0)
    if not isinstance(marginals, Partial):
        shares = received / xp.sum(received)
        spread = rows[:, None] * shares[None, :]
        return make_unchecked(DensePlan, matrix=matrix + spread)
    cols = xp.clip(b - received, min=0.0)
    missing = max(0.0, marginals.mass - _array.number(xp.sum(matrix)))
    room = _array.number(xp.sum(rows)) * _array.number(xp.sum(cols))
    share = missing / max(room, float(tiny))
    spread = share * (rows[:, None] * cols[None, :])
    return make_unchecked(DensePlan, matrix=matrix + spread)
