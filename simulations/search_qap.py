"""Quadratic assignment problems, made like the published ones, and two ways to them.

The cost Σ F_ik D_{p(i) p(k)} of a permutation p is half of n² times the objective of
Gromov-Wasserstein between F and −D, less what no permutation changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import quadratic_assignment
from scipy.spatial.distance import cdist

import gwtools as gw
from simulations.hard_families import Numbers

FAQ_STARTS = 10
STARTS = 120  # of ours
GRIDS = ((3, 4), (3, 5), (4, 4), (3, 6), (4, 5), (3, 7), (2, 11), (4, 6), (5, 5))
LARGE_GRIDS = ((3, 9), (4, 7), (5, 6))
CELLS = (12, 14, 16, 18, 20)
UNIFORM = (12, 15, 17, 20, 25, 30)


@dataclass(frozen=True, eq=False)
class Assignment:
    """Symmetric flows between facilities and distances between places, both (n, n)."""

    flows: Numbers
    distances: Numbers

    def cost(self, places: Numbers) -> float:
        """Return the cost of putting facility i on place ``places[i]``."""
        return float(np.sum(self.flows * self.distances[np.ix_(places, places)]))


def _symmetric(values: Numbers) -> Numbers:
    upper = np.triu(values, 1).astype(float)
    return upper + upper.T


def _like_nugent(width: int, height: int) -> Assignment:
    """Places on a grid, and flows of which a third are 0."""
    n = width * height
    rng = np.random.default_rng(n)
    places = [(i, j) for i in range(width) for j in range(height)]
    flows = rng.integers(1, 11, (n, n)) * (rng.random((n, n)) < 2 / 3)
    return Assignment(_symmetric(flows), cdist(places, places, "cityblock"))


def _like_hadley(n: int) -> Assignment:
    """Places on cells that grew from one, and flows from 1 to n."""
    rng = np.random.default_rng(n)
    cells = [(0, 0)]
    while len(cells) < n:
        i, j = cells[rng.integers(len(cells))]
        step, along = rng.choice([-1, 1]), rng.integers(2)
        cell = (i + step, j) if along else (i, j + step)
        if cell not in cells:
            cells.append(cell)
    flows = _symmetric(rng.integers(1, n + 1, (n, n)))
    return Assignment(flows, cdist(cells, cells, "cityblock"))


def _like_taillard(n: int) -> Assignment:
    """Flows and distances both uniform from 0 to 99."""
    rng = np.random.default_rng(n)
    flows, distances = (_symmetric(rng.integers(0, 100, (n, n))) for _ in range(2))
    return Assignment(flows, distances)


def instances() -> dict[str, Assignment]:
    """Return all problems by name; n is at most 30."""
    grids = (*GRIDS, *LARGE_GRIDS)
    return {
        **{f"like nug {w} x {h}": _like_nugent(w, h) for w, h in grids},
        **{f"like had {n}": _like_hadley(n) for n in CELLS},
        **{f"like tai {n} a": _like_taillard(n) for n in UNIFORM},
    }


def by_search(problem: Assignment) -> Numbers:
    """Return the places (n,) that a search of 120 starts finds.

    Constants on the diagonals change no permutation's cost by more than a constant.
    With the least eigenvalues taken off, both matrices are positive semidefinite and
    the objective is concave: it is least at a permutation (theorem 11).
    """
    flows = _positive_semidefinite(problem.flows)
    nearness = _positive_semidefinite(-problem.distances)
    result = gw.solve(flows, nearness, gw.MultiStart(starts=STARTS))
    pairs = result.matching("assignment")
    return np.array([place for _, place, _ in pairs])


def _positive_semidefinite(matrix: Numbers) -> Numbers:
    least = np.linalg.eigvalsh(matrix)[0]
    return matrix - least * np.eye(len(matrix))


def by_faq(problem: Assignment) -> Numbers:
    """Return the best places (n,) of SciPy's FAQ from ten random starts."""
    found = []
    for seed in range(FAQ_STARTS):
        rng = np.random.default_rng(seed)
        options = {"P0": "randomized", "rng": rng}
        found.append(
            quadratic_assignment(
                problem.flows, problem.distances, method="faq", options=options
            )
        )
    return np.asarray(min(found, key=lambda result: result.fun).col_ind)
