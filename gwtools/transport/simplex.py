"""Transport programs by compiled pivots, from a plan and potentials near the solution.

In a sequence of programs, as of conditional gradient, the last one leaves both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools._compiled.marginals import are_equal, missed
from gwtools._compiled.network_simplex import Tree, optimum, settled
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.transport.one_dimensional import SLIVER, comonotone

_MISSED = 1e-12  # a start whose marginals are off by more is not used
_FAR = 4  # times the largest cost: |u_i − u_0| of tight potentials is at most twice it
_OFF = 1e-3  # of a unit: float error moves masses off whole numbers by less
_SUM_ERROR = 1e-15  # float error of sums of weights up to 1
_SHARE = 1e-3  # of a weight: larger parts of it are never float error
_PIVOTS_PER_NODE = 1000  # far above what programs take


class Units(NamedTuple):
    """Weights in units of mass, in which those of equal weights are whole numbers.

    Pivots then have no float error: an arc is empty or not.

    Attributes
    ----------
    a, b : numpy arrays of shape (n,) and (m,)
        The weights, in units.
    unit : float
        The mass of a unit.
    """

    a: NumpyArray
    b: NumpyArray
    unit: float

    @classmethod
    def of(cls, a: NumpyArray, b: NumpyArray) -> Units:
        """Choose units for weights."""
        n = len(a)
        m = len(b)
        if not (are_equal(a) and are_equal(b)):
            return cls(a, b, 1.0)
        common = math.gcd(n, m)
        # n rows of m / g units each, as much as m columns of n / g.
        each_row = float(m // common)
        each_col = float(n // common)
        unit = float(a[0]) / each_row
        return cls(np.full(n, each_row), np.full(m, each_col), unit)

    @property
    def are_whole(self) -> bool:
        """Whether all masses of vertices are whole numbers."""
        return self.unit != 1.0

    def fitted(self, masses: NumpyArray) -> Units:
        """Return these units if masses are whole numbers of them, else the unit 1."""
        counts = masses / self.unit
        if np.abs(counts - np.rint(counts)).max() <= _OFF:
            return self
        return self._replace(unit=1.0)

    def counted(self, masses: NumpyArray) -> NumpyArray:
        """Return masses in units."""
        counts: NumpyArray = masses / self.unit
        return np.rint(counts) if self.are_whole else counts

    def settled(
        self,
        masses: NumpyArray,
        weights: NumpyArray,
    ) -> tuple[NumpyArray, NumpyArray]:
        """Tell masses from slivers, which are float errors of long sums of weights.

        Parameters
        ----------
        masses : numpy array of shape (k,)
            Parts of atoms' weights.
        weights : numpy array of shape (k,)
            The weights that they are parts of.

        Returns
        -------
        pair of numpy arrays
            Whether each one is a mass, shape (k,), and those that are: whole numbers of
            units where there are such.
        """
        if self.are_whole:
            counts = self.counted(masses)
            kept = counts > 0.0
            return kept, self.unit * counts[kept]
        kept = (masses > _SUM_ERROR) | (masses > _SHARE * weights)
        return kept, masses[kept]


def minimised(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan,
    potentials: tuple[NumpyArray, NumpyArray] | None,
) -> tuple[SparsePlan, NumpyArray, NumpyArray, float] | None:
    """Minimise Σ cost_ij π_ij over couplings of a and b.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of any sign; float64 or float32, of C order.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights of equal sums.
    start : SparsePlan
        The coupling from which pivots start. If its marginals are not a and b, they
        start from that of the north-west corner rule.
    potentials : pair of arrays or None
        Potentials of a similar program.

    Returns
    -------
    tuple or None
        A vertex, its potentials u and v, and a number that no coupling costs less
        than, up to float error: Σ a_i u_i + Σ b_j v_j plus the least reduced cost of
        each row times its weight, where that is below 0. None where pivots came to no
        end.
    """
    n, m = cost.shape
    units = Units.of(a, b)
    largest = max(float(cost.max()), -float(cost.min()))
    # 1. A tree of the start: each part of it keeps the potential of one row.
    u = np.zeros(n) if potentials is None else potentials[0] - potentials[0][0]
    if float(np.abs(u).max()) > _FAR * largest:
        u = _tightened(cost, u)
    plan = started(units, start)
    # 2. Pivots, until no arc improves the plan.
    most = _PIVOTS_PER_NODE * (n + m)
    weights = (units.a, units.b)
    pivots, potentials_found, least, arcs = optimum(
        cost, weights, plan, u, largest, SLIVER, most
    )
    if pivots == most:
        return None
    u = potentials_found[:n]
    v = potentials_found[n:-1]
    lower = float(a @ (u + np.minimum(least, 0.0)) + b @ v)
    return _plan_of(arcs, units), u, v, lower


def _tightened(cost: NumpyArray, u: NumpyArray) -> NumpyArray:
    """Return u (n,) of dual feasible potentials, tight at an arc of each atom."""
    v = (cost - u[:, None]).min(axis=0)
    tight: NumpyArray = (cost - v).min(axis=1)
    tight -= tight[0]
    return tight


def started(
    units: Units,
    start: SparsePlan,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return rows, columns and masses of a coupling, in units, that fits the weights.

    The start if its marginals are the weights, else the coupling of the north-west
    corner rule: all atoms in their order.
    """
    n, m = start.size
    rows = start.rows
    cols = start.cols
    masses = start.mass / units.unit
    if units.are_whole:
        masses = np.rint(masses)
    error, all_touched, all_positive = missed(rows, cols, masses, units.a, units.b)
    # `not <=` refuses NaN too.
    if not error <= _MISSED * units.a.sum() or not all_touched:
        # Weights, of sum 1, and not units of them.
        a = units.unit * units.a
        b = units.unit * units.b
        chain = comonotone(np.arange(n), a, np.arange(m), b)
        rows = chain.rows
        cols = chain.cols
        masses = chain.mass / units.unit
        if units.are_whole:
            masses = np.rint(masses)
        all_positive = False
    if all_positive:
        return rows, cols, masses
    positive = masses > 0.0
    return rows[positive], cols[positive], masses[positive]


def plan_of(tree: Tree, units: Units) -> SparsePlan:
    """Return the plan of a tree, without arcs that carry float error alone."""
    least = SLIVER * max(units.a.max(), units.b.max())
    return _plan_of(settled(tree, units.a, units.b, least), units)


def _plan_of(
    arcs: tuple[NumpyArray, NumpyArray, NumpyArray], units: Units
) -> SparsePlan:
    """Return the plan of rows, columns and masses in units."""
    rows, cols, masses = arcs
    return make_unchecked(
        SparsePlan,
        rows=rows,
        cols=cols,
        mass=units.unit * masses,
        size=(len(units.a), len(units.b)),
    )
