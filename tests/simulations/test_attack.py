"""The attack on lower bounds: what is drawn, how it descends, what it counts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from simulations import _report as report
from simulations import attack, proofs
from tests.instances import instance


def test_chunks_depend_on_seed_and_index_alone():
    many = attack.chunks(0, 10_000)
    assert many[: len(attack.chunks(0, 1_000))] == attack.chunks(0, 1_000)
    seeds = [seed for chunk in many for seed in chunk.seeds]
    assert len(seeds) == len(set(seeds)) == 10_000
    assert {chunk.name for chunk in many} == set(attack.NAMES)
    efforts = Counter(chunk.effort for chunk in many)
    assert efforts["quartic"] == (attack.BUDGET_EVERY - 1) * efforts["budget"]
    sizes = {
        instance("gaussian float64", seed, attack.SIZES).x.size for seed in range(60)
    }
    assert sizes == set(attack.SIZES)


def test_descents_end_at_good_couplings_of_all_atoms():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((6, 2))
    weights = np.array([0.1, 0.3, 0.0, 0.2, 0.2, 0.2])
    order = rng.permutation(6)
    x = gw.PointCloud(points, weights)
    y = gw.PointCloud(points[order], weights[order])
    plans = attack.descents(x, y, 0)
    assert len(plans) == attack.COMPARED
    problem = gw.GWProblem(x, y)
    objectives = [float(problem.objective(plan)) for plan in plans]
    assert objectives == sorted(objectives)
    assert objectives[0] < 1e-12
    for plan in plans:
        rows, cols = plan.marginals()
        assert np.allclose(rows, weights)
        assert np.allclose(cols, weights[order])


@pytest.mark.parametrize("call", attack.CALLS)
def test_false_statements_are_found(call):
    one = instance("gaussian float32", 8, attack.SIZES)
    x = gw.PointCloud(
        np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 1.0]]), metric="sqeuclidean"
    )
    y = gw.PointCloud(np.array([[0.0], [3.0], [5.0]]), metric="sqeuclidean")
    one, least = attack._with_couplings(replace(one, x=x, y=y, plan=None, hints=()))
    effort = "budget" if call == "budget" else "quartic"
    answer = attack.answered(attack.calls(one, effort)[call])
    assert attack.judged(one, answer) == []
    assert 0.9 < attack.ratio(answer.certificate, least) <= 1.0
    above = 1.001 * float(least)
    bounds = answer.certificate.bounds | {"norm": above}
    false = replace(answer.certificate, bounds=bounds, lower=above)
    messages = attack.judged(one, answer._replace(certificate=false))
    assert {"bound", "verify"} <= {message.split(":")[0] for message in messages}


def test_errors_are_counted():
    one = instance("gaussian float64", 0)
    answer = attack.answered(lambda: 1 / 0)
    (message,) = attack.judged(one, answer)
    assert message.startswith("exception: ZeroDivisionError")
    assert attack._counted(answer, [message])["exception"] == 1
    refused = proofs.Answer(error=ValueError("values of C must be in the range"))
    assert attack._counted(refused, attack.judged(one, refused))["refused"] == 1


def test_runs_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attack, "BUDGET", 0.02)
    monkeypatch.setattr(attack, "CHUNK", 2)
    attack.run(tmp_path, 0, 10, 1)
    rows = report.read_rows(tmp_path / "chunks.csv")
    assert {row["call"] for row in rows} == set(attack.CALLS)
    # An interrupted run has lost its last row: that chunk is examined again.
    text = (tmp_path / "chunks.csv").read_text()
    (tmp_path / "chunks.csv").write_text(text[: text[:-1].rfind("\n") + 5])
    attack.run(tmp_path, 0, 10, 1)
    again = attack.complete(report.read_rows(tmp_path / "chunks.csv"))
    names = ("chunk", "call", "instances")
    assert Counter(tuple(row[name] for name in names) for row in again) == Counter(
        tuple(row[name] for name in names) for row in rows
    )
    assert attack.publish(tmp_path) == sum(row["violating"] for row in rows) == 0
    assert "5 chunks" in capsys.readouterr().out
