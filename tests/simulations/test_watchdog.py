"""The random pairs: what they are made of, what is said of their results, and that a process without an answer is killed."""

from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from gwtools import Certificate, Kind
from simulations import _report as report
from simulations import watchdog

CASES = [watchdog.case(0, index) for index in range(3000)]


def pair(kind, n, **changed):
    """A pair of one kind and size, with all else as plain as can be."""
    plain = watchdog.Case(
        0, 0, (kind, kind), (n, n), ("uniform",) * 2, "other", "1", "float64", "Sorted"
    )
    return replace(plain, **changed)


def test_pairs_depend_on_seed_and_index_alone():
    for case in CASES[1:4]:
        assert case == watchdog.case(0, case.index)
        for x, again in zip(
            watchdog.build(case)[:2], watchdog.build(case)[:2], strict=True
        ):
            assert np.array_equal(x.dense(), again.dense())
            assert np.array_equal(x.weights, again.weights)
    assert watchdog.case(0, 1) != watchdog.case(1, 1)


def test_everything_is_drawn_and_large_programs_are_enough():
    assert {kind for case in CASES for kind in case.kinds} == set(watchdog.KINDS)
    assert {n for case in CASES for n in case.sizes} == {
        *watchdog.SMALL_SIZES,
        *watchdog.LARGE_SIZES,
    }
    for name, shares in {
        "relation": watchdog.RELATIONS,
        "units": watchdog.UNITS,
        "dtype": watchdog.DTYPES,
        "solver": watchdog.SOLVERS,
    }.items():
        assert {getattr(case, name) for case in CASES} == set(shares)
    large = sum(
        np.prod(watchdog.case(0, index).sizes) > 90_000
        for index in range(watchdog.PAIRS)
    )
    assert 500 <= large <= 1000


@pytest.mark.parametrize("kind", watchdog.KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("weights", watchdog.WEIGHTS)
def test_every_kind_exists_in_every_size_and_weight(kind, n, weights):
    for dtype, units in (("float64", "large"), ("float32", "small"), ("float64", "up")):
        x, y, _ = watchdog.build(
            pair(kind, n, weights=(weights, "uniform"), dtype=dtype, units=units)
        )
        assert x.size == y.size == n
        assert x.weights.dtype == y.weights.dtype == dtype
        assert np.all(np.isfinite(x.dense()))


@pytest.mark.parametrize("kind", watchdog.KINDS)
@pytest.mark.parametrize("weights", ["zeros", "duplicates"])
def test_a_copy_is_at_distance_zero(kind, weights):
    x, y, _ = watchdog.build(pair(kind, 7, relation="copy", weights=(weights,) * 2))
    for first, second in (
        (x.dense(), y.dense()),
        (x.weights, y.weights),
    ):  # in another order, with other roundings
        np.testing.assert_allclose(
            np.sort(first, axis=None), np.sort(second, axis=None), atol=1e-12
        )
    assert float(gw.bounds.row_means(x, y, p=2.0)) <= 1e-12


@pytest.mark.parametrize("units", watchdog.UNITS)
def test_sides_are_in_their_units(units):
    expected = np.asarray(watchdog.UNITS[units])
    for kind in ("cloud", "squared cloud", "gram", "kernel", "tree"):
        plain, scaled = (
            watchdog.build(pair(kind, 8, units=name))[:2] for name in ("1", units)
        )
        for factor, x, x2 in zip(expected, plain, scaled, strict=True):
            assert np.allclose(x2.dense() / factor, x.dense(), rtol=1e-9, atol=1e-9)


def test_results_are_judged():
    x, y, _ = watchdog.build(pair("cloud", 5))
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
        assert list(row)[: len(watchdog.case(0, 2).row())] == list(
            watchdog.case(0, 2).row()
        )
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
            case = watchdog.case(seed, index)
            lost = {
                "outcome": "hang",
                "status": "",
                "iterations": "",
                "objective": "",
                "message": "",
            }
            yield (
                case.row()
                | {"seconds": 1.0}
                | (lost if index == 2 else watchdog.outcome(case))
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
