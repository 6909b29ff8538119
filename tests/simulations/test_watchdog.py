"""The watchdog: what it says of results, and when it kills a process."""

from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from gwtools import Certificate, Kind
from simulations import _report as report
from simulations import watchdog
from simulations.random_pairs import build, case
from tests.simulations.test_random_pairs import pair


def test_results_are_judged():
    x, y, _ = build(pair("cloud", 5))
    result = gw.solve(x, y)
    assert watchdog.judge(x, y, result) == "answer"
    assert watchdog.judge(x, y, replace(result, objective=np.float64("nan"))) == "nan"
    assert (
        watchdog.judge(
            x, y, replace(result, plan=gw.DensePlan(np.full((5, 5), np.inf)))
        )
        == "nan"
    )
    assert (
        watchdog.judge(x, y, replace(result, plan=gw.DensePlan(np.full((5, 5), 0.05))))
        == "infeasible"
    )
    assert (
        watchdog.judge(
            x,
            y,
            replace(result, certificate=Certificate(2.0, 1.0, Kind.BRACKET, "norm")),
        )
        == "crossed"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("weights must be finite: remove them."), "refused"),
        (ValueError("operands could not be broadcast"), "crash"),
        (MemoryError("A plan of this size needs 3 GB."), "refused"),
        (IndexError("out of range."), "crash"),
    ],
)
def test_exceptions_are_told_apart(monkeypatch, error, expected):
    def failing(*_):
        raise error

    monkeypatch.setattr(watchdog.gw, "solve", failing)
    row = watchdog.outcome(pair("cloud", 3))
    assert (row["outcome"], row["status"], row["message"]) == (
        expected,
        type(error).__name__,
        str(error),
    )


def test_limits_grow_with_the_program():
    assert watchdog.limit(pair("cloud", 8), 7.0) == 7.0
    assert watchdog.limit(pair("cloud", 700), 7.0) == 28.0


def test_a_pair_without_an_answer_is_killed_and_the_next_is_solved():
    worker = watchdog.Worker(0, 1.0)
    try:
        worker.give(1)
        worker.deadline = 0.0
        row = (
            worker.finished()
            if not worker.pipe.poll()
            else pytest.fail("answered before its libraries were loaded")
        )
        assert (row["index"], row["outcome"]) == (1, "hang")
        worker.give(2)
        worker.process.kill()
        worker.process.join()
        assert "exit code -9" in worker.finished()["message"]
        worker.give(2)
        assert worker.pipe.poll(600)
        row = worker.finished()
        assert (row["index"], row["outcome"]) == (2, "answer")
        assert list(row)[: len(case(0, 2).row())] == list(case(0, 2).row())
    finally:
        worker.stop()


def test_one_pair_is_solved_alone(capsys):
    assert watchdog.main(["--only", "2"]) == 0
    shown = capsys.readouterr().out
    assert "index: 2" in shown
    assert "answer in" in shown


def test_everything_is_written_and_broken_pairs_fail(tmp_path, monkeypatch, capsys):
    def watched(seed, indices, jobs, seconds):
        for index in indices:
            one = case(seed, index)
            lost = {
                "outcome": "hang",
                "status": "",
                "iterations": "",
                "objective": "",
                "message": "",
            }
            yield (
                one.row()
                | {"seconds": 1.0}
                | (lost if index == 2 else watchdog.outcome(one))
            )

    monkeypatch.setattr(watchdog, "watch", watched)
    arguments = ["--out", str(tmp_path / "pairs"), "--quick", "--pairs", "5"]
    indices = range(1, 5)
    monkeypatch.setattr(watchdog, "range", lambda _: indices, raising=False)
    assert watchdog.main(arguments) == 1
    folder = tmp_path / "pairs-quick"
    assert {path.name for path in folder.iterdir()} == {
        "trials.csv",
        "summary.csv",
        "meta.json",
        "watchdog.md",
    }
    assert "## Broken: 1" in capsys.readouterr().out
    assert [row["index"] for row in report.read_rows(folder / "trials.csv")] == list(
        indices
    )
    monkeypatch.setattr(
        watchdog,
        "watch",
        lambda seed, indices, jobs, seconds: iter([]) if not indices else None,
    )
    assert watchdog.main(arguments) == 1
    assert "4 pairs are in" in capsys.readouterr().out
