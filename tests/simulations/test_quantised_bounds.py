"""Bounds by quantised spaces: they are bounds, exact for atoms of their own."""

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import quantised_bounds as simulated


@pytest.mark.parametrize("name", simulated.PAIRS)
@pytest.mark.parametrize("k", [3, 7])
def test_both_bounds_are_below_the_objective(name, k):
    x, y = simulated.pair(name, 7, seed=0)
    best = float(gw.solve(x, y).objective)
    row = simulated.triangle(x, y, k)
    assert row["triangle"] <= best
    assert row["error_x"] >= 0
    coarse = [simulated.cells_of(space, k) for space in (x, y)]
    found = gw.bounds.find_multipliers(*(part.space for part in coarse))
    fine = simulated.on_atoms(found, *coarse)
    value = float(gw.bounds.reformulation(x, y, multipliers=fine))
    assert value <= best * (1 + 1e-9)
    if k == 7:
        # Each atom is a cell: only the order of the atoms may have changed.
        assert max(row["error_x"], row["error_y"]) < 1e-6
        full = float(gw.bounds.reformulation(x, y))
        assert value == pytest.approx(full, rel=1e-3)


def test_the_error_is_what_means_over_cells_lose():
    x, _ = simulated.pair("table", 12, seed=0)
    coarse = simulated.cells_of(x, 4)
    C, means = np.asarray(x.rows(0, 12)), np.asarray(coarse.space.distances)
    a, cells = np.asarray(x.weights), coarse.cells
    expected = a @ (C - means[np.ix_(cells, cells)]) ** 2 @ a
    assert simulated.error(x, coarse) ** 2 == pytest.approx(expected, rel=1e-9)


def test_multipliers_of_the_third_bound_give_it():
    x, y = simulated.pair("curve", 6, seed=0)
    third = float(gw.bounds.third(x, y, residual=True))
    found = simulated.of_third(x, y)
    value = float(gw.bounds.reformulation(x, y, multipliers=found))
    assert value == pytest.approx(third, rel=1e-9)


def test_a_quick_run_is_published_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(simulated, "PAIRS", ("curve",))
    monkeypatch.setattr(simulated, "FRACTIONS", (2,))
    arguments = ["--out", str(tmp_path / "out"), "--quick"]
    assert simulated.main(arguments) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "cells.csv")
    monkeypatch.setattr(simulated, "cells_rows", None)  # nothing is run again
    monkeypatch.setattr(simulated, "multipliers_row", None)
    assert simulated.main(arguments) == 0
    assert report.read_rows(folder / "cells.csv") == rows
    assert "of 1 cases" in (folder / "quantised_bounds.md").read_text()
