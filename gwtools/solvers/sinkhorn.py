"""Entropic and proximal Gromov-Wasserstein solvers by Sinkhorn's algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Self, cast, final

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
from gwtools.marginals import rounded_plan
from gwtools.plans import DensePlan
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers.backtracking import shortened
from gwtools.solvers.base import Callback, IterativeSolver, Outcome
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.dual_gaps import gap_of_objective, gap_with_entropy
from gwtools.solvers.entropic_state import (
    FIXED_POINT,
    STATIONARY,
    Rest,
    State,
    kernel_exponent,
    scaled_kernel,
    unscaled,
)
from gwtools.solvers.refinement import allows_programs, judged, refined
from gwtools.solvers.starts import is_stationary_at_product, off_saddle, product_plan
from gwtools.spaces import Space
from gwtools.transport.scaling import Scaling, log_plan
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

    Raises
    ------
    TypeError
        If ``proximal`` is not True or False.
    ValueError
        If ``max_iterations`` is no integer of at least 1, ``tolerance`` no finite
        number of at least 0, ``epsilon`` no finite number above 0, or ``cooling`` no
        number between 0 and 1.

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
    """

    tolerance: float = 1e-5
    max_iterations: int = 1000
    epsilon: float | None = None
    proximal: bool = True
    cooling: float = 0.7

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if self.epsilon is not None:
            _check.number(self.epsilon, "epsilon", above=0.0)
        _check.flag(self.proximal, "proximal")
        _check.number(self.cooling, "cooling", above=0.0, below=1.0)

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
        """Return the solver with ε divided by ``unit`` squared."""
        if self.epsilon is None:
            return self
        # Factor by factor: the square alone may overflow.
        return replace(self, epsilon=self.epsilon / unit / unit)

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
        """Scale kernels until their plans come to rest; finish a proximal plan."""
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        if self.epsilon is not None:
            like = problem.x.weights
            _check.representable(self.epsilon, "epsilon", like)
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

    def start(self, problem: Quadratic) -> State:
        """Return the state at a ⊗ b, or off that saddle, with flat scalings."""
        final = self.final_epsilon(problem)
        if not self.proximal:
            counted = filled(final, 1.0)
            return self._start(problem, final, counted)
        none_at_final = filled(final, 0.0)
        # Annealing starts where the kernel is nearly flat.
        first = larger(problem.variation / 8, final)
        return self._start(problem, first, none_at_final)

    def _start(
        self,
        problem: Quadratic,
        epsilon: Numbers,
        kernels_at_final: Numbers,
    ) -> State:
        """Return the unscaled state at the first plan."""
        at_plan = partial(
            unscaled,
            epsilon=epsilon,
            kernels_at_final=kernels_at_final,
            proximal=self.proximal,
        )
        plan = self._first_coupling(problem, epsilon)
        if plan is not None:
            return at_plan(problem, plan)
        # No coupling near a ⊗ b is better: it is the answer.
        state = at_plan(problem, product_plan(problem))
        code = STATIONARY if self.proximal else FIXED_POINT
        return state._replace(code=code, gap=problem.slope_range)

    def _first_coupling(
        self,
        problem: Quadratic,
        epsilon: Numbers,
    ) -> DensePlan | None:
        """Return a ⊗ b, or a coupling off it at a saddle; None where a ⊗ b is kept."""
        product = product_plan(problem)
        # All problems of a stack have a slope at the product coupling.
        if not isinstance(problem, GWProblem):
            return product
        negligible = self.negligible(problem)
        if not is_stationary_at_product(problem, negligible):
            return product
        # No iteration of Sinkhorn's leaves such a saddle (theorem 8 d, f).
        weight = 0.0 if self.proximal else epsilon
        return off_saddle(problem, negligible, weight)

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
        following = self._moved(problem, state, scaling, exponent)
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
        above = state.relative_objective > problem.float_error
        uphill = (state.kernels_at_final > 0) & above
        return replaced(uphill, state, self._restarted, problem)

    def _restarted(self, state: State, problem: Quadratic) -> State:
        """Return the state at the first plan, at the final ε."""
        final = self.final_epsilon(problem)
        return self._start(problem, final, state.kernels_at_final)

    def _kernel_tolerance(self, problem: Quadratic, state: State) -> Numbers:
        """Return the marginal error of the next kernel: small where it proves a gap."""
        usual = filled(state.epsilon, self.scaling_tolerance)
        if self._ends_by_programs(problem):
            # Linear programs prove the gap: scalings need not.
            return usual
        proving = filled(state.epsilon, self.proving_tolerance)
        return chosen(state.kernels_at_final > 0, proving, usual)

    def _moved(
        self,
        problem: Quadratic,
        state: State,
        scaling: Scaling,
        exponent: Array,
    ) -> State:
        """Return the state at a kernel's plan, rounded onto the marginals."""
        a = problem.x.weights
        b = problem.y.weights
        plan = rounded_plan(scaling.plan, a, b)
        epsilon = state.epsilon
        final = self.final_epsilon(problem)
        cooler = larger(self.cooling * epsilon, final)  # (…)
        one_more = state.kernels_at_final + 1.0
        kernels_at_final = chosen(epsilon == final, one_more, state.kernels_at_final)
        # Kernels are relative to the product coupling while ε falls, and proximal ones
        # to the last plan from then on.
        reference = state.exponent
        if self.proximal:
            at_plan = log_plan(exponent, scaling.u, scaling.v)
            reference = chosen(kernels_at_final > 0, at_plan, reference)
        new = unscaled(problem, plan, cooler, kernels_at_final, self.proximal)
        # Potentials ε u carry over to the next ε, so that scalings grow as it falls.
        carried = expanded(epsilon / cooler, 1)
        return new._replace(
            exponent=reference,
            u=scaling.u * carried,
            v=scaling.v * carried,
            last_gap=state.gap,
        )

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
