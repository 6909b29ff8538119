"""Lower bounds of GW_2² on boxes of few coordinates, by transport duals (theorem 17).

Between squared-Euclidean clouds, and between Gram spaces, the objective depends on a
coupling through q + 1 numbers: F(π) = F₀ − 4 (w + ½ ‖Z‖²) with w = Σ π_ij α_i β_j and Z
= Gᵀ π H. They are the coordinates z = (w, Z) here, and Ψ = w + ½ ‖Z‖² is the gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds import float_error
from gwtools.bounds.certified import lower_by_root
from gwtools.bounds.float_error import gamma, lower_end, rounded_up
from gwtools.bounds.transport_error import dual_value, transport_on_line
from gwtools.plans import SparsePlan
from gwtools.spaces import GramSpace, PointCloud, Space, converted, detached

# Axes that hold a smaller share of the second moments are left out.
_NO_MOMENT = 1e-24
# More than underflow can cost where values are scaled in a dtype narrower than float64,
# to spaces whose largest value is at most 2²⁴.
_NARROW_UNDERFLOW = 2.0**-100


class _Side(NamedTuple):
    """A space in coordinates: C_ik is near m + α_i + α_k ± ⟨g_i, g_k⟩."""

    weights: NumpyArray  # a, (n,)
    mean: float  # m, in units of C as all that follows
    deviations: NumpyArray  # α, (n,)
    factor: NumpyArray  # G, (n, d), in the root of the units of C
    axes: NumpyArray  # what G was multiplied by
    omega: float  # ω of the weights
    radius: float  # of the vector (m, √2 α, ±GGᵀ) from that of the stored values


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Two spaces whose objective depends on a coupling through few coordinates.

    For every coupling, √F(π) is at least √(F₀ − 4 Ψ) less the radius. The numbers of
    this class are taken as exact in that, float errors are part of the radius.

    Parameters
    ----------
    a, b : numpy arrays of shape (n,) and (m,)
        Stored weights, all positive.
    alpha, beta : numpy arrays of shape (n,) and (m,)
        The deviations α and β in units of C; zeros between Gram spaces.
    left, right : numpy arrays of shape (n, d) and (m, d')
        G and H, on principal axes, in the root of the units of C.
    axes : pair of numpy arrays
        What turned the factors of the spaces to these axes.
    constant, constant_upper : float
        F₀ in squared units of C, rounded down and up.
    omega : float
        ω of the weights.
    radius : float
        Of both spaces together, in units of C.
    """

    a: NumpyArray
    b: NumpyArray
    alpha: NumpyArray
    beta: NumpyArray
    left: NumpyArray
    right: NumpyArray
    axes: tuple[NumpyArray, NumpyArray]
    constant: float
    constant_upper: float
    omega: float
    radius: float

    @property
    def shape(self) -> tuple[int, int]:
        """(d, d')."""
        return int(self.left.shape[1]), int(self.right.shape[1])

    @property
    def number(self) -> int:
        """The number q = d d' of entries of Z."""
        d, other = self.shape
        return d * other

    @cached_property
    def products(self) -> NumpyArray:
        """The matrix α_i β_j, shape (n, m), in squared units of C."""
        return np.outer(self.alpha, self.beta)

    def costs(self, slope: NumpyArray) -> NumpyArray:
        """Return −α_i β_j − g_iᵀ B h_j, (n, m): the program of the cut at B (q,)."""
        matrix = slope.reshape(self.shape)
        gains = self.products + (self.left @ matrix) @ self.right.T
        return np.asarray(-gains)

    def costs_error(self, slope: NumpyArray) -> float:
        """Return how far the computed costs may be from the exact ones."""
        largest_alpha = np.abs(self.alpha).max()
        largest_beta = np.abs(self.beta).max()
        largest_left = np.abs(self.left).max(axis=0)  # (d,)
        largest_right = np.abs(self.right).max(axis=0)  # (d',)
        matrix = np.abs(slope.reshape(self.shape))
        size = largest_alpha * largest_beta + largest_left @ matrix @ largest_right
        terms = sum(self.shape) + 8
        return float(gamma(terms) * size + float_error.UNDERFLOW)

    def point(self, plan: SparsePlan) -> NumpyArray:
        """Return the coordinates (w, Z) of a coupling, (q + 1,), as computed."""
        mass = plan.mass
        w = mass @ (self.alpha[plan.rows] * self.beta[plan.cols])
        weighted = mass[:, None] * self.left[plan.rows]
        Z = weighted.T @ self.right[plan.cols]  # (d, d')
        return np.concatenate([[w], Z.ravel()])

    def upper(self, plan: SparsePlan) -> float:
        """Return an upper bound of the objective of the coupling nearest to a plan."""
        mass = plan.mass
        of_rows, of_cols = plan.marginals()
        # 1. The mass between both (theorem 13 g), and float errors of sums over it.
        rows = float(np.abs(of_rows - self.a).sum())
        cols = float(np.abs(of_cols - self.b).sum())
        terms = len(self.a) + len(self.b) + len(mass) + 2 * self.omega
        missed = 1.01 * (rows + 2 * cols) + 3 * gamma(terms)
        off = gamma(len(mass) + 8) * (1 + missed) + missed
        # 2. The least w and ‖Z‖ that the coupling may have.
        point = self.point(plan)
        reach_w = float(np.abs(self.alpha).max() * np.abs(self.beta).max())
        largest_left = np.abs(self.left).max(axis=0)
        largest_right = np.abs(self.right).max(axis=0)
        reach_Z = np.outer(largest_left, largest_right).ravel()
        w = float(point[0]) - off * reach_w
        Z = lower_end(np.abs(point[1:]), off * reach_Z)
        square = float(Z @ Z)
        # 3. F₀ − 4 w − 2 ‖Z‖², whose root is off by the radius.
        size = self.constant_upper + 4 * abs(w) + 2 * square
        value = self.constant_upper - 4 * w - 2 * square
        value += 16 * float_error.UNIT * size
        root = max(value, 0.0) ** 0.5 + self.radius
        return float(rounded_up(root**2))

    def lower(self, gain: float) -> float:
        """Return a lower bound of GW_2² where no coupling's Ψ is above ``gain``."""
        rounding = 4 * float_error.UNIT * (self.constant + 4 * abs(gain))
        value = self.constant - 4 * gain - rounding
        return lower_by_root(max(value, 0.0), self.radius)


