"""Directed spaces and pairs of values for losses, recomputed over all quadruples."""

from __future__ import annotations

import itertools

import numpy as np

import gwtools as gw

LOSSES = {
    "square": lambda c, d: (c - d) ** 2,
    "kl": lambda c, d: (
        np.where(c > 0, c * np.log(np.where(c > 0, c, 1) / d), 0) - c + d
    ),
    "absolute": lambda c, d: np.abs(c - d),
}


def drawn(seed, loss="square", directed=True, least=3, most=7):
    """Two matrices of unlike sizes with weights that are not uniform."""
    rng = np.random.default_rng(seed)
    n, m = rng.choice(np.arange(least, most), 2, replace=False)
    C, D = rng.random((n, n)), rng.random((m, m)) + 0.1
    if loss == "square":
        C, D = 2 * C - 1, 3 * D
    if loss == "absolute":
        C = np.round(5 * C)
    if loss == "kl":
        C[rng.random((n, n)) < 0.2] = 0.0
    if not directed:
        C, D = np.maximum(C, C.T), np.maximum(D, D.T)
    return C, rng.dirichlet(np.full(n, 3.0)), D, rng.dirichlet(np.full(m, 3.0)), rng


def spaces(C, a, D, b, directed=True):
    return gw.DenseSpace(C, a, directed=directed), gw.DenseSpace(
        D, b, directed=directed
    )


def quadruples(C, D, loss="square"):
    """L(C_ik, D_jl), shape (n, m, n, m)."""
    return LOSSES[loss](C[:, None, :, None], D[None, :, None, :])


def objective(C, D, plan, loss="square"):
    return float(np.einsum("ijkl,ij,kl", quadruples(C, D, loss), plan, plan))


def gradient(C, D, plan, loss="square"):
    """Of the objective over all matrices, shape (n, m)."""
    tensor = quadruples(C, D, loss)
    return np.einsum("ijkl,kl", tensor, plan) + np.einsum("ijkl,ij", tensor, plan)


def best_permutation(C, D, loss="square"):
    """The least objective of all bijections between equal weights."""
    n = len(C)
    identity = np.eye(n) / n
    return min(
        objective(C, D, identity[list(images)], loss)
        for images in itertools.permutations(range(n))
    )


def random_plan(a, b, rng):
    return gw.round_plan(rng.random((len(a), len(b))) ** 4, a, b)


def listed(plan):
    """The same plan as a list of its positive masses."""
    matrix = np.asarray(plan)
    rows, cols = np.nonzero(matrix)
    return gw.SparsePlan(rows, cols, matrix[rows, cols], matrix.shape)
