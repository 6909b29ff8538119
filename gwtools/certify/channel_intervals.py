"""Intervals of objectives of directed spaces and of other losses than squares.

THEORY.md, "Losses". Of squares they are those of the stored values, of other losses
those of C and D as computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.bounds import certified_fused, outward
from gwtools.bounds.certified import AffineMinorant, lower_by_root
from gwtools.bounds.float_error import (
    UNDERFLOW,
    Bound,
    Radii,
    dense_radii,
    gamma,
    lower_end,
    rounded_up,
    weight_terms,
)
from gwtools.bounds.transport_error import dual_value
from gwtools.certify.intervals import (
    CertifiedObjective,
    finite_or_zero,
    interval_of_bounds,
)
from gwtools.certify.linear_costs import LinearCosts, fused_interval
from gwtools.channel_problems import ChannelProblem
from gwtools.distortions import sum_of_losses
from gwtools.free_problems import listed_plan
from gwtools.fused import Fused
from gwtools.history import now
from gwtools.losses import SQUARE, Channel, Entries, Loss
from gwtools.plans import DensePlan, Plan, SparsePlan
from gwtools.preparation import Prepared
from gwtools.spaces import Space
from gwtools.transport.local_distributions import transports
from gwtools.transport.programs import exact

NONNEGATIVITY = "nonnegativity"
ROW_MEANS = "row_means"
THIRD = "third"


@dataclass(frozen=True, eq=False)
class ChannelPair:
    """Two prepared spaces in float64, and the loss between their values.

    Parameters
    ----------
    problem : ChannelProblem
        The problem.
    """

    problem: ChannelProblem

    @property
    def loss(self) -> Loss:
        """L."""
        return self.problem.loss

    @cached_property
    def matrices(self) -> tuple[NumpyArray, NumpyArray]:
        """C and D in NumPy."""
        C, D = (np.asarray(_array.to_numpy(M)) for M in self.problem.matrices)
        return C, D

    @cached_property
    def entries(self) -> tuple[Entries, ...]:
        """C and D, or where values are vectors the matrices of their entries."""
        return self.loss.entries(*self.matrices)

    @property
    def loss_of_entries(self) -> Loss:
        """L of numbers, of which that of vectors is a sum."""
        return SQUARE if self.loss.is_squared else self.loss

    @cached_property
    def weights(self) -> tuple[NumpyArray, NumpyArray]:
        """The stored weights a and b in NumPy."""
        a = _array.to_numpy(self.problem.x.weights)
        b = _array.to_numpy(self.problem.y.weights)
        return a, b

    @cached_property
    def radii(self) -> tuple[Radii, Radii]:
        """How far the values of both spaces may be from the exact ones."""
        return _radii(self.problem.x), _radii(self.problem.y)

    @property
    def omega(self) -> float:
        """ω of the weights (theorem 13)."""
        return float(max(side.weights for side in self.radii))

    @cached_property
    def radius(self) -> float:
        """How far |C_ik − D_jl| may be off, of squares; no loss else has exact values.

        The length of a vector is off by at most the sum over its entries.
        """
        x, y = self.radii
        of_entry = float(x.entries + y.entries) if self.loss.is_squared else 0.0
        return of_entry * len(self.entries)

    @cached_property
    def largest(self) -> float:
        """The largest loss of all pairs of values.

        Losses are convex in either value, so that it is one of extreme values.
        """
        loss = self.loss_of_entries
        return sum(float(loss.values(c, d).max()) for c, d in self._corners)

    @cached_property
    def size(self) -> float:
        """The largest sum of absolute values that a loss is computed from."""
        loss = self.loss_of_entries
        return sum(float(loss.size(c, d).max()) for c, d in self._corners)

    @property
    def _corners(self) -> Iterator[tuple[NumpyArray, NumpyArray]]:
        """The extreme values of C, each with those of D; for all entries of vectors."""
        for C, D in self.entries:
            c = np.array([C.min(), C.max()])
            d = np.array([D.min(), D.max()])
            yield np.repeat(c, 2), np.tile(d, 2)

    @cached_property
    def terms(self) -> float:
        """More float operations than a sum over a row of either matrix has."""
        x, y = self.radii
        of_sums = 6 * sum(self.problem.shape) + 4 * (len(self.entries) - 1)
        return float(of_sums + x.weights + y.weights + 64)

    @cached_property
    def error_width(self) -> float:
        """Width of an interval that float errors of the objective account for."""
        sums = 16 * gamma(self.terms) * self.size
        root = 2 * self.radius
        return float(sums + root * (root + 2 * self.largest**0.5) + UNDERFLOW)

    @cached_property
    def both_ways(self) -> bool:
        """Whether columns of C and D may differ from their rows."""
        return self.problem.x.directed or self.problem.y.directed

    def of_plan(self, plan: Plan) -> Bound:
        """Return the objective of a plan, with that of the nearest coupling rounded up.

        A coupling that is a mass e away from the plan has an objective at most e (2 +
        e) times the largest loss higher.
        """
        value = _array.number(self.problem.objective(plan))
        if self.largest == 0.0:
            return Bound(0.0, 0.0, 0.0)
        plan = listed_plan(plan)
        error = self._error(plan, value)
        missed = self.missed_mass(plan)
        root = (value + error) ** 0.5 + 1.01 * (1 + missed) * self.radius
        moved = 1.01 * self.largest * missed * (2 + missed)
        return Bound(value, 0.0, float(rounded_up(root**2 + moved)))

    def missed_mass(self, plan: Plan) -> float:
        """Return how much mass a plan may be off the nearest coupling."""
        rows, cols = plan.marginals()
        x, y = self.radii
        missed = outward.missed_mass(
            _total_difference(rows, self.problem.x.weights),
            _total_difference(cols, self.problem.y.weights),
            plan.masses.shape[0],
            x,
            y,
        )
        return float(missed)

    def _error(self, plan: Plan, value: float) -> float:
        """Bound the float error of the objective of a plan."""
        problem = self.problem
        x, y = self.radii
        weights = x.weights + y.weights
        if isinstance(plan, SparsePlan):
            # A sum over pairs of atoms, of terms ≥ 0.
            atoms = plan.masses.shape[0]
            size = _array.number(
                sum_of_losses(problem.x, problem.y, plan, self.loss.size)
            )
            terms = 2 * (atoms + weights + len(self.entries) - 1) + 40
            return float(gamma(terms) * size + atoms * UNDERFLOW * (1 + self.size))
        # A difference of sums: of f and g, of X and Y, and of their centred parts,
        # which are at most four times as large.
        C, D = self.matrices
        size = _largest(self.loss.of_first(C)) + _largest(self.loss.of_second(D))
        for x_r, y_r in problem.channels:
            size += 128 * _largest(x_r) * _largest(y_r)
        return float(gamma(4 * self.terms) * size + UNDERFLOW)

    def row_means(self) -> AffineMinorant:
        """Return the bound of row means, and of column means, but for its program."""
        if self.loss.is_squared:
            return self._squared_means()
        means_x, means_y = self._means(*self.matrices)
        costs = np.zeros(self.problem.shape)
        error = np.zeros(self.problem.shape)
        for f, g in zip(means_x, means_y, strict=True):
            f_here, g_here = np.broadcast_arrays(f[:, None], g)
            costs += self.loss.values(f_here, g_here) / 2
            # Means are off by a relative γ, and the loss by a few times that.
            error += 5 * gamma(self.terms) * self.loss.size(f_here, g_here)
            error += 2 * gamma(self.terms) * self._means_size
        return AffineMinorant(0.0, costs, error, self.radius)

    def _means(
        self, C: NumpyArray, D: NumpyArray
    ) -> tuple[tuple[NumpyArray, NumpyArray], tuple[NumpyArray, NumpyArray]]:
        """Return the means of rows and of columns of C, and those of D."""
        a, b = self.weights
        return (C @ a, C.T @ a), (D @ b, D.T @ b)

    @property
    def _means_size(self) -> float:
        """What a relative error of values or of means can move a loss by, if |c − d|.

        Of the divergence the error is relative to its own terms.
        """
        C, D = self.matrices
        return 0.0 if self.loss.name == "kl" else _largest(C) + _largest(D)

    def _squared_means(self) -> AffineMinorant:
        """Return (m_C − m_D)² + min E_π (α − β)² + E_π (α′ − β′)² (theorem 2).

        Of vectors the sum over their entries, with one coupling for all of them.
        """
        a, b = self.weights
        error = 4 * float(gamma(self.terms)) * self._means_size
        costs = np.zeros(self.problem.shape)
        costs_error = np.zeros(self.problem.shape)
        offset = 0.0
        for C, D in self.entries:
            means_x, means_y = self._means(C, D)
            mean_x = float(a @ means_x[0])
            mean_y = float(b @ means_y[0])
            for f, g in zip(means_x, means_y, strict=True):
                differences = np.abs((f - mean_x)[:, None] - (g - mean_y))
                costs += differences**2
                costs_error += 2 * differences * error + error**2
            gap = lower_end(abs(mean_x - mean_y), error)
            offset += float(gap**2)
        # Sums over entries, of numbers ≥ 0.
        more = len(self.entries) - 1
        costs_error += gamma(8 + 2 * more) * costs
        if more:
            offset *= 1 - float(gamma(2 * more))
        return AffineMinorant(offset, costs, costs_error, self.radius)

    def third(self) -> AffineMinorant:
        """Return the bound of coupled rows, and columns, but for its program."""
        costs, error = self._of_rows(*self.matrices)
        if self.both_ways:
            turned = [
                np.ascontiguousarray(_array.exchanged_axes(M)) for M in self.matrices
            ]
            of_columns, error_of_columns = self._of_rows(*turned)
            costs = (costs + of_columns) / 2
            error = (error + error_of_columns) / 2
        error = error + gamma(4) * np.abs(costs)
        return AffineMinorant(0.0, costs, error, self.radius)

    def _of_rows(self, C: NumpyArray, D: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        """Return min Σ L(C_ik, D_jl) γ_kl over couplings of rows, and its error.

        All X_r and Y_r of a row are sorted by one coupling of it, so that it is f and g
        on average less 2 max E X_r Y_r = E X_r² + E Y_r² − W_2²(X_r, Y_r). Of vectors
        each entry is sorted by a coupling of its own, which bounds that minimum.
        """
        a, b = self.weights
        of_first = self.loss.of_first(C)
        of_second = self.loss.of_second(D)
        costs = (of_first @ a)[:, None] + of_second @ b
        size = _largest(of_first) + _largest(of_second)
        for channel in self.loss.channels(C, D):
            x, y = _balanced(channel)
            squares = (x**2 @ a)[:, None] + y**2 @ b
            costs = costs + (transports(x, a, y, b) - squares)
            size += 2 * (_largest(x) + _largest(y)) ** 2
        error = np.full(costs.shape, 16 * float(gamma(self.terms)) * size)
        return costs, error

    def of_minorant(self, minorant: AffineMinorant) -> float:
        """Return offset + min ⟨costs, π⟩, lowered by all errors."""
        least = self.program(minorant.costs, minorant.costs_error)
        return lower_by_root(minorant.offset + max(least, 0.0), minorant.radius)

    def program(self, costs: NumpyArray, error: NumpyArray) -> float:
        """Return a number that ⟨costs − error, π⟩ is below at no coupling π."""
        a, b = self.weights
        program = exact(np.ascontiguousarray(costs), a, b)
        potential = program.potentials[1]
        return float(dual_value(costs, potential, a, b, self.omega, error))


def _radii(space: Space) -> Radii:
    """Return the radii of a space whose matrix is as stored, symmetric or not."""
    return dense_radii(
        space.size,
        weight_terms(space.weights),
        space.float_operations,
        space.largest(),
        0.0,
    )


def _balanced(channel: Channel) -> Channel:
    """Return X and Y in units in which their largest values are alike."""
    largest_x = _largest(channel.x)
    largest_y = _largest(channel.y)
    if min(largest_x, largest_y) == 0.0:
        return channel
    unit = _array.power_of_four(largest_x / largest_y) ** 0.5
    return Channel(channel.x / unit, channel.y * unit)


def _largest(matrix: Array) -> float:
    """Return the largest absolute value of a matrix."""
    xp = _array.namespace(matrix)
    return _array.number(xp.max(xp.abs(matrix)))


def _total_difference(sums: Array, weights: Array) -> float:
    """Return Σ |sums_i − a_i| over the atoms."""
    xp = _array.namespace(sums)
    return _array.number(xp.sum(xp.abs(sums - weights)))


def channel_interval(
    ready: Prepared,
    plan: Plan | None,
    loss: Loss,
    effort: str,
    tolerance: float,
    fused: Fused | None = None,
) -> CertifiedObjective:
    """Return the certificate of a plan, or of a cheap coupling, in given units.

    Parameters
    ----------
    ready : Prepared
        The spaces, in float64.
    plan : Plan or None
        A plan of theirs.
    loss : Loss
        L.
    effort : str
        From "cubic" on rows are coupled, and columns; against one point always.
    tolerance : float
        Width that counts as closed because it was asked for, in given units.
    fused : Fused or None
        Features between these spaces and their share.
    """
    pair = ChannelPair(ChannelProblem(ready.x, ready.y, loss=loss))
    # 1. Lower bounds, each but for its linear program. Against one point rows have one
    # coupling, and the bound costs little.
    one_point = min(pair.problem.shape) == 1
    minorants = {}
    seconds = {}
    for name, proved, efforts in (
        (ROW_MEANS, pair.row_means, ("linear", "quadratic", "cubic", "quartic")),
        (THIRD, pair.third, ("cubic", "quartic")),
    ):
        if effort in efforts or one_point:
            started = now()
            minorants[name] = proved()
            seconds[name] = now() - started
    # Float errors of the values account for this width of an interval.
    lowered = max(float(minorant.costs_error.max()) for minorant in minorants.values())
    width = pair.error_width + lowered
    if fused is not None:
        found = _fused(pair, minorants, plan, fused, width, tolerance, ready.unit)
        return found.noting(seconds=seconds)
    # 2. Their programs; no loss is below 0.
    bounds = {NONNEGATIVITY: 0.0}
    for name, minorant in minorants.items():
        started = now()
        bounds[name] = pair.of_minorant(minorant)
        seconds[name] += now() - started
    # 3. The interval.
    found = interval_of_bounds(
        {name: finite_or_zero(bound) for name, bound in bounds.items()},
        pair.of_plan(_product(ready) if plan is None else plan),
        width,
        tolerance,
        ready.unit,
        of_plan=plan is not None,
    )
    return found.noting(seconds=seconds)


def _product(ready: Prepared) -> DensePlan:
    """Return the product coupling."""
    return DensePlan(ready.x.weights[:, None] * ready.y.weights[None, :])


def _fused(
    pair: ChannelPair,
    minorants: Mapping[str, AffineMinorant],
    plan: Plan | None,
    fused: Fused,
    width: float,
    tolerance: float,
    unit: float,
) -> CertifiedObjective:
    """Certify a fused objective, by one linear program of both terms for each bound."""
    problem = pair.problem
    linear = LinearCosts(problem.x, problem.y, fused, pair.omega)

    def upper_of(plan: Plan) -> Bound:
        return linear.of_plan(plan, pair.of_plan(plan), pair.missed_mass(plan))

    if plan is None:
        a = problem.x.weights
        product = DensePlan(a[:, None] * problem.y.weights[None, :])
        upper = min(map(upper_of, (product, linear.plan)), key=attrgetter("upper"))
    else:
        upper = upper_of(plan)
    joint = {}
    if linear.share > 0.0:
        for name, minorant in minorants.items():
            joint[f"joint {name}"] = certified_fused.joint(
                pair.program, minorant, linear.costs, linear.share, pair.largest
            )
    return fused_interval(
        linear,
        {NONNEGATIVITY: 0.0},
        {name: bound for name, bound in joint.items() if math.isfinite(bound)},
        upper,
        lambda _: width,
        tolerance,
        unit,
        of_plan=plan is not None,
    )
