"""Objectives of directed spaces and of other losses: sums of bilinear forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, final

from gwtools import _array, _check_losses
from gwtools._array import Array
from gwtools.distortions import sum_of_losses
from gwtools.free_problems import listed_plan
from gwtools.losses import (
    SQUARE,
    Absolute,
    Channel,
    KullbackLeibler,
    Loss,
    SquaredLength,
    levels,
)
from gwtools.plans import Plan, SparsePlan
from gwtools.preparation import (
    Prepared,
    prepare,
    prepare_as_given,
    restrict_to_support,
)
from gwtools.problems import GWProblem
from gwtools.spaces import Space, detached
from gwtools.spaces.double_centering import DenseResidual


class Side(NamedTuple):
    """One side of a channel, a matrix X = m + α1ᵀ ± 1αᵀ + R with R a = 0.

    X is symmetric, or antisymmetric with ± = − and m = 0.
    """

    mean: Array  # m, ()
    deviations: Array  # α, (n,)
    residual: Array  # R, (n, n)


class Form(NamedTuple):
    """A bilinear form ⟨π, X π Yᵀ⟩ of two symmetric or two antisymmetric matrices."""

    x: Side
    y: Side
    sign: float  # 1 where Xᵀ = X and Yᵀ = Y, −1 where Xᵀ = −X and Yᵀ = −Y


class FormBlock(NamedTuple):
    """Matrices R and S of a form ⟨π, R π Sᵀ⟩ between k atoms of a sparse plan."""

    left: Array  # R at pairs of rows, (k, k)
    right: Array  # S at pairs of columns, (k, k)
    sign: float  # 1 where both are symmetric, −1 where both are antisymmetric


@final
@dataclass(frozen=True, eq=False)
class ChannelProblem(GWProblem):
    """Minimise F(π) = Σ L(C_ik, D_jl) π_ij π_kl over couplings of two spaces.

    C and D may be directed, and their values vectors. With L(c, d) = f(c) + g(d) − 2
    Σ_r X_r(c) Y_r(d), F is a constant less 2 Σ_r ⟨π, X_r π Y_rᵀ⟩ over couplings. Each
    X_r and Y_r is split into its symmetric and its antisymmetric part: mixed products
    vanish (THEORY.md, "Losses"). Fused as other problems are.

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms. Not checked here.
    features, alpha : array and float, optional
        As those of :class:`gwtools.GWProblem`.
    loss : Loss
        L.
    """

    loss: Loss = SQUARE

    carries_directions: ClassVar[bool] = True

    @cached_property
    def matrices(self) -> tuple[Array, Array]:
        """C and D, (n, n) and (m, m), with a third axis where values are vectors."""
        return self.x.values(), self.y.values()

    @property
    def row_means(self) -> tuple[Array, Array]:
        """Row means (n,) and (m,) of C and D; of vectors those of their sums."""
        if self.x.edge_features is None:
            return super().row_means
        xp = _array.namespace(self.x.weights)
        C, D = (xp.sum(values, axis=-1) for values in self.matrices)
        return C @ self.x.weights, D @ self.y.weights

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """X_r and Y_r, the functions of C and D that are multiplied."""
        return self.loss.channels(*self.matrices)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The bilinear forms, centred: of symmetric and of antisymmetric parts."""
        a = self.x.weights
        b = self.y.weights
        forms = []
        for x, y in self.channels:
            forms.append(_form(x, y, a, b, 1.0))
            # The antisymmetric part of a symmetric matrix is 0.
            if self.x.directed and self.y.directed:
                forms.append(_form(x, y, a, b, -1.0))
        return tuple(forms)

    @cached_property
    def sides(self) -> tuple[Array, Array]:
        """All f(C_ik) and all g(D_jl)."""
        C, D = self.matrices
        return self.loss.of_first(C), self.loss.of_second(D)

    @property
    def is_plain(self) -> bool:
        """False: what sorts or spectra decide of F does not hold here."""
        return False

    @cached_property
    def bilinear_cost(self) -> Array:
        """The costs −4 Σ α_i β_j, shape (n, m), in units of the loss.

        Of a fused objective that share of them, and the centred linear term.
        """
        costs = -4 * self._products
        if self.linear is None:
            return costs
        return self.share * costs + self.linear.centred

    @cached_property
    def _products(self) -> Array:
        """Σ α_i β_j over the forms, shape (n, m)."""
        return _array.total(
            [form.x.deviations[:, None] * form.y.deviations for form in self.forms]
        )

    @cached_property
    def form_norms(self) -> tuple[tuple[float, ...], ...]:
        """|m|, ‖α‖ and ‖R‖ of x and then of y, for each form."""
        a = _array.detached(self.x.weights)
        b = _array.detached(self.y.weights)
        return tuple(_norms(form.x, a) + _norms(form.y, b) for form in self.forms)

    @property
    def slope_range(self) -> float:
        """4 Σ ‖α‖‖β‖ over the forms: no linearisation at a ⊗ b promises more."""
        slope = sum(4 * alpha * beta for _, alpha, _, _, beta, _ in self.form_norms)
        if self.linear is None:
            return float(slope)
        return float(self.share * slope + self.linear.size)

    @cached_property
    def variation(self) -> float:
        """4 Σ ‖α‖‖β‖ + 2 Σ ‖R‖‖S‖: no objective is farther from that of a ⊗ b."""
        curved = sum(2 * left * right for _, _, left, _, _, right in self.form_norms)
        return float(self.slope_range + self._shared(curved))

    @cached_property
    def float_error(self) -> float:
        """Estimate of the float error of a relative objective, as of the plain one."""
        error = 0.0
        for mean_x, alpha, left, mean_y, beta, right in self.form_norms:
            centred_x = (2 * alpha**2 + left**2) ** 0.5
            centred_y = (2 * beta**2 + right**2) ** 0.5
            norm_x = (mean_x**2 + centred_x**2) ** 0.5
            norm_y = (mean_y**2 + centred_y**2) ** 0.5
            error += norm_x * centred_y + norm_y * centred_x
        error = 16 * _array.epsilon(self.x.weights) * error
        if self.linear is None:
            return error
        return float(self.share * error + self.linear.float_error)

    def _whole_cross(self, plan: Plan) -> Array:
        """Return Σ R π Sᵀ over the forms."""
        products = []
        for form in self.forms:
            right = _array.transposed(form.y.residual)
            products.append(form.x.residual @ plan.apply(right))
        return _array.total(products)

    def updated_cross(
        self,
        plan: SparsePlan,
        previous: SparsePlan,
        cross: Array,
    ) -> Array:
        """Return Σ R π Sᵀ of a plan; that of the previous one saves nothing."""
        return self.cross(plan)

    def blocks(self, plan: SparsePlan) -> tuple[FormBlock, ...]:
        """Return R and S of each form between the atoms of a sparse plan."""
        a = self.x.weights
        b = self.y.weights
        return tuple(
            FormBlock(
                DenseResidual(a, form.x.residual).block(plan.rows),
                DenseResidual(b, form.y.residual).block(plan.cols),
                form.sign,
            )
            for form in self.forms
        )

    @cached_property
    def product_value(self) -> Array:
        """F(a ⊗ b)."""
        a = self.x.weights
        b = self.y.weights
        of_first, of_second = self.sides
        value = a @ (of_first @ a) + b @ (of_second @ b)
        return value - 2 * _array.total(
            [form.x.mean * form.y.mean for form in self.forms]
        )

    @cached_property
    def product_objective(self) -> float:
        """F(a ⊗ b), or the fused objective of a ⊗ b."""
        product = max(0.0, _array.number(self.product_value))
        if self.linear is None:
            return product
        return float(self.share * product + self.linear.mean)

    def _plain_objective(self, plan: Plan) -> Array:
        """Return F(π): the sum of losses where it is short."""
        listed = listed_plan(plan)
        if isinstance(listed, SparsePlan):
            return sum_of_losses(self.x, self.y, listed, self.loss.values)
        straight = plan.inner(self._products)
        curved = plan.inner(self._whole_cross(plan))
        value = self.product_value - 4 * straight - 2 * curved
        xp = _array.namespace(value)
        # No loss is below 0, which float errors alone can bring a sum to.
        return xp.clip(value, min=0.0)

    def row_parts(self, plan: Plan) -> tuple[Array, Array]:
        """Return what depends on i alone, and on j alone, in the gradient of F.

        :meth:`gradient` leaves it out, up to a constant.
        """
        a = self.x.weights
        b = self.y.weights
        of_first, of_second = self.sides
        shift_x = (of_first + _array.transposed(of_first)) @ a
        shift_y = (of_second + _array.transposed(of_second)) @ b
        for form in self.forms:
            x, y, sign = form
            image_y = plan.apply(y.deviations[:, None])[:, 0]  # π β, (n,)
            image_x = x.deviations @ plan.dense()  # πᵀ α, (m,)
            shift_x = shift_x - 4 * (
                y.mean * x.deviations + sign * (x.residual @ image_y)
            )
            shift_y = shift_y - 4 * (
                x.mean * y.deviations + sign * (y.residual @ image_x)
            )
        return shift_x, shift_y


