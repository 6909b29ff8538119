"""Theorem 8: product couplings that are saddles are left, in any units."""

import itertools

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.solvers.test_base import SOLVERS, paths


@pytest.mark.parametrize("share", [0.9, 1.1])
@pytest.mark.parametrize("n", [5, 8, 13])
def test_theorem_8_entropy_at_the_product(share, n):
    """At a fixed ε, the product of cycles is left if and only if 4 λ μ > ε."""
    C = paths(nx.cycle_graph(n))
    weights = np.full(n, 1 / n)
    values = checkers.spectrum(C, weights)
    epsilon = share * 4 * max(values[0] ** 2, values[-1] ** 2)
    result = gw.solve(
        C, C, gw.Sinkhorn(epsilon=epsilon, proximal=False, max_iterations=2000)
    )
    assert result.status is gw.Status.FIXED_POINT
    stays = np.abs(result.plan.dense() - 1 / n**2).max() <= 1e-12
    assert stays == (share > 1)


def test_constant_row_means_in_unlike_units():
    """Two rings, whose product coupling is a saddle: a permutation at every scale."""
    ring = paths(nx.cycle_graph(12))
    for scale, solver in itertools.product((1.0, 1e2, 1e4, 1e6), SOLVERS):
        for pair in ((ring, scale * ring), (scale * ring, ring)):
            assert float(gw.solve(*pair, solver).plan.dense().max()) == pytest.approx(
                1 / 12, abs=1e-9
            )
