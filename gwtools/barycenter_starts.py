"""Where descents to a barycenter begin: at atoms of spaces, and at random plans."""

from __future__ import annotations

import math

import numpy as np

from gwtools import _array
from gwtools.block_descent import Task
from gwtools.solvers.vertices import vertex_like
from gwtools.spaces import DenseSpace
from gwtools.spaces.dense import dense_space
from gwtools.transport.programs import exact

_EQUAL_SPREADS = 1e-4


def drawn(task: Task, seed: int) -> DenseSpace:
    """Return a space over atoms of one of the spaces, to begin with.

    It is the space with the most weight and spread. At a space without spread all plans
    are equally good, and none leads away from it.

    Parameters
    ----------
    task : Task
        What is minimised.
    seed : int
        Of atoms that are drawn, where the barycenter has not as many as the space.

    Returns
    -------
    DenseSpace
        Of k atoms with the barycenter's weights.
    """
    return _over_atoms(task, _by_spread(task)[0], seed)


def varied(task: Task, count: int, seed: int) -> list[DenseSpace]:
    """Return spaces to begin with besides: other atoms, and middles of random plans.

    Block descent ends at the first barycenter whose plans are stationary, and there are
    many: it must begin at several to find a low one.

    Parameters
    ----------
    task : Task
        What is minimised.
    count : int
        How many. At most half of them are over the atoms of one space, each of another
        one; the others are the best barycenters for plans drawn at random.
    seed : int
        Of atoms and plans.

    Returns
    -------
    list of DenseSpace
        Of k atoms with the barycenter's weights.
    """
    others = _by_spread(task)[1 : 1 + count // 2]
    begins = [_over_atoms(task, space, seed) for space in others]
    rng = np.random.default_rng(seed)
    while len(begins) < count:
        begins.append(_between_random_plans(task, rng))
    return begins


def _over_atoms(task: Task, space: DenseSpace, seed: int) -> DenseSpace:
    """Return a space over k atoms of a space."""
    k = int(task.weights.shape[0])
    whole, rest = divmod(k, space.size)
    order = np.tile(np.arange(space.size), whole)
    if rest > 0:
        rng = np.random.default_rng(seed)
        a = _array.to_numpy(space.weights).astype(np.float64)
        drawn = rng.choice(space.size, rest, replace=False, p=a / a.sum())
        order = np.concatenate([order, np.sort(drawn)])
    index = _array.from_numpy(order, space.weights)
    chosen = space.restrict(index)
    return dense_space(chosen.distances, task.weights, chosen.features)


def _between_random_plans(task: Task, rng: np.random.Generator) -> DenseSpace:
    """Return the best barycenter for plans that are vertices for random costs."""
    p = _in_double(task.weights)
    plans = []
    for space in task.spaces:
        a = _in_double(space.weights)
        program = exact(rng.random((len(p), len(a))), p, a)
        plans.append(vertex_like(program.plan, space.weights))
    return task.best(plans)


def _in_double(weights: _array.Array) -> _array.NumpyArray:
    """Return weights in NumPy and float64, of sum 1."""
    values = _array.to_numpy(weights).astype(np.float64)
    normalised: _array.NumpyArray = values / values.sum()
    return normalised


def _by_spread(task: Task) -> list[DenseSpace]:
    """Return the spaces by λ_s ‖C_s − m_s‖, the largest first; of equal ones by size.

    Features count by their share of the variance.
    """
    spreads = []
    for share, space in zip(task.shares, task.spaces, strict=True):
        variance = float(space.second_moment()) - float(space.mean) ** 2
        if task.alpha < 1.0:
            of_features = (1 - task.alpha) * _variance_of_features(space)
            variance = task.alpha * variance + of_features
        spreads.append(share * math.sqrt(max(0.0, variance)))
    # Spaces whose spreads differ by float error from the largest count as equal.
    least = max(spreads) * (1 - _EQUAL_SPREADS)
    order = sorted(
        range(len(spreads)),
        key=lambda s: (min(spreads[s], least), task.spaces[s].size),
        reverse=True,
    )
    return [task.spaces[s] for s in order]


def _variance_of_features(space: DenseSpace) -> float:
    """Return the mean squared distance of features from their mean, of weights a."""
    mean = space.weights @ space.features  # (d,)
    squares = (space.features - mean[None, :]) ** 2
    xp = _array.namespace(squares)
    return float(xp.sum(space.weights @ squares))
