"""The Gromov-Wasserstein objective over couplings, and its gradient (theorem 2).

Plain, or fused with a linear term of costs between atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np

from gwtools import _array, _check, _check_fused, _check_plans, _check_spaces
from gwtools._array import Array, NumpyArray
from gwtools._stacks import Numbers, at_atoms, dot, expanded, numbers
from gwtools.distortions import from_factors, sum_of_squares
from gwtools.linear_terms import LinearTerm, WithFeatures
from gwtools.plans import Plan, SparsePlan, inner_products
from gwtools.spaces import Space, detached, fields_alone
from gwtools.spaces.double_centering import LowRankResidual, Residual

_MANY = 700**2  # entries from which a second array costs more than loops
_FEW_ROWS = 0.8  # share: where more rows differ, whole products take no longer


@dataclass(frozen=True, eq=False)
class Quadratic:
    """F(π) = Σ (C_ik − D_jl)² π_ij π_kl over couplings π of the weights of x and y.

    Or a fused objective α F(π) + ⟨L, π⟩, with a share α of F and a linear term. Of one
    problem, or of each problem of a stack. Arrays of a stack have a leading axis:
    weights and deviations are (…, n) and (…, m), plans (…, n, m). Numbers of one
    problem are floats.

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
        n = self.x.weights.shape[-1]
        m = self.y.weights.shape[-1]
        return int(n), int(m)

    @property
    def share(self) -> Numbers:
        """α, the factor of F in a fused objective; 1 for F alone."""
        return 1.0

    @property
    def linear(self) -> LinearTerm | None:
        """The linear term ⟨L, π⟩ of a fused objective; None for F alone."""
        return None

    @property
    def is_plain(self) -> bool:
        """Whether the objective is F alone, of symmetric C and D."""
        return self.linear is None

    @property
    def row_means(self) -> tuple[Array, Array]:
        """Row means (…, n) and (…, m) of C and D, in whose order atoms are sorted."""
        return self.x.row_means, self.y.row_means

    @cached_property
    def left(self) -> Residual:
        """R, the residual of x: C_ik = m_C + α_i + α_k + R_ik (theorem 2)."""
        return cast(Residual, self.x.residual())

    @cached_property
    def right(self) -> Residual:
        """S, the residual of y."""
        return cast(Residual, self.y.residual())

    @cached_property
    def log_weights(self) -> tuple[Array, Array]:
        """Logarithms of the weights, (…, n) and (…, m); 0 at padding."""
        a = self.x.weights
        b = self.y.weights
        xp = _array.namespace(a)
        return xp.log(at_atoms(a, a, 1.0)), xp.log(at_atoms(b, b, 1.0))

    @cached_property
    def constant(self) -> Array:
        """(m_C − m_D)² + ‖R‖² + ‖S‖², in squared units of C."""
        x = self.x
        y = self.y
        residuals = x.residual_norm_squared() + y.residual_norm_squared()
        return (x.mean - y.mean) ** 2 + residuals

    @cached_property
    def bilinear_cost(self) -> Array:
        """The costs −4 α_i β_j, shape (…, n, m), in squared units of C.

        Of a fused objective that share of them, and L without what depends on i or on j
        alone.
        """
        alpha = self.x.deviations[..., :, None]  # (…, n, 1)
        beta = self.y.deviations[..., None, :]  # (…, 1, m)
        costs = -4 * alpha * beta
        if self.linear is None:
            return costs
        return self._shared(costs) + self.linear.centred

    @cached_property
    def norms(self) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        """(‖α‖, ‖R‖) and (‖β‖, ‖S‖), in units of C."""
        return _norms(self.x), _norms(self.y)

    @property
    def slope_range(self) -> Numbers:
        """4‖α‖‖β‖, in squared units of C.

        The linearisation at the product coupling promises no larger decrease (theorem
        8 c). Of a fused objective that share of it, and the size of the linear term.
        """
        alpha, _ = self.norms[0]
        beta, _ = self.norms[1]
        # By Cauchy-Schwarz no coupling has a larger 4 E_π αβ.
        slope = 4 * alpha * beta
        if self.linear is None:
            return slope
        return self.share * slope + self.linear.size

    @cached_property
    def variation(self) -> Numbers:
        """4‖α‖‖β‖ + 2‖R‖‖S‖, in squared units of C.

        No coupling's objective is farther than this from the product coupling's
        (theorem 2). It is the size of the part of the objective that depends on the
        plan, against which decreases, gaps and ε are judged. Like the minimisers it
        does not depend on constants added to C or D, and it is proportional to the
        scale of each.
        """
        _, left = self.norms[0]
        _, right = self.norms[1]
        return self.slope_range + self._shared(2 * left * right)

    def _shared(self, values: Any) -> Any:
        """Return the share of values of F that a fused objective has.

        ``values`` are numbers, or arrays of shape (…, n, m).
        """
        if self.linear is None:
            return values
        is_matrix = getattr(values, "ndim", 0) > 1
        return expanded(self.share, 2 if is_matrix else 0) * values

    @cached_property
    def float_error(self) -> Numbers:
        """Estimate of the float error of a relative objective, in squared units of C.

        That of −4 E_π αβ − 2 ⟨π, R π S⟩. α and R are off by about u‖C‖ for a spacing u
        of 1.0, β and S by u‖D‖; by Cauchy-Schwarz this makes u (‖C‖ ‖D − m_D‖ + ‖D‖ ‖C
        − m_C‖), where ‖C − m_C‖² = 2‖α‖² + ‖R‖² (theorem 2). The factor 16 is a margin,
        no proof.
        """
        alpha, left = self.norms[0]
        beta, right = self.norms[1]
        # ‖C − m_C‖ and ‖D − m_D‖.
        centred_x = (2 * alpha * alpha + left * left) ** 0.5
        centred_y = (2 * beta * beta + right * right) ** 0.5
        # ‖C‖ and ‖D‖, as the mean is orthogonal to the rest.
        mean_x = numbers(self.x.mean)
        mean_y = numbers(self.y.mean)
        norm_x = (mean_x * mean_x + centred_x * centred_x) ** 0.5
        norm_y = (mean_y * mean_y + centred_y * centred_y) ** 0.5
        spacing = _array.epsilon(self.x.weights)
        error = 16 * spacing * (norm_x * centred_y + norm_y * centred_x)
        if self.linear is None:
            return error
        return self.share * error + self.linear.float_error

    def cross(self, plan: Plan) -> Array:
        """Return R π S, shape (…, n, m), in squared units of C.

        Of a fused objective that share of it, as everywhere below.
        """
        return self._shared(self._whole_cross(plan))

    def _whole_cross(self, plan: Plan) -> Array:
        """Return R π S."""
        left = self.left
        right = self.right
        if isinstance(left, LowRankResidual) and isinstance(right, LowRankResidual):
            # (G Gᵀ) π (H Hᵀ) through the d × d' matrix Z = Gᵀ π H alone (theorem 12 a).
            core = left.factor.T @ plan.apply(right.factor)
            sign = left.sign * right.sign
            return sign * ((left.factor @ core) @ right.factor.T)
        return left.apply(plan.apply(right.dense()))

    def inner(self, plan: Plan, matrix: Array) -> Numbers:
        """Return Σ π_ij matrix_ij, for a matrix that this problem made."""
        return numbers(plan.inner(matrix))

    def inner_products(self, plans: Sequence[Plan], matrix: Array) -> NumpyArray:
        """Return the inner products (K,) of K plans with a matrix of this problem."""
        return inner_products(plans, matrix)

    def block(self, matrix: Array, rows: Array, cols: Array) -> Array:
        """Return the entries of a matrix of this problem between rows and columns."""
        xp = _array.namespace(matrix)
        return xp.take(xp.take(matrix, rows, axis=0), cols, axis=1)

    def relative_objective(self, plan: Plan, cross: Array) -> Numbers:
        """Return F(π) − F(a ⊗ b) = −4 E_π αβ − 2 ⟨π, R π S⟩, in squared units of C.

        Its float error is small beside :attr:`variation` in any units; that of a
        difference of objectives need not be.

        Parameters
        ----------
        plan : Plan
            The coupling π.
        cross : array of shape (…, n, m)
            Its matrix R π S, see :meth:`cross`.
        """
        linear = self.bilinear_inner(plan)
        quadratic = self.inner(plan, cross)
        return linear - 2 * quadratic

    def bilinear_inner(self, plan: Plan) -> Numbers:
        """Return −4 E_π αβ, with the linear term, in squared units of C."""
        return self.inner(plan, self.bilinear_cost)

    def value(self, plan: Plan, cross: Array) -> Array:
        """Return F(π), in squared units of C, also where the objective is fused.

        Parameters
        ----------
        plan : Plan
            The coupling π.
        cross : array of shape (…, n, m)
            Its whole matrix R π S.
        """
        alpha = self.x.deviations[..., :, None]  # (…, n, 1)
        beta = self.y.deviations[..., None, :]  # (…, 1, m)
        spread = 2 * (alpha - beta) ** 2
        objective = self.constant + plan.inner(spread) - 2 * plan.inner(cross)
        # A sum of squares, which float errors alone can bring below 0.
        xp = _array.namespace(cross)
        return xp.clip(objective, min=0.0)

    def gradient(self, cross: Array) -> Array:
        """Return the gradient −4 α_i β_j − 4 (R π S)_ij, shape (…, n, m).

        Terms that depend on i or on j alone are left out: they are constant on
        couplings.
        """
        gradient = -4 * cross
        # In place, so that no third array is made.
        gradient += self.bilinear_cost
        return gradient


