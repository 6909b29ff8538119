"""Coarse to fine: quantised spaces, whose coupling linearises the problem of all atoms.

The quantised space of a partition into k cells has the total weights of the cells and
the means of C between them. The coupling found there is lifted by coupling the atoms of
coupled cells independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.spatial.distance import cdist

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.lifted_problems import LiftedProblem
from gwtools.problems import GWProblem
from gwtools.solvers.base import Solver
from gwtools.spaces import DenseSpace, Space
from gwtools.spaces.double_centering import LowRankResidual, Residual
from gwtools.transport.lifted import LiftedCosts

_CELLS = 120  # of each space at most
_ATOMS_PER_CELL = 5  # at least, on average
_LANDMARKS = 16  # atoms whose values describe all others
_ROUNDS = 5  # of moving the centres of cells
_SAMPLED = 4000  # atoms that stand for all where coordinates are enough


@dataclass(frozen=True, eq=False)
class Quantised:
    """A space quantised by a partition of its atoms into k cells.

    Parameters
    ----------
    cells : integer array of shape (n,)
        The cell of each atom.
    space : DenseSpace
        The k cells, in NumPy and float64.
    columns : array of shape (n, k)
        The means of R from each atom to each cell, in units of C.
    shares : array of shape (n, k)
        The shares of atoms in the weights of their cells.
    """

    cells: NumpyArray
    space: DenseSpace
    columns: NumpyArray
    shares: NumpyArray


def quantised(space: Space, residual: Residual, count: int) -> Quantised:
    """Quantise a space into at most ``count`` cells of atoms with similar values.

    Parameters
    ----------
    space : Space
        The space.
    residual : Residual
        Its residual R.
    count : int
        Cells at most.
    """
    a = _array.to_numpy(space.weights).astype(np.float64)
    alpha = _array.to_numpy(space.deviations).astype(np.float64)
    cells = _partition(_features(residual, a, alpha), a, count)
    weights = np.bincount(cells, weights=a)  # (k,)
    # 1. The shares of atoms in the weights of their cells, (n, k).
    shares = np.zeros((len(a), len(weights)))
    shares[np.arange(len(a)), cells] = a / weights[cells]
    # 2. The means of α and R over cells.
    like = space.weights
    columns = residual.apply(_array.from_numpy(shares, like))
    columns = _array.to_numpy(columns).astype(np.float64)  # (n, k)
    means = shares.T @ columns  # (k, k)
    deviations = alpha @ shares
    matrix = float(space.mean) + deviations[:, None] + deviations + means
    matrix = (matrix + matrix.T) / 2
    total = weights / weights.sum()
    return Quantised(cells, DenseSpace(matrix, total), columns, shares)


def _features(
    residual: Residual,
    a: NumpyArray,
    alpha: NumpyArray,
) -> NumpyArray:
    """Describe atoms by α and by R to a few landmarks, shape (n, 1 + landmarks).

    The first landmark has the largest |α|; each further one differs most from those
    before it.
    """
    features = [np.sqrt(2.0) * alpha]
    landmark = int(np.abs(alpha).argmax())
    nearest = np.full(len(a), np.inf)
    for _ in range(min(_LANDMARKS, len(a))):
        row = _row(residual, landmark)
        features.append(row)
        described = np.stack(features, axis=1)
        # Differences to the landmark, in what is known of all atoms so far.
        distances = np.abs(described - described[landmark]).max(axis=1)
        nearest = np.minimum(nearest, distances)
        landmark = int(nearest.argmax())
    return np.stack(features, axis=1)


def _row(residual: Residual, index: int) -> NumpyArray:
    """Return one row of R in NumPy, shape (n,)."""
    xp = _array.namespace(residual.weights)
    unit = np.zeros((residual.weights.shape[0], 1))
    unit[index] = 1.0
    column = residual.apply(_array.from_numpy(unit, residual.weights))
    return _array.to_numpy(xp.reshape(column, (-1,))).astype(np.float64)


def _partition(features: NumpyArray, a: NumpyArray, count: int) -> NumpyArray:
    """Partition atoms by their features, by Lloyd's rounds from distant centres."""
    # 1. Centres that are far from each other, the first near the mean.
    mean = a @ features
    first = int(cdist(mean[None, :], features).argmin())
    centres = [first]
    nearest = cdist(features[[first]], features)[0]
    while len(centres) < count and nearest.max() > 0.0:
        farthest = int(nearest.argmax())
        centres.append(farthest)
        to_farthest = cdist(features[[farthest]], features)[0]
        nearest = np.minimum(nearest, to_farthest)
    points = features[centres]
    # 2. Atoms join the nearest centre, and centres move to the means of their atoms.
    for _ in range(_ROUNDS):
        cells = cdist(features, points).argmin(axis=1)
        weights = np.bincount(cells, weights=a, minlength=len(points))
        kept = weights > 0.0
        sums = np.zeros_like(points)
        np.add.at(sums, cells, a[:, None] * features)
        points = sums[kept] / weights[kept, None]
    cells = cdist(features, points).argmin(axis=1)
    # 3. Cells without atoms are left out.
    _, numbered = np.unique(cells, return_inverse=True)
    return numbered.ravel()


