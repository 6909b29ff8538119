"""The run of the oracle over many instances: what is drawn, counted and kept."""

from collections import Counter
from dataclasses import replace

import pytest

from simulations import _report as report
from simulations import proofs
from tests.instances import instance


def test_chunks_depend_on_seed_and_index_alone():
    all_of_them = proofs.chunks(0, 100_000)
    assert all_of_them[: len(proofs.chunks(0, 5_000))] == proofs.chunks(0, 5_000)
    assert {chunk.call for chunk in all_of_them} == set(proofs.CALLS)
    assert {chunk.name for chunk in all_of_them} == set(proofs.NAMES)
    linear = [chunk for chunk in all_of_them if chunk.effort == "linear"]
    seeds = [seed for chunk in linear for seed in chunk.seeds]
    assert len(seeds) == len(set(seeds)) == 100_000
    assert not {
        seed for chunk in proofs.chunks(1, 1_000) for seed in chunk.seeds
    } & set(seeds)
    efforts = Counter(chunk.effort for chunk in all_of_them)
    assert (
        efforts["quartic"]
        == efforts["cubic"]
        == efforts["quadratic"]
        == efforts["linear"] // proofs.EVERY_EFFORT
    )


@pytest.mark.parametrize("call", proofs.CALLS)
def test_every_call_answers_every_instance(call):
    drawn = [instance("gaussian float64", seed) for seed in range(4)]
    sorts = set()
    for one, answer in zip(drawn, proofs.answers(call, "linear", drawn), strict=True):
        assert answer.error is None
        assert (answer.plan is one.plan) == (call == "certify")
        assert (answer.objective is None) == (call == "certify")
        broken = answer._replace(certificate=replace(answer.certificate, upper=0.0))
        sorts |= {message.split(":")[0] for message in proofs.judged(one, broken)}
    assert {"upper", "crossed"} <= sorts


def test_refusals_and_failures_are_told_apart():
    one = instance("gaussian float64", 0)
    for error, expected in (
        (
            ValueError(
                "x must be at least 1e-100, but its values are too small: rescale it."
            ),
            "refused",
        ),
        (
            ValueError("x must be symmetric."),
            "exception: ValueError: x must be symmetric.",
        ),
        (OverflowError("out of range"), "exception: OverflowError: out of range"),
    ):
        assert proofs.judged(one, proofs.Answer(error=error)) == [expected]


def test_runs_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proofs, "CHUNK", 20)
    proofs.run(tmp_path, 0, 40, 1)
    rows = report.read_rows(tmp_path / "chunks.csv")
    assert Counter(row["effort"] for row in rows) == {
        "linear": 2,
        "quadratic": 1,
        "cubic": 1,
        "quartic": 1,
    }
    # An interrupted run has lost its last row, but not the violations before it.
    text = (tmp_path / "chunks.csv").read_text()
    (tmp_path / "chunks.csv").write_text(text[: text[:-1].rfind("\n") + 5])
    proofs.run(tmp_path, 0, 40, 1)
    assert report.read_rows(tmp_path / "chunks.csv") == rows
    assert proofs.publish(tmp_path) == sum(row["violating"] for row in rows)
    assert "80" in capsys.readouterr().out
