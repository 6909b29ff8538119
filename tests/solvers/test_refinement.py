"""Plans at rest, refined by conditional gradient or judged by one linear program."""

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from gwtools import _array
from gwtools.solvers import refinement
from tests import checkers
from tests.solvers.test_base import QUIET, paths, variation


@QUIET
@pytest.mark.parametrize("limit", [10**7, 1])
def test_on_other_devices_potentials_prove_the_gap(limit, monkeypatch):
    """Success still means that the gap is below the tolerance.

    Without a hand-over, potentials or one program prove it.
    """
    monkeypatch.setattr(_array, "on_cpu", lambda _: False)
    monkeypatch.setattr(refinement, "MOST_PROGRAM_ENTRIES", limit)
    rng, solver, seen = np.random.default_rng(0), gw.Sinkhorn(), set()
    sides = [
        [
            gw.PointCloud(rng.standard_normal((n, 2)), rng.dirichlet(np.full(n, 3.0)))
            for n in (9, 12, 17)
        ]
        for _ in "xy"
    ]
    sides[0].append(gw.DenseSpace(paths(nx.star_graph(8))))
    sides[1].append(gw.DenseSpace(paths(nx.star_graph(8))))
    for x, y, together in zip(*sides, gw.solve_batch(*sides, solver), strict=True):
        for result in (gw.solve(x, y, solver), together):
            assert isinstance(result.plan, gw.DensePlan)
            seen.add(result.status)
            C, D = x.dense(), y.dense()
            gap = checkers.frank_wolfe_gap(
                C, x.weights, D, y.weights, result.plan.dense()
            )
            if result.frank_wolfe_gap is not None:
                assert result.frank_wolfe_gap >= gap - 1e-12
            if result.status.success:
                assert gap <= 1.01e-5 * variation(C, x.weights, D, y.weights)
    assert gw.Status.STATIONARY in seen
