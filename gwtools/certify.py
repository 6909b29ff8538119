"""Certificates: a proved interval for GW_2² from the spaces and a coupling alone, knowing no solver."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array, _check, proofs
from gwtools._array import Array
from gwtools.linear import sorting_plan
from gwtools.plans import DensePlan, Plan, SparsePlan, as_plan
from gwtools.problems import GWProblem, Prepared, detached, prepare
from gwtools.proofs import Bound
from gwtools.results import CONVEX_TOLERANCE, Certificate, Kind
from gwtools.rounding import Radii, gamma, radii
from gwtools.spaces import Space, as_space, converted

EFFORTS = ("linear", "quadratic", "cubic")


def certify(x: Any, y: Any, plan: Any = None, effort: str = "linear") -> Certificate:
    """Prove an interval that contains GW_2² of the stored values.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms, of one array library, dtype and device.
    plan : Plan or array of shape (n, m), optional
        A coupling, whose objective is the upper bound; without one it is a cheap coupling's: the product coupling, and from
        "quadratic" on the best of it and of couplings that sort row means or eccentricities.
    effort : {"linear", "quadratic", "cubic"}
        What may be spent on lower bounds. "linear": ``row_means``, ``norm`` and, where the spaces have a low-rank form,
        ``spectral``, by sorts and one pass over the pairs. "quadratic" adds ``first`` and ``second`` in O(n² log n) and,
        for a plan between spaces whose kinds make the problem convex, ``convexity``, which is one linear program. "cubic" adds
        ``third``, ``residual_third``, ``spectral``, ``convex`` and ``convexity`` for any spaces.

    Returns
    -------
    Certificate
        Bounds in squared units of C, computed in float64 and rounded outward: float error may loosen them, never make them
        false.

    Raises
    ------
    TypeError
        If the spaces or the plan differ in array library, dtype or device.
    ValueError
        If the effort is unknown or the plan is no coupling of the two weights.
    """
    return certified(x, y, plan, effort)


class Valued(NamedTuple):
    """A plan's objective between two spaces, in squared units of C."""

    x: Space
    y: Space
    objective: Array


def certified(x: Any, y: Any, plan: Any, effort: str, known: Valued | None = None) -> Certificate:
    """Certify as :func:`certify`; an objective that is known of the plan between the very same spaces is not computed again."""
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    _check.same_kind(x.weights, y.weights, "x", "y")
    if plan is not None:
        plan = as_plan(plan, (x.size, y.size))
        _check.same_library(plan.masses, x.weights, "plan", "the spaces")
        plan = _widened(plan)
    stored = _array.epsilon(x.weights)
    x, y = (converted(detached(s), _array.widen) for s in (x, y))
    if plan is not None:
        for found, space, side in zip(plan.marginals(), (x, y), "xy", strict=True):
            _check.marginal(found, space.weights, side, stored)
    return _interval(x, y, plan, effort, known)


def _interval(x: Space, y: Space, plan: Plan | None, effort: str, known: Valued | None) -> Certificate:
    ready = prepare(x, y)
    unit, scale = ready.unit, rounding(ready.x, ready.y)
    of_x, of_y = radii(ready.x), radii(ready.y)
    bounds = proofs.linear(ready.x, ready.y, of_x, of_y)
    if plan is None:
        upper = _product(ready.x, ready.y, of_x, of_y)
    elif all(atoms is None for atoms in ready.atoms):
        upper = _objective(GWProblem(ready.x, ready.y), plan, of_x, of_y, known)
    else:  # the plan also couples atoms without weight
        whole = GWProblem(x.scaled(1 / unit), y.scaled(1 / unit))
        upper = _objective(whole, plan, radii(whole.x), radii(whole.y))
    if effort != "linear":
        sides = proofs.side(ready.x), proofs.side(ready.y)
        bounds |= _heavy(*sides, ready, _supported(plan, ready), effort)
        if plan is None:
            upper = min([upper, *_sorted(ready.x, ready.y, sides, of_x, of_y)])
    lower = {name: max(0.0, _scale(bound.lower, unit, -math.inf)) for name, bound in bounds.items()}
    best = max(lower, key=lambda name: lower[name])
    closed = upper.upper - bounds[best].lower <= 4 * (scale + bounds[best].loss + upper.upper - upper.value)
    closed |= "convexity" in bounds and upper.upper - bounds["convexity"].lower <= CONVEX_TOLERANCE * upper.upper
    kind = Kind.GLOBAL if closed else (Kind.LOWER if plan is None else Kind.BRACKET)
    a_priori = 4 * math.prod(float(s.residual_norm_squared()) ** 0.5 for s in (ready.x, ready.y)) + scale
    return Certificate(
        lower[best], _scale(upper.upper, unit, math.inf), kind, best, lower, _scale(a_priori, unit, math.inf)
    )


def _heavy(x: proofs.Side, y: proofs.Side, ready: Prepared, plan: Array | None, effort: str) -> dict[str, Bound]:
    """Return the lower bounds that need whole matrices."""
    bounds = {"first": proofs.first(x, y), "second": proofs.second(x, y)}
    bend = proofs.known_product_sign(x, y, ready.x.sign, ready.y.sign)
    if effort == "cubic":
        modes = proofs.modes(x), proofs.modes(y)
        bounds["third"], bounds["residual_third"] = (proofs.third(x, y, residual) for residual in (False, True))
        bounds["spectral"] = proofs.spectral(x, y, *modes)
        bounds["convex"] = proofs.quadratic(x, y, *modes)
        bend = min(bend, proofs.product_sign(*modes))
    if plan is not None and math.isfinite(bend):
        bounds["convexity"] = proofs.convexity(x, y, plan, bend)
    return bounds


