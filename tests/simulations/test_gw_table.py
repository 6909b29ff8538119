"""The simulation table: resuming, the columns, and the published data beside it."""

import json

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import gw_table


def table(out, *options):
    return gw_table.main(
        ["--out", str(out), "--sizes", "6", "8", "--trials", "2", *options]
    )


def untimed(out):
    rows = report.read_rows(out / "trials.csv")
    return [
        {name: value for name, value in row.items() if not name.startswith("time")}
        for row in rows
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("table")
    assert table(out) == 0
    return out


def test_published_table_has_its_nine_sizes():
    rows = report.read_rows(gw_table.PUBLISHED)
    assert tuple(row["n"] for row in rows) == gw_table.SIZES
    assert rows[-1]["exact_mean"] == 0.0404


def test_summary_begins_with_the_published_columns(uninterrupted):
    names = list(report.read_rows(gw_table.PUBLISHED)[0])
    rows = report.read_rows(uninterrupted / "summary.csv")
    added = ["best_mean", "best_std", "time_best_s", "lower_mean", "upper_mean"]
    assert list(rows[0])[: len(names) + len(added)] == [*names, *added]
    assert [row["n"] for row in rows] == [6, 8]


def test_summary_is_that_of_the_trials(uninterrupted):
    trials = [
        row for row in report.read_rows(uninterrupted / "trials.csv") if row["n"] == 8
    ]
    exact, sinkhorn, approx, best = (
        np.array([row[name] for row in trials])
        for name in ("exact", "sinkhorn", "approx", "best")
    )
    row = gw_table.summarise(trials)[0]
    assert row["exact_std"] == pytest.approx(abs(exact[0] - exact[1]) / np.sqrt(2))
    assert row["sinkhorn_re"] == pytest.approx(np.mean(sinkhorn / exact) - 1)
    assert row["approx_re"] == pytest.approx(np.mean(abs(approx / exact - 1)))
    assert row["best_mean"] == pytest.approx(np.mean(best))
    assert row["best_std"] == pytest.approx(abs(best[0] - best[1]) / np.sqrt(2))
    for trial in trials:
        assert trial["approx"] ** 2 <= trial["lower"] * (1 + 1e-6) + 1e-12
        least = min(trial[name] for name in ("exact", "sinkhorn", "best"))
        assert trial["lower"] <= least <= trial["upper"] <= least * (1 + 1e-9)


def test_all_outputs_are_written(uninterrupted):
    assert {path.name for path in uninterrupted.iterdir()} == {
        "trials.csv",
        "summary.csv",
        "meta.json",
        "gw_table.md",
        "gw_table.png",
    }
    assert json.loads((uninterrupted / "meta.json").read_text())["seed"] == 0


def test_interrupted_run_resumes_with_the_same_rows(
    tmp_path, monkeypatch, capsys, uninterrupted
):
    measure, calls = gw_table.measure, []

    def interrupted(seed, n, trial):
        calls.append(n)
        if len(calls) == 4:  # after the warm-up and two trials
            raise KeyboardInterrupt
        return measure(seed, n, trial)

    with monkeypatch.context() as patch:
        patch.setattr(gw_table, "measure", interrupted)
        assert table(tmp_path) == 130
    assert "resumes" in capsys.readouterr().err
    assert len(untimed(tmp_path)) == 2

    with (tmp_path / "trials.csv").open("a") as file:
        file.write("8,0,0.1")  # a row that was cut short
    assert table(tmp_path) == 0
    assert untimed(tmp_path) == untimed(uninterrupted)


def test_finished_run_measures_nothing(monkeypatch, uninterrupted):
    monkeypatch.setattr(gw_table, "measure", None)
    assert table(uninterrupted) == 0


def test_results_of_another_seed_are_not_mixed(uninterrupted):
    with pytest.raises(SystemExit, match="seed"):
        table(uninterrupted, "--seed", "1")


def test_quick_results_have_a_folder_of_their_own(tmp_path):
    arguments = report.command_line(None).parse_args(
        ["--out", str(tmp_path / "table"), "--quick"]
    )
    assert report.results_folder(arguments) == tmp_path / "table-quick"


def test_points_depend_on_seed_size_and_trial_alone():
    x, y = gw_table.clouds(0, 5, 1)
    again, _ = gw_table.clouds(0, 5, 1)
    other, _ = gw_table.clouds(0, 5, 2)
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)
    assert x.shape == y.shape == (5, gw_table.DIMENSION)


def test_exact_starts_at_the_product_coupling_and_best_by_default(monkeypatch):
    calls, solve = [], gw.solve

    def recorded(x, y, solver=None):
        calls.append(solver)
        return solve(x, y, solver)

    monkeypatch.setattr(gw, "solve", recorded)
    gw_table.measure(0, 6, 0)
    exact, _, _, best = calls
    assert exact.init == "product"
    assert best is None


def test_best_found_has_its_columns_and_ends_the_interval(tmp_path, monkeypatch):
    """Sorted stands for the named solvers: what the default finds is below them."""
    plain = gw.Sorted(kind="row_means", p=1)
    monkeypatch.setattr(gw_table, "SOLVERS", dict.fromkeys(gw_table.SOLVERS, plain))
    assert table(tmp_path) == 0
    for trial in report.read_rows(tmp_path / "trials.csv"):
        assert trial["best"] < trial["exact"]
        assert trial["upper"] == pytest.approx(trial["best"], rel=1e-9)
    summary = report.read_rows(tmp_path / "summary.csv")[0]
    header, _, first = (tmp_path / "gw_table.md").read_text().splitlines()[2:5]
    cells = dict(zip(header.split("|"), first.split("|"), strict=True))
    cells = {name.strip(): cell.strip() for name, cell in cells.items()}
    assert cells["Best found"].startswith(f"{summary['best_mean']:.4f}")
    assert float(cells["s Best found"]) == pytest.approx(
        summary["time_best_s"], abs=1e-4
    )
    assert summary["best_mean"] < summary["exact_mean"]
