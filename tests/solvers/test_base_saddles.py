"""No saddle and no exchange that anyone can see is left."""

import itertools

import networkx as nx
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import gwtools as gw
from tests.solvers.test_base import SOLVERS, paths, relabelled, variation

EXCHANGEABLE = {
    "star": nx.star_graph(20),
    "complete bipartite": nx.complete_bipartite_graph(3, 7),
    "neopentane": nx.Graph(
        [("C", f"M{k}") for k in range(4)]
        + [(f"M{k}", f"h{k}{i}") for k in range(4) for i in range(3)]
    ),
    "karate club": nx.karate_club_graph(),
    "binary tree": nx.balanced_tree(2, 4),
    "barbell": nx.barbell_graph(10, 3),
}


@pytest.mark.parametrize("name", EXCHANGEABLE)
def test_proximal_steps_leave_saddles_of_exchangeable_atoms(name):
    """A plan that spreads mass evenly over atoms that look alike is stationary.

    It is no minimum.
    """
    C = paths(EXCHANGEABLE[name])
    for seed in range(3):
        result = gw.solve(C, relabelled(C, seed)[0], gw.Sinkhorn())
        assert result.status.success
        assert float(result.objective) <= 0.02 * variation(
            *[C, np.full(len(C), 1 / len(C))] * 2
        )


@pytest.mark.parametrize(
    "graph", [nx.cycle_graph(8), nx.icosahedral_graph()], ids=["cycle", "icosahedron"]
)
def test_symmetric_graphs_are_matched_to_themselves(graph):
    C = paths(graph)
    assert float(gw.solve(C, C).objective) == 0.0


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_no_swap_of_two_images_improves_a_permutation(solver, seed):
    rng = np.random.default_rng(seed)
    graphs = (
        nx.gnp_random_graph(14, 0.3, seed=seed),
        nx.watts_strogatz_graph(14, 4, 0.3, seed=seed),
    )
    clouds = rng.standard_normal((2, 14, 3))
    for C, D in ([nx.to_numpy_array(g) for g in graphs], [cdist(c, c) for c in clouds]):
        result = gw.solve(C, D, solver)
        plan, tolerance = (
            result.plan.dense(),
            solver.tolerance
            * variation(C, np.full(14, 1 / 14), D, np.full(14, 1 / 14)),
        )
        if np.count_nonzero(plan > 1e-12) > 14:
            continue
        images = plan.argmax(axis=1)
        here = ((C - D[np.ix_(images, images)]) ** 2).mean()
        for i, j in itertools.combinations(range(14), 2):
            other = images.copy()
            other[[i, j]] = other[[j, i]]
            assert (
                (C - D[np.ix_(other, other)]) ** 2
            ).mean() >= here - tolerance - 1e-12
