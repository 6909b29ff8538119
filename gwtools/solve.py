"""The entry point ``solve``: two spaces and a solver in, a result with its certificate out."""

from __future__ import annotations

import warnings
from typing import Any

from gwtools import _array, _check, _memory
from gwtools._array import Array
from gwtools.bounds.memory import numbers_held
from gwtools.certify import (
    EFFORTS,
    CertifiedObjective,
    PlanObjective,
    certified_objective,
    with_upper,
)
from gwtools.plans import embed, relative_entropy
from gwtools.problems import GWProblem, Prepared, enveloped, prepare
from gwtools.results import (
    Certificate,
    ConvergenceError,
    ConvergenceWarning,
    GWResult,
    Kind,
    Status,
)
from gwtools.solvers import ConditionalGradient, Outcome, Progress, Solver
from gwtools.solvers.base import Callback
from gwtools.spaces import Space, as_space


def solve(
    x: Any,
    y: Any,
    solver: Solver | None = None,
    *,
    effort: str = "linear",
    throw: bool = False,
    callback: Callback | None = None,
    memory_limit: float | None = None,
) -> GWResult:
    """Compute the Gromov-Wasserstein distance between two spaces, with a certificate.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms, of one array library, dtype and device. A raw array is
        a :class:`gwtools.DenseSpace` with uniform weights.
    solver : Solver, optional
        :class:`gwtools.ConditionalGradient` by default; or :class:`gwtools.Sinkhorn`, :class:`gwtools.Sorted`.
    effort : {"linear", "quadratic", "cubic"}
        What the certificate may spend; see :func:`gwtools.certify`.
    throw : bool
        Raise :class:`gwtools.ConvergenceError` where the solver's criterion is not met,
        instead of warning.
    callback : callable, optional
        Called with a :class:`gwtools.Progress` after every step; return True to stop
        with the plan of that step. The status is then STOPPED, of which nothing warns
        or raises.
    memory_limit : float, optional
        Bytes that may be used; by default what is free: the least of what the system,
        the limits of the process and its control group leave, or what is free on the
        device. :class:`gwtools.Sorted` needs few beside the spaces, for squared clouds
        and Gram spaces a multiple of n + m; iterative solvers hold n × m arrays.

    Returns
    -------
    GWResult
        Objective (GW_2², squared units of C), distance, estimate, plan, status and
        certificate. Arrays are of the library, dtype and device of the spaces; half
        precision is computed in float32, and the plan and the numbers stay so.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work. Lists, tables, sparse matrices and graphs are not
        converted: the sentence says how.
    MemoryError
        If what the solver and the effort need does not fit, before it is asked for.
    ConvergenceError
        With ``throw=True``, where the criterion is not met and no callback asked to
        stop.

    Warns
    -----
    ConvergenceWarning
        Where the criterion is not met and no callback asked to stop; the best plan is
        returned and ``status`` says why.

    Notes
    -----
    PyTorch, and ``jax.grad``, differentiate ``objective``, ``distance``, ``estimate``
    and ``regularized`` with respect to distances, points, factors and weights.
    Gradients with respect to a matrix are symmetric, so that steps keep it so.
    Estimates are closed forms. Objectives of iterative solvers have the gradient of the
    minimum, by the envelope theorem: exact where the plan is stationary and unique, for
    weights along changes that keep their mass, where the potentials are unique. At a
    fixed ε that is the gradient of ``regularized``, which is what is at its minimum
    then; ``objective`` has the same one. Both hold ε, also where it is not given and
    follows from the data. Plans of iterative solvers carry no gradient: second
    derivatives leave out how plans change, which is right for a vertex that stays
    optimal, and wrong at a fixed ε. Where a distance is 0, its gradient is taken to be
    0. Within ``jax.jit`` and ``jax.vmap``, where arrays have no values yet, spaces are
    refused.

    Examples
    --------
    Three points on a line, the first twice as heavy as the others, against a triangle
    in the plane.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y)
    >>> print(result)
    Gromov-Wasserstein between 3 and 3 atoms by ConditionalGradient()
      distance     0.858896
      objective    0.737702  (GW_2^2 of the plan)
      certificate  [0.215718, 0.737702] (bracket, lower bound by norm)
      status       The plan is stationary: the Frank-Wolfe gap fell below the tolerance. (2 iterations)
    >>> result.plan.dense().round(4)
    array([[0.1667, 0.3333, 0.    ],
           [0.1667, 0.    , 0.0833],
           [0.    , 0.    , 0.25  ]])
    """
    x, y = as_space(x, "x"), as_space(y, "y")
    solver = ConditionalGradient() if solver is None else solver
    _check.instance(
        solver,
        "solver",
        Solver,
        "pass an instance such as gwtools.ConditionalGradient()",
    )
    _check.choice(effort, "effort", EFFORTS)
    _check.flag(throw, "throw")
    _check.callback(callback)
    _check.memory_limit(memory_limit)
    require_memory(x, y, solver, effort, memory_limit)
    ready = prepare(x, y)
    solver_here = solver.in_units(ready.unit).on_atoms(ready, (x.size, y.size))
    outcome = solver_here.run(
        GWProblem(ready.x, ready.y), _in_units(callback, ready.unit)
    )
    result = result_of(x, y, ready, outcome, solver, effort)
    if result.status.failure:
        if throw:
            raise ConvergenceError(result)
        warnings.warn(result.status.value, ConvergenceWarning, stacklevel=2)
    return result


