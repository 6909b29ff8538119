"""Certificates: a proved interval for GW_2² from the spaces and a coupling alone, knowing no solver."""

from __future__ import annotations

import math
from typing import Any

from gwtools import _array, _check, bounds
from gwtools.plans import DensePlan, Plan, SparsePlan, as_plan
from gwtools.problems import GWProblem, prepare
from gwtools.results import Certificate, Kind
from gwtools.spaces import Space, as_space, converted

EFFORTS = ("linear",)


def certify(x: Any, y: Any, plan: Any = None, effort: str = "linear") -> Certificate:
    """Prove an interval that contains GW_2² of the stored values.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms, of one array library, dtype and device.
    plan : Plan or array of shape (n, m), optional
        A coupling, whose objective is the upper bound; without one it is the product coupling's.
    effort : {"linear"}
        What may be spent on lower bounds: "linear" takes those that need sorts and one pass over the pairs.

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
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    _check.same_kind(x.weights, y.weights, "x", "y")
    if plan is not None:
        plan = as_plan(plan, (x.size, y.size))
        _check.same_library(plan.masses, x.weights, "plan", "the spaces")
        plan = _widened(plan)
    x, y = (converted(s, _array.widen) for s in (x, y))
    missed = 0.0
    if plan is not None:
        for found, space, side in zip(plan.marginals(), (x, y), "xy", strict=True):
            _check.marginal(found, space.weights, side)
            missed += float(_array.namespace(found).sum(_array.namespace(found).abs(found - space.weights)))
    return _interval(x, y, plan, missed)


def _interval(x: Space, y: Space, plan: Plan | None, missed: float) -> Certificate:
    ready = prepare(x, y)
    unit = ready.unit
    values = {
        "row_means": float(bounds.row_means(ready.x, ready.y)),
        "norm": float(bounds.norm(ready.x, ready.y)),
    }
    if ready.x.low_rank is not None and ready.y.low_rank is not None:
        values["spectral"] = float(bounds.spectral(ready.x, ready.y))
    slack = rounding(ready.x, ready.y)
    lower = {name: max(0.0, _scale(value - slack, unit, -math.inf)) for name, value in values.items()}
    best = max(lower, key=lambda name: lower[name])
    problem = GWProblem(ready.x, ready.y)
    if plan is None:
        objective = problem.product_objective
    else:
        objective = float(GWProblem(x.scaled(1 / unit), y.scaled(1 / unit)).objective(plan))
    top = ready.x.largest() + ready.y.largest()
    # A plan that misses its marginals by δ in all is within 2δ of a coupling, whose objective differs by 4δ top² at most.
    around = slack + 4 * missed * top**2
    upper = _scale(objective + around, unit, math.inf)
    closed = upper - lower[best] <= 4 * _scale(around, unit, math.inf)
    kind = Kind.GLOBAL if closed else (Kind.LOWER if plan is None else Kind.BRACKET)
    a_priori = 4 * float(ready.x.residual_norm_squared()) ** 0.5 * float(ready.y.residual_norm_squared()) ** 0.5
    return Certificate(lower[best], upper, kind, best, lower, _scale(a_priori + slack, unit, math.inf))


def rounding(x: Space, y: Space) -> float:
    """Bound the float64 error of an objective or a bound of two prepared spaces (theorem 13), in squared units of C."""
    terms = x.size + y.size + sum(max(s.data.shape) for s in (x, y)) + 64
    return 16 * terms * 2.0**-52 * (x.largest() + y.largest()) ** 2


def _scale(value: float, unit: float, towards: float) -> float:
    """Return value · unit², rounded to the next float in the given direction."""
    return math.nextafter(value * unit * unit, towards) if value else 0.0


def _widened(plan: Plan) -> Plan:
    """Bring a plan to float64, in NumPy where the library has none, as the spaces are."""
    if isinstance(plan, SparsePlan):
        mass = _array.widen(plan.mass)
        if _array.library(mass) == _array.library(plan.mass):
            return SparsePlan(plan.rows, plan.cols, mass, plan.size)
        return SparsePlan(*(_array.to_numpy(part) for part in (plan.rows, plan.cols)), mass, plan.size)
    return DensePlan(_array.widen(plan.dense()))
