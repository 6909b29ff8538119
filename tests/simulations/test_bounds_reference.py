"""The least objectives of the suite of bounds: swaps, resuming, what the CSV holds."""

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import bounds, bounds_reference, families, gw_table, search_peers
from simulations.hard_families import Pair

CHOSEN = tuple(
    family
    for family in families.FAMILIES
    if family.name in ("euclidean_2", "erdos_renyi", "rbf_distance")
)


def study(out, *options):
    return bounds_reference.main(
        ["--out", str(out), "--quick", "--sizes", "6", *options]
    )


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bounds_reference, "FAMILIES", CHOSEN)
    monkeypatch.setattr(bounds_reference, "TABLE_SIZES", (7,))


@pytest.fixture
def forms():
    """Two symmetric matrices with unequal diagonals."""
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 7, 7))
    return first + first.T, second + second.T


def value(C, D, images):
    return np.sum(C * D[np.ix_(images, images)])


def test_a_swap_raises_the_form_by_what_is_written(forms):
    C, D = forms
    images = np.array([3, 0, 6, 1, 2, 5, 4])
    E = D[np.ix_(images, images)]
    over = bounds_reference._over_pairs
    gain = over(C) * over(E) - 2 * over(C @ E)
    for r in range(7):
        for s in range(r):
            swapped = images.copy()
            swapped[[r, s]] = images[[s, r]]
            risen = value(C, D, swapped) - value(C, D, images)
            assert gain[r, s] == pytest.approx(risen, abs=1e-10)


def test_after_swaps_no_swap_helps(forms):
    C, D = forms
    start = np.arange(7)
    images = bounds_reference.swapped(C, D, start)
    assert sorted(images) == list(range(7))
    assert value(C, D, images) > value(C, D, start)
    for r in range(7):
        for s in range(r):
            other = images.copy()
            other[[r, s]] = images[[s, r]]
            assert value(C, D, other) <= value(C, D, images) + 1e-10


def test_swaps_help_where_descents_do_not():
    # Small spaces of equal weights, where all bijections can be tried.
    x, y = families.FAMILIES[0].draw(7, "uniform", 0)
    best = gw.solve(x, y, gw.MultiStart()).objective
    search = bounds_reference.ExchangeSearch(x, y)
    assert search.can_swap
    assert search.run_for(0.2) == pytest.approx(float(best), rel=1e-9)


def test_swaps_are_between_equal_weights_of_one_size_only():
    x, y = families.FAMILIES[0].draw(7, "random", 0)
    assert not bounds_reference.ExchangeSearch(x, y).can_swap
    small = gw.PointCloud(np.arange(12.0).reshape(6, 2))
    large = gw.PointCloud(np.arange(14.0).reshape(7, 2))
    assert not bounds_reference.ExchangeSearch(small, large).can_swap


def test_objective_is_attained_and_the_least(few):
    for instance in bounds_reference.instances((6,), 1, 0):
        row = bounds_reference.measure(instance, 0.02)
        found = [row[name] for name in bounds_reference.SEARCHES if row[name] != ""]
        assert row["objective"] == min(found)
        assert len(found) == (1 if instance.convex else 3)
        negligible = 1e-9 * row["objective"]
        assert row[row["found_by"]] <= row["objective"] + negligible
        # No coupling is below what is proved.
        x, y = instance.draw()
        assert gw.certify(x, y, effort="cubic").lower <= row["objective"]
        # Checked by the definition's expansion.
        matrices = [np.asarray(space.dense()) for space in (x, y)]
        pair = Pair(*matrices, None, np.asarray(x.weights), np.asarray(y.weights))
        product = np.outer(x.weights, y.weights)
        assert row["objective"] <= search_peers.objective(pair, product) * (1 + 1e-9)


def test_instances_are_those_of_the_bounds_and_of_the_table():
    chosen = list(bounds_reference.instances((60, 14), 5, 0))
    keys = [instance.key for instance in chosen]
    assert len(set(keys)) == len(keys)
    assert {case.key for case in bounds.cases((60, 14), 5, 0)} <= set(keys)
    table = [key for key in keys if key[0] == bounds_reference.TABLE]
    assert len(table) == 10
    x, _ = chosen[-1].draw()
    points, _ = gw_table.clouds(0, 100, 4)
    assert np.array_equal(x.data, points)
    by_key = {instance.key: instance for instance in chosen}
    case = next(iter(bounds.cases((60,), 1, 0)))
    for drawn, again in zip(
        by_key[case.key].draw(),
        case.family.draw(case.n, case.weights, case.seed),
        strict=True,
    ):
        assert np.array_equal(drawn.dense(), again.dense())


def test_interrupted_search_resumes(few, tmp_path, monkeypatch, capsys):
    measure, calls = bounds_reference.measure, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(bounds_reference, "measure", interrupted)
    assert study(tmp_path / "out") == 130
    assert "resumes" in capsys.readouterr().err
    assert study(tmp_path / "out") == 0
    rows = report.read_rows(tmp_path / "out-quick" / "best.csv")
    # Three families with two kinds of weights, and the clouds of the table.
    assert len(rows) == 7
    assert len(calls) == 8
    assert tuple(rows[0]) == bounds_reference.COLUMNS
    known = bounds_reference.known(tmp_path / "out-quick" / "best.csv")
    assert known["euclidean_2", 6, "uniform", 0] == rows[0]["objective"]


def test_reference_holds_the_instances_of_the_bounds():
    known = bounds_reference.known()
    wanted = {case.key for case in bounds.cases((14, 20, 30, 60), 5, 0)}
    wanted |= {i.key for i in bounds_reference.instances(bounds_reference.SIZES, 5, 0)}
    assert set(known) == wanted
    assert all(objective > 0 for objective in known.values())