def require_memory(
    x: Space,
    y: Space,
    solver: Solver,
    effort: str,
    limit: float | None,
    name: str = "x and y",
) -> None:
    """Refuse two spaces for which a solver, or a certificate's effort, holds more than fits."""
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return
    for numbers, what in (
        (solver.numbers_held(x, y), str(solver)),
        (numbers_held(x, y, effort), f"effort={effort!r}"),
    ):
        _memory.require(numbers, (x.size, y.size), what, x.weights, limit, name)


def result_of(
    x: Space, y: Space, ready: Prepared, outcome: Outcome, solver: Solver, effort: str
) -> GWResult:
    """Return what a solver found for prepared spaces, in the units and on the atoms of the given ones."""
    problem = GWProblem(ready.x, ready.y)
    if outcome.potentials is None:
        objective = problem.objective(outcome.plan)
    else:
        objective = enveloped(problem, outcome.plan, outcome.potentials)
    evaluated = PlanObjective(ready.x, ready.y, outcome.plan, objective)
    root = _array.root(objective) * ready.unit
    objective = _rescaled(objective, ready.unit)
    plan = outcome.plan
    if any(atoms is not None for atoms in ready.atoms):
        rows, cols = (
            _array.namespace(s.weights).arange(s.size, device=_array.device(s.weights))
            if atoms is None
            else atoms
            for s, atoms in zip((x, y), ready.atoms, strict=True)
        )
        plan = embed(plan, rows, cols, (x.size, y.size))
    tolerance = _rescaled(solver.accepted_gap(problem), ready.unit)
    proof = certified_objective(x, y, plan, effort, tolerance, evaluated)
    objective, distance, certificate = within_certificate(
        objective, root, proof, tolerance
    )
    epsilon, regularized = solver.in_units(ready.unit).entropy_weight(problem), None
    if epsilon is not None:
        entropy = relative_entropy(outcome.plan, ready.x.weights, ready.y.weights)
        regularized = objective + _rescaled(epsilon * entropy, ready.unit)
    return GWResult(
        objective=objective,
        distance=distance,
        estimate=objective
        if outcome.estimate is None
        else _rescaled(outcome.estimate, ready.unit, outcome.power),
        plan=plan,
        status=final_status(outcome.status, certificate),
        certificate=certificate,
        iterations=outcome.iterations,
        frank_wolfe_gap=None
        if outcome.frank_wolfe_gap is None
        else _rescaled(outcome.frank_wolfe_gap, ready.unit),
        solver=str(solver),
        regularized=regularized,
        names=(x.names, y.names),
    )


def final_status(status: Status, certificate: Certificate) -> Status:
    """Return why a solver stopped, or that its plan is proved optimal to the tolerance, however it stopped by itself."""
    open_ended = (
        Status.STATIONARY,
        Status.NOT_STATIONARY,
        Status.SCALING_UNFINISHED,
        Status.MAX_ITERATIONS,
    )
    return (
        Status.GLOBAL
        if status in open_ended and certificate.kind is Kind.GLOBAL
        else status
    )


def within_certificate(
    objective: Array, distance: Array, proof: CertifiedObjective, tolerance: float
) -> tuple[Array, Array, Certificate]:
    """Return objective and distance with the certified values, gradients kept, and the certificate around the objective.

    Values are converted to the arrays' dtype, rounded up. Where that is narrower than
    float64, the interval is widened to hold the objective, and counts as closed up to
    the error of that conversion.
    """
    number = _array.least_not_below(proof.objective, objective)
    if number != proof.objective:
        tolerance = max(
            tolerance,
            proof.certificate.rounding + 2 * _array.epsilon(objective) * number,
        )
    objective = _array.with_value(objective, number)
    distance = _array.with_value(
        distance, _array.least_not_below(proof.distance, distance)
    )
    return objective, distance, with_upper(proof.certificate, number, tolerance)


def _rescaled(value: Any, unit: float, power: float = 2.0) -> Any:
    """Return ``value`` · unit^power, factor by factor: the power alone may overflow."""
    for _ in range(int(power)):
        value = value * unit
    return value * unit ** (power - int(power))


def _in_units(callback: Callback | None, unit: float) -> Callback | None:
    """Report progress in the caller's units, not in those of the prepared problem."""
    if callback is None or unit == 1.0:
        return callback

    def wrapped(progress: Progress) -> Any:
        gap = progress.frank_wolfe_gap
        return callback(
            Progress(
                progress.iteration,
                _rescaled(progress.objective, unit),
                None if gap is None else _rescaled(gap, unit),
            )
        )

    return wrapped
