"""The suite of bounds: instances by seeds alone, resuming, shares and checks."""

import json

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import bounds, families
from tests import checkers

NAMES = (*bounds.BOUNDS, *bounds.EFFORTS)
CHOSEN = tuple(
    f
    for f in families.FAMILIES
    if f.name in ("euclidean_2", "erdos_renyi", "davis_southern_women")
)


def study(out, *options):
    return bounds.main(["--out", str(out), "--sizes", "8", "--seeds", "1", *options])


def values(out):
    rows = report.read_rows(out / "trials.csv")
    return [
        {name: value for name, value in row.items() if not name.endswith("_s")}
        for row in rows
    ]


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "FAMILIES", CHOSEN)
        patch.setattr(bounds, "STARTS", 3)
        # Those that take seconds with more atoms.
        for name in ("reformulation", "semidefinite", "quartic"):
            patch.setitem(bounds.LARGEST, name, 15)
        yield


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    out = tmp_path_factory.mktemp("bounds")
    assert study(out) == 0
    return out


def test_there_are_twelve_families_and_more():
    assert (
        len({family.name for family in families.FAMILIES})
        == len(families.FAMILIES)
        >= 12
    )
    named = {family.name for family in families.FAMILIES}
    assert {
        "karate_club",
        "les_miserables",
        "davis_southern_women",
        "rbf",
        "coactivation",
        "block_model",
    } <= named


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("weights", families.WEIGHTS)
def test_instances_depend_on_their_arguments_alone(family, weights):
    n = family.size or 20
    spaces, again, other = (family.draw(n, weights, seed) for seed in (1, 1, 2))
    for x, x2 in zip(spaces, again, strict=True):
        assert np.array_equal(x.dense(), x2.dense())
        assert np.array_equal(x.weights, x2.weights)
        assert x.size == n or family.name in ("erdos_renyi", "block_model", "adjacency")
        assert (np.ptp(x.weights) == 0) == (weights == "uniform")
    assert not np.array_equal(spaces[1].dense(), other[1].dense())
    assert not (
        spaces[0].size == spaces[1].size
        and np.array_equal(spaces[0].dense(), spaces[1].dense())
    )


def test_weights_do_not_change_the_law_of_the_spaces():
    for family in families.FAMILIES:
        (x, _), (weighted, _) = (
            family.draw(family.size or 15, weights, 0) for weights in families.WEIGHTS
        )
        assert np.array_equal(x.dense(), weighted.dense())


def test_no_bound_is_above_the_best_objective(uninterrupted):
    rows = values(uninterrupted)
    assert len(rows) == 6
    for row in rows:
        assert row["above"] == 0
        assert row["law"]
        most = row["best"] * (1 + 1e-9)
        assert all(0 <= row[name] <= most for name in NAMES if row[name] != "")


def test_values_are_those_of_the_instance(uninterrupted):
    row = values(uninterrupted)[1]
    x, y = CHOSEN[0].draw(row["n"], row["weights"], row["seed"])
    arrays = x.dense(), x.weights, y.dense(), y.weights
    for name, bound in checkers.BOUNDS.items():
        assert row[name] == pytest.approx(bound(*arrays), rel=1e-6), name
    single = gw.solve(x, y, gw.ConditionalGradient())
    assert float(single.objective) >= row["best"] * (1 - 1e-6)


def test_a_bound_above_is_counted(few, monkeypatch):
    monkeypatch.setitem(bounds.BOUNDS, "norm", lambda x, y: 1e9)
    assert bounds.measure(bounds.Case(CHOSEN[0], 6, "uniform", 0))["above"] == 1


def test_summary_is_that_of_the_trials(uninterrupted):
    trials = values(uninterrupted)
    for row, trial in zip(
        report.read_rows(uninterrupted / "summary.csv"), trials, strict=True
    ):
        assert (row["family"], row["weights"], row["seeds"]) == (
            trial["family"],
            trial["weights"],
            1,
        )
        for name in NAMES:
            if trial[name] == "":
                assert row[name] == ""
                continue
            assert row[name] == pytest.approx(
                trial[name] / trial["best"], rel=1e-4, abs=1e-9
            )