def has_forms(x: Space, y: Space, loss: Loss) -> bool:
    """Tell whether a problem is not the plain one: directed, or of another loss.

    That of edge features is another one, too.
    """
    return x.directed or y.directed or loss != SQUARE


def numbers_of_forms(x: Space, y: Space, loss: Loss) -> float:
    """Estimate how many numbers the forms of a problem hold; 0 of the plain one."""
    if not has_forms(x, y, loss):
        return 0.0
    forms = loss.products * (2 if x.directed and y.directed else 1)
    # X, its parts and R, and as many of y; and both between the atoms of a plan.
    atoms = float(min(x.size + y.size, 3000))
    return forms * (4.0 * (x.size**2 + y.size**2) + 2.0 * atoms**2)


def words_of_forms(x: Space, y: Space, loss: Loss) -> str | None:
    """Return what errors call such a problem; None for the plain one."""
    if x.edge_features is not None:
        return "edge features"
    if loss != SQUARE:
        return f"loss={loss.name!r}"
    return "directed spaces" if has_forms(x, y, loss) else None


def read_loss(name: Any, x: Space, y: Space) -> Loss:
    """Return the loss of a name, as the values of two spaces allow.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, or values between atoms that carry weight have no such
        loss.
    """
    _check_losses.loss(name)
    _check_losses.edge_features(x.edge_features, y.edge_features, name)
    if x.edge_features is not None:
        return SquaredLength(x.edge_features)
    if name == "square":
        return SQUARE
    first, second = (restrict_to_support(detached(space))[0] for space in (x, y))
    if name == "kl":
        least_x, _ = _extremes(first.dense())
        least_y, _ = _extremes(second.dense())
        _check_losses.divergent(least_x, least_y)
        return KullbackLeibler()
    for space, called in ((x, "x"), (y, "y")):
        _check_losses.without_gradients(_array.tracked(space.data), called)
    of_x = levels(first.dense())
    of_y = levels(second.dense())
    _check_losses.few_levels(len(of_x), len(of_y))
    if len(of_x) <= len(of_y):
        return Absolute(of_x, of_x=True)
    return Absolute(of_y, of_x=False)


