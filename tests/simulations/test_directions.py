"""Pairs of directed spaces and for the divergence: objectives are those of plans."""

import numpy as np
import pytest

from simulations import directions
from tests import channel_problems


@pytest.mark.parametrize("number", range(6))
def test_objectives_are_sums_over_quadruples(number):
    drawn = directions.pair(0, number)
    plan = np.outer(drawn.a, drawn.b)
    expected = channel_problems.objective(drawn.C, drawn.D, plan, drawn.loss)
    assert directions.objective(drawn, plan) == pytest.approx(expected, rel=1e-10)
    directed = np.abs(drawn.C - drawn.C.T).max() > 0.1
    assert directed == (drawn.loss == "square")
    assert drawn.loss == "square" or drawn.D.min() > 0


@pytest.mark.parametrize("number", [200, 201])
def test_the_last_third_has_features(number):
    drawn = directions.pair(0, number)
    plan = directions.pot_plan(drawn)
    linear = (drawn.features * plan).sum()
    expected = (1 - drawn.alpha) * linear
    expected += drawn.alpha * directions.mean_loss(drawn, plan)
    assert directions.objective(drawn, plan) == pytest.approx(expected, rel=1e-12)
    row = directions.measure(0, number)
    assert row["family"].endswith(", fused")
    assert row["lower"] <= min(row["one"], row["auto"])
    assert row["auto"] <= row["pot"] * (1 + 1e-6)


def test_a_quick_run_is_published_and_resumed(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "out"), "--quick", "--pairs", "2"]
    assert directions.main(arguments) == 0
    folder = tmp_path / "out-quick"
    trials = (folder / "trials.csv").read_text()
    assert directions.main(arguments) == 0
    assert (folder / "trials.csv").read_text() == trials
    assert "on 2 of 2 pairs" in (folder / "directions.md").read_text()
    assert (folder / "meta.json").exists()
