"""Solvers against proved minima: instances by names alone, resuming, what is said."""

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import global_gap

FEW = ((5, 4),)


def study(out, *options):
    # Trees end long before: what is proved does not depend on the machine.
    limit = ["--time-limit", "600"]
    return global_gap.main(["--out", str(out), "--quick", *limit, *options])


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(global_gap, "QUICK_SIZES", FEW)
        yield


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    out = tmp_path_factory.mktemp("gap") / "out"
    assert study(out) == 0
    return out.with_name("out-quick")


@pytest.mark.parametrize("kind", global_gap.KINDS)
def test_instances_depend_on_their_names_alone(kind):
    instance = global_gap.Instance(kind, "random", 6, 4, 1)
    other = global_gap.Instance(kind, "random", 6, 4, 2)
    for x, again in zip(instance.draw(), instance.draw(), strict=True):
        assert np.array_equal(x.dense(), again.dense())
        assert np.array_equal(x.weights, again.weights)
    assert [space.size for space in instance.draw()] == [6, 4]
    assert not np.array_equal(instance.draw()[0].dense(), other.draw()[0].dense())


def test_there_are_two_hundred_instances():
    keys = [i.key for i in global_gap.instances(global_gap.SIZES, global_gap.SEEDS, 0)]
    assert len(set(keys)) == len(keys) == 200


def test_rows_say_what_is_proved_and_found(uninterrupted):
    rows = report.read_rows(uninterrupted / "trials.csv")
    assert len(rows) == len(global_gap.KINDS) * len(global_gap.WEIGHTS)
    for row in rows:
        assert row["proved"] == 1
        assert row["below"] == 0
        assert row["upper"] - row["lower"] <= 2e-6 * max(row["upper"], 1.0)
        for name in global_gap.METHODS:
            excess = row[name] / row["lower"] - 1
            assert row[f"{name}_excess"] == pytest.approx(excess, abs=1e-12)
            assert row[f"{name}_found"] == (excess <= global_gap.FOUND)
    # What is proved is below the objective of any coupling.
    row = rows[-1]
    names = [row[name] for name in global_gap.KEY]
    x, y = global_gap.Instance(*names).draw()
    assert float(gw.GWProblem(x, y).product_objective) >= row["lower"]
    assert row["auto"] == pytest.approx(float(gw.solve(x, y).objective), rel=1e-9)


def test_objectives_below_a_lower_end_are_counted(monkeypatch):
    # As if the lower end were above all objectives.
    monkeypatch.setattr(global_gap, "ROUNDING", -2.0)
    instance = global_gap.Instance("1-D", "random", 4, 3, 0)
    row = global_gap.measure(instance, 5.0)
    assert row["below"] == len(global_gap.METHODS)


def test_summary_is_that_of_the_proved_trials(uninterrupted):
    trials = report.read_rows(uninterrupted / "trials.csv")
    trials[0]["proved"] = 0
    trials[0]["auto_excess"] = 9.0
    total = global_gap.summarise(trials)[-1]
    assert (total["instances"], total["proved"]) == (len(trials), len(trials) - 1)
    excesses = [row["auto_excess"] for row in trials[1:]]
    assert total["auto_most"] == pytest.approx(max(0.0, *excesses))
    assert total["POT_found"] == sum(row["POT_found"] for row in trials[1:])


def test_nothing_proved_is_told(uninterrupted, tmp_path):
    trials = report.read_rows(uninterrupted / "trials.csv")
    rows = [row | {"proved": 0} for row in trials]
    summary = global_gap.summarise(rows)
    assert f"0 of {len(rows)}" in global_gap.table(summary)
    assert "found the minimum" not in global_gap.checks(summary)
    global_gap.draw(rows, summary, tmp_path / "figure.png")


def test_all_outputs_are_written(uninterrupted):
    expected = {"trials.csv", "summary.csv", "meta.json"}
    expected |= {"global_gap.md", "global_gap.png"}
    assert {path.name for path in uninterrupted.iterdir()} == expected
    text = (uninterrupted / "global_gap.md").read_text()
    assert "Objectives below a proved lower end: 0." in text


def test_finished_and_interrupted_runs_go_on(few, uninterrupted, monkeypatch, capsys):
    rows = (uninterrupted / "trials.csv").read_text().splitlines(keepends=True)
    (uninterrupted / "trials.csv").write_text("".join(rows[:-1]))
    measured = []

    def interrupted(instance, time_limit):
        measured.append(instance.key)
        raise KeyboardInterrupt

    measure = global_gap.measure
    monkeypatch.setattr(global_gap, "measure", interrupted)
    out = uninterrupted.with_name("out")
    assert study(out) == 130
    assert "resumes" in capsys.readouterr().err
    monkeypatch.setattr(global_gap, "measure", measure)
    assert study(out) == 0
    again = (uninterrupted / "trials.csv").read_text().splitlines()
    assert len(again) == len(rows)
    monkeypatch.setattr(global_gap, "measure", None)
    assert study(out) == 0