def gain_of(point: NumpyArray) -> float:
    """Return Ψ = w + ½ ‖Z‖² of coordinates (q + 1,)."""
    Z = point[1:]
    return float(point[0] + (Z @ Z) / 2)


def few_coordinates_decide(x: Space, y: Space) -> bool:
    """Tell whether both spaces are of a kind of which theorem 17 holds."""
    both_clouds = is_squared_cloud(x) and is_squared_cloud(y)
    both_gram = isinstance(x, GramSpace) and isinstance(y, GramSpace)
    return both_clouds or both_gram


def is_squared_cloud(space: Space) -> bool:
    """Tell whether a space is a point cloud with squared distances."""
    return isinstance(space, PointCloud) and space.metric == "sqeuclidean"


def coordinates(x: Space, y: Space) -> Coordinates:
    """Return the coordinates of two prepared spaces.

    Parameters
    ----------
    x, y : Space
        Two clouds with squared distances or two Gram spaces, all weights positive.
    """
    left = _side(x)
    right = _side(y)
    # F₀ = (m_C − m_D)² + 2 ‖α‖² + 2 ‖β‖² + ‖GᵀG‖² + ‖HᵀH‖², of terms ≥ 0.
    gap = abs(left.mean - right.mean)
    means = float_error.length(gap, float_error.UNIT * gap).squared()
    least_x, most_x = _square(left)
    least_y, most_y = _square(right)
    underflow = 4 * (len(left.weights) + len(right.weights)) * float_error.UNDERFLOW
    least = float_error.rounded_down(means.lower + least_x + least_y)
    most = rounded_up(means.upper + most_x + most_y)
    return Coordinates(
        a=left.weights,
        b=right.weights,
        alpha=left.deviations,
        beta=right.deviations,
        left=left.factor,
        right=right.factor,
        constant=float(lower_end(least, underflow)),
        constant_upper=float(most + underflow),
        axes=(left.axes, right.axes),
        omega=max(left.omega, right.omega),
        radius=1.01 * (left.radius + right.radius),
    )


