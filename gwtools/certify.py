"""Certificates: a proved interval for GW_2² from two spaces and a coupling, whatever solver it came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from gwtools import _array, _check, _check_plans, _check_spaces
from gwtools._array import Array
from gwtools.bounds import certified, certified_quadratic, float_error, outward
from gwtools.bounds.enclosures import EnclosedPair, enclosure
from gwtools.bounds.float_error import Bound
from gwtools.bounds.memory import require_memory_of_certificate
from gwtools.plans import DensePlan, Plan, SparsePlan, as_plan
from gwtools.preparation import Prepared, prepare
from gwtools.problems import GWProblem, detached
from gwtools.results import Certificate, Kind
from gwtools.spaces import GramSpace, PointCloud, Space, as_space, converted
from gwtools.transport.one_dimensional import sorting_plan

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
    if tolerance is not None:
        _check.number(tolerance, "tolerance", least=0.0)
    if isinstance(plan, str):
        _check.keyword(plan, "plan", "effort")
    _check.memory_limit(memory_limit)
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    require_memory_of_certificate(x, y, plan, effort, memory_limit)
    return certified_objective(x, y, plan, effort, tolerance or 0.0).certificate


class PlanObjective(NamedTuple):
    """A plan's objective between two spaces, in squared units of C."""

    x: Space
    y: Space
    plan: Plan
    objective: Array


class CertifiedObjective(NamedTuple):
    """A certificate, with a plan's objective and its root as computed, both within the interval."""

    certificate: Certificate
    objective: float
    distance: float


def certified_objective(
    x: Any,
    y: Any,
    plan: Any,
    effort: str,
    tolerance: float = 0.0,
    evaluated: PlanObjective | None = None,
) -> CertifiedObjective:
    """Certify as :func:`certify`; the objective is not computed again where ``evaluated`` is of these spaces and this plan."""
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.choice(effort, "effort", EFFORTS)
    _check.same_kind(x.weights, y.weights, "x", "y")
    _check_spaces.readable((x.data, x.weights, y.data, y.weights), "x and y")
    if plan is not None:
        plan = as_plan(plan, (x.size, y.size))
        _check.same_library(plan.masses, x.weights, "plan", "the spaces")
        plan = _widened(plan)
    stored = _array.epsilon(x.weights)
    x, y = (converted(detached(s), _array.widen) for s in (x, y))
    if plan is not None:
        for marginal, space, side in zip(plan.marginals(), (x, y), "xy", strict=True):
            _check_plans.marginal(marginal, space.weights, side, stored)
    ready = prepare(x, y)
    return _certified(
        ready,
        None if plan is None else _restricted(plan, ready),
        effort,
        tolerance,
        evaluated,
    )


def coupling_distance(x: Space, y: Space, plan: Plan) -> float:
    """Return the root of the objective of the coupling nearest to a plan, in units of C and rounded up (theorem 13 g)."""
    ready = prepare(x, y)
    problem = GWProblem(ready.x, ready.y)
    upper = _objective(problem, enclosed(problem), _restricted(plan, ready)).upper
    return (
        math.nextafter(float(float_error.ceiling(upper**0.5)) * ready.unit, math.inf)
        if upper
        else 0.0
    )


def with_upper(
    certificate: Certificate, objective: float, tolerance: float
) -> Certificate:
    """Raise the upper end of a plan's certificate to at least an objective; ``tolerance`` then counts as closed."""
    if objective <= certificate.upper:
        return certificate
    closed, tolerance = closed_up_to(
        objective - certificate.lower, certificate.rounding, tolerance
    )
    kind = Kind.GLOBAL if closed else Kind.BRACKET
    return replace(certificate, upper=objective, kind=kind, tolerance=tolerance)


def closed_up_to(gap: float, error_width: float, asked: float) -> tuple[bool, float]:
    """Tell whether an interval of width ``gap`` is closed, and up to which tolerance: the float error, or that asked for."""
    tolerance = error_width if gap <= error_width else max(error_width, asked)
    return gap <= tolerance, tolerance


