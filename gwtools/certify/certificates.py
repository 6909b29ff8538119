"""Certificates: lower bounds by the effort allowed, and the objective of a coupling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from gwtools import (
    _array,
    _check,
    _check_free,
    _check_fused,
    _check_losses,
    _check_plans,
    _check_proofs,
    _check_spaces,
)
from gwtools.bounds import certified
from gwtools.bounds.memory import require_memory_of_certificate
from gwtools.certify.channel_intervals import channel_interval
from gwtools.certify.efforts import EFFORTS, Collected, Work, from_matrices
from gwtools.certify.free_certificates import free_certificate
from gwtools.certify.fused_intervals import FusedPair, joint_bounds
from gwtools.certify.intervals import (
    CertifiedObjective,
    certified_interval,
    finite_or_zero,
)
from gwtools.certify.linear_costs import fused_interval
from gwtools.certify.objectives import (
    PlanObjective,
    enclosed,
    objective_of_plan,
    objective_of_product,
    objectives_of_sorting,
)
from gwtools.certify.plans import restricted, widened
from gwtools.channel_problems import has_forms, prepared_for, read_loss, words_of_forms
from gwtools.free_marginals import given_marginals
from gwtools.fused import Fused, given_features
from gwtools.history import now
from gwtools.losses import SQUARE, Loss
from gwtools.plans import Plan, as_plan
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem
from gwtools.proofs import Proof
from gwtools.results import Certificate
from gwtools.spaces import (
    Space,
    as_space,
    converted,
    detached,
    without_directions,
)


@dataclass(frozen=True, eq=False)
class Asked:
    """What a caller asks of a certificate.

    Parameters
    ----------
    effort : str
        One of :data:`gwtools.certify.EFFORTS`.
    tolerance : float
        Width that counts as closed, in squared units of C.
    evaluated : PlanObjective or None
        The objective of the plan, where it was computed already.
    deadline : float
        When to end, by the clock of :func:`gwtools.history.now`.
    memory_limit : float or None
        Bytes that may be used; None for what is free.
    """

    effort: str
    tolerance: float = 0.0
    evaluated: PlanObjective | None = None
    deadline: float = math.inf
    memory_limit: float | None = None


def certify(
    x: Any,
    y: Any,
    plan: Any = None,
    effort: str | None = None,
    tolerance: float | None = None,
    memory_limit: float | None = None,
    budget: float | None = None,
    keep_proof: bool = False,
    features: Any = None,
    alpha: Any = None,
    loss: str = "square",
    marginals: Any = "balanced",
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
        coupling, from "quadratic" on the best of it and of couplings that sort row
        means or eccentricities, and where a tree is searched the best that it found.
    effort : {"linear", "quadratic", "cubic", "quartic"}, optional
        What may be spent on lower bounds; by default "linear", and "quartic" with a
        budget. "linear": ``row_means``, ``norm`` and, where the spaces have a low-rank
        form, ``spectral`` or ``rank_one``, by sorts and one pass over the pairs.
        "quadratic" adds ``first`` and ``second`` in O(n² log n) and, for a plan between
        spaces whose kinds make the problem convex, ``convexity``, which is one linear
        program. "cubic" adds ``third``, ``residual_third``, ``spectral``, ``convex``
        and ``convexity`` for any spaces. "quartic" adds ``branch_and_bound`` between
        two clouds with squared distances, or two Gram spaces, whose dimensions have a
        product of at most 4; elsewhere, or where that leaves the interval open,
        ``reformulation`` up to 150² pairs of atoms. Both for a number of steps that
        depends on the sizes alone: below ten seconds between 60 and 60 atoms with the
        extra ``fast``.
    tolerance : float, optional
        Width of an interval that is good enough to be called GLOBAL, in squared units
        of C; by default, and at least, what float64 errors of the values account for.
    memory_limit : float, optional
        Bytes that may be used; by default what is free for this process, or on the
        device. "linear" needs few beside the spaces, and beside a plan that is a
        :class:`gwtools.SparsePlan`; other plans need n × m arrays, and n × n and m × m
        ones where a space has no form of low rank; so do the other efforts. Bounds of
        "quartic" that hold n² m² numbers are left out where these do not fit.
    budget : float, optional
        Seconds that "quartic" may take in all: it spends them where they pay, on
        ``semidefinite`` too up to 35² pairs of atoms, and the certificate is what is
        proved by then. The bounds of "cubic" are computed whatever they take, and so is
        one step of each search. Interrupted (KeyboardInterrupt) in a search, it goes on
        with what was found. By default no clock is looked at, and certificates are the
        same bit for bit on one machine.
    keep_proof : bool
        Whether to keep multipliers, potentials and the plan, of which
        :meth:`gwtools.Certificate.verify` computes both ends again.
    features : array of shape (n, m), "sqeuclidean" or "euclidean", optional
        Costs M between the atoms, in squared units of C, or the distance between
        features of the spaces that they are; see :func:`gwtools.solve`. The interval is
        then that of the least (1 − α) ⟨M, π⟩ + α F(π), and bounds are named "norm +
        transport", as the least ⟨M, π⟩ is added to a bound of F, or "joint third",
        where one linear program has the costs of both.
    alpha : float or 0-d array, optional
        The share α of F, from 0 to 1; it comes with the features.
    loss : {"square", "kl", "absolute"}, optional
        The loss; see :func:`gwtools.solve`. For another one than "square", and for
        directed spaces, the bounds are ``row_means``, from "cubic" on or against one
        point ``third``, both by one linear program, which has the costs of features
        too, and that no loss is below 0.
    marginals : {"balanced", "semi_relaxed"}, Partial or Unbalanced, optional
        Which plans there are; see :func:`gwtools.solve`. Where they are free the plan
        must be given and one of these, up to a thousandth of the mass, and the interval
        is that of the least objective over them. Its bounds are ``nonnegativity`` and,
        from "cubic" on or against one point, ``third``, by minima over rows; with
        :class:`gwtools.Unbalanced` there is no ``third``.

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
        If x or y is neither a space nor an array of floating-point numbers, the spaces
        or the plan differ in array library, dtype or device, ``keep_proof`` is not
        True or False, or one of ``features`` and ``alpha`` is given alone.
    ValueError
        If the effort is unknown, the tolerance negative, the budget not above 0 or for
        a lower effort, the plan misses the weights by more than that, or values of C
        are so large that squared differences are no float64 numbers; or ``features``
        have another shape or are not finite, ``alpha`` is not from 0 to 1, or a proof
        is to be kept with features, free marginals, a directed space or another loss;
        or marginals are free and no plan is given, or spaces are directed or the loss
        is another one.
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
    >>> certificate = gw.certify(x, y, plan, effort="quartic")
    >>> certificate.bound, certificate.lower > 0.9999 * certificate.upper
    ('reformulation', True)
    """
    started = now()
    if tolerance is None:
        tolerance = 0.0
    _check.number(tolerance, "tolerance", least=0.0)
    if isinstance(plan, str):
        _check.refuse_word(plan, "plan", "effort")
    _check.memory_limit(memory_limit)
    x = without_directions(as_space(x, "x"))
    y = without_directions(as_space(y, "y"))
    if effort is None:
        effort = "linear" if budget is None else "quartic"
    _check.choice(effort, "effort", EFFORTS)
    _check_proofs.budget(budget, effort)
    _check.flag(keep_proof, "keep_proof")
    free = given_marginals(marginals)
    given_loss = read_loss(loss, x, y)
    fused = given_features(features, alpha, x, y)
    words = words_of_forms(x, y, given_loss)
    if words is not None:
        _check_losses.alone(keep_proof, "keep_proof", words)
        _check_losses.alone(free is not None, "marginals", words)
    if fused is not None:
        _check_fused.without_proof(keep_proof)
    require_memory_of_certificate(x, y, plan, effort, memory_limit)
    if free is not None:
        _check_free.without_proof(keep_proof, repr(free))
        return free_certificate(x, y, plan, free, effort, tolerance, fused)
    deadline = math.inf if budget is None else started + budget
    return certified_objective(
        x,
        y,
        plan,
        effort,
        tolerance,
        deadline=deadline,
        memory_limit=memory_limit,
        keep_proof=keep_proof,
        fused=fused,
        loss=given_loss,
    ).certificate


