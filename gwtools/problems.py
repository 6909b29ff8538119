"""The Gromov-Wasserstein objective over couplings, its gradient and its minimum's gradients in the data (theorem 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast, final

from gwtools import _array, _check, _check_plans, _check_spaces
from gwtools._array import Array
from gwtools._stacks import Numbers, at_atoms, dot, numbers
from gwtools.plans import Plan, SparsePlan
from gwtools.spaces import DenseSpace, Space, converted, fields_alone, row_blocks
from gwtools.spaces.double_centering import DenseResidual, LowRankResidual, Residual


@dataclass(frozen=True, eq=False)
class Quadratic:
    """F(π) = Σ (C_ik − D_jl)² π_ij π_kl over couplings π of the weights of x and y: of one problem, or of each of a stack.

    Arrays of a stack have a leading axis: weights and deviations are (…, n) and (…, m),
    plans (…, n, m). Numbers of one problem are floats.

    Parameters
    ----------
    x, y : Space or PaddedSpaces
        Not checked here.
    """

    x: Any
    y: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of atoms (n, m)."""
        return int(self.x.weights.shape[-1]), int(self.y.weights.shape[-1])

    @cached_property
    def left(self) -> Residual:
        """R, the residual of x."""
        return cast(Residual, self.x.residual())

    @cached_property
    def right(self) -> Residual:
        """S, the residual of y."""
        return cast(Residual, self.y.residual())

    @cached_property
    def log_weights(self) -> tuple[Array, Array]:
        """Logarithms of the weights, (…, n) and (…, m); 0 at padding."""
        a, b = self.x.weights, self.y.weights
        log = _array.namespace(a).log
        return log(at_atoms(a, a, 1.0)), log(at_atoms(b, b, 1.0))

    @cached_property
    def constant(self) -> Array:
        """(m_C − m_D)² + ‖R‖² + ‖S‖², in squared units of C."""
        residuals = self.x.residual_norm_squared() + self.y.residual_norm_squared()
        return (self.x.mean - self.y.mean) ** 2 + residuals

    @cached_property
    def bilinear_cost(self) -> Array:
        """The costs −4 α_i β_j, shape (…, n, m), in squared units of C."""
        return -4 * self.x.deviations[..., :, None] * self.y.deviations[..., None, :]

    @cached_property
    def norms(self) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        """(‖α‖, ‖R‖) and (‖β‖, ‖S‖), in units of C."""
        sides = (self.x, self.y)
        alpha, beta = (
            dot(space.weights, space.deviations**2) ** 0.5 for space in sides
        )
        left, right = (numbers(space.residual_norm_squared()) ** 0.5 for space in sides)
        return (alpha, left), (beta, right)

    @property
    def slope_range(self) -> Numbers:
        """4‖α‖‖β‖: the linearisation at the product coupling promises no larger decrease (theorem 8 c)."""
        (alpha, _), (beta, _) = self.norms
        return 4 * alpha * beta

    @cached_property
    def variation(self) -> Numbers:
        """4‖α‖‖β‖ + 2‖R‖‖S‖: no objective is farther than this from the product coupling's (theorem 2).

        The size of the part of the objective that depends on the plan, against which
        decreases, gaps and ε are judged. Like the minimisers it does not know of
        constants added to C or D, and it is proportional to the scale of each.
        """
        (_, left), (_, right) = self.norms
        return self.slope_range + 2 * left * right

    @cached_property
    def float_error(self) -> Numbers:
        """Estimate what floating point does to −4 E_π αβ − 2 ⟨π, R π S⟩, in squared units of C.

        α and R are off by about u‖C‖ for a spacing u of 1.0, β and S by u‖D‖; by
        Cauchy-Schwarz this makes u (‖C‖ ‖D − m_D‖ + ‖D‖ ‖C − m_C‖), where ‖C − m_C‖² =
        2‖α‖² + ‖R‖² (theorem 2). The factor 16 is a margin, no proof.
        """
        centred_x, centred_y = (
            (2 * alpha * alpha + residual * residual) ** 0.5
            for alpha, residual in self.norms
        )
        mean_x, mean_y = numbers(self.x.mean), numbers(self.y.mean)
        norm_x = (mean_x * mean_x + centred_x * centred_x) ** 0.5
        norm_y = (mean_y * mean_y + centred_y * centred_y) ** 0.5
        return (
            16
            * _array.epsilon(self.x.weights)
            * (norm_x * centred_y + norm_y * centred_x)
        )

    def cross(self, plan: Plan) -> Array:
        """Return R π S, shape (…, n, m), in squared units of C."""
        left, right = self.left, self.right
        if isinstance(left, LowRankResidual) and isinstance(right, LowRankResidual):
            # (G Gᵀ) π (H Hᵀ) through the d × d' matrix Z = Gᵀ π H alone.
            core = left.factor.T @ plan.apply(right.factor)
            return (left.sign * right.sign) * ((left.factor @ core) @ right.factor.T)
        return left.apply(plan.apply(right.dense()))

    def relative_objective(self, plan: Plan, cross: Array) -> Numbers:
        """Return F(π) − F(a ⊗ b) = −4 E_π αβ − 2 ⟨π, R π S⟩ from a plan and its ``cross`` matrix, in squared units of C.

        Its float error is small beside :attr:`variation` in any units; that of a
        difference of objectives need not be.
        """
        return numbers(plan.inner(self.bilinear_cost)) - 2 * numbers(plan.inner(cross))

    def value(self, plan: Plan, cross: Array) -> Array:
        """Return the objective from a plan and its ``cross`` matrix; a sum of squares, so never below zero."""
        xp = _array.namespace(cross)
        spread = (
            2 * (self.x.deviations[..., :, None] - self.y.deviations[..., None, :]) ** 2
        )
        return xp.clip(
            self.constant + plan.inner(spread) - 2 * plan.inner(cross), min=0.0
        )

    def gradient(self, cross: Array) -> Array:
        """Return the gradient −4 α_i β_j − 4 (R π S)_ij, up to terms that are constant on couplings."""
        return self.bilinear_cost - 4 * cross


