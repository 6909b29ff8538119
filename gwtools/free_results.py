"""Results of problems with free marginals, certified, as ``solve`` returns them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gwtools import _array, _check_free, _memory
from gwtools._array import Array
from gwtools._check_free import SEMI_RELAXED, TV
from gwtools.certified_results import (
    embedded,
    final_status,
    rescaled,
    within_certificate,
)
from gwtools.certify.free_certificates import require_costs
from gwtools.certify.free_intervals import free_interval
from gwtools.free_marginals import (
    FreeMarginals,
    Partial,
    Unbalanced,
    largest_root,
    with_read_weights,
)
from gwtools.free_problems import FreeProblem
from gwtools.fused import Fused
from gwtools.history import in_units
from gwtools.preparation import Prepared, prepare
from gwtools.results import GWResult
from gwtools.solvers import ConditionalGradient, Outcome, Solver
from gwtools.solvers.base import Callback
from gwtools.solvers.free_search import FreeSearch
from gwtools.spaces import Space
from gwtools.unbalanced_problems import free_problem


def free_search(
    given: Solver | None,
    marginals: FreeMarginals,
    fused: Fused | None,
    x: Space,
    y: Space,
) -> FreeSearch:
    """Return what answers a problem with free marginals, from what ``solve`` was given.

    Raises
    ------
    TypeError, ValueError
        If the solver answers balanced problems alone, costs are below 0 with a penalty
        that this is not proved for, or gradients in weights are asked for that there
        are none of.
    """
    shown = repr(marginals)
    settings = given if isinstance(given, ConditionalGradient) else None
    carries = given is None or settings is not None
    _check_free.carried(carries, str(given), shown)
    kind = type(marginals).__name__
    is_part = isinstance(marginals, Partial)
    by_variation = isinstance(marginals, Unbalanced) and marginals.penalty == TV
    require_costs(marginals, fused)
    # Divergences alone are smooth in the weights.
    if is_part or by_variation:
        for space, name in ((x, "x"), (y, "y")):
            _check_free.without_gradients(_array.tracked(space.weights), name, kind)
    return FreeSearch(settings)


def free_result(
    x: Space,
    y: Space,
    marginals: FreeMarginals,
    search: FreeSearch,
    effort: str,
    callback: Any,
    memory_limit: float | None = None,
    fused: Fused | None = None,
) -> GWResult:
    """Minimise F over plans with free marginals, and certify the result.

    Parameters
    ----------
    x, y : Space
        The spaces.
    marginals : "semi_relaxed", Partial or Unbalanced
        Which plans there are.
    search : FreeSearch
        What answers the problem.
    effort : str
        The effort of the certificate.
    callback : callable
        From the unit of the prepared spaces to a callback of steps in it, or to None.
    memory_limit : float or None
        Bytes that may be used; None for what is free.
    fused : Fused or None
        Features and their share, as they were given.

    Returns
    -------
    GWResult
        The result.

    Raises
    ------
    MemoryError
        If the matrices and the programs do not fit.
    """
    _require_memory(x, y, search, marginals, memory_limit, fused is not None)
    y = with_read_weights(y, marginals)
    # 1. The problem of the atoms that carry weight, in units near 1.
    beside = largest_root(marginals)
    if fused is not None:
        beside = max(beside, fused.size(x, y))
    ready = prepare(x, y, beside=beside)
    unit = ready.unit
    problem = _problem(ready, marginals, fused)
    here: Callback | None = callback(unit)
    search = search.on_atoms(ready, (x.size, y.size))
    outcome = search.run(problem, here)
    # 2. The objective of the plan, within the spaces' gradient graph.
    solved = _enveloped(problem, outcome)
    plan = embedded(x, y, ready, outcome.plan)
    # 3. The certificate, which is that of the given spaces.
    descent = search.descent(marginals)
    tolerance = rescaled(descent.accepted_gap(problem.detached()), unit)
    certified = free_interval(x, y, plan, marginals, effort, tolerance, fused)
    # There is no distance: the root goes along with the objective alone.
    objective, _, certificate = within_certificate(
        rescaled(solved, unit), _array.root(solved) * unit, certified, tolerance
    )
    gap = outcome.frank_wolfe_gap
    return GWResult(
        objective=objective,
        distance=None,
        estimate=objective,
        plan=plan,
        status=final_status(outcome.status, certificate),
        certificate=certificate,
        iterations=outcome.iterations,
        frank_wolfe_gap=None if gap is None else rescaled(gap, unit),
        solver=search.name,
        names=(x.names, y.names),
        starts=None if outcome.starts is None else outcome.starts.scaled(unit),
        history=in_units(outcome.history, unit),
        alpha=None if fused is None else fused.share,
        marginals=marginals,
    )


def _problem(
    ready: Prepared, marginals: FreeMarginals, fused: Fused | None
) -> FreeProblem:
    """Return the problem of prepared spaces, plain or fused."""
    if fused is None:
        return free_problem(ready.x, ready.y, marginals, ready.unit)
    here = fused.prepared(ready)
    return free_problem(
        ready.x, ready.y, marginals, ready.unit, here.features, here.alpha
    )


def _require_memory(
    x: Space,
    y: Space,
    search: FreeSearch,
    marginals: FreeMarginals,
    limit: float | None,
    has_features: bool,
) -> None:
    """Refuse spaces whose matrices, or whose programs, do not fit."""
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return
    held = search.descent(marginals).numbers_held(x, y)
    if has_features:
        # M and (1 − α) M, converted, with a copy for the certificate.
        held += 6.0 * x.size * y.size
    shape = (x.size, y.size)
    _memory.require(held, shape, search.name, x.weights, limit)


def _enveloped(problem: FreeProblem, outcome: Outcome) -> Array:
    """Return F of a stationary plan with the gradient of the minimum in the data.

    By the envelope theorem the plan is held. A change of a semi-relaxed problem's
    weights changes the minimum by Σ f_i da_i, where f_i is the least entry of row i of
    the gradient: what another mass of atom i costs.
    """
    a = problem.x.weights
    if problem.marginals != SEMI_RELAXED or not _array.tracked(a):
        return problem.objective(outcome.plan)
    held = _array.detached(a)
    still = problem.detached()
    x = problem.x.with_data(problem.x.data, held)
    value = replace(problem, x=x).objective(outcome.plan)
    gradient = still.gradient(still.cross(outcome.plan))
    xp = _array.namespace(gradient)
    return value + (a - held) @ xp.min(gradient, axis=1)
