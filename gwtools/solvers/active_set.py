"""Active sets: couplings with weights, and their best mixture (theorem 8 i).

The fully corrective step of conditional gradient (Lacoste-Julien and Jaggi 2015,
arXiv:1511.05932).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg

from gwtools._array import Array, NumpyArray
from gwtools.free_problems import listed_plan
from gwtools.plans import Plan, SparsePlan, mixture
from gwtools.problems import Quadratic
from gwtools.results import Status
from gwtools.solvers.single_precision import SingleProblem

MOST = 512  # couplings: matrices of this size are factored in a few milliseconds
_FLAT = 1e-12  # curvatures below this share of the largest are float error
_LEAST_SLOPE = 1e-300  # below all slopes that count


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """A coupling π = Σ w_k V_k as a mixture of r couplings.

    Its objective is F(a ⊗ b) + q·w + wᵀ K w for all weights w (theorem 8 i).

    Parameters
    ----------
    plans : tuple of Plan
        The couplings V_k.
    weights : array of shape (r,)
        The weights w, non-negative and of sum 1.
    linear : array of shape (r,)
        q_k = −4 E_{V_k} αβ, in squared units of C.
    quadratic : array of shape (r, r)
        K_kl = −2 ⟨V_k, R V_l S⟩, in squared units of C.
    joined : int
        How many couplings have joined the first one.
    """

    plans: tuple[Plan, ...]
    weights: NumpyArray  # w, (r,)
    linear: NumpyArray  # q, (r,)
    quadratic: NumpyArray  # the matrix K, (r, r)
    joined: int = 0

    @classmethod
    def of(
        cls,
        problem: Quadratic,
        plan: Plan,
        cross: Array,
    ) -> Self:
        """Return the set of one coupling, given with its ``cross`` matrix R π S."""
        linear = float(problem.bilinear_inner(plan))  # −4 E_π αβ
        quadratic = -2 * float(problem.inner(plan, cross))  # −2 ⟨π, R π S⟩
        return cls(
            plans=(plan,),
            weights=np.ones(1),
            linear=np.array([linear]),
            quadratic=np.array([[quadratic]]),
        )

    @property
    def relative_objective(self) -> float:
        """F(π) − F(a ⊗ b), in squared units of C."""
        return _value(self.linear, self.quadratic, self.weights)

    def plan(self) -> Plan:
        """Return the coupling π."""
        if len(self.plans) == 1:
            return self.plans[0]
        return mixture(self.plans, self.weights.tolist())

    def listed(self, plan: Plan) -> Plan:
        """Return the mixture as a list of atoms if all its couplings are, else as is.

        :func:`~gwtools.plans.mixture` lists those of NumPy alone.
        """
        if all(isinstance(vertex, SparsePlan) for vertex in self.plans):
            return listed_plan(plan)
        return plan

    def extended(
        self,
        problem: Quadratic,
        plan: Plan,
        cross: Array,
    ) -> Self:
        """Return the set with one more coupling, of weight 0.

        Parameters
        ----------
        problem : Quadratic
            The problem whose objective is meant.
        plan : Plan
            The coupling V.
        cross : array of shape (n, m)
            Its matrix R V S.
        """
        plans = (*self.plans, plan)
        size = len(plans)
        weights = np.zeros(size)
        weights[:-1] = self.weights
        linear = np.empty(size)
        linear[:-1] = self.linear
        linear[-1] = float(problem.bilinear_inner(plan))
        quadratic = np.empty((size, size))
        quadratic[:-1, :-1] = self.quadratic
        # K is symmetric: R V S alone gives the new row and column.
        with_new = -2 * problem.inner_products(plans, cross)
        quadratic[-1, :] = with_new
        quadratic[:, -1] = with_new
        return type(self)(plans, weights, linear, quadratic, self.joined + 1)

    def on_the_line(self) -> Self:
        """Return the best mixture of π and the last coupling alone."""
        return self._kept(_line_search(self.linear, self.quadratic, self.weights))

    def minimised(self, tolerance: float, float_error: float) -> Self:
        """Return a mixture that is no worse than any between π and the last coupling.

        Unless it is the last coupling itself, no descent by more than the tolerance is
        left: neither on its face of the simplex nor towards a further coupling of the
        set.

        Parameters
        ----------
        tolerance : float
            Slope that counts as none, in squared units of C.
        float_error : float
            Relative float error of the entries of K.
        """
        q = self.linear
        K = self.quadratic
        weights = _line_search(q, K, self.weights)
        if np.count_nonzero(weights) <= 1:
            return self._kept(weights)
        flat = max(_FLAT, float_error)
        better = _local_minimum(q, K, weights, tolerance, flat)
        # Float errors of a nearly flat form may make the descent an ascent.
        if _value(q, K, better) <= _value(q, K, weights):
            weights = better
        return self._kept(weights)

    def _kept(self, weights: NumpyArray) -> Self:
        """Return the set with other weights, without the couplings of weight 0.

        Where more than 512 have weight, those of least weight become one.
        """
        kept = weights.nonzero()[0]
        if len(kept) > MOST:
            ascending = np.argsort(weights[kept])
            return self._merged(weights, kept[ascending])
        plans = tuple([self.plans[k] for k in kept.tolist()])
        shares = weights.take(kept)
        shares /= shares.sum()
        linear = self.linear.take(kept)
        quadratic = self.quadratic.take(kept, axis=0).take(kept, axis=1)
        return type(self)(plans, shares, linear, quadratic, self.joined)

    def _merged(self, weights: NumpyArray, order: NumpyArray) -> Self:
        """Return a set of 512 couplings: those of least weight become one, the last.

        ``order`` are the couplings that have weight, in ascending order of it.
        """
        count = len(order) - MOST + 1
        few = order[:count]
        rest = order[count:]
        few_weights = weights[few]
        share = few_weights / few_weights.sum()
        few_plans = [self.plans[k] for k in few]
        plans = [self.plans[k] for k in rest]
        plans.append(mixture(few_plans, share.tolist()))
        # Row k has the weights of the old couplings in the k-th new one: q and K are
        # linear and bilinear in couplings.
        parts = np.zeros((MOST, len(weights)))
        parts[np.arange(MOST - 1), rest] = 1.0
        parts[-1, few] = share
        linear = parts @ self.linear
        quadratic = parts @ self.quadratic @ parts.T
        merged = np.append(weights[rest], few_weights.sum())
        shares = merged / merged.sum()
        return type(self)(tuple(plans), shares, linear, quadratic, self.joined)


@dataclass(frozen=True, eq=False)
class State:
    """A mixture of vertices, and what the next linear program starts from.

    Parameters
    ----------
    plan : Plan
        The coupling π.
    relative_objective : float
        F(π) − F(a ⊗ b), in squared units of C.
    status : Status or None
        Why the solver stops here, if it does.
    frank_wolfe_gap : float or None
        That of the last linear program's coupling, in squared units of C.
    cross : array of shape (n, m)
        R π S.
    active : ActiveSet or None
        π as a mixture.
    vertex : SparsePlan or None
        The last vertex: the next program starts from it.
    potentials : pair of arrays or None
        Those of the last program, from which the next one starts too.
    stalled : int
        Steps in a row that did not lower the objective beyond float error.
    tried : bool
        Whether a vertex has replaced a mixture that was as good, since the objective
        last fell: so this is done once, and not for ever.
    gap_before : float or None
        The Frank-Wolfe gap of the plan that the last step started from.
    exchanged : Plan or None
        The plan that the last exchanges led to, where all were tried there.
    single : SingleProblem or None
        The problem in single precision, as long as steps are taken there.
    """

    plan: Plan
    relative_objective: float
    status: Status | None = None
    frank_wolfe_gap: float | None = None
    cross: Array = None
    active: ActiveSet | None = None
    vertex: SparsePlan | None = None
    potentials: tuple[NumpyArray, NumpyArray] | None = None
    stalled: int = 0
    tried: bool = False
    gap_before: float | None = None
    exchanged: Plan | None = None
    single: SingleProblem | None = None

    @property
    def epsilon(self) -> None:
        """Linear programs have no entropy."""
        return None


def _value(q: NumpyArray, K: NumpyArray, w: NumpyArray) -> float:
    """Return q·w + wᵀ K w."""
    return float(w @ (q + K @ w))


def _slopes(q: NumpyArray, K: NumpyArray, w: NumpyArray) -> NumpyArray:
    """Return the gradient of q·w + wᵀ K w, shape (r,)."""
    gradient: NumpyArray = q + 2 * K @ w
    return gradient


def _line_search(q: NumpyArray, K: NumpyArray, w: NumpyArray) -> NumpyArray:
    """Minimise q·w + wᵀ K w between weights w and the last corner of the simplex."""
    direction = -w
    direction[-1] += 1.0
    # Along t ↦ w + t·direction the objective changes by slope·t + curvature·t².
    slope = float(_slopes(q, K, w) @ direction)
    curvature = float(direction @ K @ direction)
    descends = slope + curvature < 0.0
    falls_to_the_end = 2 * curvature <= -slope
    if descends and falls_to_the_end:
        return w + direction  # the corner itself: weights of 0 and 1
    step = 0.0
    if slope < 0.0 and curvature > 0.0:
        step = -slope / (2 * curvature)
    return w + step * direction


def _local_minimum(
    q: NumpyArray,
    K: NumpyArray,
    w: NumpyArray,
    tolerance: float,
    flat: float,
) -> NumpyArray:
    """Descend from weights w to a stationary point of q·w + wᵀ K w over the simplex.

    By an active-set method: the face of the weights above 0 shrinks until it holds its
    own minimum; then the corner outside it that promises most joins. Each pass drops a
    corner or reaches the minimum of a face; these minima fall strictly, so that no face
    comes twice.

    Parameters
    ----------
    q, K, w : arrays of shape (r,), (r, r) and (r,)
        The quadratic form and the weights to start from.
    tolerance : float
        Slope that counts as none, in squared units of C.
    flat : float
        Share of the largest curvature below which others count as 0.
    """
    w = w.copy()
    # A limit, as float errors could make faces repeat.
    for _ in range(8 * len(q) + 8):
        # 1. Descend within the face; where a weight falls to 0, its corner is dropped.
        face = np.nonzero(w)[0]
        slopes = _slopes(q, K, w)
        form = K[face][:, face]
        direction, ends_at_minimum = _descent(slopes[face], form, w[face], flat)
        # Directions keep the sum of the weights: unless all weights stay, one falls.
        falling = direction < 0.0
        if falling.any():
            rates = np.where(falling, -direction, 1.0)
            steps = np.where(falling, w[face] / rates, np.inf)
            first = int(steps.argmin())
            step = steps[first]
            # Short of that minimum, or without one, the step ends where a weight is 0.
            if step <= 1.0 or not ends_at_minimum:
                # Float errors may bring other weights a little below 0.
                w[face] = np.maximum(w[face] + step * direction, 0.0)
                w[face[first]] = 0.0
                w /= w.sum()
                continue
            w[face] += direction
            slopes = _slopes(q, K, w)
        # 2. At the minimum of the face, the slope along it is w·slopes everywhere. Stop
        # where no corner outside promises more than that.
        outside = np.nonzero(w == 0.0)[0]
        if len(outside) == 0:
            break
        steepest = slopes[outside].min()
        if steepest >= float(w @ slopes) - tolerance:
            break
        # 3. The corner that promises most joins, and takes weight of the one that
        # promises least.
        joining = outside[slopes[outside].argmin()]
        leaving = face[slopes[face].argmax()]
        step = _exchanged_weight(K, w, slopes, joining, leaving)
        w[joining] = step
        w[leaving] -= step
    return w


def _exchanged_weight(
    K: NumpyArray,
    w: NumpyArray,
    slopes: NumpyArray,
    joining: int,
    leaving: int,
) -> float:
    """Return the weight that lowers the objective most as it moves to a corner."""
    slope = slopes[joining] - slopes[leaving]
    curvature = K[joining, joining] + K[leaving, leaving] - 2 * K[joining, leaving]
    most = w[leaving]
    if curvature <= 0.0:
        return float(most)
    return float(min(most, -slope / (2 * curvature)))


def _descent(
    slopes: NumpyArray,
    K: NumpyArray,
    w: NumpyArray,
    flat: float,
) -> tuple[NumpyArray, bool]:
    """Return a direction of descent within the face of the weights w > 0.

    Newton's direction where K is positive on the directions that keep the mass; else
    one along which the objective falls without end. Curvatures, and slopes, below the
    share ``flat`` of the largest count as 0.

    Returns
    -------
    (array of shape (r,), bool)
        The direction d, and whether w + d is the minimum over the face's affine hull.
    """
    if len(w) == 1:
        return np.zeros(1), True
    # The other weights are coordinates, and the heaviest is 1 minus their sum: relative
    # to the heaviest the float error of that sum is least.
    heaviest = int(w.argmax())
    others = np.delete(np.arange(len(w)), heaviest)
    form = K[others][:, others]
    form -= K[others, heaviest][:, None]
    form -= K[heaviest, others][None, :]
    form += K[heaviest, heaviest]
    reduced = slopes[others] - slopes[heaviest]
    try:
        factor = scipy.linalg.cho_factor(form, check_finite=False)
        along = scipy.linalg.cho_solve(factor, -reduced / 2)
        ends_at_minimum = True
    except np.linalg.LinAlgError:
        # The form is not positive definite.
        flat_slope = flat * max(np.abs(slopes).max(), _LEAST_SLOPE)
        along, ends_at_minimum = _descent_by_modes(form, reduced, flat_slope, flat)
    direction = np.zeros(len(w))
    direction[others] = along
    direction[heaviest] = -direction.sum()
    return direction, ends_at_minimum


def _descent_by_modes(
    form: NumpyArray,
    slopes: NumpyArray,
    flat_slope: float,
    flat: float,
) -> tuple[NumpyArray, bool]:
    """Return a direction as :func:`_descent` where the form is not positive definite.

    Slopes up to ``flat_slope`` count as 0.
    """
    curvatures, vectors = np.linalg.eigh(form)
    along = vectors.T @ slopes
    largest = max(abs(curvatures[0]), abs(curvatures[-1]))
    least = flat * largest
    # 1. Along the most negative curvature the objective falls without end.
    if curvatures[0] < -least:
        sign = -1.0 if along[0] > 0.0 else 1.0
        return vectors[:, 0] * sign, False
    # 2. Newton's direction, where flat modes have no slope.
    curved = curvatures > least
    has_no_slope = np.abs(along) <= flat_slope
    if (curved | has_no_slope).all():
        coefficients = along[curved] / (2 * curvatures[curved])
        return -vectors[:, curved] @ coefficients, True
    # 3. Along flat modes with a slope the objective falls without end.
    return -vectors[:, ~curved] @ along[~curved], False
