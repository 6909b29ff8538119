"""Conditional gradient (Frank-Wolfe): exact linear programs, fully corrective steps.

After each program the objective is minimised over mixtures of the vertices found so far
(theorem 8 b, i).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast, final

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.bounds.moments import has_one_row
from gwtools.lifted_problems import (
    LiftedProblem,
    are_lifted,
    are_unpriced,
    numbers_of_lifted,
)
from gwtools.marginals import has_marginals, rounded_plan
from gwtools.plans import Plan, SparsePlan, changed
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers import given_starts
from gwtools.solvers.active_set import ActiveSet
from gwtools.solvers.active_set import State as _State
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, gap_above
from gwtools.solvers.exchange import MOST_ATOMS, exchanged
from gwtools.solvers.given_starts import given_plan, near_coupling
from gwtools.solvers.lifted_starts import lifted_given, lifted_outcome, lifted_start
from gwtools.solvers.single_precision import RESOLVED, SingleProblem
from gwtools.solvers.starts import (
    couplings_of_one_row,
    is_stationary_at_product,
    off_saddle,
    product_plan,
    sorting_coupling,
)
from gwtools.solvers.vertices import has_same_atoms, linear_program, vertex_like
from gwtools.spaces import Space, numbers_at_atoms

_STALLED = 20  # steps in a row that hardly lower the objective
# Steps along the line to the vertex alone, of any but plain problems, before
# mixtures of all vertices are sought: these settle early on the face of the first few.
_STRAIGHT = 10


@final
@dataclass(frozen=True, eq=False)
class ConditionalGradient(IterativeSolver[_State]):
    """Find a stationary coupling by linear programs, each of them solved exactly.

    On the CPU, by POT's network simplex, or above 45 atoms by a compiled one where the
    extra ``fast`` is installed.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of 4‖α‖‖β‖ + 2‖R‖‖S‖, a
        bound on how far any coupling's objective is from the product coupling's
        (theorem 2), or below float error. It does not depend on the units of either
        space, nor, as long as float error is smaller, on constants added to C or D.
    max_iterations : int
        Linear programs at most.
    init : "product", Plan or array of shape (n, m)
        Coupling to start from. One that misses the weights of either space by at most a
        thousandth of the mass in total, as plans of iterations that were stopped early
        do, is rounded onto the marginals (:func:`gwtools.round_plan`). From the product
        coupling the first program is solved by the sorting coupling (theorem 8); that
        step is taken before any gap is tested. Where row means are constant, the
        product coupling is a saddle with gap 0, or a minimum: the first step is then
        along the eigenvectors of the residuals that descend most, where any do. Gram
        spaces of one row start from the better of two sorting couplings, which is
        optimal (theorem 12 f).
    exchange : bool
        At a stationary sparse coupling of at most 3000 atoms, try all exchanges of two
        of them (between permutations: swaps of two images), and go on from there where
        one lowers the objective. On the way to it the objective may rise first, so that
        no gradient shows it.

    Raises
    ------
    TypeError
        If ``init`` is neither a word nor a plan nor an array of floating-point numbers,
        or ``exchange`` is not True or False.
    ValueError
        If ``tolerance`` is no finite number of at least 0, ``max_iterations`` no
        integer of at least 1, or ``init`` another word than "product", or an array that
        is empty or has not two axes.

    Notes
    -----
    Products with C and D stay in the array library and on the device of the spaces;
    each step sends one cost matrix to the CPU and brings one vertex back. Where both
    spaces are of negative type, or both Gram spaces, the objective is concave over
    couplings: every program's step is a full one and the answer mostly a vertex
    (theorem 11). Elsewhere a step is fully corrective: the objective is lowered over
    the mixtures of the vertices found so far that still have weight, as steps towards
    single vertices zigzag (Lacoste-Julien and Jaggi 2015, arXiv:1511.05932). With
    features, directions or another loss, the first ten steps are line searches.
    Between matrices in NumPy of n m ≥ 700² atoms, full steps are first taken by
    products in single precision; from where these lower nothing more, steps go on in
    double precision, in which the gap of the answer is computed.

    Between squared distances or inner products of n m ≥ 2000² atoms, one space of at
    most eight coordinates, programs are transport between points, priced by nearest
    neighbours on the CPU (theorem 12 g, h), and above n m = 4000² early ones leave a
    part of what they gain: no array of all pairs is made. From 20,000 atoms on, in
    place of the sorting coupling, it starts from a plan between few cells, which
    programs in blocks lower between ever smaller ones (theorem 12 i); these steps are
    not counted. Above 50,000 atoms no program of all atoms is solved after that: the
    Frank-Wolfe gap says what one could gain at most, up to 300,000 atoms.

    Examples
    --------
    The Frank-Wolfe gap says that the plan is stationary; another start is another
    chance.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y, gw.ConditionalGradient(tolerance=1e-6))
    >>> round(float(result.objective), 6), result.frank_wolfe_gap < 1e-6
    (0.737702, True)
    >>> start = gw.round_plan(np.eye(3), x.weights, y.weights)
    >>> round(float(gw.solve(x, y, gw.ConditionalGradient(init=start)).objective), 6)
    0.737702
    """

    carries_features: ClassVar[bool] = True
    carries_losses: ClassVar[bool] = True

    init: Any = "product"
    exchange: bool = True

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        init = given_starts.checked_plan(self.init)
        object.__setattr__(self, "init", init)
        _check.flag(self.exchange, "exchange")

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver whose ``init`` is cut to the atoms that carry weight."""
        init = given_starts.on_atoms(self.init, prepared, shape)
        if init is self.init:
            return self
        return replace(self, init=init)

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once, R and S included.

        Costs and linear programs need eight n × m arrays, or four while atoms are
        exchanged; the objective of the answer needs rows of C and D in blocks. Programs
        between coordinates need few numbers for each atom.
        """
        if are_lifted(x, y):
            few = max(x.size, y.size) <= MOST_ATOMS
            exchanged = self._of_exchanges(x, y) if few else 0.0
            return numbers_of_lifted(x, y) + exchanged
        entries = float(x.size * y.size)
        programs = 8 * entries
        exchanges = 4 * entries + self._of_exchanges(x, y)
        objective = numbers_at_atoms(x, y)
        most = max(programs, exchanges, objective)
        return x.numbers_held + y.numbers_held + most

    def _of_exchanges(self, x: Space, y: Space) -> float:
        """Estimate how many numbers are held for all pairs of atoms of a plan."""
        if not self.exchange:
            return 0.0
        atoms = min(x.size + y.size, MOST_ATOMS)
        return 9 * float(atoms) ** 2

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Take steps until the gap is closed.

        Parameters
        ----------
        problem : GWProblem
            The problem to answer.
        callback : callable or None
            Called with :class:`gwtools.Progress` after each step; True ends the solver.

        Raises
        ------
        TypeError
            If ``problem`` is no :class:`gwtools.GWProblem`, or ``init`` differs from
            the spaces in library, dtype or device.
        ValueError
            If ``init`` has another shape, or misses the weights by more than a
            thousandth of the mass.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        if problem.is_plain and are_lifted(problem.x, problem.y):
            return self._run_lifted(problem.detached(), callback)
        outcome = super().run(problem, callback)
        a = _array.detached(problem.x.weights)
        b = _array.detached(problem.y.weights)
        if has_marginals(outcome.plan, a, b):
            return outcome
        # Float errors of many mixtures add up to marginals that are off.
        plan = rounded_plan(outcome.plan.dense(), a, b)
        return replace(outcome, plan=plan)

    def _run_lifted(self, problem: GWProblem, callback: Callback | None) -> Outcome:
        """Take the same steps by programs between coordinates (theorem 12 g)."""
        lifted = LiftedProblem.of(problem)
        solver = self
        if not isinstance(self.init, str):
            given = near_coupling(self.init, problem)
            solver = replace(self, init=lifted_given(lifted, given))
        outcome = solver._repeated(lifted, callback)
        return lifted_outcome(outcome, lifted, problem.x.weights)

    def first_plan(self, problem: Quadratic) -> Plan:
        """Return the given coupling, or the product coupling."""
        if isinstance(self.init, str) and isinstance(problem, LiftedProblem):
            return sorting_coupling(problem)
        if isinstance(self.init, str):
            return product_plan(problem)
        return given_plan(self.init, problem)

    def start(self, problem: GWProblem) -> _State:
        """Return the given coupling, or where the product coupling leads first."""
        if isinstance(self.init, str):
            return self._from_product(problem)
        # The first program starts from the sorting coupling all the same.
        vertex = sorting_coupling(problem)
        plan = given_plan(self.init, problem)
        single = SingleProblem.of(problem) if isinstance(plan, SparsePlan) else None
        state = _alone(problem if single is None else single, plan)
        return replace(state, vertex=vertex, single=single)

    def _from_product(self, problem: GWProblem) -> _State:
        """Return the best coupling on the segment from the product to the sorting one.

        Where the product coupling is stationary, a coupling off the saddle, or the
        product coupling where that is a minimum. Between Gram spaces of one row, a
        coupling that is optimal.
        """
        if isinstance(problem, LiftedProblem):
            coarse = replace(self, exchange=False)
            vertex = lifted_start(problem, coarse)
            return replace(_alone(problem, vertex), vertex=vertex)
        plain = problem.is_plain
        if plain and has_one_row(problem.x) and has_one_row(problem.y):
            return _of_one_row(problem)
        product = product_plan(problem)
        # The sorting coupling solves the first linear program (theorem 8 c).
        vertex = sorting_coupling(problem)
        negligible = self.negligible(problem)
        if not is_stationary_at_product(problem, negligible):
            # At the product coupling q and K are 0, as α, β and the rows of R and S
            # have mean 0.
            active = ActiveSet(
                plans=(product,),
                weights=np.ones(1),
                linear=np.zeros(1),
                quadratic=np.zeros((1, 1)),
            )
            if not plain:
                first = linear_program(problem, problem.bilinear_cost, vertex)
                vertex = vertex_like(first.plan, problem.x.weights)
            single = SingleProblem.of(problem)
            if single is not None:
                cross = single.cross(vertex)
                state = self._corrected(single, active, vertex, cross, 0.0)
                if state.plan is vertex:
                    return replace(state, single=single)
            cross = problem.cross(vertex)
            return self._corrected(problem, active, vertex, cross, 0.0)
        plan = off_saddle(problem, negligible)
        # The objective is convex there, up to what is negligible (theorem 8 d).
        if plan is None:
            return replace(
                _alone(problem, product),
                status=Status.STATIONARY,
                frank_wolfe_gap=problem.slope_range,
            )
        return replace(_alone(problem, plan), vertex=vertex)

    def potentials(self, problem: GWProblem, state: _State) -> tuple[Array, Array]:
        """Return the last program's potentials, zeros where none was solved."""
        a = problem.x.weights
        b = problem.y.weights
        if state.potentials is None:
            xp = _array.namespace(a, b)
            return xp.zeros_like(a), xp.zeros_like(b)
        f, g = state.potentials
        return _array.from_numpy(f, a), _array.from_numpy(g, b)

    def step(self, problem: GWProblem, state: _State) -> _State:
        """Solve the linear program at the plan and move to the best mixture.

        Of its vertex and those before.
        """
        if isinstance(problem, LiftedProblem) and are_unpriced(problem.shape):
            return replace(state, status=Status.NOT_STATIONARY)
        if state.single is not None:
            return self._step_in_single(problem, state, state.single)
        # 1. The steepest vertex and the Frank-Wolfe gap (theorem 8 b).
        gradient = problem.gradient(state.cross)
        negligible = self.negligible(problem)
        program = linear_program(
            problem, gradient, state.vertex, state.potentials, negligible
        )
        # In squared units of C, as all values below.
        value = float(problem.inner(state.plan, gradient))
        del gradient  # an array less while products are made
        gap = gap_above(program.lower, value)
        known: dict[str, Any] = {"gap_before": gap, "potentials": program.potentials}
        is_stationary = gap <= negligible
        # A vertex that solves its own program needs no further step.
        if is_stationary and has_same_atoms(state.plan, program.plan):
            state = replace(state, frank_wolfe_gap=gap, **known)
            return self._at_rest(problem, state, negligible)
        # The start of a program of too many atoms, which is not solved.
        if not is_stationary and program.plan is state.vertex:
            status = Status.NOT_STATIONARY
            return replace(state, frank_wolfe_gap=gap, status=status, **known)
        # 2. The best mixture of this vertex and those before (theorem 8 i).
        vertex = vertex_like(program.plan, problem.x.weights)
        cross = _cross(problem, vertex, state.plan, state.cross)
        active = cast(ActiveSet, state.active)
        following = self._corrected(
            problem, active, vertex, cross, state.cross, **known
        )
        decrease = state.relative_objective - following.relative_objective
        if decrease > negligible:
            return following
        # 3. Without a decrease that counts: rest where the plan is stationary. Where it
        # is not, go on until twenty steps in a row lower the objective by less than
        # floating point resolves.
        state = replace(state, frank_wolfe_gap=gap, **known)
        if is_stationary:
            return self._at_vertex(problem, state, vertex, cross)
        stalled = state.stalled + 1
        resolved = _array.epsilon(problem.x.weights) * problem.variation
        if decrease > resolved:
            stalled = 0
        if stalled >= _STALLED:
            return replace(state, status=Status.NOT_STATIONARY)
        return replace(following, stalled=stalled, tried=state.tried)

    def _step_in_single(
        self, problem: GWProblem, state: _State, single: SingleProblem
    ) -> _State:
        """Step to a vertex in single precision, as long as that lowers the objective.

        By more than its float error; else step from the last vertex, in double
        precision.
        """
        rough = max(self.tolerance, RESOLVED)
        solver = replace(self, tolerance=rough, exchange=False)
        following = solver.step(single, replace(state, single=None))
        decrease = state.relative_objective - following.relative_objective
        is_vertex = following.plan is following.vertex
        # False of decreases that are no numbers.
        is_lower = decrease > rough * problem.variation
        if following.status is None and is_vertex and is_lower:
            return replace(following, single=single)
        potentials = following.potentials
        del following  # an array less while the product is made
        exact = replace(
            _alone(problem, state.plan), vertex=state.vertex, potentials=potentials
        )
        return self.step(problem, exact)

    def _corrected(
        self,
        problem: GWProblem,
        active: ActiveSet,
        vertex: SparsePlan,
        cross: Array,
        before: Array,
        **known: Any,
    ) -> _State:
        """Return the best mixture of the active couplings and a vertex.

        ``cross`` is the vertex's matrix R π S, and ``before`` that of the mixture of
        the active couplings, or 0; ``known`` are other parts of the state.
        """
        # Slopes that are left in the mixture must not look like a gap of the program.
        tolerance = 1e-2 * self.negligible(problem)
        float_error = 16 * _array.epsilon(problem.x.weights)
        is_alone = len(active.plans) == 1
        active = active.extended(problem, vertex, cross)
        is_straight = active.joined <= _STRAIGHT and not problem.is_plain
        if is_straight:
            active = active.on_the_line()
        else:
            active = active.minimised(tolerance, float_error)
        plan = active.plan()
        # A full step needs no other product with R and S, nor does one on the line
        # between two couplings, whose matrices are arrays.
        is_line = is_alone or is_straight
        if plan is not vertex and is_line and not isinstance(problem, LiftedProblem):
            share = float(active.weights[-1]) if active.plans[-1] is vertex else 0.0
            cross = share * cross + (1 - share) * before
        elif plan is not vertex:
            cross = _cross(problem, plan, vertex, cross)
        return _State(
            plan=plan,
            relative_objective=active.relative_objective,
            cross=cross,
            active=active,
            vertex=vertex,
            **known,
        )

    def _at_vertex(
        self,
        problem: GWProblem,
        state: _State,
        vertex: SparsePlan,
        cross: Array,
    ) -> _State:
        """Return the vertex in place of a stationary mixture that is no better.

        A mixture may have gap 0 and be a saddle: towards a vertex the objective then
        falls to second order only, which the last step has tried. A vertex that is as
        good is preferred, as exchanges trade whole atoms there.
        """
        # After a full step the plan is the last vertex, the same object.
        is_mixture = state.plan is not state.vertex
        # Once only, as vertices that are equally good could take turns for ever.
        if is_mixture and not state.tried:
            at_vertex = _alone(problem, vertex, cross)
            most = state.relative_objective + problem.float_error
            if at_vertex.relative_objective <= most:
                return replace(
                    at_vertex,
                    vertex=vertex,
                    gap_before=state.gap_before,
                    potentials=state.potentials,
                    tried=True,
                )
        return self._at_rest(problem, state, self.negligible(problem))

    def _at_rest(self, problem: GWProblem, state: _State, negligible: float) -> _State:
        """Return a stationary state, or the one after exchanges where some descend."""
        before = cast(ActiveSet, state.active).listed(state.plan)
        if state.plan is state.exchanged:
            return replace(state, status=Status.STATIONARY)
        if not self.exchange or not isinstance(before, SparsePlan):
            return replace(state, status=Status.STATIONARY)
        plan, is_last = exchanged(problem, before, state.cross, negligible)
        if plan is before:
            return replace(state, status=Status.STATIONARY)
        # Exchanges of parts of atoms leave the vertices. A copy is the next program's
        # start, so that the plan counts as a mixture: a vertex that is as good may
        # replace it.
        cross = problem.updated_cross(plan, before, state.cross)
        return replace(
            _alone(problem, plan, cross),
            vertex=changed(plan),
            exchanged=plan if is_last else None,
            gap_before=state.gap_before,
            potentials=state.potentials,
        )


def _of_one_row(problem: GWProblem) -> _State:
    """Return an optimal coupling of C = h hᵀ and D = k kᵀ (theorem 12 f).

    It sorts h and k alike, or against each other.
    """
    plan_alike, plan_against = couplings_of_one_row(problem)
    alike = replace(_alone(problem, plan_alike), vertex=plan_alike)
    against = replace(_alone(problem, plan_against), vertex=plan_against)
    if against.relative_objective < alike.relative_objective:
        return against
    return alike


def _alone(problem: GWProblem, plan: Plan, cross: Array | None = None) -> _State:
    """Return the state at one coupling, given with its ``cross`` matrix or without."""
    if cross is None:
        cross = problem.cross(plan)
    active = ActiveSet.of(problem, plan, cross)
    return _State(
        plan=plan,
        relative_objective=active.relative_objective,
        cross=cross,
        active=active,
    )


def _cross(problem: GWProblem, plan: Plan, known: Plan, cross: Array) -> Array:
    """Return R π S of a plan, from a known one where both are lists of atoms."""
    if isinstance(plan, SparsePlan) and isinstance(known, SparsePlan):
        return problem.updated_cross(plan, known, cross)
    return problem.cross(plan)
