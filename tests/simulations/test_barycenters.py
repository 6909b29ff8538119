"""Barycenters against POT: objectives of barycenters and plans, and a small run."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from simulations import _report as report
from simulations import barycenters
from tests import checkers


@pytest.mark.parametrize("fused", [False, True])
def test_objectives_are_sums_over_quadruples(fused):
    for number in range(3):
        case = barycenters.draw(0, number, fused)
        middle = case.start
        plans = [np.outer(middle.weights, space.weights) for space in case.spaces]
        expected = 0.0
        for share, space, plan in zip(case.shares, case.spaces, plans, strict=True):
            value = checkers.objective(middle.distances, space.distances, plan)
            if fused:
                costs = cdist(middle.features, space.features, "sqeuclidean")
                linear = float((costs * plan).sum())
                value = (1 - case.alpha) * linear + case.alpha * value
            expected += share * value
        found = barycenters.objective(case, middle, plans)
        assert found == pytest.approx(expected, rel=1e-10)


def test_every_share_and_kind_is_drawn():
    drawn = [barycenters.draw(0, number, True) for number in range(15)]
    assert {(case.kind, case.alpha) for case in drawn} == {
        (kind, share) for kind in barycenters.KINDS for share in barycenters.SHARES
    }
    assert {len(case.spaces) for case in drawn} == {2, 3, 4}


def test_a_quick_run_is_published_and_resumed(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "out"), "--quick", "--cases", "2"]
    assert barycenters.main(arguments) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "trials.csv")
    assert [row["fused"] for row in rows] == [0, 0, 1, 1]
    for row in rows:
        assert row["lower"] <= row["given"]
    assert barycenters.main(arguments) == 0
    assert report.read_rows(folder / "trials.csv") == rows
    assert "of 2 fused lists" in (folder / "barycenters.md").read_text()
