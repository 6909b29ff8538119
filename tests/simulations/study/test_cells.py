"""Cells of the study: what students learn, what teachers say, and factors of losses.

One quick study is run whole; its numbers mean nothing.
"""

import math
import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")

from simulations import _report as report
from simulations import fusion_study
from simulations.study import cells, protocol, tasks
from simulations.study.arms import ARMS
from simulations.study.cells import Chosen, Factors, Place
from simulations.study.protocol import Cell

PLAN = protocol.read(fusion_study.QUICK)
FILES = ("teachers.csv", "calibration.csv", "tuning.csv", "cells.csv")
TIMES = ("seconds", "evaluation_seconds")


def rows_of(folder, name):
    """Rows of a file in a fixed order, without what depends on the machine."""
    rows = report.read_rows(folder / name)
    for row in rows:
        for time in TIMES:
            row.pop(time, None)
    return sorted(map(str, rows))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A quick study, run whole."""
    out = tmp_path_factory.mktemp("study") / "all"
    work = out.with_name("work")
    command = ["--out", str(out), "--work", str(work), "--quick"]
    assert fusion_study.main(command) == 0
    return out.with_name("all-quick"), work


def place_of(ran):
    return Place(PLAN, ran[1])


def test_a_study_is_published_whole(ran):
    folder, _ = ran
    done = report.read_rows(folder / "cells.csv")
    asked = protocol.cells(PLAN)
    keys = [(r["family"], r["arm"], r["seed"], r["teacher"]) for r in done]
    assert sorted(keys) == sorted(cell.key for cell in asked)
    text = (folder / "fusion_study.md").read_text()
    assert f"{len(asked)} of {len(asked)} cells are recorded." in text
    for name in ("gains", "losses_over_steps", "gld_against_kl"):
        assert (folder / f"{name}.png").stat().st_size > 5000
    assert (folder / "distance_against_transfer.png").stat().st_size > 5000
    assert "## Whom a report chooses" in text
    choices = report.read_rows(folder / "choices.csv")
    assert len(choices) == 3 * len(PLAN.families())
    assert sum(row["knows"] for row in choices) == len(PLAN.families())
    tuned = {row["arm"] for row in report.read_rows(folder / "tuning.csv")}
    assert tuned == set(protocol.tuned_arms(asked))


def test_a_run_that_was_cut_off_ends_with_the_same_numbers(ran, tmp_path):
    """Rows are lost, the last one is cut, and what teachers say is lost, too."""
    folder, work = ran
    copied = tmp_path / "all-quick"
    shutil.copytree(folder, copied)
    shutil.copytree(work / "teachers", tmp_path / "work" / "teachers")
    for name in ("tuning.csv", "cells.csv"):
        text = (copied / name).read_text()
        lines = text.splitlines(keepends=True)
        (copied / name).write_text("".join(lines[:-3]) + lines[-3][:7])
    command = ["--out", str(tmp_path / "all"), "--work", str(tmp_path / "work")]
    assert fusion_study.main([*command, "--quick"]) == 0
    for name in FILES:
        assert rows_of(copied, name) == rows_of(folder, name)


def test_nothing_is_begun_beyond_the_budget(ran, tmp_path, capsys):
    _, work = ran
    command = ["--out", str(tmp_path / "out"), "--work", str(work), "--quick"]
    assert fusion_study.main([*command, "--budget", "0"]) == 0
    assert not (tmp_path / "out-quick" / "tuning.csv").exists()
    assert "No cell is recorded yet." in capsys.readouterr().out


def test_results_of_another_protocol_are_not_mixed(ran, tmp_path):
    folder, work = ran
    other = tmp_path / "other.yaml"
    text = fusion_study.QUICK.read_text().replace("steps: 4", "steps: 5", 1)
    other.write_text(text)
    told = ["--out", str(folder), "--work", str(work), "--config", str(other)]
    with pytest.raises(SystemExit, match="differ in steps"):
        fusion_study.main(told)


def test_students_learn_labels_or_answers_and_never_what_they_are_asked(ran):
    place = place_of(ran)
    family = "causal_judgement"
    parts = tasks.split(tasks.FAMILIES[family], 0)
    held_out = {q.prompt for q in (*parts.test, *parts.validation)}
    prompts = {}
    for arm in ("labels", "answers", "sequence"):
        cell = Cell("", family, arm, 0, "bpe")
        learnt = cells.learnt(place, cell)
        prompts[arm] = {example.prompt[0].content for example in learnt}
        assert not prompts[arm] & held_out
    assert prompts["labels"] == {q.prompt for q in parts.labelled}
    assert prompts["answers"] <= {q.prompt for q in parts.unlabelled}
    assert prompts["sequence"] == prompts["labels"] | prompts["answers"]


def test_answers_are_the_teacher_s_own(ran, tmp_path, monkeypatch):
    """Texts without a character are left out; right answers have no part in them."""
    place = Place(PLAN, tmp_path)
    shutil.copytree(ran[1] / "teachers", tmp_path / "teachers")
    cell = Cell("", "dyck_languages", "sequence", 0, "byte")
    unlabelled = tasks.split(tasks.FAMILIES["dyck_languages"], 0).unlabelled
    asked = unlabelled[: PLAN.unlabelled]
    texts = [f"{i};x" for i in range(len(asked))]
    texts[2] = " "

    def answers(pair, questions, most):
        assert tuple(questions) == asked
        return texts

    monkeypatch.setattr(cells.models, "answers", answers)
    found = [(e.prompt[0].content, e.completion) for e in cells.answered(place, cell)]
    given = [(q.prompt, text) for q, text in zip(asked, texts, strict=True)]
    del given[2]
    assert found == given


def test_shuffled_logits_are_each_those_of_another_question(ran):
    place = place_of(ran)
    cell = Cell("", "dyck_languages", "shuffled", 0, "byte")
    store = cells.store(place, cell)
    keys = [example.key for example in cells.learnt(place, cell)]
    shuffled = cells.Shuffled(store, keys, seed=0)
    assert all(key in shuffled for key in keys)
    given = [shuffled._other[key] for key in keys]
    assert sorted(given) == sorted(keys)
    assert all(key != other for key, other in zip(keys, given, strict=True))
    row = shuffled[keys[0]].values
    assert (row == store[given[0]].values).all()


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_losses_of_an_arm_have_the_share_of_the_gradient_together(share):
    measured = {"gradient_sft": 2.0, "gradient_token": 0.5, "gradient_graph": 8.0}
    only_uld = cells.factors(ARMS["uld"], share, measured)
    assert only_uld == Factors(pytest.approx(share * 2.0 / 0.5), 0.0)
    both = cells.factors(ARMS["uld_gld"], share, measured)
    # Each loss has half of it.
    assert both.token * 0.5 == pytest.approx(share * 2.0 / 2)
    assert both.graph * 8.0 == pytest.approx(share * 2.0 / 2)
    one = cells.factors(ARMS["uld_gld_one"], share, measured)
    assert one.token == one.graph
    assert one.token * 0.5 + one.graph * 8.0 == pytest.approx(share * 2.0)


def test_gradients_are_measured_while_labels_are_learnt(ran):
    """The first step's norms are those of a student that has learnt nothing."""
    place = place_of(ran)
    cell = Cell("", "dyck_languages", "uld_gld", 5, "byte")
    found = cells.calibrated(place, cell, 1e-9)
    pair = cells.models.student(5)
    chosen = Chosen(1e-9, Factors(1.0, 1.0))
    taught = cells.prepared(
        place, cell, chosen, pair, max_steps=2, logging_steps=2, log_term_gradients=True
    )
    taught.train()
    (logged,) = [row for row in taught.state.log_history if "gradient/sft" in row]
    # Factors are no part of the norms: these are of the unweighted terms.
    assert found["gradient_sft"] == pytest.approx(logged["gradient/sft"], rel=1e-3)
    token, graph = logged["gradient/uld/teacher"], logged["gradient/graph/teacher"]
    assert found["gradient_token"] == pytest.approx(token, rel=1e-3)
    assert found["gradient_graph"] == pytest.approx(graph, rel=1e-3)
    assert min(token, graph) > 0


