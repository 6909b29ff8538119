"""Certified results: what a solver found, in the units and on the atoms as given."""

from __future__ import annotations

from typing import Any

from gwtools import _array
from gwtools._array import Array
from gwtools.certify import (
    CertifiedObjective,
    PlanObjective,
    certified_objective,
    value_with_entropy,
    with_branches,
    with_proved,
    with_upper,
)
from gwtools.channel_problems import has_forms
from gwtools.envelopes import enveloped
from gwtools.fused import Fused, problem_of
from gwtools.history import in_units
from gwtools.losses import SQUARE, Loss
from gwtools.plans import Plan
from gwtools.potentials import of_given_spaces
from gwtools.preparation import Prepared, embed
from gwtools.problems import GWProblem
from gwtools.results import Certificate, GWResult, Kind, Status
from gwtools.solvers import Outcome, Solver
from gwtools.spaces import Space

# A solver that stopped by itself with one of these may still have found an optimal
# plan, which a closed interval proves.
_OPEN_ENDED = (
    Status.STATIONARY,
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
    Status.MAX_ITERATIONS,
)


def result_of(
    x: Space,
    y: Space,
    ready: Prepared,
    outcome: Outcome,
    solver: Solver,
    effort: str,
    fused: Fused | None = None,
    name: str | None = None,
    loss: Loss = SQUARE,
) -> GWResult:
    """Return what a solver found, in the units and on the atoms of the given spaces.

    Parameters
    ----------
    x, y : Space
        The given spaces.
    ready : Prepared
        The spaces that were solved.
    outcome : Outcome
        What the solver found for them.
    solver : Solver
        The solver, as it was given.
    effort : str
        The effort of the certificate.
    fused : Fused or None
        Features and their share, as they were given.
    name : str, optional
        What to call the solver, if not by its own name.
    loss : Loss
        Of the objective.

    Returns
    -------
    GWResult
        The result, certified.
    """
    unit = ready.unit
    fused_here = None if fused is None else fused.prepared(ready)
    problem = problem_of(ready.x, ready.y, fused_here, loss)
    # 1. The objective of the plan, within the spaces' gradient graph.
    solved = _objective(problem, outcome)  # in squared units of the prepared spaces
    evaluated = None
    if fused is None:
        evaluated = PlanObjective(ready.x, ready.y, outcome.plan, solved)
    root = _array.root(solved) * unit  # in units of C
    objective = rescaled(solved, unit)  # in squared units of C
    # 2. The certificate, which is that of the given spaces.
    plan = embedded(x, y, ready, outcome.plan)
    # Tolerances are relative: the solver as it was given has the same one.
    tolerance = rescaled(solver.accepted_gap(problem), unit)
    certified = certified_objective(
        x, y, plan, effort, tolerance, evaluated, fused=fused, loss=loss
    )
    # What a solver proves of half precision, as it was converted, is not of this.
    proved = outcome.proved if x.weights.dtype == ready.x.weights.dtype else None
    certified, tolerance = with_proved(certified, proved, unit, tolerance)
    objective, distance, certificate = within_certificate(
        objective, root, certified, tolerance
    )
    # 3. The solver's own value, if it has one, and the objective plus entropy.
    estimate = _estimate(outcome, objective, unit)
    # At a fixed ε the gradient of the sum is exact, as this is what is at its minimum.
    # An interval is known of it where F is the plain one alone.
    with_entropy = value_with_entropy(
        ready.x,
        ready.y,
        outcome.plan,
        solver.in_units(unit).entropy_weight(problem),
        None if has_forms(x, y, loss) else outcome.potentials,
        objective,
        unit,
        fused_here,
    )
    return GWResult(
        objective=objective,
        distance=distance if problem.share == 1.0 and loss.is_squared else None,
        estimate=estimate,
        plan=plan,
        status=final_status(outcome.status, certificate),
        certificate=with_branches(certificate, plan, outcome.branches, unit),
        iterations=outcome.iterations,
        frank_wolfe_gap=_gap(outcome, unit),
        solver=str(solver) if name is None else name,
        regularized=with_entropy.value,
        regularized_interval=with_entropy.interval,
        names=(x.names, y.names),
        starts=None if outcome.starts is None else outcome.starts.scaled(unit),
        history=in_units(outcome.history, unit),
        potentials=of_given_spaces(x, y, ready, plan, outcome.potentials, fused, loss),
        alpha=None if fused is None else fused.share,
        loss=loss.name,
    )


