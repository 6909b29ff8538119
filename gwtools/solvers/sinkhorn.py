"""Entropic and proximal Gromov-Wasserstein solvers by Sinkhorn's algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self, cast, final

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import (
    Numbers,
    chosen,
    expanded,
    filled,
    larger,
    opposite,
    replaced,
    some,
)
from gwtools.plans import Plan
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers import given_starts
from gwtools.solvers.backtracking import shortened
from gwtools.solvers.base import Callback, IterativeSolver, Outcome
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.dual_gaps import gap_of_objective, gap_with_entropy
from gwtools.solvers.entropic_start import at_product, first_state
from gwtools.solvers.entropic_state import (
    FIXED_POINT,
    STATIONARY,
    Rest,
    State,
    kernel_exponent,
    moved,
    scaled_kernel,
)
from gwtools.solvers.refinement import allows_programs, judged, refined
from gwtools.solvers.starts import product_plan
from gwtools.spaces import Space
from gwtools.transport.scaling import Scaling
from gwtools.transport.sinkhorn import attainable

# Proximal steps after which linear programs go on: they come to rest sooner.
ENOUGH_STEPS = 10

# Share of 4‖α‖‖β‖ + 2‖R‖‖S‖ that the final ε is.
_FINAL_SHARE = 1e-3
# Marginal errors of kernels: the least that is asked for, the largest, and the share of
# it at which scalings prove gaps.
_LEAST_ERROR = 1e-11
_LARGEST_ERROR = 1e-5
_PROVING_SHARE = 1e-4

# Proximal steps that end so are at rest, and conditional gradient may go on from there.
_AT_REST = (
    Status.STATIONARY,
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
)
# A linear program may still prove plans that end so to be stationary.
_UNPROVED = (
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
    Status.MAX_ITERATIONS,
)


@final
@dataclass(frozen=True, eq=False)
class Sinkhorn(IterativeSolver[State]):
    """Minimise Σ (C_ik − D_jl)² π_ij π_kl, plain or with entropy, by scaling kernels.

    The problem with entropy has ε KL(π | a ⊗ b) added to the objective.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of 4‖α‖‖β‖ + 2‖R‖‖S‖, a
        bound on how far any coupling's objective is from the product coupling's
        (theorem 2): the gap of the objective, or at a fixed ε that of the objective
        plus ε KL (theorem 8 h). Below 1e-5, kernels are scaled to it as well: so that
        the potentials, which are the gradients in the weights, are as exact.
    max_iterations : int
        Kernels scaled, and linear programs solved, at most.
    epsilon : float, optional
        Weight ε of the entropy, in squared units of C; by default 1/1000 of 4‖α‖‖β‖ +
        2‖R‖‖S‖, in whatever units C and D are.
    proximal : bool
        True: the entropy is only a means. It is annealed down to ε from an eighth of
        4‖α‖‖β‖ + 2‖R‖‖S‖, then steps are proximal, argmin ⟨∇F(π_k), π⟩ + ε KL(π | π_k),
        until they no longer lower the objective. On the CPU, after ten of them at the
        latest, :class:`gwtools.ConditionalGradient` goes on from there, which also
        leaves saddles of exchangeable atoms. On other devices, and above 10⁷ entries,
        potentials prove the gap by a c-transform, or, up to 10⁷ entries, one linear
        program. False: entropic Gromov-Wasserstein at the fixed ε.
    cooling : float
        Factor between the ε of two annealing steps, between 0 and 1. Slower cooling,
        towards 1, takes longer and mostly ends in a lower objective.
    init : "product", Plan, array of shape (n, m), or tuple
        Start. A coupling is rounded as by :class:`gwtools.ConditionalGradient`, its
        kernel scaled from what suits it best, and no step climbs from there: a fixed
        point is recognised at once. Proximal steps then begin at the final ε, as flat
        kernels would forget the plan, and at first relative to the plan and 1/1000 of
        the product coupling, as mass could else not move to where a plan has none.
        Potentials (f, g) of shapes (n,) and (m,), in squared units of C, are what the
        kernel at the product coupling is scaled from: its plan does not depend on them.
        Those of a plan go with it, as (plan, (f, g)).

    Raises
    ------
    TypeError
        If ``proximal`` is not True or False, or ``init`` neither a word, nor a plan,
        nor an array of floating-point numbers, nor a tuple of two such starts.
    ValueError
        If ``max_iterations`` is no integer of at least 1, ``tolerance`` no finite
        number of at least 0, ``epsilon`` no finite number above 0, ``cooling`` no
        number between 0 and 1, or ``init`` another word than "product", or an array
        that is empty or has another number of axes, or potentials that are not finite.

    Notes
    -----
    Every plan is rounded onto the exact marginals, so that its objective is a true
    upper bound. Steps decrease the objective where it is concave over couplings, or
    where ε is above its smoothness relative to the entropy; elsewhere a step is
    shortened until it does not climb, but for the steps while ε falls. Where row means
    are constant, the product coupling is a saddle that no iteration leaves by itself:
    it then starts from a coupling off it (theorem 8), at a fixed ε only where that
    descends.

    Exponents of kernels have float errors where they are long, as they are for a small
    ε: twice the spacing of 1.0 times the longest is a marginal error that no scaling
    goes below, and a gap of as much of 4‖α‖‖β‖ + 2‖R‖‖S‖ is then tolerated at a fixed ε
    (about 2e-4 in float32 at the default ε).

    Examples
    --------
    By default a way to an unregularised plan; at a fixed ε the plan is blurred, and the
    entropy is reported apart.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> plain = gw.solve(x, y, gw.Sinkhorn())
    >>> entropic = gw.solve(x, y, gw.Sinkhorn(epsilon=1.0, proximal=False))
    >>> entropic.plan.dense().round(2)
    array([[0.23, 0.27, 0.  ],
           [0.1 , 0.07, 0.08],
           [0.  , 0.  , 0.25]])
    >>> values = plain.objective, entropic.objective, entropic.regularized
    >>> [round(float(value), 2) for value in values]
    [0.74, 0.82, 1.29]

    From the plan of another ε it is a shorter way.

    >>> sharper = gw.Sinkhorn(epsilon=0.9, proximal=False)
    >>> warm = gw.Sinkhorn(epsilon=0.9, proximal=False, init=entropic.plan)
    >>> gw.solve(x, y, sharper).iterations, gw.solve(x, y, warm).iterations
    (7, 3)
    """

    carries_features: ClassVar[bool] = True
    carries_losses: ClassVar[bool] = True

    tolerance: float = 1e-5
    max_iterations: int = 1000
    epsilon: float | None = None
    proximal: bool = True
    cooling: float = 0.7
    init: Any = "product"

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if self.epsilon is not None:
            _check.number(self.epsilon, "epsilon", above=0.0)
        _check.flag(self.proximal, "proximal")
        _check.number(self.cooling, "cooling", above=0.0, below=1.0)
        init = given_starts.checked_start(self.init)
        object.__setattr__(self, "init", init)

    @property
    def scaling_tolerance(self) -> float:
        """Marginal error at which a kernel counts as scaled.

        Also while ε falls, as later kernels hardly move mass that is misplaced.
        """
        wanted = min(self.tolerance, _LARGEST_ERROR)
        return max(_LEAST_ERROR, wanted)

    @property
    def proving_tolerance(self) -> float:
        """Marginal error of kernels whose scalings prove a gap.

        Each unit of misplaced mass may cost as much as the largest |∇F_ij|.
        """
        wanted = _PROVING_SHARE * self.scaling_tolerance
        return max(_LEAST_ERROR, wanted)

    def in_units(self, unit: float) -> Self:
        """Return the solver with ε and given potentials divided by ``unit`` squared."""
        epsilon = self.epsilon
        if epsilon is not None:
            # Factor by factor: the square alone may overflow.
            epsilon = epsilon / unit / unit
        init = given_starts.in_units(self.init, unit)
        return replace(self, epsilon=epsilon, init=init)

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver whose ``init`` is cut to the atoms that carry weight."""
        init = given_starts.on_atoms(self.init, prepared, shape)
        if init is self.init:
            return self
        return replace(self, init=init)

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once, R and S included.

        Kernels, plans and their logarithms are eighteen n × m arrays.
        """
        spaces = x.numbers_held + y.numbers_held
        scaling = spaces + 18.0 * x.size * y.size
        if not self.proximal:
            return scaling
        programs = ConditionalGradient().numbers_held(x, y)
        return max(scaling, programs)

    def entropy_weight(self, problem: GWProblem) -> float | None:
        """Return the fixed ε; None where the entropy is only a means."""
        if self.proximal:
            return None
        epsilon = self.final_epsilon(problem.detached())
        return cast(float, epsilon)

    def final_epsilon(self, problem: Quadratic) -> Numbers:
        """Return the ε at which annealing ends, or the fixed one.

        Parameters
        ----------
        problem : Quadratic
            One problem, outside any gradient graph, or a stack of them.

        Returns
        -------
        float or array of shape (…)
            In squared units of C, one number a problem.
        """
        if self.epsilon is None:
            return _FINAL_SHARE * problem.variation
        return filled(problem.variation, self.epsilon)

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Scale kernels until their plans come to rest; finish a proximal plan.

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
            If ``epsilon`` is no normal number of the dtype, or ``init`` has another
            shape, misses the weights by more than a thousandth of the mass, or has
            potentials that overflow when they are divided by ε.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        if self.epsilon is not None:
            like = problem.x.weights
            _check.representable(self.epsilon, "epsilon", like)
        given_starts.require_fit(self.init, problem)
        outcome = super().run(problem, callback)
        if not self.proximal:
            return outcome
        return self.finished(problem, outcome, callback)

    def finished(
        self,
        problem: GWProblem,
        outcome: Outcome,
        callback: Callback | None = None,
    ) -> Outcome:
        """Go on by conditional gradient where proximal steps came to rest.

        On other devices than the CPU the plan is judged only, by a linear program;
        where programs are too large, it is left as it is.

        Parameters
        ----------
        problem : GWProblem
            The problem.
        outcome : Outcome
            A plan of proximal steps.
        callback : callable, optional
            Called after every step; it stops the solver by returning True.

        Returns
        -------
        Outcome
            The plan to answer with, and why the solver stopped.
        """
        at_rest = outcome.status in _AT_REST
        steps_left = self.max_iterations - outcome.iterations
        if at_rest and self._ends_by_programs(problem) and steps_left > 0:
            return refined(problem, outcome, self.tolerance, steps_left, callback)
        if outcome.status in _UNPROVED and allows_programs(problem):
            detached = problem.detached()
            negligible = float(self.negligible(detached))
            return judged(detached, outcome, negligible)
        return outcome

    def _ends_by_programs(self, problem: Quadratic) -> bool:
        """Tell whether a plan at rest is handed to conditional gradient.

        That is on the CPU, where its linear programs are not too large.
        """
        allowed = self.proximal and allows_programs(problem)
        return allowed and _array.on_cpu(problem.x.weights)

    def first_plan(self, problem: GWProblem) -> Plan:
        """Return the given coupling, or the product coupling."""
        given = given_starts.plan_of_start(self.init)
        if given is None:
            return product_plan(problem)
        return given_starts.given_plan(given, problem)

    def start(self, problem: Quadratic) -> State:
        """Return the state at the given start, at a ⊗ b, or off that saddle."""
        final = self.final_epsilon(problem)
        negligible = self.negligible(problem)
        return first_state(problem, self.init, final, negligible, self.proximal)

    def potentials(self, problem: Quadratic, state: State) -> tuple[Array, Array]:
        """Return potentials ε u and ε v, less ε log a and ε log b at a fixed ε.

        Where a proximal fixed point has mass, ε (u_i + v_j) = ∇F_ij.
        """
        u = state.u
        v = state.v
        if not self.proximal:
            log_a, log_b = problem.log_weights
            u = u - log_a
            v = v - log_b
        epsilon = expanded(state.epsilon, 1)
        return epsilon * u, epsilon * v

    def step(self, problem: Quadratic, state: State) -> State:
        """Scale the kernel of the current linearisation, and go to its plan."""
        if self.proximal:
            state = self._not_above_product(problem, state)
        # 1. The kernel of the linearisation at the plan, scaled.
        gradient = problem.gradient(state.cross)  # (…, n, m)
        exponent = kernel_exponent(problem, state, gradient)
        least_error = attainable(exponent)
        wanted = self._kernel_tolerance(problem, state)
        tolerance = larger(wanted, least_error)
        scaling = scaled_kernel(problem, state, exponent, tolerance)
        # Float errors may cause a few times what is attainable. A kernel that missed
        # its marginals is scaled further, as long as that halves the error.
        missed = scaling.error > 10 * tolerance
        improved = scaling.error < state.error / 2
        unfinished = missed & improved
        # 2. The gap of the plan, by the potentials that scale its kernel.
        if not self.proximal:
            gap = gap_with_entropy(problem, state, gradient, scaling)
            state = state._replace(gap=gap)
        state = state._replace(last_gap=state.gap)
        # 3. The plan of the kernel. From the final ε on, steps must not climb.
        final = self.final_epsilon(problem)
        cooler = larger(self.cooling * state.epsilon, final)  # (…)
        following = moved(
            problem, state, scaling, exponent, cooler, final, self.proximal
        )
        settling = (state.kernels_at_final > 0) & opposite(unfinished)
        if some(settling):
            rest = Rest(settling, missed, least_error)
            following = self._assessed(problem, state, following, rest)
        # 4. Where the kernel is scaled further, the plan stays.
        taken_up = state._replace(u=scaling.u, v=scaling.v, error=scaling.error)
        following = chosen(unfinished, taken_up, following)
        if self.proximal:
            return following
        return self._unless_met(problem, state, scaling, following)

    def _not_above_product(self, problem: Quadratic, state: State) -> State:
        """Restart where annealing has led above the product coupling."""
        # From a given plan no step climbs.
        if given_starts.plan_of_start(self.init) is not None:
            return state
        above = state.relative_objective > problem.float_error
        uphill = (state.kernels_at_final > 0) & above
        return replaced(uphill, state, self._restarted, problem)

    def _restarted(self, state: State, problem: Quadratic) -> State:
        """Return the state at the first plan, at the final ε."""
        return at_product(
            problem,
            self.final_epsilon(problem),
            state.kernels_at_final,
            self.negligible(problem),
            self.proximal,
        )

    def _kernel_tolerance(self, problem: Quadratic, state: State) -> Numbers:
        """Return the marginal error of the next kernel: small where it proves a gap."""
        usual = filled(state.epsilon, self.scaling_tolerance)
        if self._ends_by_programs(problem):
            # Linear programs prove the gap: scalings need not.
            return usual
        proving = filled(state.epsilon, self.proving_tolerance)
        return chosen(state.kernels_at_final > 0, proving, usual)

    def _assessed(
        self,
        problem: Quadratic,
        old: State,
        new: State,
        rest: Rest,
    ) -> State:
        """Shorten steps that climb, and tell where the iteration has come to rest."""
        climbing = rest.settling & (new.merit > old.merit)
        shorten = partial(shortened, proximal=self.proximal)
        new = replaced(climbing, new, shorten, problem, old)
        gain = old.merit - new.merit
        stuck = rest.settling & (gain < 0.0)
        # Where a plan stays, so do the scalings of its own kernel, which are potentials
        # of its linearisation.
        staying = old._replace(u=new.u, v=new.v)
        if self.proximal:
            new = chosen(stuck, staying, new)
            return self._resting(problem, new, rest, gain)
        negligible = self.negligible(problem)
        allowed = larger(negligible, rest.misplaced * problem.variation)
        still = rest.settling & (gain <= negligible)
        met = still & (old.gap <= allowed)
        fixed_point = filled(gain, FIXED_POINT)
        # A plan that is stuck ends the iteration, whether its gap is small or not.
        code = chosen(met, fixed_point, rest.failure)
        at_rest = staying._replace(code=code)
        return chosen(stuck | met, at_rest, new)

    def _resting(
        self,
        problem: Quadratic,
        state: State,
        rest: Rest,
        gain: Numbers,
    ) -> State:
        """Give proximal states a status where steps gain less than the tolerance."""
        negligible = self.negligible(problem)
        still = rest.settling & (gain <= negligible)
        if self._ends_by_programs(problem):
            # Conditional gradient finds the gap itself, and a better plan.
            enough = rest.settling & (state.kernels_at_final > ENOUGH_STEPS)
            code = chosen(still | enough, rest.failure, state.code)
            return state._replace(code=code)
        if not some(still):
            return state
        gap = gap_of_objective(problem, state)
        met = gap <= negligible
        # While steps gain more than float error, a later gap may be small enough.
        no_gain = gain <= problem.float_error
        ended = still & (met | no_gain)
        stationary = filled(gap, STATIONARY)
        code = chosen(met, stationary, rest.failure)
        return state._replace(
            gap=chosen(still, gap, state.gap),
            code=chosen(ended, code, state.code),
        )

    def _unless_met(
        self,
        problem: Quadratic,
        state: State,
        scaling: Scaling,
        following: State,
    ) -> State:
        """Return the following state, unless the gap at a fixed ε is already small."""
        # The dtype does not resolve smaller changes of ε KL.
        spacing = _array.epsilon(problem.x.weights)
        resolved = 4 * spacing * state.epsilon
        allowed = larger(self.negligible(problem), resolved)
        met = state.gap <= allowed
        staying = state._replace(
            u=scaling.u,
            v=scaling.v,
            code=filled(state.code, FIXED_POINT),
        )
        return chosen(met, staying, following)
