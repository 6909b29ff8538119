"""Bounds as features: accuracies that are known, lower bounds, and a small run."""

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import bounds_as_features as features

pytest.importorskip("sklearn")


def test_the_accuracy_counts_neighbours_of_the_same_label():
    points = np.array([0.0, 1.0, 10.0, 11.0, 10.4])
    matrix = np.abs(points[:, None] - points)
    labels = np.array([0, 0, 1, 1, 0])
    # The last point is nearest to the third, and the third and fourth to it.
    assert features.accuracy(matrix, labels) == pytest.approx(2 / 5)
    assert features.chance(labels) == pytest.approx((3 * 2 + 2) / 20)


@pytest.mark.parametrize("name", features.DATA_SETS)
def test_roots_of_bounds_are_below_distances(name):
    spaces, labels = features.data_set(name, 2, seed=0)
    assert len(spaces) == len(labels)
    chosen = spaces[:3]
    solved = features.by_solving(chosen)
    for bound in (gw.batch.norm, gw.batch.row_means, gw.batch.second):
        matrix = features.by_bound(bound, chosen)
        assert (matrix <= solved + 1e-9).all()
        assert (matrix == matrix.T).all()
        assert matrix.max() > 0


def test_a_quick_run_is_published_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "DATA_SETS", ("shapes",))
    monkeypatch.setattr(features, "QUICK_OF_A_KIND", 1)
    arguments = ["--out", str(tmp_path / "out"), "--quick"]
    assert features.main(arguments) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "trials.csv")
    assert [row["matrix"] for row in rows] == list(features.MATRICES)
    assert features.main(arguments) == 0
    assert report.read_rows(folder / "trials.csv") == rows
    assert (folder / "bounds_as_features.md").exists()
