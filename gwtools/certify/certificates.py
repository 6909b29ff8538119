"""Certificates: lower bounds by the effort allowed, and the objective of a coupling."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

from gwtools import _array, _check, _check_plans, _check_spaces
from gwtools._array import Array
from gwtools.bounds import certified, certified_quadratic
from gwtools.bounds.certified import EnclosedParts
from gwtools.bounds.float_error import Bound
from gwtools.bounds.memory import require_memory_of_certificate
from gwtools.certify.intervals import (
    CertifiedObjective,
    certified_interval,
    finite_or_zero,
)
from gwtools.certify.objectives import (
    PlanObjective,
    enclosed,
    objective_of_plan,
    objective_of_product,
    objectives_of_sorting,
)
from gwtools.certify.plans import restricted, widened
from gwtools.plans import Plan, as_plan
from gwtools.preparation import Prepared, prepare
from gwtools.problems import GWProblem
from gwtools.results import Certificate
from gwtools.spaces import Space, as_space, converted, detached

EFFORTS = ("linear", "quadratic", "cubic")


def certify(
    x: Any,
    y: Any,
    plan: Any = None,
    effort: str = "linear",
    tolerance: float | None = None,
    memory_limit: float | None = None,
) -> Certificate:
    """Prove an interval that contains GW_2² of the stored values.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms, of one array library, dtype and device.
    plan : Plan or array of shape (n, m), optional
        A coupling, whose objective is the upper bound. It may miss the weights of
        either space by up to a thousandth of the mass in total, as plans of iterations
        that were stopped early do: what it misses is then charged, so that the bound is
        that of the nearest coupling, and :func:`gwtools.round_plan` gives a plan
        without the charge. Without a plan it is a cheap coupling's: the product
        coupling, and from "quadratic" on the best of it and of couplings that sort row
        means or eccentricities.
    effort : {"linear", "quadratic", "cubic"}
        What may be spent on lower bounds. "linear": ``row_means``, ``norm`` and, where
        the spaces have a low-rank form, ``spectral`` or ``rank_one``, by sorts and one
        pass over the pairs. "quadratic" adds ``first`` and ``second`` in O(n² log n)
        and, for a plan between spaces whose kinds make the problem convex,
        ``convexity``, which is one linear program. "cubic" adds ``third``,
        ``residual_third``, ``spectral``, ``convex`` and ``convexity`` for any spaces.
    tolerance : float, optional
        Width of an interval that is good enough to be called GLOBAL, in squared units
        of C; by default, and at least, what float64 errors of the values account for.
    memory_limit : float, optional
        Bytes that may be used; by default what is free for this process, or on the
        device. "linear" needs few beside the spaces, and beside a plan that is a
        :class:`gwtools.SparsePlan`; other plans need n × m arrays, and n × n and m × m
        ones where a space has no form of low rank; so do the other efforts.

    Returns
    -------
    Certificate
        Bounds in squared units of C, computed in float64 and rounded outward: float
        error may loosen them, never make them false. They hold for the stored values,
        taken as exact, with their weights exactly normalised; where a matrix is
        symmetric up to float error only, of its symmetric part.

    Raises
    ------
    TypeError
        If the spaces or the plan differ in array library, dtype or device.
    ValueError
        If the effort is unknown, the tolerance negative, the plan misses the weights by
        more than that, or values of C are so large that squared differences are no
        float64 numbers.
    MemoryError
        If what the effort needs does not fit, before it is asked for.

    Examples
    --------
    What is proved of one plan, and what more work proves: no coupling has an objective
    below 0.268576.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> plan = gw.solve(x, y).plan
    >>> print(gw.certify(x, y, plan))
    [0.215718, 0.737702] (bracket, lower bound by norm)
    >>> print(gw.certify(x, y, plan, effort="quadratic"))
    [0.268576, 0.737702] (bracket, lower bound by second)
    """
    if tolerance is None:
        tolerance = 0.0
    _check.number(tolerance, "tolerance", least=0.0)
    if isinstance(plan, str):
        _check.refuse_word(plan, "plan", "effort")
    _check.memory_limit(memory_limit)
    x = as_space(x, "x")
    y = as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    require_memory_of_certificate(x, y, plan, effort, memory_limit)
    return certified_objective(x, y, plan, effort, tolerance).certificate


def certified_objective(
    x: Any,
    y: Any,
    plan: Any,
    effort: str,
    tolerance: float = 0.0,
    evaluated: PlanObjective | None = None,
) -> CertifiedObjective:
    """Certify as :func:`certify`, with the objective of the plan as computed.

    The objective is not computed again where ``evaluated`` is of these spaces and this
    plan.
    """
    # 1. What was given, as it is stored.
    x = as_space(x, "x")
    y = as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    _check.same_kind(x.weights, y.weights, "x", "y")
    _check_spaces.readable((x.data, x.weights, y.data, y.weights), "x and y")
    if plan is not None:
        plan = as_plan(plan, (x.size, y.size))
        _check.same_library(plan.masses, x.weights, "plan", "the spaces")
    # 2. The same in float64, which is exact.
    epsilon = _array.epsilon(x.weights)
    if plan is not None:
        plan = widened(plan)
    x = _wide(x)
    y = _wide(y)
    if plan is not None:
        row_sums, col_sums = plan.marginals()
        _check_plans.marginal(row_sums, x.weights, "x", epsilon)
        _check_plans.marginal(col_sums, y.weights, "y", epsilon)
    # 3. On the atoms of positive weight, in units near 1.
    ready = prepare(x, y)
    if plan is not None:
        plan = restricted(plan, ready)
    return _certified(ready, plan, effort, tolerance, evaluated)


def _wide(space: Space) -> Space:
    """Return a space in float64, without gradients."""
    return converted(detached(space), _array.widen)


def _certified(
    ready: Prepared,
    plan: Plan | None,
    effort: str,
    tolerance: float,
    evaluated: PlanObjective | None,
) -> CertifiedObjective:
    """Certify prepared spaces and a plan between them, or cheap couplings."""
    problem = GWProblem(ready.x, ready.y)
    pair = enclosed(problem)
    # 1. Lower bounds by sorts and one pass over the pairs, and one coupling.
    bounds, a_priori = certified.linear(problem.x, problem.y, pair)
    upper = (
        objective_of_product(problem, pair)
        if plan is None
        else objective_of_plan(problem, pair, plan, evaluated)
    )
    # 2. Lower bounds from matrices, and more couplings where none was given.
    if effort != "linear":
        parts_x = certified.enclosed_parts(problem.x)
        parts_y = certified.enclosed_parts(problem.y)
        matrix = None if plan is None else _array.to_numpy(plan.dense())  # (n, m)
        bounds |= _bounds_from_matrices(parts_x, parts_y, ready, matrix, effort)
        if plan is None:
            sorting = objectives_of_sorting(problem, pair, parts_x, parts_y)
            upper = min([upper, *sorting], key=attrgetter("upper"))
    # 3. The interval, with the width that float errors of the values account for.
    lower = {name: bound.lower for name, bound in bounds.items()}
    best = max([finite_or_zero(value) for value in lower.values()])
    return certified_interval(
        lower,
        upper,
        a_priori,
        error_width=pair.float_error_above(best),
        tolerance=tolerance,
        unit=ready.unit,
        of_plan=plan is not None,
    )


def _bounds_from_matrices(
    x: EnclosedParts,
    y: EnclosedParts,
    ready: Prepared,
    plan: Array | None,
    effort: str,
) -> dict[str, Bound]:
    """Return the lower bounds that need the matrices C and D."""
    bounds = {}
    bounds["first"] = certified.first(x, y)
    bounds["second"] = certified.second(x, y)
    # The largest product of eigenvalues of R and S, as far as kinds of spaces tell it:
    # what the objective may curve below a tangent (theorem 11).
    curvature = certified_quadratic.eigenvalue_product_of_kinds(
        x,
        y,
        ready.x.sign,
        ready.y.sign,
    )
    if effort == "cubic":
        modes_x = certified.modes(x)
        modes_y = certified.modes(y)
        bounds["third"] = certified.third(x, y, residual=False)
        bounds["residual_third"] = certified.third(x, y, residual=True)
        bounds["spectral"] = certified.spectral(x, y, modes_x, modes_y)
        bounds["convex"] = certified_quadratic.convex(x, y, modes_x, modes_y)
        # Spectra may tell more than kinds.
        by_spectra = certified_quadratic.largest_eigenvalue_product(modes_x, modes_y)
        curvature = min(curvature, by_spectra)
    # The tangent at a plan; there is none where nothing is known of the curvature.
    if plan is not None and math.isfinite(curvature):
        bounds["convexity"] = certified_quadratic.convexity(x, y, plan, curvature)
    return bounds