class PaddedSpaces(NamedTuple):
    """What the objective reads of B spaces, zero at padding: a and α (B, n), m_C (B,), R (B, n, n) and ‖R‖² (B,)."""

    weights: Array
    deviations: Array
    mean: Array
    matrix: Array
    norm_squared: Array

    def residual(self) -> Residual:
        """Return R."""
        return DenseResidual(self.weights, self.matrix)

    def residual_norm_squared(self) -> Array:
        """Return ‖R‖², shape (B,), in squared units of C."""
        return self.norm_squared


@final
@dataclass(frozen=True, eq=False)
class GWProblem(Quadratic):
    """Minimise F(π) = Σ (C_ik − D_jl)² π_ij π_kl over couplings π of the weights of x and y.

    By theorem 2, for every coupling, F(π) = (m_C − m_D)² + 2 E_π(α − β)² + ‖R‖² + ‖S‖²
    − 2 ⟨π, R π S⟩.

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms, of one array library, dtype and device.

    Raises
    ------
    TypeError
        If x or y is no space, or the spaces' arrays differ in library, dtype or device.

    Examples
    --------
    What the best coupling saves against the product coupling, which sends every atom
    everywhere.

    >>> import numpy as np, gwtools as gw
    >>> x, y = (
    ...     gw.as_space(1 - np.eye(2)),
    ...     gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25])),
    ... )
    >>> problem = gw.GWProblem(x, y)
    >>> problem.product_objective
    0.5
    >>> plan = gw.solve(x, y).plan
    >>> round(float(problem.objective(plan)), 10)
    0.125
    """

    x: Space
    y: Space

    def __post_init__(self) -> None:
        for space, name in ((self.x, "x"), (self.y, "y")):
            _check.instance(
                space, name, Space, f"pass gwtools.as_space({name}) for a square array"
            )
        _check.same_kind(self.x.weights, self.y.weights, "x", "y")

    def __getstate__(self) -> dict[str, Any]:
        """Return the spaces alone for copies and pickles."""
        return fields_alone(self)

    def detached(self) -> GWProblem:
        """Return the problem outside any gradient graph."""
        x, y = detached(self.x), detached(self.y)
        return self if x is self.x and y is self.y else GWProblem(x, y)

    @cached_property
    def product_objective(self) -> float:
        """F(a ⊗ b) = ‖C‖² + ‖D‖² − 2 m_C m_D, in squared units of C."""
        spread = (
            self.x.weights @ self.x.deviations**2
            + self.y.weights @ self.y.deviations**2
        )
        return float(self.constant + 2 * spread)

    def updated_cross(
        self, plan: SparsePlan, previous: SparsePlan, cross: Array
    ) -> Array:
        """Return R π S from that of the previous plan: late in a solve few rows differ, and only those are multiplied."""
        rows = plan.differing_rows(previous)
        if (
            rows is None
            or 2 * rows.shape[0] > plan.shape[0]
            or isinstance(self.left, LowRankResidual)
        ):
            return self.cross(plan)
        moved = plan.apply_rows(rows, self.right.dense()) - previous.apply_rows(
            rows, self.right.dense()
        )
        return cross + self.left.dense()[:, rows] @ moved

    def objective(self, plan: Plan) -> Array:
        """Return F(π), in squared units of C.

        Parameters
        ----------
        plan : Plan
            A coupling of shape (n, m) with the spaces' weights as its marginals.
        """
        _check.instance(plan, "plan", Plan, "pass gwtools.DensePlan(plan) for an array")
        _check_plans.coupling_shape(plan.shape, self.shape)
        if not isinstance(plan, SparsePlan):
            return self.value(plan, self.cross(plan))
        if self.x.low_rank is None or self.y.low_rank is None:
            return self._sum_of_squares(plan)
        left, right = self.left, self.right
        if isinstance(left, LowRankResidual) and isinstance(right, LowRankResidual):
            return self._from_factors(plan, left, right)
        return self.value(plan, self.cross(plan))

    def _from_factors(
        self, plan: SparsePlan, left: LowRankResidual, right: LowRankResidual
    ) -> Array:
        """Sum over the atoms of a sparse plan alone: ⟨π, R π S⟩ = ± ‖Gᵀ π H‖² (theorem 12)."""
        xp, mass = _array.namespace(plan.mass), plan.mass
        alpha, beta = (
            xp.take(self.x.deviations, plan.rows),
            xp.take(self.y.deviations, plan.cols),
        )
        core = (xp.take(left.factor, plan.rows, axis=0) * mass[:, None]).T @ xp.take(
            right.factor, plan.cols, axis=0
        )
        cross = left.sign * right.sign * xp.sum(core**2)
        return xp.clip(
            self.constant + 2 * (mass @ (alpha - beta) ** 2) - 2 * cross, min=0.0
        )

    def _sum_of_squares(self, plan: SparsePlan) -> Array:
        """Sum (C_ik − D_jl)² over pairs of atoms of a sparse plan, where nothing cancels."""
        mass, x, y = plan.mass, self.x, self.y
        parts = (
            mass[i:j]
            @ ((x.rows_at(plan.rows, i, j) - y.rows_at(plan.cols, i, j)) ** 2 @ mass)
            for i, j in row_blocks(int(mass.shape[0]))
        )
        return _array.total(list(parts))

    def linearize(self, plan: Plan) -> Array:
        """Return the (n, m) costs of the linear program whose solution is the steepest vertex from ``plan``."""
        _check.instance(plan, "plan", Plan, "pass gwtools.DensePlan(plan) for an array")
        _check_plans.coupling_shape(plan.shape, self.shape)
        return self.gradient(self.cross(plan))


