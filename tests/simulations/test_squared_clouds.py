"""Plans between large clouds: draws, ways, and a run that is resumed."""

import numpy as np
import pytest

from simulations import squared_clouds
from simulations.squared_clouds import Trial


@pytest.mark.parametrize("clouds", ["unlike", "alike"])
def test_smaller_clouds_are_the_first_points_of_larger_ones(clouds):
    few, many = (squared_clouds.draw(0, Trial(clouds, n, "cells")) for n in (5, 9))
    for small, large in zip(few, many, strict=True):
        assert np.array_equal(small.points, large.points[:5])
    other = squared_clouds.draw(1, Trial(clouds, 5, "cells"))
    assert not np.array_equal(few[0].points, other[0].points)


@pytest.mark.parametrize("way", ["sorting", "blocks"])
def test_rows_hold_what_the_solve_returned(way):
    row = squared_clouds.measure(0, Trial("unlike", 40, way))
    assert row["lower"] <= row["objective"]
    assert row["gap"] >= -1e-9
    assert row["status"] == "STATIONARY"


def test_a_quick_run_is_published_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(squared_clouds, "apart", squared_clouds.measure)
    monkeypatch.setattr(squared_clouds, "QUICK", (Trial("alike", 40, "sorting"),))
    arguments = ["--out", str(tmp_path / "out"), "--quick"]
    assert squared_clouds.main(arguments) == 0
    folder = tmp_path / "out-quick"
    trials = (folder / "trials.csv").read_text()
    assert squared_clouds.main(arguments) == 0
    assert (folder / "trials.csv").read_text() == trials
    assert "alike" in (folder / "squared_clouds.md").read_text()
