"""The families by which search is judged: seeds alone, symmetry, weights and copies."""

import numpy as np
import pytest

import gwtools as gw
from simulations import hard_families, search_families, search_peers

OWN = tuple(search_families.FAMILIES)
# Spaces that are no distances: values on the diagonal, or 0 between unlike atoms.
KERNELS = {
    "Gaussian kernels",
    "Gaussian kernel against distances",
    "heat kernels, 5 edges moved",
    "adjacency, 8 edges moved",
}
# Copies that no coupling comes near to, as weights or sizes differ: the most that the
# planted one may have of the product coupling's objective.
UNLIKE = {
    "cloud, Dirichlet weights": 0.8,
    "star of 75 against 45 of it": 0.7,
    "Swiss roll against strip": 0.7,
}


def test_own_families_are_others_than_the_given_ones():
    assert len(OWN) >= 8
    assert not set(OWN) & set(hard_families.FAMILIES)
    assert set(search_families.ALL) == {*OWN, *hard_families.FAMILIES}


@pytest.mark.parametrize("family", OWN)
def test_pairs_depend_on_their_seed_alone(family):
    pair, again, other = (search_families.draw(family, s) for s in (200, 200, 201))
    for value, same in zip(pair, again, strict=True):
        assert (value is None and same is None) or np.array_equal(value, same)
    assert not np.array_equal(pair.D, other.D)


@pytest.mark.parametrize("family", OWN)
def test_pairs_are_spaces_of_thirty_to_hundred_atoms(family):
    pair = search_families.draw(family, 203)
    a, b = search_families.weights(pair)
    for matrix, weights in ((pair.C, a), (pair.D, b)):
        assert 30 <= len(matrix) <= 100
        assert np.array_equal(matrix, matrix.T)
        assert np.isfinite(matrix).all()
        assert weights.shape == (len(matrix),)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert weights.min() > 0
    if family not in KERNELS:
        assert not np.diag(pair.C).any()
        assert not np.diag(pair.D).any()


def test_weights_sizes_and_kernels_differ_somewhere():
    pairs = {family: search_families.draw(family, 200) for family in OWN}
    unlike = [f for f, pair in pairs.items() if len(pair.C) != len(pair.D)]
    weighted = [f for f, pair in pairs.items() if pair.a is not None]
    kernels = [f for f, pair in pairs.items() if pair.C.diagonal().any()]
    assert min(len(unlike), len(weighted)) >= 5
    assert {"Gaussian kernels", "heat kernels, 5 edges moved"} <= set(kernels)


@pytest.mark.parametrize("family", OWN)
def test_planted_couplings_have_the_weights(family):
    pair = search_families.draw(family, 205)
    plan = search_families.planted_coupling(pair)
    if pair.planted is None:
        assert plan is None
        return
    a, b = search_families.weights(pair)
    assert np.abs(plan.sum(axis=1) - a).max() <= 1e-14
    assert np.abs(plan.sum(axis=0) - b).max() <= 1e-14
    largest = plan.argmax(axis=0)
    assert np.mean(largest == pair.planted) > 0.5
    product = search_peers.objective(pair, np.outer(a, b))
    share = UNLIKE.get(family, 0.35)
    assert search_peers.objective(pair, plan) < share * product


def test_a_shuffled_tree_is_a_copy():
    pair = search_families.draw("tree with lengths and weights relabelled", 200)
    plan = search_families.planted_coupling(pair)
    assert search_peers.objective(pair, plan) <= 1e-12
    problem = gw.GWProblem(*search_families.spaces(pair))
    assert float(problem.objective(gw.DensePlan(plan))) <= 1e-12


def test_plans_without_numbers_round_to_the_product_coupling():
    pair = search_families.draw("cloud, Dirichlet weights", 200)
    a, b = search_families.weights(pair)
    plan = search_families.rounded(pair, np.full((50, 50), np.nan))
    assert np.allclose(plan, np.outer(a, b), rtol=1e-12, atol=0)
