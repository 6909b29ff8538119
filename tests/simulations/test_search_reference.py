"""The patient search: starts are couplings, and it goes on from fewer starts."""

import numpy as np
import pytest

from simulations import _report as report
from simulations import (
    hard_families,
    search_families,
    search_peers,
    search_reference,
)

FAMILY = "star of 75 against 45 of it"


@pytest.fixture
def few(monkeypatch):
    chosen = {FAMILY: search_families.FAMILIES[FAMILY]}
    monkeypatch.setattr(search_families, "FAMILIES", chosen)
    monkeypatch.setattr(hard_families, "FAMILIES", {})
    monkeypatch.setattr(search_reference, "EPSILONS", np.array([0.05]))


def test_starts_are_couplings_of_every_kind(tmp_path):
    pair = search_families.draw(FAMILY, 200)
    state = search_reference.Search(pair, tmp_path / "none.npy")
    state.plan = search_families.planted_coupling(pair)
    a, b = search_families.weights(pair)
    names = []
    for k in range(8):
        plan, name = state.coupling(k)
        again, _ = state.coupling(k)
        assert np.array_equal(plan, again)
        assert plan.min() >= 0
        assert np.abs(plan.sum(axis=1) - a).max() <= 1e-12
        assert np.abs(plan.sum(axis=0) - b).max() <= 1e-12
        names.append(name)
    counts = [names.count(name) for name in ("random vertex", "mixture")]
    assert counts == [4, 2]
    assert names.count("near the best") == 2


def test_search_goes_on_from_fewer_starts_and_never_climbs(tmp_path, few, monkeypatch):
    monkeypatch.setattr(search_reference, "SECONDS", 1e6)
    arguments = ["--out", str(tmp_path), "--seeds", "1", "--starts"]
    for starts in ("2", "5"):
        assert search_reference.main([*arguments, starts]) == 0
    first, second = report.read_rows(tmp_path / "reference.csv")
    assert (first["starts"], second["starts"]) == (2, 5)
    assert second["best"] <= first["best"] < first["product"]
    # The row says what the kept plan attains.
    pair = search_families.draw(FAMILY, 200)
    plan = np.load(tmp_path / "plans" / "star_of_75_against_45_of_it_200.npy")
    attained = search_peers.objective(pair, plan)
    assert attained == pytest.approx(second["best"], rel=1e-9)
    (best,) = report.read_rows(tmp_path / "best.csv")
    assert best == {name: second[name] for name in search_reference.COLUMNS}
    # What has so many starts is not searched again.
    assert search_reference.main([*arguments, "5"]) == 0
    assert len(report.read_rows(tmp_path / "reference.csv")) == 2


def test_copies_need_no_start(tmp_path):
    row = search_reference.search("hypercube 64 relabelled", 200, tmp_path, {}, 10)
    assert row["best"] == 0
    assert row["starts"] == 0
    assert row["found_by"] == "planted"


def test_given_pairs_are_those_of_the_reference():
    given = list(search_reference.pairs(True, 0, 0))
    assert len(given) == 204
    assert given[0] == ("isometric 2-D, noise .1", 100)
