"""Batches of pairs: each pair once, of like sizes, the same for the same sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import gwtools as gw
from gwtools import pair_batches
from gwtools.pair_batches import batches

sizes = st.integers(0, 120).flatmap(
    lambda count: st.tuples(
        *[arrays(np.int64, count, elements=st.integers(1, 3000))] * 2
    )
)


@given(sizes)
def test_every_pair_is_in_one_batch_and_large_ones_come_first(pair):
    found = batches(*pair)
    entries = pair[0] * pair[1]
    positions = np.concatenate([np.zeros(0, int), *(b.positions for b in found)])
    assert sorted(positions) == list(range(entries.size))
    assert np.all(np.diff(entries[positions]) <= 0)
    assert [batch.number for batch in found] == list(range(len(found)))
    for batch in found:
        together = entries[batch.positions].sum()
        assert batch.positions.size == 1 or together <= 2**18
        assert 1 <= batch.positions.size <= 32


def test_a_distance_lies_in_its_interval():
    rng = np.random.default_rng(0)
    clouds = [gw.PointCloud(rng.standard_normal((n, 2))) for n in (1, 4, 6)]
    pairs = [(x, y) for x in clouds for y in clouds]
    xs, ys = zip(*pairs, strict=True)
    everything = pair_batches.Batch(0, np.arange(len(pairs)))
    for solver in (None, gw.Sinkhorn(), gw.Sorted()):
        task = pair_batches.Task(everything, xs, ys, solver, "linear")
        batch, rows = pair_batches.solved(task)
        assert batch is everything
        assert np.all(rows["lower"] <= rows["distance"])
        assert np.all(rows["distance"] <= rows["upper"])
        for (x, y), row in zip(pairs, rows, strict=True):
            result = gw.solve(x, y, solver)
            assert row["distance"] == pytest.approx(float(result.distance), abs=1e-9)
            # Rounded outward, so squares of the ends hold the certificate.
            assert row["lower"] ** 2 <= result.certificate.lower + 1e-9
            assert row["upper"] ** 2 >= result.certificate.upper - 1e-9


def test_without_joblib_one_worker_does_all(monkeypatch):
    monkeypatch.setattr(pair_batches, "find_spec", lambda name: None)
    assert list(pair_batches.run(abs, [-1, 2, -3], None)) == [1, 2, 3]


class Loud:
    """What joblib does where its backend returns all at once."""

    def __init__(self, n_jobs=None, return_as="list"):
        if return_as != "list":
            raise ValueError("no generator")

    def __call__(self, calls):
        return [function(*arguments) for function, arguments, _ in calls]


def test_backends_that_return_all_at_once_do(monkeypatch):
    joblib = pytest.importorskip("joblib")
    monkeypatch.setattr(joblib, "Parallel", Loud)
    assert list(pair_batches.run(abs, [-1, 2], 2)) == [1, 2]


def test_bars_are_shown_where_they_are_asked_for(capsys):
    pytest.importorskip("tqdm")
    shown = pair_batches.with_progress(iter("ab"), 2, "pairwise", "batch", True)
    assert list(shown) == ["a", "b"]
    assert "pairwise" in capsys.readouterr().err
    for progress in (False, None):  # stderr is no terminal here
        quiet = pair_batches.with_progress(iter("ab"), 2, "x", "batch", progress)
        assert list(quiet) == ["a", "b"]
        assert capsys.readouterr().err == ""
