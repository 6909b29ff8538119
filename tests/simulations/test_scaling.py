"""Scaling: exponents that are known, where methods end, and a small run."""

import math

import numpy as np
import pytest

import gwtools as gw
from simulations import _processes as processes
from simulations import _report as report
from simulations import scaling


@pytest.fixture
def small(monkeypatch):
    """Two methods, in this process."""
    monkeypatch.setattr(scaling, "QUICK_SMALLEST", 10)
    monkeypatch.setattr(scaling, "QUICK_LARGEST", 20)
    monkeypatch.setattr(scaling, "WARM_OF_SMALL", 5)
    monkeypatch.setattr(scaling, "FITTED_FROM", 10)
    chosen = ("Sorted", "POT", "POT low rank")
    methods = {
        metric: {name: found[name] for name in chosen if name in found}
        for metric, found in scaling.METHODS.items()
    }
    methods["sqeuclidean"]["missing"] = scaling.ott_low_rank
    monkeypatch.setattr(scaling, "METHODS", methods)
    monkeypatch.setattr(scaling, "OTT", "missing")
    monkeypatch.setattr(scaling, "find_spec", lambda name: None)
    monkeypatch.setattr(
        processes, "alone", lambda function, item, module: function(item)
    )


def test_the_exponent_of_a_power_is_found():
    rows = [{"n": n, "seconds": 3e-6 * n**2.5} for n in (1000, 2000, 4000)]
    assert scaling.exponent(rows, "seconds", 0.0) == pytest.approx(2.5)
    # What no clock resolves is left out, and one size has no slope.
    assert scaling.exponent(rows, "seconds", rows[1]["seconds"]) == ""


@pytest.mark.parametrize(
    ("seconds", "memory", "expected"),
    [((1.0,), 10.0, (8.0, 40.0)), ((1.0, 5.0), 10.0, (25.0, 40.0))],
)
def test_the_next_run_is_predicted_by_the_last_two(seconds, memory, expected):
    rows = [{"seconds": value, "memory": memory} for value in seconds]
    assert scaling.predicted(rows) == expected


def test_a_method_ends_where_the_next_size_would_take_too_long():
    slow = {"seconds": scaling.LONGEST, "memory": 1.0, "note": ""}
    known = {("euclidean", "POT", 100): slow}
    rows = list(scaling.rows_of("euclidean", "POT", (100, 200, 400), known, 0))
    assert len(rows) == 2
    assert "predicted" in rows[-1]["note"]
    assert rows[-1]["n"] == 200


def test_shares_are_of_the_best_where_a_descent_was_run():
    names = ("metric", "method", "n", "objective", "lower")
    cells = [
        ("euclidean", "POT", 10, 2.0, ""),
        ("euclidean", "Sorted", 10, 4.0, 1.0),
        ("euclidean", "Sorted", 20, 4.0, 1.0),
    ]
    rows = [dict(zip(names, row, strict=True)) for row in cells]
    found = scaling.with_shares(rows)
    assert [row["objective over best"] for row in found] == [1.0, 2.0, ""]
    assert [row["lower over best"] for row in found] == ["", 0.5, ""]


def test_objectives_of_rivals_are_those_of_their_plans():
    points = scaling.clouds(0, 8, 0)
    plan = np.full((8, 8), 1 / 64)
    x, y = (gw.PointCloud(p, metric="sqeuclidean") for p in points)
    expected = float(gw.GWProblem(x, y).product_objective)
    found = scaling._objective(2 * plan, points, "sqeuclidean")
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_process_of_its_own_returns_the_result():
    assert processes.alone(math.sqrt, 4.0, "math") == 2.0


def test_a_quick_run_is_published_and_repeats_nothing(tmp_path, small, monkeypatch):
    arguments = ["--out", str(tmp_path / "out"), "--quick"]
    assert scaling.main(arguments) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "trials.csv")
    assert {row["n"] for row in rows if row["method"] == "POT"} == {10, 20}
    assert all(row["objective"] > 0 for row in rows if not row["note"])
    assert [row["note"] for row in rows if row["method"] == "missing"] == [
        "not installed"
    ]
    monkeypatch.setattr(scaling, "measure", None)  # nothing is run again
    assert scaling.main(arguments) == 0
    assert report.read_rows(folder / "trials.csv") == rows
    assert "not installed" in (folder / "scaling.md").read_text()
    assert (folder / "scaling.png").exists()
