"""Other libraries on one pair of spaces, each from matrices to a plan.

Random starts of POT are couplings: a vertex, mixed with the product coupling at a
random share.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot

from simulations.hard_families import Numbers, Pair
from simulations.search_families import rounded, weights

Method = Callable[[], Numbers]

STARTS = 50  # random starts of POT's conditional gradient
EPSILONS, INITS = 10, 3  # what the tuning of epsilon tries
# In units of the product coupling's objective; below the first, POT's kernels underflow
# on most pairs.
LEAST, MOST = 3e-3, 1.0
ITERATIONS, SCALINGS, TOLERANCE = 200, 200, 1e-6


def objective(pair: Pair, plan: Numbers) -> float:
    """Return GW_2² of a coupling by the definition's expansion; NaN for NaN."""
    a, b = weights(pair)
    squares = a @ pair.C**2 @ a + b @ pair.D**2 @ b
    return float(squares - 2 * np.vdot(pair.C @ plan @ pair.D, plan))


def random_coupling(rng: np.random.Generator, a: Numbers, b: Numbers) -> Numbers:
    """Draw a start: a vertex of the couplings, mixed with the product coupling."""
    share = rng.random()
    vertex = ot.lp.emd(a, b, rng.random((len(a), len(b))), numItermax=10**7)
    return np.asarray(share * vertex + (1 - share) * np.outer(a, b))


def pot(pair: Pair, start: Numbers | None = None) -> Method:
    """Return POT's conditional gradient, by default from the product coupling.

    A start that misses the weights is rounded onto them, as POT refuses it.
    """
    a, b = weights(pair)
    start = None if start is None else rounded(pair, start)

    def run() -> Numbers:
        plan = ot.gromov.gromov_wasserstein(
            pair.C, pair.D, a, b, "square_loss", symmetric=True, G0=start
        )
        return np.asarray(plan)

    return run


def pot_best_of(pair: Pair, count: int, seed: int) -> Method:
    """Return the best of POT's conditional gradients from random couplings."""
    a, b = weights(pair)

    def run() -> Numbers:
        rng = np.random.default_rng(seed)
        plans = [pot(pair, random_coupling(rng, a, b))() for _ in range(count)]
        return min(plans, key=lambda plan: objective(pair, plan))

    return run


def tuned(pair: Pair, seed: int, quick: bool = False) -> Method:
    """Return the best plan of POT's entropic solver over epsilons and starts.

    Plans that miss the weights by a thousandth are no candidates, nor are those of
    kernels that underflow: their objectives mean nothing.
    """
    a, b = weights(pair)
    product = np.outer(a, b)

    def run() -> Numbers:
        rng = np.random.default_rng(seed)
        best, least = product, objective(pair, product)
        count, inits = (3, 1) if quick else (EPSILONS, INITS)
        for epsilon in np.geomspace(LEAST, MOST, count) * least:
            for k in range(inits):
                start = random_coupling(rng, a, b) if k else product
                plan = _entropic(pair, a, b, float(epsilon), start)
                missed = abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum()
                value = objective(pair, plan)
                if missed <= 1e-3 and value < least:
                    best, least = plan, value
        return best

    return run


def _entropic(
    pair: Pair, a: Numbers, b: Numbers, epsilon: float, start: Numbers
) -> Numbers:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of kernels that underflow
        plan = ot.gromov.entropic_gromov_wasserstein(
            pair.C,
            pair.D,
            a,
            b,
            "square_loss",
            epsilon=epsilon,
            symmetric=True,
            G0=start,
            max_iter=ITERATIONS,
            tol=TOLERANCE,
            numItermax=SCALINGS,
        )
    return np.asarray(plan)


def ott(pair: Pair) -> Method:
    """Return OTT-JAX's solver at an epsilon of a hundredth of the product's objective.

    OTT multiplies the entropy by half of what POT does.
    """
    from ott.geometry import geometry
    from ott.problems.quadratic import quadratic_problem
    from ott.solvers.linear import sinkhorn
    from ott.solvers.quadratic import gromov_wasserstein

    a, b = weights(pair)

    def run() -> Numbers:
        x, y = (geometry.Geometry(cost_matrix=M) for M in (pair.C, pair.D))
        problem: Any = quadratic_problem.QuadraticProblem(x, y, a=a, b=b)
        epsilon = 1e-2 * objective(pair, np.outer(a, b))
        solver: Any = gromov_wasserstein.GromovWasserstein(
            sinkhorn.Sinkhorn(), epsilon=epsilon
        )
        return np.asarray(solver(problem).matrix, float)

    return run