def certified_interval(
    bounds: Mapping[str, float],
    upper: Bound,
    a_priori: float,
    error_width: float,
    tolerance: float,
    unit: float = 1.0,
    of_plan: bool = True,
) -> CertifiedObjective:
    """Bring lower bounds and an objective together to a certificate, in the units that were given.

    Parameters
    ----------
    bounds : mapping from the name of a theorem to a number
        Lower bounds of GW_2², rounded down, among them that of "norm".
    upper : Bound
        An objective, and the same rounded up for a coupling.
    a_priori : float
        How far GW_2² can lie above the bound "norm".
    error_width : float
        Width that float errors of the values account for.
    tolerance : float
        Width that counts as closed because it was asked for, in the units that were
        given.
    unit : float
        What values of C were divided by: all but the tolerance are in such units
        squared.
    of_plan : bool
        Whether the upper end is that of a plan that was given.
    """
    lower = {
        name: _scaled(_finite_or_zero(bound), unit, -math.inf)
        for name, bound in bounds.items()
    }
    best = max(lower, key=lower.__getitem__)
    value = max(upper.value, _finite_or_zero(bounds[best]))
    # Values that were scaled down may have underflowed to the same.
    high = _scaled(upper.upper, unit, math.inf) or (math.ulp(0.0) if unit > 1 else 0.0)
    error_width = _scaled(error_width, unit, math.inf)
    closed, tolerance = closed_up_to(high - lower[best], error_width, tolerance)
    kind = Kind.GLOBAL if closed else Kind.BRACKET if of_plan else Kind.LOWER
    # In the given units the bound may be rounded down by another unit in the last
    # place.
    a_priori = _scaled(a_priori, unit, math.inf) + 2 * math.ulp(lower["norm"])
    certificate = Certificate(
        lower[best], high, kind, best, lower, a_priori, tolerance, error_width
    )
    return CertifiedObjective(certificate, value * unit * unit, value**0.5 * unit)


def _certified(
    ready: Prepared,
    plan: Plan | None,
    effort: str,
    tolerance: float,
    evaluated: PlanObjective | None,
) -> CertifiedObjective:
    problem = GWProblem(ready.x, ready.y)
    pair = enclosed(problem)
    bounds, a_priori = certified.linear(problem.x, problem.y, pair)
    upper = (
        _product(problem, pair)
        if plan is None
        else _objective(problem, pair, plan, evaluated)
    )
    if effort != "linear":
        sides = certified.enclosed_parts(problem.x), certified.enclosed_parts(problem.y)
        matrix = None if plan is None else _array.to_numpy(plan.dense())
        bounds |= _bounds_from_matrices(*sides, ready, matrix, effort)
        if plan is None:
            upper = min(
                [upper, *_sorting_objectives(problem, pair, sides)],
                key=lambda end: end.upper,
            )
    lower = {name: bound.lower for name, bound in bounds.items()}
    error_width = pair.float_error_above(max(map(_finite_or_zero, lower.values())))
    return certified_interval(
        lower, upper, a_priori, error_width, tolerance, ready.unit, plan is not None
    )


def _bounds_from_matrices(
    x: certified.EnclosedParts,
    y: certified.EnclosedParts,
    ready: Prepared,
    plan: Array | None,
    effort: str,
) -> dict[str, Bound]:
    """Return the lower bounds that need the matrices C and D."""
    bounds = {"first": certified.first(x, y), "second": certified.second(x, y)}
    curvature = certified_quadratic.eigenvalue_product_of_kinds(
        x, y, ready.x.sign, ready.y.sign
    )
    if effort == "cubic":
        modes = certified.modes(x), certified.modes(y)
        bounds["third"], bounds["residual_third"] = (
            certified.third(x, y, residual) for residual in (False, True)
        )
        bounds["spectral"] = certified.spectral(x, y, *modes)
        bounds["convex"] = certified_quadratic.convex(x, y, *modes)
        curvature = min(
            curvature, certified_quadratic.largest_eigenvalue_product(*modes)
        )
    if plan is not None and math.isfinite(curvature):
        bounds["convexity"] = certified_quadratic.convexity(x, y, plan, curvature)
    return bounds


def enclosed(problem: GWProblem) -> EnclosedPair:
    """Enclose the parts of both spaces of a problem."""
    return EnclosedPair(enclosure(problem.x), enclosure(problem.y))