def _supported(plan: Plan | None, ready: Prepared) -> Array | None:
    """Return a plan as a NumPy matrix over the atoms that carry weight."""
    if plan is None:
        return None
    matrix = _array.to_numpy(plan.dense())
    for axis, atoms in enumerate(ready.atoms):
        matrix = matrix if atoms is None else np.take(matrix, _array.to_numpy(atoms), axis=axis)
    return matrix


class Upper(NamedTuple):
    """A coupling's objective, rounded up and as computed, in squared units of C."""

    upper: float
    value: float


def _product(x: Space, y: Space, of_x: Radii, of_y: Radii) -> Upper:
    """Return the product coupling's objective (m_C − m_D)² + 2 (‖α‖² + ‖β‖²) + ‖R‖² + ‖S‖² (theorem 2)."""
    norms = x.residual_norm_squared() + y.residual_norm_squared()
    spread = sum(s.weights @ s.deviations**2 for s in (x, y))
    value = float((x.mean - y.mean) ** 2 + 2 * spread + norms)
    terms = 2 * (x.size + y.size + of_x.weights + of_y.weights) + of_x.norm_terms + of_y.norm_terms + 40
    return Upper((value**0.5 + of_x.whole() + of_y.whole()) ** 2 * (1 + gamma(terms)), value)


def _objective(problem: GWProblem, plan: Plan, of_x: Radii, of_y: Radii, known: Valued | None = None) -> Upper:
    """Return the objective of the coupling that is nearest to a plan (theorem 13 g)."""
    x, y = problem.x, problem.y
    same = known if known is not None and known.x is x and known.y is y else None
    value = float(problem.objective(plan) if same is None else same.objective)
    top, size = of_x.largest + of_y.largest, x.size + y.size
    if isinstance(plan, SparsePlan) and (x.low_rank is None or y.low_rank is None):
        # A sum of squares: its error is relative, but for that of the entries.
        rounded = ((value * (1 + gamma(2 * plan.masses.shape[0] + 20))) ** 0.5 + of_x.entries + of_y.entries) ** 2
        missed = 0.0 if _is_matching(plan, x, y) else _missed(plan, x, y, of_x, of_y)
        return Upper(rounded * (1 + gamma(20)) + 1.01 * top**2 * missed * (2 + missed), value)
    missed, error = _missed(plan, x, y, of_x, of_y), of_x.whole() + of_y.whole()
    error += gamma(4 * size + of_x.norm_terms + of_y.norm_terms + 60) * 8 * top
    return Upper(
        (value**0.5 + error) ** 2 + 26 * top**2 * missed * (1 + missed) + gamma(8 * size + 60) * 8 * top**2, value
    )


def _is_matching(plan: SparsePlan, x: Space, y: Space) -> bool:
    """Tell whether a plan has one atom for each of x and of y, with equal weights: a coupling without any rounding."""
    if not x.size == y.size == plan.mass.shape[0] or not (x.equal_weights and _array.all_equal(plan.mass)):
        return False
    xp = _array.namespace(plan.mass)
    marginals = zip(plan.marginals(), (x, y), strict=True)
    return all(bool(xp.all(found == space.weights)) for found, space in marginals)


def _missed(plan: Plan, x: Space, y: Space, of_x: Radii, of_y: Radii) -> float:
    """Return the largest distance from a plan to the nearest coupling of the exactly normalised weights."""
    (rows, cols), xp = plan.marginals(), _array.namespace(x.weights)
    missed = float(xp.sum(xp.abs(rows - x.weights))) + 2 * float(xp.sum(xp.abs(cols - y.weights)))
    terms = max(x.size, y.size) + plan.masses.shape[0] + of_x.weights + of_y.weights
    return 1.01 * missed + 3 * gamma(terms)


def _sorted(x: Space, y: Space, sides: tuple[proofs.Side, proofs.Side], of_x: Radii, of_y: Radii) -> list[Upper]:
    """Return the objectives of couplings that sort row means, up or down, and eccentricities."""
    problem, a, b = GWProblem(x, y), x.weights, y.weights
    sizes = [_array.from_numpy(s.parts.matrix**2 @ s.parts.weights, x.weights) for s in sides]
    pairs = ((x.row_means, y.row_means), (x.row_means, -y.row_means), (sizes[0], sizes[1]))
    return [_objective(problem, sorting_plan(first, a, second, b), of_x, of_y) for first, second in pairs]


def rounding(x: Space, y: Space) -> float:
    """Return the scale of float64 error of prepared spaces' objectives, in squared units of C: gaps below it are closed."""
    terms = x.size + y.size + sum(max(s.data.shape) for s in (x, y)) + 64
    return float(16 * terms * 2.0**-52 * (x.largest() + y.largest()) ** 2)


def _scale(value: float, unit: float, towards: float) -> float:
    """Return value · unit², rounded to the next float in the given direction."""
    return math.nextafter(value * unit * unit, towards) if value else 0.0


def _widened(plan: Plan) -> Plan:
    """Bring a plan to float64, in NumPy where the library has none, as the spaces are."""
    if isinstance(plan, SparsePlan):
        mass, rows, cols = _array.widen(_array.detached(plan.mass)), plan.rows, plan.cols
        if mass is plan.mass:
            return plan
        if _array.library(mass) != _array.library(plan.mass):
            rows, cols = _array.to_numpy(rows), _array.to_numpy(cols)
        return SparsePlan(rows, cols, mass, plan.size)
    return DensePlan(_array.widen(_array.detached(plan.dense())))
