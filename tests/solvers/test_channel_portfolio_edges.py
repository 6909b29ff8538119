"""Starts between spaces with edge features."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.channel_problems import ChannelProblem, read_loss
from gwtools.solvers.channel_portfolio import EDGE_PARTS, copies, parts_of, rows
from gwtools.solvers.portfolio import Search


def search_of(C, D, directed=True):
    x, y = (gw.DenseSpace(M, directed=directed) for M in (C, D))
    problem = ChannelProblem(x, y, loss=read_loss("square", x, y))
    return Search(problem, np.random.default_rng(0), gw.ConditionalGradient())


@pytest.mark.parametrize("directed", [False, True])
def test_a_copy_is_found_by_all_entries_at_once(directed):
    """Among atoms that are alike; no copy is found where one entry differs."""
    rng = np.random.default_rng(1)
    steps = np.arange(12)[:, None] - np.arange(12)
    steps = steps % 12 if directed else abs(steps)
    C = rng.integers(0, 2, (12, 2)).astype(float)[steps]
    order = rng.permutation(12)
    D = C[np.ix_(order, order)]
    search = search_of(C, D, directed)
    (candidate,) = copies(search)
    assert float(search.problem.objective(candidate.plan)) == 0.0
    assert parts_of(search.problem) is EDGE_PARTS
    D[0, 1, 1] = D[1, 0, 1] = 0.5
    assert not list(copies(search_of(C, D, directed)))


def test_rows_are_coupled_by_all_entries():
    """The second entry alone tells the atoms apart."""
    rng = np.random.default_rng(2)
    of_atoms = np.arange(6.0)
    C = np.stack([np.ones((6, 6)), of_atoms[:, None] + 0 * of_atoms], axis=-1)
    order = rng.permutation(6)
    search = search_of(C, C[np.ix_(order, order)])
    (candidate,) = rows(search)
    assert np.array_equal(np.asarray(candidate.plan).argmax(axis=0), order)
