"""Active sets: a coupling as a mixture of few, and the best mixture of them (fully corrective conditional gradient)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg

from gwtools._array import Array, NumpyArray
from gwtools.plans import Plan, inner_products, mixture
from gwtools.problems import GWProblem

MOST = 512  # couplings: matrices of this size are factored in a few milliseconds
_FLAT = 1e-12  # curvatures below this share of the largest are float error


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """A coupling π = Σ w_k V_k, whose objective is F(a ⊗ b) + q·w + wᵀ K w over all weights w (theorem 2).

    ``plans`` are the V_k; ``linear`` is q (K,) with q_k = −4 E_{V_k} αβ, ``quadratic``
    is K (K, K) with K_kl = −2 ⟨V_k, R V_l S⟩, both in squared units of C.
    """

    plans: tuple[Plan, ...]
    weights: NumpyArray
    linear: NumpyArray
    quadratic: NumpyArray

    @classmethod
    def of(cls, problem: GWProblem, plan: Plan, cross: Array) -> Self:
        """Return a coupling by itself, from its ``cross`` matrix R π S."""
        linear = float(plan.inner(problem.bilinear_cost))
        return cls(
            (plan,),
            np.ones(1),
            np.array([linear]),
            np.array([[-2 * float(plan.inner(cross))]]),
        )

    @property
    def relative_objective(self) -> float:
        """F(π) − F(a ⊗ b), in squared units of C."""
        return _value(self.linear, self.quadratic, self.weights)

    def plan(self) -> Plan:
        """Return the coupling π."""
        return (
            self.plans[0]
            if len(self.plans) == 1
            else mixture(self.plans, self.weights.tolist())
        )

    def extended(self, problem: GWProblem, plan: Plan, cross: Array) -> Self:
        """Return the set with one more coupling, of weight 0, given with its ``cross`` matrix."""
        plans, size = (*self.plans, plan), len(self.plans)
        weights, linear, quadratic = (
            np.zeros(size + 1),
            np.empty(size + 1),
            np.empty((size + 1, size + 1)),
        )
        weights[:-1], linear[:-1], quadratic[:-1, :-1] = (
            self.weights,
            self.linear,
            self.quadratic,
        )
        linear[-1] = float(plan.inner(problem.bilinear_cost))
        quadratic[-1, :] = quadratic[:, -1] = -2 * inner_products(plans, cross)
        return type(self)(plans, weights, linear, quadratic)

    def minimised(self, tolerance: float, float_error: float) -> Self:
        """Return a mixture that lies no higher than any point between π and the last coupling.

        Unless it is the last coupling itself, neither the face of the simplex on which
        it lies nor a further coupling of the set promises a descent by more than the
        tolerance.

        Parameters
        ----------
        tolerance : float
            Slope that counts as none, in squared units of C.
        float_error : float
            Relative float error of the entries of K.
        """
        q, K = self.linear, self.quadratic
        weights = _line_search(q, K, self.weights)
        if np.count_nonzero(weights) > 1:
            better = _local_minimum(q, K, weights, tolerance, max(_FLAT, float_error))
            weights = (
                better if _value(q, K, better) <= _value(q, K, weights) else weights
            )
        return self._kept(weights)

    def _kept(self, weights: NumpyArray) -> Self:
        """Return the set of the couplings that have weight; where they are too many, those of least weight become one."""
        kept = np.nonzero(weights)[0]
        if len(kept) > MOST:
            return self._merged(weights, kept[np.argsort(weights[kept])])
        total = weights[kept] / weights[kept].sum()
        plans = tuple(self.plans[k] for k in kept)
        return type(self)(
            plans, total, self.linear[kept], self.quadratic[np.ix_(kept, kept)]
        )

    def _merged(self, weights: NumpyArray, order: NumpyArray) -> Self:
        """Return the set in which the couplings of least weight, given in the order of their weights, are one."""
        few, rest = order[: len(order) - MOST + 1], order[len(order) - MOST + 1 :]
        share = weights[few] / weights[few].sum()
        # Row k says which couplings the k-th one of the new set is made of.
        parts = np.zeros((MOST, len(weights)))
        parts[np.arange(MOST - 1), rest] = 1.0
        parts[-1, few] = share
        plans = (
            *(self.plans[k] for k in rest),
            mixture([self.plans[k] for k in few], share.tolist()),
        )
        total = np.append(weights[rest], weights[few].sum())
        return type(self)(
            plans,
            total / total.sum(),
            parts @ self.linear,
            parts @ self.quadratic @ parts.T,
        )


def _value(q: NumpyArray, K: NumpyArray, w: NumpyArray) -> float:
    return float(w @ (q + K @ w))


def _line_search(q: NumpyArray, K: NumpyArray, w: NumpyArray) -> NumpyArray:
    """Minimise q·w + wᵀKw between weights w and the last corner of the simplex."""
    direction = -w
    direction[-1] += 1.0
    slope, curvature = (
        float((q + 2 * K @ w) @ direction),
        float(direction @ K @ direction),
    )
    if slope + curvature < 0.0 and 2 * curvature <= -slope:
        return w + direction  # the corner itself: weights of 0 and 1
    step = -slope / (2 * curvature) if slope < 0.0 and curvature > 0.0 else 0.0
    return w + step * direction


def _local_minimum(
    q: NumpyArray, K: NumpyArray, w: NumpyArray, tolerance: float, flat: float
) -> NumpyArray:
    """Descend from weights w to a stationary point of q·w + wᵀKw over the simplex, by an active-set method.

    The face of the weights above 0 shrinks until it holds its own minimum; then the
    corner outside it that promises most joins. Each pass drops a corner or comes to the
    minimum of a face; the minima fall strictly, so that no face has its turn twice.
    """
    w = w.copy()
    for _ in range(
        8 * len(q) + 8
    ):  # a limit for the case that float errors make passes repeat
        face = np.nonzero(w)[0]
        slopes = q + 2 * K @ w
        direction, reaches = _descent(
            slopes[face], K[np.ix_(face, face)], w[face], flat
        )
        falling = direction < 0.0
        if falling.any():
            steps = np.where(
                falling, w[face] / np.where(falling, -direction, 1.0), np.inf
            )
            first = int(steps.argmin())
            if not reaches or steps[first] <= 1.0:
                w[face] = np.maximum(w[face] + steps[first] * direction, 0.0)
                w[face[first]] = 0.0
                w /= w.sum()
                continue
            w[face] += direction
            slopes = q + 2 * K @ w
        outside = np.nonzero(w == 0.0)[0]
        if len(outside) == 0 or slopes[outside].min() >= float(w @ slopes) - tolerance:
            break
        joining = outside[slopes[outside].argmin()]
        leaving = face[slopes[face].argmax()]
        slope = slopes[joining] - slopes[leaving]
        curvature = K[joining, joining] + K[leaving, leaving] - 2 * K[joining, leaving]
        step = (
            w[leaving]
            if curvature <= 0.0
            else min(w[leaving], -slope / (2 * curvature))
        )
        w[joining], w[leaving] = step, w[leaving] - step
    return w


def _descent(
    slopes: NumpyArray, K: NumpyArray, w: NumpyArray, flat: float
) -> tuple[NumpyArray, bool]:
    """Return a direction of descent within the face of the weights w > 0, and whether its end at length 1 is the minimum.

    Newton's direction where K is positive on the directions that keep the mass; else
    one along which the objective falls without end. Curvatures, and slopes, below the
    share ``flat`` of the largest count as 0.
    """
    if len(w) == 1:
        return np.zeros(1), True
    # Directions are given by the entries of all but the heaviest corner, which keeps
    # the mass.
    heaviest = int(w.argmax())
    others = np.delete(np.arange(len(w)), heaviest)
    form = (
        K[np.ix_(others, others)]
        - K[others, heaviest][:, None]
        - K[heaviest, others][None, :]
        + K[heaviest, heaviest]
    )
    reduced = slopes[others] - slopes[heaviest]
    direction = np.zeros(len(w))
    try:
        direction[others] = scipy.linalg.cho_solve(
            scipy.linalg.cho_factor(form, check_finite=False), -reduced / 2
        )
    except np.linalg.LinAlgError:
        direction[others], reaches = _descent_by_modes(
            form, reduced, flat * max(np.abs(slopes).max(), 1e-300), flat
        )
    else:
        reaches = True
    direction[heaviest] = -direction.sum()
    return direction, reaches


def _descent_by_modes(
    form: NumpyArray, slopes: NumpyArray, level: float, flat: float
) -> tuple[NumpyArray, bool]:
    """Return a direction as :func:`_descent` where the quadratic form is not positive; slopes below ``level`` count as 0."""
    curvatures, vectors = np.linalg.eigh(form)
    along = vectors.T @ slopes
    least = flat * max(abs(curvatures[0]), abs(curvatures[-1]))
    if curvatures[0] < -least:
        return vectors[:, 0] * (-1.0 if along[0] > 0.0 else 1.0), False
    curved = curvatures > least
    if (curved | (np.abs(along) <= level)).all():
        return -vectors[:, curved] @ (along[curved] / (2 * curvatures[curved])), True
    return -vectors[:, ~curved] @ along[~curved], False
