"""The claims of search: cases, limits, what counts as met, and a run that resumes."""

import networkx as nx
import numpy as np
import pytest

from simulations import _report as report
from simulations import search_claims, search_graphs
from simulations.hard_families import paths
from simulations.search_claims import Measured


def test_every_claim_has_its_cases():
    keys = search_claims.cases(quick=False, large=False)
    counts = {}
    for claim, _ in keys:
        counts[claim] = counts.get(claim, 0) + 1
    assert set(counts) == set(search_claims.CLAIMS) - {"assignment time"}
    assert counts["relabelled"] == 9
    assert counts["hypercube"] == counts["binary tree"] == 5
    assert counts["named graph"] == 30
    assert counts["cycles"] == 23
    large = search_claims.cases(quick=False, large=True)
    assert {name for _, name in set(large) - set(keys)} == {
        "n = 5000, normal clouds",
        "n = 5000, a noisy copy",
    }


def test_graphs_are_connected_and_small():
    for graphs in search_graphs.GRAPHS.values():
        for make in graphs.values():
            graph = make()
            assert nx.is_connected(graph)
            assert 4 <= len(graph) <= 127


def test_copies_above_zero_are_counted(monkeypatch):
    C = paths(nx.path_graph(5))
    assert search_claims.copies_above_zero(C, range(3)) == (0, 0, "")
    values = iter([0.0, 1e-10, 1e-8, 0.5])
    monkeypatch.setattr(search_claims, "objective", lambda C, D: next(values))
    assert search_claims.copies_above_zero(C, range(3)).value == 2


def test_violation_is_that_of_the_worst_triangle(monkeypatch):
    """Three curves of which two are 5 apart, and the third 1 and 2 from these."""
    lengths = {(0, 1): 1.0, (0, 2): 5.0, (1, 2): 2.0}
    monkeypatch.setattr(search_claims, "curves", lambda count, points: range(count))

    class Found:
        def __init__(self, i, j):
            self.distance = lengths[i, j]

    monkeypatch.setattr(search_claims.gw, "solve", Found)
    assert search_claims.triangle_violation(3, 4).value == pytest.approx(2 / 5)
    lengths[0, 2] = 2.5
    assert search_claims.triangle_violation(3, 4).value <= 0


def test_curves_are_distances_of_closed_curves():
    first, second = search_claims.curves(2, 30)
    steps = np.append(np.diag(first, 1), first[0, -1])
    assert first.shape == second.shape == (30, 30)
    assert steps.max() <= 0.5 * first.max()  # the last step closes the curve


def test_equal_values_are_met_and_larger_ones_are_not():
    def row(value, limit):
        return search_claims.measure("x", "y", lambda: Measured(value, limit))

    assert row(1.0, 1.0)["met"]
    assert row(1.0 + 1e-12, 1.0)["met"]
    assert not row(1.0 + 1e-6, 1.0)["met"]
    assert not row(1, 0)["met"]


def test_two_thirds_of_the_assignments_are_enough():
    def rows(met):
        row = {"claim": "assignment", "value": 1.0, "limit": 1.0}
        return [
            row | {"case": str(k), "met": int(k < met), "ratio": 3.0, "seconds": 1.0}
            for k in range(6)
        ]

    for met, holds in ((4, 1), (3, 0)):
        summary = search_claims.summarise(rows(met))
        found = {row["claim"]: row["holds"] for row in summary}
        assert found == {"assignment": holds, "assignment time": 1}


def test_quick_run_is_written_and_resumes(tmp_path, monkeypatch, capsys):
    keys = [("relabelled", "ethane"), ("assignment", "like nug 3 x 4")]
    checks = search_claims.cases(quick=False, large=False)
    chosen = {key: checks[key] for key in keys}
    monkeypatch.setattr(search_claims, "cases", lambda quick, large: chosen)
    arguments = ["--out", str(tmp_path / "claims"), "--quick"]
    assert search_claims.main(arguments) == 0
    folder = tmp_path / "claims-quick"
    assert {path.name for path in folder.iterdir()} == {
        "trials.csv",
        "summary.csv",
        "meta.json",
        "search_claims.md",
    }
    trials = report.read_rows(folder / "trials.csv")
    assert [(row["claim"], row["case"]) for row in trials] == keys
    assert trials[1]["ratio"] > 0
    monkeypatch.setattr(search_claims, "measure", None)
    assert search_claims.main(arguments) == 0
    assert "2 cases are in" in capsys.readouterr().out