def _gap(outcome: Outcome, unit: float) -> float | None:
    """Return the Frank-Wolfe gap in the given units, if it was computed."""
    gap = outcome.frank_wolfe_gap
    return None if gap is None else float(rescaled(gap, unit))


def _estimate(outcome: Outcome, objective: Array, unit: float) -> Array:
    """Return the solver's own value in given units; the objective where it has none."""
    if outcome.estimate is None:
        return objective
    return rescaled(outcome.estimate, unit, outcome.power)


def _objective(problem: GWProblem, outcome: Outcome) -> Array:
    """Return the objective of a plan, with the gradient of the minimum if it is one."""
    # Closed forms are differentiated as they are.
    if outcome.potentials is None:
        return problem.objective(outcome.plan)
    # The envelope theorem: changes of the plan have no effect of first order.
    return enveloped(problem, outcome.plan, outcome.potentials)


def embedded(x: Space, y: Space, ready: Prepared, plan: Plan) -> Plan:
    """Return a plan of prepared spaces as one of the given ones, 0 at other atoms."""
    rows, cols = ready.atoms
    if rows is None and cols is None:
        return plan
    rows = _all_atoms(x) if rows is None else rows
    cols = _all_atoms(y) if cols is None else cols
    return embed(plan, rows, cols, (x.size, y.size))


def _all_atoms(space: Space) -> Array:
    """Return the positions (n,) of all atoms of a space."""
    xp = _array.namespace(space.weights)
    device = _array.device(space.weights)
    return xp.arange(space.size, device=device)


def final_status(status: Status, certificate: Certificate) -> Status:
    """Return why a solver stopped, or that its plan is proved optimal.

    Parameters
    ----------
    status : Status
        Why it stopped.
    certificate : Certificate
        The certificate of its plan.

    Returns
    -------
    Status
        GLOBAL where the interval is closed up to the tolerance, unless the solver was
        stopped or has a status that says more.
    """
    proved = certificate.kind is Kind.GLOBAL
    if proved and status in _OPEN_ENDED:
        return Status.GLOBAL
    return status


def within_certificate(
    objective: Array,
    distance: Array,
    certified: CertifiedObjective,
    tolerance: float,
) -> tuple[Array, Array, Certificate]:
    """Return objective and distance with the certified values, and the certificate.

    Values are converted to the arrays' dtype, rounded up. Where that is narrower than
    float64, the interval is widened to hold the objective, and counts as closed up to
    the error of that conversion.

    Parameters
    ----------
    objective, distance : 0-d arrays
        As computed; their gradients are kept.
    certified : CertifiedObjective
        The certified values.
    tolerance : float
        Width of an interval that counts as closed, in squared units of C.

    Returns
    -------
    (0-d array, 0-d array, Certificate)
        The objective is within the certificate's interval.
    """
    # The certified value in the dtype of the objective, rounded up.
    number = _array.least_not_below(certified.objective, objective)
    if number != certified.objective:
        # Conversion to a narrower dtype moves the objective by a spacing at most.
        conversion = 2 * _array.epsilon(objective) * abs(number)
        widened = certified.certificate.rounding + conversion
        tolerance = max(tolerance, widened)
    objective = _array.with_value(objective, number)
    root = _array.least_not_below(certified.distance, distance)
    distance = _array.with_value(distance, root)
    certificate = with_upper(certified.certificate, number, tolerance)
    return objective, distance, certificate


def rescaled(value: Any, unit: float, power: float = 2.0) -> Any:
    """Return ``value`` · unit^power, factor by factor: the power alone may overflow."""
    whole = int(power)
    for _ in range(whole):
        value = value * unit
    return value * unit ** (power - whole)
