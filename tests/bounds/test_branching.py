"""The search of branch and bound: its tree, its cuts and its upper end."""

import itertools

import numpy as np
import pytest

import gwtools as gw
from gwtools.bounds.branching import Search
from gwtools.bounds.node_bounds import coordinates, gain_of


def search_of(seed, n=12, **settings):
    rng = np.random.default_rng(seed)
    x, y = (
        gw.PointCloud(
            rng.standard_normal((n, 2)),
            rng.dirichlet(np.full(n, 2.0)),
            metric="sqeuclidean",
        )
        for _ in "xy"
    )
    pair = coordinates(x, y)
    return Search(pair, 0.0, 1e-6, settings.pop("is_over", lambda: False))


def begun(search, starts=3):
    for slope in itertools.islice(search.starts(), starts):
        search.ascend(slope)
    search.begin()
    return search


def test_leaves_cover_the_root():
    search = begun(search_of(4))
    for _ in range(20):
        search.step()
    leaves = list(search.root.leaves())
    assert len(leaves) == 21
    volume = sum(np.prod(leaf.high[1:] - leaf.low[1:]) for leaf in leaves)
    root = search.root
    assert volume == pytest.approx(np.prod(root.high[1:] - root.low[1:]), rel=1e-12)
    assert search.bound() >= max(leaf.value for leaf in leaves)
    lower, upper = search.ends
    assert 0 <= lower <= upper


def test_bounds_never_rise_and_hold_for_every_vertex_that_is_found():
    search = begun(search_of(5))
    bounds = [search.bound()]
    for _ in range(30):
        search.step()
        bounds.append(search.bound())
    assert all(later <= earlier for earlier, later in itertools.pairwise(bounds))
    assert bounds[-1] >= search.gain
    assert search.gain == pytest.approx(gain_of(search.pair.point(search.plan)))


def test_proved_values_are_those_of_the_simplex_rounded_up():
    search = begun(search_of(6))
    for _ in range(10):
        search.step()
    leaves = list(search.root.leaves())
    proved = search.proved_values(leaves)
    computed = np.array([leaf.value for leaf in leaves])
    # A child that no program lowered has its parent's value.
    assert np.all(proved <= computed + 1e-11 * np.abs(computed))
    alone = [search.proved_values([leaf])[0] for leaf in leaves]
    assert proved == pytest.approx(alone, rel=1e-12)


def test_ascent_never_lowers_the_gain():
    search = search_of(7)
    gains = []
    for slope in search.starts():
        search.ascend(slope)
        gains.append(search.gain)
    assert gains == sorted(gains)
    assert len(gains) == 1 + 4 + 16


def test_nothing_is_solved_once_time_is_over():
    search = search_of(8, is_over=lambda: True)
    for slope in search.starts():
        search.ascend(slope)
    assert search.cuts.count == 0
    # The box alone bounds the gain.
    high = np.maximum(np.abs(search.root.low), np.abs(search.root.high))
    assert search.bound() == pytest.approx(
        search.root.high[0] + (high[1:] ** 2).sum() / 2
    )


def test_the_search_ends_closed():
    search = begun(search_of(9, n=6), starts=30)
    while not search.is_closed:
        search.step()
    gap = 4 * (search.bound() - search.gain)
    assert gap <= search.accepted


def test_large_programs_start_from_near_ones(monkeypatch):
    from gwtools.bounds import branching

    wanted = begun(search_of(10))
    monkeypatch.setattr(branching, "_DENSE_PROGRAM", 0)
    found = begun(search_of(10))
    assert found.bound() == pytest.approx(wanted.bound(), rel=1e-9)
    assert found.gain == pytest.approx(wanted.gain, rel=1e-12)
