"""Transport on the line: the value of the linear program, and a plan that sorts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.transport import one_dimensional
from gwtools.transport.one_dimensional import comonotone
from tests import checkers
from tests.strategies import values, weights
from tests.transport.test_programs import stacked


@st.composite
def lines(draw, null=False, equal=False):
    """Two weighted lists of numbers, with ties.

    Of equal weights, some of them may be zero as well.
    """
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    a, b = draw(weights(n, null)), draw(weights(m, null))
    if equal:
        a, b = ((w > 0) / np.count_nonzero(w) for w in (a, b))
    return draw(values((n,), False)), a, draw(values((m,), False)), b


def stacks(**kinds):
    """One to four pairs of lists."""
    return st.booleans().flatmap(
        lambda equal: st.lists(lines(equal=equal, **kinds), min_size=1, max_size=4)
    )


@given(stacks(null=True), st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_lemma_A_line_is_the_linear_program(pairs, p):
    costs = [np.abs(x[:, None] - y[None, :]) ** p for x, _, y, _ in pairs]
    programs = [
        checkers.linear_program(cost, a, b)
        for cost, (_, a, _, b) in zip(costs, pairs, strict=True)
    ]
    merged = [checkers.line(*pair, p) for pair in pairs]
    alone = [float(one_dimensional.wasserstein(*pair, p)) for pair in pairs]
    for found in (alone, one_dimensional.wasserstein(*stacked(pairs), p).tolist()):
        assert found == pytest.approx(programs, rel=1e-9, abs=1e-12)
        assert found == pytest.approx(merged, rel=1e-12, abs=1e-14)


@given(stacks(null=True))
def test_sorting_couplings_of_a_stack_are_those_of_each_pair(pairs):
    x, a, y, b = stacked(pairs)
    coupling = one_dimensional.comonotone(x, a, y, b)
    wanted = np.array([checkers.line(*pair, 2.0) for pair in pairs])
    np.testing.assert_allclose(
        one_dimensional.cost(coupling, x, y, 2.0), wanted, rtol=1e-12, atol=1e-14
    )
    assert coupling.mass.shape[1] == np.count_nonzero(coupling.mass, axis=1).max()
    equal, pairing = (
        one_dimensional.equal_weights(a, b),
        one_dimensional.pairs_off(coupling, a, b),
    )
    for place, (row, col, mass) in enumerate(zip(*coupling, strict=True)):
        count = np.count_nonzero(mass)
        assert (mass[:count] > 0).all()
        # Atoms without mass name ones that have mass, or atom 0.
        assert set(row[count:].tolist()) <= {0, *row[:count].tolist()}
        assert set(col[count:].tolist()) <= {0, *col[:count].tolist()}
        assert (np.diff(x[place][row[:count]]) >= 0).all()
        assert (np.diff(y[place][col[:count]]) >= 0).all()
        plan = np.zeros((x.shape[1], y.shape[1]))
        np.add.at(plan, (row, col), mass)
        assert checkers.coupling_error(plan, a[place], b[place]) <= 1e-15
        # Sorted weights that are the same numbers are the masses.
        of_x, of_y = (
            w[place][np.argsort(v[place], kind="stable")] for v, w in ((x, a), (y, b))
        )
        same = of_x[of_x > 0].tolist() == of_y[of_y > 0].tolist()
        assert pairing[place] == same
        assert equal[place] == (same and len(set(of_x[of_x > 0])) == 1)
        if same:
            assert mass[:count].tolist() == of_x[of_x > 0].tolist()


@given(lines(null=True))
def test_sorting_plan_is_comonotone_and_has_the_marginals(lists):
    x, a, y, b = lists
    plan = one_dimensional.sorting_plan(x, a, y, b)
    assert checkers.coupling_error(plan.dense(), a, b) <= 1e-15
    assert plan.mass.min() > 0
    assert len(plan.mass) <= len(a) + len(b)
    order = np.lexsort((y[plan.cols], x[plan.rows]))
    assert np.all(np.diff(y[plan.cols][order]) >= 0)


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_equal_uniform_weights_give_a_permutation(n, seed):
    x, y = np.random.default_rng(seed).standard_normal((2, n))
    w = np.full(n, 1 / n)
    plan = one_dimensional.sorting_plan(x, w, y, w)
    assert sorted(plan.rows) == sorted(plan.cols) == list(range(n))
    assert np.array_equal(plan.mass, w)


def test_sorting_couplings_of_long_lists_in_single_precision_have_their_weights():
    rng = np.random.default_rng(0)
    n, m = 200_000, 150_000
    a, b = (rng.uniform(1, 2, k) for k in (n, m))
    a, b = (masses.astype(np.float32) / np.float32(masses.sum()) for masses in (a, b))
    x, y = (rng.random(k).astype(np.float32) for k in (n, m))
    plan = one_dimensional.sorting_plan(x, a, y, b)
    assert plan.mass.dtype == np.float32
    for found, masses in zip(plan.marginals(), (a, b), strict=True):
        assert float(np.abs(found - masses).sum()) < 1e-5


def test_comonotone_ties_do_not_matter(rng):
    x, a = np.array([1.0, 1.0, 0.0]), np.array([0.2, 0.3, 0.5])
    y, b = np.array([2.0, 2.0]), np.array([0.6, 0.4])
    for order in ([0, 1, 2], [1, 0, 2]):
        pairs = comonotone(x[order], a[order], y, b)
        assert pairs.mass @ (
            x[order][pairs.rows] - y[pairs.cols]
        ) ** 2 == pytest.approx(0.5 * 1 + 0.5 * 4)


@pytest.mark.parametrize("p", [2.0, 3.0])
@pytest.mark.parametrize("stacked", [False, True])
def test_atoms_without_mass_cost_nothing_in_extreme_units(p, stacked):
    """Between the ends of quantile cells is an atom without mass.

    They end together at 1/2, and the atom's cost is no number.
    """
    unit = 1e160 if p == 2 else 1e110
    lists = (
        unit * np.array([0.0, 1.0]),
        np.array([0.5, 0.5]),
        unit * np.array([0.0, 1.0, 1.0]),
        np.array([0.5, 0.25, 0.25]),
    )
    if stacked:
        lists = tuple(np.stack([v, v]) for v in lists)
    assert np.all(one_dimensional.wasserstein(*lists, p) == 0.0)


def test_lists_that_pair_off_keep_their_masses_beside_lists_that_do_not():
    rng = np.random.default_rng(3)
    weights = [np.array([0.1, 0.2, 0.3, 0.25, 0.15]), np.full(7, 1 / 7)]
    pairs = [(np.arange(len(w)) * 1.0, w, np.arange(len(w)) + 0.4, w) for w in weights]
    pairs.append(
        (
            rng.random(4),
            rng.dirichlet(np.ones(4)),
            rng.random(3),
            rng.dirichlet(np.ones(3)),
        )
    )
    x, a, y, b = stacked(pairs)
    coupling = one_dimensional.comonotone(x, a, y, b)
    for masses, w in zip(coupling.mass, weights, strict=False):
        assert masses[: len(w)].tolist() == w.tolist()
    assert one_dimensional.pairs_off(coupling, a, b).tolist() == [True, True, False]
    assert one_dimensional.equal_weights(a, b).tolist() == [False, True, False]


def test_lists_of_equal_weights_too_long_for_exact_counts_are_merged():
    """Products of 5000 and 4001 atoms are no whole numbers in float32."""
    rng = np.random.default_rng(8)
    x, y = (rng.standard_normal((2, n)) for n in (5000, 4001))
    a, b = (np.full(v.shape, 1 / v.shape[1]) for v in (x, y))
    expected = one_dimensional.wasserstein(x, a, y, b, 1.0)
    found = one_dimensional.wasserstein(
        *(v.astype(np.float32) for v in (x, a, y, b)), 1.0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)