def certified_objective(
    x: Any,
    y: Any,
    plan: Any,
    effort: str,
    tolerance: float = 0.0,
    evaluated: PlanObjective | None = None,
    deadline: float = math.inf,
    memory_limit: float | None = None,
    keep_proof: bool = False,
    fused: Fused | None = None,
    loss: Loss = SQUARE,
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
    given = None
    if plan is not None:
        plan = as_plan(plan, (x.size, y.size))
        given = plan
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
    if fused is not None:
        fused = fused.detached().converted(_array.widen)
    ready = prepared_for(loss, x, y, 0.0 if fused is None else fused.size(x, y))
    if plan is not None:
        plan = restricted(plan, ready)
    if fused is not None:
        fused = fused.prepared(ready)
    if has_forms(x, y, loss):
        return channel_interval(ready, plan, loss, effort, tolerance, fused)
    asked = Asked(effort, tolerance, evaluated, deadline, memory_limit)
    found, proof = _certified(ready, plan, asked, fused)
    if keep_proof:
        found = found.noting(proof=replace(proof, plan=given))
    return found


def _wide(space: Space) -> Space:
    """Return a space in float64, without gradients."""
    return converted(detached(space), _array.widen)


def _certified(
    ready: Prepared,
    plan: Plan | None,
    asked: Asked,
    fused: Fused | None = None,
) -> tuple[CertifiedObjective, Proof]:
    """Certify prepared spaces and a plan between them, or cheap couplings.

    What proves the lower bounds is returned too, in squared units of C.
    """
    problem = GWProblem(ready.x, ready.y)
    unit = ready.unit
    pair = enclosed(problem)
    # 1. Lower bounds by sorts and one pass over the pairs, and one coupling.
    started = now()
    bounds, a_priori = certified.linear(problem.x, problem.y, pair)
    collected = Collected(bounds)
    collected.seconds["linear"] = now() - started
    if fused is not None:
        return _fused(FusedPair(problem, pair, fused), ready, plan, asked, collected)
    upper = (
        objective_of_product(problem, pair)
        if plan is None
        else objective_of_plan(problem, pair, plan, asked.evaluated)
    )
    # 2. Lower bounds from matrices, and more couplings where none was given.
    if asked.effort != "linear":
        parts_x = certified.enclosed_parts(problem.x)
        parts_y = certified.enclosed_parts(problem.y)
        if plan is None:
            sorting = objectives_of_sorting(problem, pair, parts_x, parts_y)
            upper = min([upper, *sorting], key=attrgetter("upper"))
        matrix = None if plan is None else _array.to_numpy(plan.dense())  # (n, m)
        best = finite_or_zero(collected.best)
        least_width = max(pair.float_error_above(best), asked.tolerance / unit / unit)
        work = Work(
            parts_x,
            parts_y,
            ready,
            matrix,
            asked.effort,
            asked.deadline,
            closed=upper.upper - least_width,
            memory_limit=asked.memory_limit,
        )
        from_matrices(work, collected)
        # A search may have found a better coupling than the cheap ones.
        if plan is None and collected.coupling is not None:
            upper = min([upper, collected.coupling], key=attrgetter("upper"))
    # 3. The interval, with the width that float errors of the values account for.
    lower = {name: bound.lower for name, bound in collected.bounds.items()}
    best = max([finite_or_zero(value) for value in lower.values()])
    interval = certified_interval(
        lower,
        upper,
        a_priori,
        error_width=pair.float_error_above(best),
        tolerance=asked.tolerance,
        unit=unit,
        of_plan=plan is not None,
    )
    interval = interval.noting(seconds=collected.seconds, left_out=collected.left_out)
    return interval, _proof(collected, unit)


def _fused(
    fused: FusedPair,
    ready: Prepared,
    plan: Plan | None,
    asked: Asked,
    collected: Collected,
) -> tuple[CertifiedObjective, Proof]:
    """Certify a fused objective, with the bounds of F that the effort allows."""
    if plan is None:
        cheap = [fused.of_product(), fused.of_transport()]
        upper = min(cheap, key=attrgetter("upper"))
    else:
        upper = fused.of_plan(plan)
    joint = {}
    if asked.effort != "linear" and fused.fused.share > 0.0:
        # Bounds of F may go on until they meet its own least value, not a fused one.
        work = Work(
            certified.enclosed_parts(ready.x),
            certified.enclosed_parts(ready.y),
            ready,
            None,
            asked.effort,
            asked.deadline,
            closed=math.inf,
            memory_limit=asked.memory_limit,
        )
        curvature = from_matrices(work, collected)
        joint = joint_bounds(fused, work, plan, curvature)
    lower = {name: bound.lower for name, bound in collected.bounds.items()}
    interval = fused_interval(
        fused.linear,
        lower,
        joint,
        upper,
        fused.width_of_structure,
        asked.tolerance,
        ready.unit,
        of_plan=plan is not None,
    )
    interval = interval.noting(seconds=collected.seconds, left_out=collected.left_out)
    return interval, Proof()


def _proof(collected: Collected, unit: float) -> Proof:
    """Return what proves the lower bounds, in squared units of C."""
    arrays = {
        name: {key: unit * values * unit for key, values in kept.items()}
        for name, kept in collected.proofs.items()
    }
    return Proof(arrays, branches=collected.branches, unit=unit)