def test_all_outputs_are_written(uninterrupted):
    expected = {"trials.csv", "summary.csv", "meta.json", "bounds.md", "bounds.png"}
    assert {path.name for path in uninterrupted.iterdir()} == expected
    assert json.loads((uninterrupted / "meta.json").read_text())["bounds"] == list(
        NAMES
    )
    text = (uninterrupted / "bounds.md").read_text()
    # Three bounds are not computed of the two instances of 32 atoms.
    assert f"above the best objective: 0 of {6 * len(NAMES) - 6}." in text


def test_interrupted_run_resumes_with_the_same_rows(
    few, tmp_path, monkeypatch, capsys, uninterrupted
):
    measure, calls = bounds.measure, []

    def interrupted(case):
        calls.append(case)
        if len(calls) == 4:  # after the warm-up and two instances
            raise KeyboardInterrupt
        return measure(case)

    with monkeypatch.context() as patch:
        patch.setattr(bounds, "measure", interrupted)
        assert study(tmp_path) == 130
    assert "resumes" in capsys.readouterr().err
    assert len(values(tmp_path)) == 2
    with (tmp_path / "trials.csv").open("a") as file:
        file.write("euclidean_2,N")  # a row that was cut short
    assert study(tmp_path) == 0
    assert values(tmp_path) == values(uninterrupted)


def test_finished_run_measures_nothing(few, monkeypatch, uninterrupted):
    monkeypatch.setattr(bounds, "measure", None)
    assert study(uninterrupted) == 0


def test_graphs_of_one_size_are_drawn_in_it_and_less_often(monkeypatch):
    monkeypatch.setattr(bounds, "FAMILIES", families.FAMILIES)
    keys = [case.key for case in bounds.cases((12, 15), 5, 0)]
    assert len(set(keys)) == len(keys)
    assert [key[1:] for key in keys if key[0] == "karate_club"] == [
        (34, weights, seed) for weights in families.WEIGHTS for seed in range(2)
    ]
    assert sum(key[0] == "rbf" for key in keys) == 20


def test_beyond_its_largest_size_a_bound_has_empty_cells(few, tmp_path, monkeypatch):
    monkeypatch.setitem(bounds.LARGEST, "third", 7)
    # Of no concern here, and the slowest.
    for name in ("reformulation", "semidefinite", "quartic"):
        monkeypatch.setitem(bounds.LARGEST, name, 1)
    assert study(tmp_path, "--sizes", "6", "8") == 0
    trials = values(tmp_path)
    for row in trials:
        is_small = max(row["size_x"], row["size_y"]) <= 7
        assert (row["third"] != "") == is_small
    summary = report.read_rows(tmp_path / "summary.csv")
    by_size = {row["n"]: row for row in summary if row["family"] == "euclidean_2"}
    assert by_size[8]["third"] == by_size[8]["third_s"] == ""
    assert by_size[6]["third"] > 0
    count = sum(row[name] != "" for row in trials for name in NAMES)
    text = (tmp_path / "bounds.md").read_text()
    assert f"above the best objective: 0 of {count}." in text
    # Most bounds are known of the smaller size, which is drawn.
    assert bounds.drawn_size(trials) == 6


def test_older_rows_lack_columns(uninterrupted, tmp_path):
    trials = report.read_rows(uninterrupted / "trials.csv")
    older = [
        {k: v for k, v in row.items() if not k.startswith(("convex", "cubic"))}
        for row in trials
    ]
    rows = older[:3] + trials[3:]
    summary = bounds.summarise(rows)
    assert summary[0]["convex"] == summary[0]["convex_s"] == ""
    assert summary[-1]["convex"] > 0
    for weights in families.WEIGHTS:
        bounds.table(summary, weights)
    for chosen in (rows, older):
        bounds.times(chosen)
        bounds.draw(chosen, bounds.summarise(chosen), tmp_path / "figure.png")
    assert "not computed" in bounds.checks(older)


def test_best_is_that_of_the_reference_where_it_is_lower(few, monkeypatch):
    case = bounds.Case(CHOSEN[0], 6, "uniform", 0)
    found = bounds.measure(case)["best"]
    for known in (0.5 * found, 2 * found):
        monkeypatch.setattr(
            bounds.bounds_reference, "known", lambda known=known: {case.key: known}
        )
        assert bounds.measure(case)["best"] == min(found, known)