def coarse_costs(problem: GWProblem, solver: Solver) -> NumpyArray:
    """Return the gradient of F at the lifted coupling of the quantised spaces.

    Parameters
    ----------
    problem : GWProblem
        The problem, outside any gradient graph.
    solver : Solver
        Solves the problem of the quantised spaces.

    Returns
    -------
    NumPy array of shape (n, m)
        −4 α_i β_j − 4 (R π S)_ij of the lifted coupling π, in squared units of C.
    """
    x, y = _both_quantised(problem)
    features = None
    if problem.linear is not None:
        whole = _array.to_numpy(problem.features).astype(np.float64)
        features = x.shares.T @ whole @ y.shares
    coarse = solver.run(GWProblem(x.space, y.space, features, problem.alpha))
    between_cells = cast(NumpyArray, coarse.plan.dense())  # (k, l)
    # R π S through the cells, as π couples the atoms of coupled cells independently.
    cross = problem.share * (x.columns @ between_cells @ y.columns.T)
    bilinear = _array.to_numpy(problem.bilinear_cost).astype(np.float64)
    return np.asarray(bilinear - 4 * cross)


def _both_quantised(problem: GWProblem) -> tuple[Quantised, Quantised]:
    """Quantise both spaces of a problem."""
    n, m = problem.shape
    count_x = min(_CELLS, n // _ATOMS_PER_CELL)
    count_y = min(_CELLS, m // _ATOMS_PER_CELL)
    x = quantised(problem.x, problem.left, count_x)
    y = quantised(problem.y, problem.right, count_y)
    return x, y


def coarse_lifted_costs(problem: LiftedProblem, solver: Solver) -> LiftedCosts:
    """Return the same gradient between coordinates, of cells of a few atoms.

    Parameters
    ----------
    problem : LiftedProblem
        The problem of all atoms.
    solver : Solver
        Solves the problem of the quantised spaces.
    """
    # 1. Atoms that stand for equal parts of the mass, in the order of α.
    sample_x = _sampled(problem.whole.x)
    sample_y = _sampled(problem.whole.y)
    sample = GWProblem(sample_x, sample_y)
    x, y = _both_quantised(sample)
    coarse = solver.run(GWProblem(x.space, y.space))
    # 2. Gᵀ π H of the lifted coupling of the sample, through the cells.
    left = cast(LowRankResidual, sample.left).factor.T @ x.shares
    right = cast(LowRankResidual, sample.right).factor.T @ y.shares
    core = left @ coarse.plan.dense() @ right.T
    return problem.gradient(problem.cross_of(core))


def _sampled(space: Space) -> Space:
    """Return the space of atoms at equal steps of mass, in the order of α."""
    order = np.argsort(space.deviations, kind="stable")
    mass = np.cumsum(space.weights[order])
    count = min(_SAMPLED, space.size)
    steps = (np.arange(count) + 0.5) / count
    places = np.searchsorted(mass, steps * mass[-1])
    atoms = space.restrict(order[places])
    return space.with_data(atoms.data, np.full(count, 1 / count))