def detached(space: Space) -> Space:
    """Return the space outside any gradient graph."""
    if not (_array.tracked(space.data) or _array.tracked(space.weights)):
        return space
    return space.with_data(_array.detached(space.data), _array.detached(space.weights))


def enveloped(problem: GWProblem, plan: Plan, potentials: tuple[Array, Array]) -> Array:
    """Return F(π) of a stationary plan with the gradient of the minimum, by the envelope theorem.

    The plan is held: no first-order change of it matters. With potentials f, g of the
    linearisation at the plan, a change of the weights that keeps their mass changes the
    minimum by ⟨f, da⟩ + ⟨g, db⟩.

    Parameters
    ----------
    problem : GWProblem
        Spaces within a gradient graph.
    plan : Plan
        A coupling outside of it.
    potentials : pair of arrays of shape (n,) and (m,)
        Potentials of the linear program with the costs ``problem.linearize(plan)``.
    """
    x, y = problem.x, problem.y
    if not (_array.tracked(x.weights) or _array.tracked(y.weights)):
        return problem.objective(plan)
    value = GWProblem(
        *(s.with_data(s.data, _array.detached(s.weights)) for s in (x, y))
    ).objective(plan)
    still, matrix = problem.detached(), plan.dense()
    shifts = _row_part(still.x, still.y, matrix), _row_part(still.y, still.x, matrix.T)
    for space, potential, shift in zip((x, y), potentials, shifts, strict=True):
        value = value + (space.weights - _array.detached(space.weights)) @ (
            potential + shift
        )
    return value