def test_own_answers_are_to_the_unlabelled_questions_and_scored_by_the_teacher(ran):
    """The share of the gradient is that of steps of their own."""
    tuning = replace(PLAN.tuning, calibration_steps=8)
    place = Place(replace(PLAN, tuning=tuning), ran[1])
    cell = Cell("", "dyck_languages", "own_uld", 1, "byte")
    taught = cells.prepared(place, cell, Chosen(0.003, Factors(0.1, 0.0)), student())
    unlabelled = tasks.split(tasks.FAMILIES["dyck_languages"], 1).unlabelled
    asked = [problem.prompt[0].content for problem in taught._own.prompts]
    assert asked == [question.prompt for question in unlabelled[: PLAN.unlabelled]]
    assert taught.stores == {}
    manifest = taught._own.teachers["teacher"].manifest
    other = cell._replace(arm="sequence_uld")
    assert manifest.model == cells.store(place, other).manifest.model
    found = cells.calibrated(place, cell, 1e-9)
    assert found["gradient_sft"] > 0
    assert found["gradient_token"] > 0
    row = cells.run(place, cell, Chosen(0.003, Factors(0.1, 0.0)))
    assert row["uld"] > 0 or math.isnan(row["uld"])


def student():
    return cells.models.student(1)


def test_every_arm_trains_a_student(ran, tmp_path, monkeypatch):
    """Two steps of each, the first of rate 0; the teacher has the student's tokens."""
    place = Place(PLAN, tmp_path)
    shutil.copytree(ran[1] / "teachers", tmp_path / "teachers")
    # A teacher of four steps says nothing.
    monkeypatch.setattr(cells.models, "answers", lambda *asked: ["(;)"] * len(asked[1]))
    fresh = torch.cat([p.flatten() for p in cells.models.student(0).model.parameters()])
    for name, arm in ARMS.items():
        if name == "before":
            continue
        cell = Cell("", "dyck_languages", name, 0, "byte")
        pair = cells.models.student(0)
        chosen = Chosen(0.003, Factors(0.1, 0.1))
        taught = cells.prepared(place, cell, chosen, pair, max_steps=2, logging_steps=2)
        taught.train()
        weights = torch.cat([p.flatten() for p in pair.model.parameters()])
        assert torch.isfinite(weights).all(), name
        assert not torch.equal(weights, fresh), name
        terms = cells._last_terms(taught.state.log_history, arm)
        assert math.isfinite(terms["sft"]), name
        assert math.isfinite(terms["graph"]) == (arm.graph is not None), name