def _is_null(problem: GWProblem) -> bool:
    """Tell whether all values are 0, and so is every objective, without float error."""
    return problem.x.largest() == problem.y.largest() == 0.0


def _product(problem: GWProblem, pair: EnclosedPair) -> Bound:
    """Return the product coupling's objective (m_C − m_D)² + 2 (‖α‖² + ‖β‖²) + ‖R‖² + ‖S‖² (theorem 2), rounded up."""
    if _is_null(problem):
        return Bound(0.0, 0.0, 0.0)
    x, y = problem.x, problem.y
    norms = x.residual_norm_squared() + y.residual_norm_squared()
    spread = sum(s.weights @ s.deviations**2 for s in (x, y))
    value = float(pair.mean_gap**2 + 2 * spread + norms)
    return Bound(
        value, 0.0, float(outward.product_upper(value, pair.x.radii, pair.y.radii))
    )


def _objective(
    problem: GWProblem,
    pair: EnclosedPair,
    plan: Plan,
    evaluated: PlanObjective | None = None,
) -> Bound:
    """Return a plan's objective, with that of the nearest coupling rounded up (theorem 13 g)."""
    x, y = problem.x, problem.y
    if (
        evaluated is not None
        and evaluated.x is x
        and evaluated.y is y
        and evaluated.plan is plan
    ):
        value = float(evaluated.objective)
    else:
        value = float(problem.objective(plan))
    matching = _matching(plan, x, y)
    if _is_null(problem) or (
        matching is not None and _is_isometry(x, y, matching, value)
    ):
        return Bound(0.0, 0.0, 0.0)
    if matching is None or _same_masses(plan, matching):
        return Bound(
            value, 0.0, _upper(problem, pair, plan, value, matching is not None)
        )
    # The matching, and the plan itself, whose masses have float errors.
    exact = _upper(problem, pair, matching, float(problem.objective(matching)), True)
    return Bound(value, 0.0, max(exact, _upper(problem, pair, plan, value, True)))


def _upper(
    problem: GWProblem, pair: EnclosedPair, plan: Plan, value: float, matched: bool
) -> float:
    """Return the objective of the coupling nearest to a plan, rounded up; a matched sparse plan is a coupling itself."""
    atoms = plan.masses.shape[0]
    if isinstance(plan, SparsePlan) and (
        problem.x.low_rank is None or problem.y.low_rank is None
    ):
        missed = 0.0 if matched else _missed(plan, pair)
        return float(pair.squares_upper(value, atoms, missed))
    return float(pair.parts_upper(value, 2 * atoms, _missed(plan, pair)))


def _missed(plan: Plan, pair: EnclosedPair) -> float:
    """Return the largest distance from a plan to the nearest coupling of the exactly normalised weights."""
    rows, cols = plan.marginals()
    return float(pair.missed_mass(rows, cols, plan.masses.shape[0]))


def _matching(plan: Plan, x: Space, y: Space) -> SparsePlan | None:
    """Return the matching that a plan is up to the float error of its masses, where it pairs atoms of equal weights.

    Its masses are the stored weights: it is a coupling of the exactly normalised ones
    without any float error.
    """
    if (
        x.size != y.size
        or not isinstance(plan, SparsePlan)
        or plan.mass.shape[0] != x.size
    ):
        return None
    xp = _array.namespace(plan.mass)
    atoms = xp.arange(x.size, device=_array.device(plan.rows))
    if not all(
        bool(xp.all(xp.sort(index) == atoms)) for index in (plan.rows, plan.cols)
    ):
        return None
    mass = xp.take(x.weights, plan.rows)
    return (
        replace(plan, mass=mass)
        if bool(xp.all(mass == xp.take(y.weights, plan.cols)))
        else None
    )


def _same_masses(plan: Plan, matching: SparsePlan) -> bool:
    return bool(_array.namespace(matching.mass).all(plan.masses == matching.mass))


