"""Free marginals against POT: the objective that is compared, and a small run."""

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import free_marginals
from tests import checkers, unbalanced_plans


@pytest.mark.parametrize("family", free_marginals.FAMILIES)
def test_the_objective_is_that_of_the_definition(family):
    pair = free_marginals.draw(family, 0)
    rng = np.random.default_rng(0)
    plan = rng.random((len(pair.a), len(pair.b))) / 400
    expected = checkers.objective(pair.C, pair.D, plan)
    assert free_marginals.objective(pair, plan) == pytest.approx(expected, rel=1e-11)
    prices = gw.Unbalanced(pair.rho)
    expected = unbalanced_plans.objective(*pair[:4], plan, prices)
    found = free_marginals.unbalanced_objective(pair, plan)
    assert found == pytest.approx(expected, rel=1e-11)
    fused = free_marginals.with_features(pair, 0)
    expected = 0.7 * (fused.features * plan).sum()
    expected += 0.3 * free_marginals.objective(pair, plan)
    assert free_marginals.objective(fused, plan) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("is_fused", [False, True])
def test_plans_of_pot_minimise_the_same_unbalanced_objective(is_fused):
    """At a price at which both stay with the product plan's shape, nearly."""
    pair = free_marginals.draw("random matrices", 3)
    if is_fused:
        pair = free_marginals.with_features(pair, 3)
    start = np.outer(pair.a, pair.b)
    plan = free_marginals.pot_plan(pair, "unbalanced", start)
    assert free_marginals.unbalanced_objective(pair, plan) < (
        free_marginals.unbalanced_objective(pair, start)
    )
    # Its mass is the best one of its shape.
    for factor in (0.99, 1.01):
        assert free_marginals.unbalanced_objective(pair, factor * plan) > (
            free_marginals.unbalanced_objective(pair, plan)
        )


def test_partitions_are_no_worse_than_those_of_pot():
    row = free_marginals.partition(1)
    assert row["rand_single"] >= row["rand_pot"] - 1e-12
    assert row["rand_default"] >= row["rand_pot"] - 1e-12
    assert row["single"] <= row["pot"] * (1 + 1e-6)


def test_a_quick_run_resumes_and_is_not_above_pot(tmp_path, monkeypatch):
    monkeypatch.setattr(free_marginals, "QUICK_CASES", 1)
    assert free_marginals.main(["--out", str(tmp_path / "out"), "--quick"]) == 0
    folder = tmp_path / "out-quick"
    rows = report.read_rows(folder / "trials.csv")
    assert len(rows) == 14
    for row in report.read_rows(folder / "summary.csv"):
        if row["least_matched"] != "":
            assert row["least_matched"] >= 0.95
        elif row["pot"] == "":
            # Where POT finds no plan at so low a price.
            assert row["kind"].endswith("unbalanced")
        else:
            assert row["single_not_above"] == row["default_not_above"] == 1
            assert row["default"] <= row["pot"] * (1 + 1e-6)
    monkeypatch.setattr(free_marginals, "measure", None)  # nothing is run again
    assert free_marginals.main(["--out", str(tmp_path / "out"), "--quick"]) == 0
    assert "not above" in (folder / "free_marginals.md").read_text()