def _side(space: Space) -> _Side:
    """Read a prepared space, and turn its factor to principal axes."""
    wide = converted(detached(space), _array.widen)
    weights = _array.to_numpy(wide.weights)
    n = len(weights)
    if isinstance(wide, GramSpace):
        # C = FᵀF as it is: Z alone decides (theorem 12 b).
        mean = 0.0
        deviations = np.zeros(n)
        factor = _array.to_numpy(wide.factor).T  # (n, t)
        radius = float_error.UNDERFLOW_OF_ROOTS
    else:
        form = wide.low_rank
        assert form is not None, "squared distances have a form of low rank"
        mean = float(_array.to_numpy(form.mean))
        deviations = _array.to_numpy(form.deviations)
        factor = _array.to_numpy(form.factor)  # (n, d)
        radius = float(float_error.radii(wide).root_radius())
    if wide.weights.dtype != space.weights.dtype:
        radius += _NARROW_UNDERFLOW
    omega = float(float_error.weight_terms(weights))
    turned, axes, off = on_principal_axes(factor, weights, omega)
    return _Side(weights, mean, deviations, turned, axes, omega, radius + off)


def on_principal_axes(
    factor: NumpyArray,
    weights: NumpyArray,
    omega: float,
) -> tuple[NumpyArray, NumpyArray, float]:
    """Turn a factor G to the axes of its second moments, the largest first.

    Parameters
    ----------
    factor : numpy array of shape (n, d)
        G.
    weights : numpy array of shape (n,)
        Stored weights.
    omega : float
        Their ω.

    Returns
    -------
    turned : numpy array of shape (n, d')
        G U, as computed.
    axes : numpy array of shape (d, d')
        U, without the axes that hold next to nothing; one axis is always kept.
    radius : float
        How far the products of the rows of G U are from those of G, in the norm of L²(a
        ⊗ a): ‖G (I − U Uᵀ) Gᵀ‖, whatever U is, and float errors.
    """
    n, d = factor.shape
    moments = factor.T @ (weights[:, None] * factor)  # M = Gᵀ diag(a) G, (d, d)
    moments = (moments + moments.T) / 2
    axes = np.linalg.eigh(moments)[1][:, ::-1]
    of_axes = weights @ (factor @ axes) ** 2  # (d,)
    kept = of_axes > _NO_MOMENT * of_axes.sum()
    kept[0] = True
    axes = np.ascontiguousarray(axes[:, kept])
    turned = factor @ axes
    # With N = I − U Uᵀ, ‖G N Gᵀ‖² = Tr(N M N M) ≤ ‖N M‖².
    left_out = np.eye(d) - axes @ axes.T
    missing = 1.01 * float(np.linalg.norm(left_out @ moments))
    # The float errors of M, N and G U: multiples of Σ a_i |g_i|² and of ‖U‖².
    trace = 1.01 * float(np.trace(moments))
    size = 2 + d**0.5 + 3 * float((axes**2).sum())
    terms = n + omega + 8 * d + 16
    radius = missing + gamma(terms) * size * trace
    return turned, axes, radius + float_error.UNDERFLOW_OF_ROOTS


def _square(side: _Side) -> tuple[float, float]:
    """Return both ends of 2 ‖α‖² + ‖Gᵀ diag(a) G‖², in squared units of C."""
    weights = side.weights
    terms = len(weights) + side.omega + 6
    deviations = 2 * float(weights @ side.deviations**2)
    covariance = side.factor.T @ (weights[:, None] * side.factor)
    trace = float(np.trace(covariance))
    norm = float(np.linalg.norm(covariance))
    # Entries are off by γ Σ a |g_e g_f|, whose Frobenius norm is at most the trace.
    count = covariance.size + 4
    error = 1.01 * gamma(terms) * trace + gamma(count) * norm
    of_factor = float_error.length(norm, error).squared()
    least = deviations * (1 - gamma(terms)) + of_factor.lower
    most = deviations * (1 + gamma(terms)) + of_factor.upper
    return float(least), float(most)


def cut_height(
    pair: Coordinates,
    slope: NumpyArray,
    costs: NumpyArray,
    potential: NumpyArray,
) -> float:
    """Return h(B), proved: w + ⟨B, Z⟩ ≤ h(B) for every coupling (theorem 17 a).

    Parameters
    ----------
    pair : Coordinates
        The spaces.
    slope : numpy array of shape (q,)
        B; any.
    costs : numpy array of shape (n, m)
        What ``pair.costs(slope)`` returns.
    potential : numpy array of shape (m,)
        Any potential of the second space; a good one makes the cut tight.
    """
    error = pair.costs_error(slope)
    return -dual_value(costs, potential, pair.a, pair.b, pair.omega, error)