def _row_part(x: Space, y: Space, plan: Array) -> Array:
    """The part of 2 Σ (C_ik − D_jl)² π_kl that depends on i alone and that ``GWProblem.gradient`` leaves out, shape (n,)."""
    alpha = x.deviations
    rows = x.residual().apply((plan @ y.deviations)[:, None])[:, 0]
    return 2 * x.power_means(2.0) - 4 * y.mean * alpha - 4 * rows


@dataclass(frozen=True, eq=False)
class Prepared:
    """Two spaces made ready to compute with: atoms without weight dropped, half precision converted, units near 1.

    ``unit`` is a power of four: values of C are ``unit`` times those of the prepared
    spaces, exactly, but for a constant that may have been taken off both matrices,
    exactly too.
    """

    x: Space
    y: Space
    unit: float
    atoms: tuple[Array | None, Array | None]


_SAFE = {
    True: 2.0**200,
    False: 2.0**24,
}  # fourth powers of smaller values neither overflow nor lose digits: double, single
_MOST = {
    True: 2.0**509,
    False: 2.0**61,
}  # the squared difference of two such values is still a number


def prepare(x: Space, y: Space) -> Prepared:
    """Drop atoms of zero weight, convert half precision, rescale where squares over- or underflow, subtract a large constant.

    Raises
    ------
    TypeError
        If the spaces differ in array library, dtype or device.
    ValueError
        If values of C are too large for their squares to be numbers of the dtype.
    """
    _check.same_kind(x.weights, y.weights, "x", "y")
    _check_spaces.readable((x.data, x.weights, y.data, y.weights), "x and y")
    (x, atoms_x), (y, atoms_y) = restrict_to_support(x), restrict_to_support(y)
    x, y = (converted(s, _array.at_least_single) for s in (x, y))
    _check_spaces.in_range(
        max(x.largest(), y.largest()), _MOST[is_double(x.weights)], x.weights
    )
    x, y = without_offset(x, y)
    top, safe = max(x.largest(), y.largest()), safe_size(x.weights)
    unit = 1.0 if 1 / safe < top < safe or top == 0.0 else _array.power_of_four(top)
    if unit != 1.0:
        x, y = x.scaled(1 / unit), y.scaled(1 / unit)
    return Prepared(x, y, unit, (atoms_x, atoms_y))


def is_double(like: Array) -> bool:
    """Tell whether arrays are as precise as float64."""
    return _array.epsilon(like) < 1e-10


def safe_size(like: Array) -> float:
    """Values of C between the inverse of this and this need no change of units."""
    return _SAFE[is_double(like)]


def without_offset(x: Space, y: Space) -> tuple[Space, Space]:
    """Take the same constant off both matrices where it is much larger than what they differ by.

    No objective changes, as F(C − c, D − c) = F(C, D), and no entry has a float error:
    the difference of two numbers is exact where neither is more than twice the other
    (Sterbenz).
    """
    if not (isinstance(x, DenseSpace) and isinstance(y, DenseSpace)):
        return x, y
    offset = common_offset(
        *(end for ends in zip(x.extremes(), y.extremes(), strict=True) for end in ends)
    )
    return (x.shifted(offset), y.shifted(offset)) if offset else (x, y)


def common_offset(low_x: float, low_y: float, high_x: float, high_y: float) -> float:
    """Return the constant that :func:`without_offset` takes off, or 0, from the ends of the values of C and of D."""
    low, high = min(low_x, low_y), max(high_x, high_y)
    near, far = (low, high) if low > 0 else (-high, -low)
    if near <= 0 or far - near > near / 8:
        return 0.0
    return low + (high - low) / 2


def restrict_to_support(space: Space) -> tuple[Space, Array | None]:
    """Restrict a space to the atoms of positive weight; return these as well where they are not all."""
    if space.equal_weights:  # they sum to 1, so none is zero
        return space, None
    xp = _array.namespace(space.weights)
    positive = space.weights > 0
    if bool(xp.all(positive)):
        return space, None
    atoms = xp.nonzero(positive)[0]
    return space.restrict(atoms), atoms