def _norms(space: Any) -> tuple[Numbers, Numbers]:
    """Return ‖α‖ and ‖R‖ of a space, in units of C."""
    alpha_squared = dot(space.weights, space.deviations**2)
    residual_squared = numbers(space.residual_norm_squared())
    return alpha_squared**0.5, residual_squared**0.5


@dataclass(frozen=True, eq=False)
class GWProblem(WithFeatures, Quadratic):
    """Minimise F(π) = Σ (C_ik − D_jl)² π_ij π_kl over couplings π of two spaces.

    By theorem 2, for every coupling of the weights of x and y, F(π) = (m_C − m_D)² + 2
    E_π(α − β)² + ‖R‖² + ‖S‖² − 2 ⟨π, R π S⟩. With features M the objective is fused:
    F_α(π) = (1 − α) ⟨M, π⟩ + α F(π).

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms, of one array library, dtype and device.
    features : array of shape (n, m), optional
        Costs M between the atoms, in squared units of C. Features that the spaces have
        do not count here.
    alpha : float or 0-d array, optional
        The share α of F, from 0 to 1; it comes with the features.

    Raises
    ------
    TypeError
        If x or y is no space, the arrays differ in library, dtype or device, or one of
        ``features`` and ``alpha`` is given alone.
    ValueError
        If ``features`` has another shape or is not finite, or ``alpha`` is not in
        [0, 1].

    Examples
    --------
    What the best coupling saves against the product coupling, which sends every atom
    everywhere.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.as_space(1 - np.eye(2))
    >>> y = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> problem = gw.GWProblem(x, y)
    >>> problem.product_objective
    0.5
    >>> plan = gw.solve(x, y).plan
    >>> round(float(problem.objective(plan)), 10)
    0.125
    """

    # Whether C and D may be directed.
    carries_directions: ClassVar[bool] = False

    x: Space
    y: Space
    features: Array = None
    alpha: Any = None

    def __post_init__(self) -> None:
        for space, name in ((self.x, "x"), (self.y, "y")):
            remedy = f"pass gwtools.as_space({name}) for a square array"
            _check.instance(space, name, Space, remedy)
            if not self.carries_directions:
                _check_spaces.of_numbers(space.edge_features, name)
                _check_spaces.undirected(space.directed, name)
        _check.same_kind(self.x.weights, self.y.weights, "x", "y")
        alpha = _check_fused.features(self.features, self.alpha, self.x, self.y)
        # The dataclass is frozen: its field is set past it.
        object.__setattr__(self, "alpha", alpha)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone for copies and pickles."""
        return fields_alone(self)

    @property
    def floor(self) -> float:
        """A number that no objective is below: 0 for F alone."""
        return 0.0 if self.linear is None else self.linear.least

    def detached(self) -> GWProblem:
        """Return the problem outside any gradient graph.

        Returns
        -------
        GWProblem
            The problem itself where its spaces are in no graph.
        """
        x = detached(self.x)
        y = detached(self.y)
        features = self.features
        alpha = self.alpha
        if features is not None:
            features = _array.detached(features)
            alpha = self.share
        # The problem itself keeps its cached residuals.
        same_spaces = x is self.x and y is self.y
        if same_spaces and features is self.features and alpha is self.alpha:
            return self
        return replace(self, x=x, y=y, features=features, alpha=alpha)

    @cached_property
    def product_objective(self) -> float:
        """F(a ⊗ b) = ‖C‖² + ‖D‖² − 2 m_C m_D, in squared units of C.

        Or the fused objective of a ⊗ b.
        """
        alpha_squared = self.x.weights @ self.x.deviations**2
        beta_squared = self.y.weights @ self.y.deviations**2
        spread = alpha_squared + beta_squared
        product = float(self.constant + 2 * spread)
        if self.linear is None:
            return product
        return float(self.share * product + self.linear.mean)

    def bilinear_inner(self, plan: Plan) -> Numbers:
        """Return −4 E_π αβ, in plain problems from the atoms of a sparse plan alone."""
        if not self.is_plain or not isinstance(plan, SparsePlan):
            return super().bilinear_inner(plan)
        xp = _array.namespace(plan.mass)
        alpha = xp.take(self.x.deviations, plan.rows)
        beta = xp.take(self.y.deviations, plan.cols)
        return numbers(xp.vecdot(plan.mass, -4 * alpha * beta))

    def gradient(self, cross: Array) -> Array:
        """Return the gradient as every problem does, in the dtype of ``cross``."""
        is_large = isinstance(cross, np.ndarray) and cross.size > _MANY
        if not is_large or not self.is_plain:
            return super().gradient(cross)
        # No array of all −4 α_i β_j is made, and none is held.
        gradient = -4 * cross
        _array.add_outer(gradient, -4 * self.x.deviations, self.y.deviations)
        return gradient

    def updated_cross(
        self, plan: SparsePlan, previous: SparsePlan, cross: Array
    ) -> Array:
        """Return R π S of a plan, multiplying only the rows that differ where few do.

        Parameters
        ----------
        plan, previous : SparsePlan
            The coupling π and the one before it.
        cross : array of shape (n, m)
            The matrix R π S of the previous one.

        Returns
        -------
        array of shape (n, m)
            The matrix R π S of the plan, in squared units of C.
        """
        rows = plan.differing_rows(previous)
        # Products with factors of R cost less than those with its columns.
        if rows is None or isinstance(self.left, LowRankResidual):
            return self.cross(plan)
        if rows.shape[0] > _FEW_ROWS * plan.shape[0]:
            return self.cross(plan)
        updated = self._shared(self._change(rows, plan, previous))
        # In place, as plans of NumPy alone are compared.
        updated += cross
        return updated

    def _change(
        self, rows: NumpyArray, plan: SparsePlan, previous: SparsePlan
    ) -> NumpyArray:
        """Return R (π − π') S of plans that differ in some rows."""
        right = self.right.dense()
        moved = plan.apply_rows(rows, right)
        moved -= previous.apply_rows(rows, right)
        return cast(NumpyArray, self.left.dense()[:, rows] @ moved)

    def objective(self, plan: Plan) -> Array:
        """Return F(π), or the fused objective, in squared units of C.

        Parameters
        ----------
        plan : Plan
            A coupling of shape (n, m) with the spaces' weights as its marginals.

        Returns
        -------
        array of shape ()
            Of the spaces' library, dtype and device.

        Raises
        ------
        TypeError
            If ``plan`` is no :class:`gwtools.Plan`.
        ValueError
            If its shape is not (n, m).
        """
        self._check_plan(plan)
        plain = self._plain_objective(plan)
        if self.features is None:
            return plain
        return self.alpha * plain + (1.0 - self.alpha) * plan.inner(self.features)

    def _plain_objective(self, plan: Plan) -> Array:
        """Return F(π)."""
        if not isinstance(plan, SparsePlan):
            return self.value(plan, self._whole_cross(plan))
        if self.x.low_rank is None or self.y.low_rank is None:
            return sum_of_squares(self.x, self.y, plan)
        left = self.left
        right = self.right
        if isinstance(left, LowRankResidual) and isinstance(right, LowRankResidual):
            return from_factors(self.constant, (self.x, self.y), plan, (left, right))
        return self.value(plan, self._whole_cross(plan))

    def _check_plan(self, plan: Plan) -> None:
        """Refuse what is no plan, and plans of another shape."""
        remedy = "pass gwtools.DensePlan(plan) for an array"
        _check.instance(plan, "plan", Plan, remedy)
        _check_plans.coupling_shape(plan.shape, self.shape)

    def linearize(self, plan: Plan) -> Array:
        """Return the costs of the linear program that gives the steepest vertex.

        Parameters
        ----------
        plan : Plan
            A coupling of shape (n, m) with the spaces' weights as its marginals.

        Returns
        -------
        array of shape (n, m)
            The gradient at the plan, up to terms that are constant on couplings.

        Raises
        ------
        TypeError
            If ``plan`` is no :class:`gwtools.Plan`.
        ValueError
            If its shape is not (n, m).
        """
        self._check_plan(plan)
        return self.gradient(self.cross(plan))