def root_box(pair: Coordinates) -> tuple[NumpyArray, NumpyArray]:
    """Return proved bounds of the coordinates (w, Z) of all couplings, each (q + 1,).

    The extremes of each coordinate are attained by sorting (lemma A).
    """
    ends = [_product_range(pair, pair.alpha, pair.beta)]
    for e in range(pair.left.shape[1]):
        for f in range(pair.right.shape[1]):
            ends.append(_product_range(pair, pair.left[:, e], pair.right[:, f]))
    low, high = np.array(ends).T
    return np.ascontiguousarray(low), np.ascontiguousarray(high)


def _product_range(
    pair: Coordinates,
    x: NumpyArray,
    y: NumpyArray,
) -> tuple[float, float]:
    """Enclose Σ π_ij x_i y_j over all couplings, outward."""
    if not x.any() or not y.any():
        return 0.0, 0.0
    p = float(pair.a @ x**2)
    q = float(pair.b @ y**2)
    # E xy = (p + q − E (x − y)²)/2, and E (x − y)² is at least W_2².
    alike = transport_on_line(x, pair.a, y, pair.b, terms=pair.omega)
    against = transport_on_line(x, pair.a, -y, pair.b, terms=pair.omega)
    atoms = len(x) + len(y)
    error = gamma(atoms + pair.omega + 12) * (p + q) + atoms * float_error.UNDERFLOW
    high = (p + q - float(alike.lower)) / 2 + error
    low = -(p + q - float(against.lower)) / 2 - error
    return float(low), float(high)


def node_values(
    low: NumpyArray,
    high: NumpyArray,
    slopes: NumpyArray,
    heights: NumpyArray,
    weights: NumpyArray,
) -> NumpyArray:
    """Bound Ψ on boxes by weighted cuts, rounded up (theorem 17 b).

    Any weights θ ≥ 0 prove a bound: what they are, and whether they sum to 1, has no
    say in the proof.

    Parameters
    ----------
    low, high : numpy arrays of shape (N, q + 1)
        Ends of the boxes, of w and of the entries of Z.
    slopes : numpy array of shape (N, k, q)
        The B of k cuts for each box.
    heights : numpy array of shape (N, k)
        Their h(B).
    weights : numpy array of shape (N, k)
        θ, at least 0.

    Returns
    -------
    numpy array of shape (N,)
        No coupling whose coordinates are in the box has a larger Ψ.
    """
    # 1. Ψ ≤ w + Σ_e (l_e + u_e) Z_e / 2 − l_e u_e / 2 in the box.
    middle = (low + high) / 2
    middle[:, 0] = 1.0
    corners = low[:, 1:] * high[:, 1:] / 2
    # 2. Less what the cuts say: Σ θ (h − w − ⟨B, Z⟩) ≥ 0.
    of_w = weights.sum(axis=1)
    of_Z = np.einsum("nk,nkq->nq", weights, slopes)
    used = np.concatenate([of_w[:, None], of_Z], axis=1)
    rest = middle - used  # (N, q + 1)
    # 3. The largest value of what is left, coordinate by coordinate.
    largest = np.maximum(rest * low, rest * high)
    of_cuts = (weights * heights).sum(axis=1)
    value = of_cuts + largest.sum(axis=1) - corners.sum(axis=1)
    # 4. The float error: a multiple of the sum of all absolute values.
    reach = np.maximum(np.abs(low), np.abs(high))
    sizes_Z = np.einsum("nk,nkq->nq", weights, np.abs(slopes))
    sizes = np.concatenate([of_w[:, None], sizes_Z], axis=1) + np.abs(middle)
    size = (
        (weights * np.abs(heights)).sum(axis=1)
        + (sizes * reach).sum(axis=1)
        + np.abs(corners).sum(axis=1)
    )
    terms = 2 * weights.shape[1] + 4 * low.shape[1] + 12
    return np.asarray(value + gamma(terms) * size + float_error.UNDERFLOW)