def _is_isometry(x: Space, y: Space, plan: SparsePlan, value: float) -> bool:
    """Tell whether a matching surely is an isometry, as it pairs atoms of equal stored values: its objective is 0 exactly."""
    if x.float_operations == y.float_operations == 0:
        if value:  # equal entries without float error have the objective 0
            return False
        blocks: Iterable[tuple[Array, Array]] = (
            (x.rows_at(plan.rows, i, j), y.rows_at(plan.cols, i, j))
            for i, j in x.blocks()
        )
    elif (
        type(x) is type(y)
        and isinstance(x, PointCloud | GramSpace)
        and x.kind == y.kind
    ):
        blocks = [(x.restrict(plan.rows).data, y.restrict(plan.cols).data)]
    else:
        return False
    xp = _array.namespace(plan.mass)
    return all(
        first.shape == second.shape and bool(xp.all(first == second))
        for first, second in blocks
    )


def _sorting_objectives(
    problem: GWProblem,
    pair: EnclosedPair,
    sides: tuple[certified.EnclosedParts, certified.EnclosedParts],
) -> list[Bound]:
    """Return the objectives of couplings that sort row means, up or down, and eccentricities."""
    x, y = problem.x, problem.y
    squares = [
        _array.from_numpy(s.parts.matrix**2 @ s.parts.weights, x.weights) for s in sides
    ]
    lists = (
        (x.row_means, y.row_means),
        (x.row_means, -y.row_means),
        (squares[0], squares[1]),
    )
    plans = [
        sorting_plan(first, x.weights, second, y.weights) for first, second in lists
    ]
    return [_objective(problem, pair, plan) for plan in plans]


def _finite_or_zero(lower: float) -> float:
    """Return a lower bound, or 0 where it is negative or not finite, as where tiny weights leave the range."""
    return float(lower) if 0 < lower < math.inf else 0.0


def _scaled(value: float, unit: float, towards: float) -> float:
    """Return value · unit², rounded to the next float in the given direction."""
    return (
        max(0.0, math.nextafter(float(value) * unit * unit, towards)) if value else 0.0
    )


def _restricted(plan: Plan, ready: Prepared) -> Plan:
    """Restrict a plan to the atoms of positive weight, as a list where it has few atoms: sums over these cancel less.

    Mass on other atoms is dropped: the nearest coupling has none there.
    """
    if isinstance(plan, SparsePlan):
        return _restricted_list(plan, ready)
    matrix = plan.dense()
    xp = _array.namespace(matrix)
    for axis, kept in enumerate(ready.atoms):
        matrix = matrix if kept is None else xp.take(matrix, kept, axis=axis)
    if int(xp.count_nonzero(matrix)) >= sum(matrix.shape):
        return plan if matrix is plan.dense() else DensePlan(matrix)
    rows, cols = xp.nonzero(matrix)
    mass = xp.take(xp.reshape(matrix, (-1,)), rows * matrix.shape[1] + cols)
    return SparsePlan(rows, cols, mass, (ready.x.size, ready.y.size))


def _restricted_list(plan: SparsePlan, ready: Prepared) -> SparsePlan:
    """Restrict a sparse plan to its positive masses between atoms of positive weight."""
    xp = _array.namespace(plan.mass)
    index, present = [plan.rows, plan.cols], plan.mass > 0
    for axis, kept in enumerate(ready.atoms):
        if kept is not None:
            position = xp.clip(
                xp.searchsorted(kept, index[axis]), max=kept.shape[0] - 1
            )
            present = present & (xp.take(kept, position) == index[axis])
            index[axis] = position
    if bool(xp.all(present)) and index[0] is plan.rows and index[1] is plan.cols:
        return plan
    (positions,) = xp.nonzero(present)
    rows, cols, mass = (xp.take(values, positions) for values in (*index, plan.mass))
    return SparsePlan(rows, cols, mass, (ready.x.size, ready.y.size))


def _widened(plan: Plan) -> Plan:
    """Convert a plan to float64, in NumPy where the library has none, as the spaces are."""
    masses = _array.widen(_array.detached(plan.masses))
    if masses is plan.masses:
        return plan
    if not isinstance(plan, SparsePlan):
        return DensePlan(masses)
    rows, cols = plan.rows, plan.cols
    if _array.library(masses) != _array.library(plan.mass):
        rows, cols = _array.to_numpy(rows), _array.to_numpy(cols)
    return SparsePlan(rows, cols, masses, plan.size)
