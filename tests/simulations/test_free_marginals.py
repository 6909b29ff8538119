"""Free marginals against POT: the objective that is compared, and a small run."""

import numpy as np
import pytest

from simulations import _report as report
from simulations import free_marginals
from tests import checkers


@pytest.mark.parametrize("family", free_marginals.FAMILIES)
def test_the_objective_is_that_of_the_definition(family):
    pair = free_marginals.draw(family, 0)
    rng = np.random.default_rng(0)
    plan = rng.random((len(pair.a), len(pair.b))) / 400
    expected = checkers.objective(pair.C, pair.D, plan)
    assert free_marginals.objective(pair, plan) == pytest.approx(expected, rel=1e-11)


def test_a_quick_run_resumes_and_is_not_above_pot(tmp_path, monkeypatch):
    monkeypatch.setattr(free_marginals, "QUICK_CASES", 2)
    assert free_marginals.main(["--out", str(tmp_path / "out"), "--quick"]) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "trials.csv")
    assert len(rows) == 9
    for row in report.read_rows(folder / "summary.csv"):
        if row["pot"] == "":
            assert row["least_matched"] >= 0.95
        else:
            assert row["single_not_above"] == row["default_not_above"] == 1
            assert row["default"] <= row["pot"] * (1 + 1e-6)
    monkeypatch.setattr(free_marginals, "measure", None)  # nothing is run again
    assert free_marginals.main(["--out", str(tmp_path / "out"), "--quick"]) == 0
    assert "not above" in (folder / "free_marginals.md").read_text()
