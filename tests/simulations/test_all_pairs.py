"""All pairs and nearest neighbours: a small run, and the sets that are drawn."""

import pytest

import gwtools as gw
from simulations import _report as report
from simulations import all_pairs

pytest.importorskip("joblib")
pytest.importorskip("sklearn")


def test_alkanes_are_as_many_as_chemists_count():
    counts = [len(all_pairs.alkanes(n)) for n in range(4, 10)]
    assert counts == [2, 3, 5, 9, 18, 35]


def test_graphs_are_connected_and_of_the_sizes_that_are_named():
    spaces = all_pairs.graphs(8, seed=0)
    assert all(10 <= space.size <= 40 for space in spaces)
    assert len({space.size for space in spaces}) > 2


def test_a_quick_run_writes_its_tables_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(all_pairs, "PACKAGES", {"loky": "joblib", "dask": "no_package"})
    monkeypatch.setattr(all_pairs, "ASKED", (("clustered shapes", 2),))
    monkeypatch.setattr(all_pairs, "KINDS", 2)
    monkeypatch.setattr(all_pairs, "QUICK_GRAPHS", 3)
    monkeypatch.setattr(all_pairs, "QUICK_KILLED", 3)
    asked = ["--out", str(tmp_path / "out"), "--quick"]
    assert all_pairs.main(asked) == 0
    folder = tmp_path / "out-quick"
    same = report.read_rows(folder / "same.csv")
    assert [row["same bits"] for row in same] == [1, 1, 1, ""]
    for row in report.read_rows(folder / "nearest.csv"):
        assert row["wrong"] == 0
        assert row["solved"] <= row["pairs"]
    assert not (folder / "store").exists()
    monkeypatch.setattr(gw, "pairwise", None)  # nothing is run again
    assert all_pairs.main(asked) == 0
    assert "Nearest neighbours" in (folder / "all_pairs.md").read_text()