def _extremes(matrix: Array) -> tuple[float, float]:
    """Return the least and the largest entry."""
    xp = _array.namespace(matrix)
    return _array.number(xp.min(matrix)), _array.number(xp.max(matrix))


def prepared_for(loss: Loss, x: Space, y: Space, beside: float = 0.0) -> Prepared:
    """Make two spaces ready to compute a loss with, see :func:`gwtools.preparation`."""
    if loss.is_squared:
        return prepare(x, y, beside=beside)
    return prepare_as_given(x, y)


def _form(x: Array, y: Array, a: Array, b: Array, sign: float) -> Form:
    """Return the form of both symmetric or, for −1, both antisymmetric parts."""
    part_x = (x + sign * _array.transposed(x)) / 2
    part_y = (y + sign * _array.transposed(y)) / 2
    return Form(_centred(part_x, a, sign), _centred(part_y, b, sign), sign)


def blocks(problem: GWProblem, plan: SparsePlan) -> tuple[FormBlock, ...]:
    """Return R and S between the atoms of a sparse plan, for each bilinear form.

    The plain objective has one form, −2 ⟨π, R π S⟩.
    """
    if isinstance(problem, ChannelProblem):
        return problem.blocks(plan)
    left = problem.left.block(plan.rows)
    right = problem.right.block(plan.cols)
    return (FormBlock(left, right, 1.0),)


def _centred(matrix: Array, weights: Array, sign: float) -> Side:
    """Split a matrix with Xᵀ = sign · X into its mean, deviations and residual."""
    row_means = matrix @ weights
    mean = weights @ row_means
    if sign < 0:
        mean = mean * 0  # exactly, as it is up to float error
    deviations = row_means - mean
    residual = matrix - mean - deviations[:, None] - sign * deviations
    return Side(mean, deviations, residual)


def _norms(side: Side, weights: Array) -> tuple[float, float, float]:
    """Return |m|, ‖α‖ and ‖R‖ of a side, outside any gradient graph."""
    mean, deviations, residual = (_array.detached(part) for part in side)
    alpha = _array.number(weights @ deviations**2)
    squares = _array.number(weights @ (residual**2 @ weights))
    return abs(_array.number(mean)), alpha**0.5, squares**0.5
