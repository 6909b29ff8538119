"""The study of fusion: commands, what they print, and the tables.

The tables are of both simulations.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("reasoning_gym")

from fusion import commands, evaluate
from fusion.tasks import read_problems
from fusion.text.conversations import encode
from fusion.training.config import read_config
from simulations import _report as report
from simulations import fusion_study, tiny_models, trainer_speed
from simulations.study import language_models, plans

STUDY = Path(language_models.__file__).parent
NAMES = ("gemma", "taught")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def plan_of(name, quick=False):
    return plans.read(STUDY / f"{name}.yaml", quick)


@pytest.mark.parametrize("name", NAMES)
def test_data_depend_on_the_seed_alone_and_nothing_is_for_two_things(name, tmp_path):
    plan = plan_of(name, quick=True)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        plans.write_data(tmp_path / folder, plan, seed)
    files = ("labelled", "held_out", "captured")
    texts = {
        folder: [(tmp_path / folder / f"{file}.jsonl").read_text() for file in files]
        for folder in "abc"
    }
    assert texts["a"] == texts["b"]
    assert all(a != c for a, c in zip(texts["a"], texts["c"], strict=True))
    prompts = {
        path.stem: {row["prompt"] for row in rows_of(path)}
        for path in (tmp_path / "a").iterdir()
    }
    assert prompts.pop("captured") == prompts["labelled"] | prompts["held_out"]
    assert sum(map(len, prompts.values())) == len(set().union(*prompts.values()))
    problems = read_problems(str(tmp_path / "a" / "problems.jsonl"))
    assert {p.task for p in problems} == set(plan.questions)


def test_completions_of_a_family_end_in_what_is_scored(tmp_path):
    asked = plans.questions(plan_of("taught", quick=True), 0)["labelled"]
    problems = [one.problem for one in asked]
    (score,) = evaluate.score(problems, [one.completion for one in asked])
    assert score.correct == len(asked) == 8


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("gemma", "capture evaluate train evaluate train evaluate"),
        (
            "taught",
            "train evaluate capture train evaluate capture generate evaluate "
            "train evaluate train evaluate train evaluate",
        ),
    ],
)
def test_commands_are_understood(name, kinds):
    plan = plan_of(name)
    planned = language_models.Run(plan, Path("models"), Path("work"), 3)
    told = planned.commands()
    assert " ".join(words[0] for words in told.values()) == kinds
    for title, words in told.items():
        if words[0] == "train":
            config = read_config([*words[1:], "use_cpu=true"])
            size = plan.size
            taught = title.startswith("teach")
            expected = size.teaching_steps if taught else size.steps
            assert config.max_steps == expected
        else:
            assert commands.settings_of(
                getattr(commands, f"{words[0].capitalize()}Settings"), words[1:]
            )


def test_what_a_teacher_answered_is_learnt_beside_the_labels(tmp_path):
    plans.write_data(tmp_path / "data", plan_of("taught", quick=True), 0)
    said = [{"prompt": "3*5\n", "completion": "3*5=15 #### 15"}]
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "gemma3.jsonl").write_text(json.dumps(said[0]) + "\n")
    plans.write_answers(tmp_path, "gemma3")
    data = tmp_path / "data"
    labelled = rows_of(data / "labelled.jsonl")
    assert rows_of(data / "answers_gemma3.jsonl") == labelled + said


def test_the_command_of_the_study_runs_plans_of_language_models(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(language_models, "study", lambda told: asked.append(told) or 0)
    config = STUDY / "taught.yaml"
    words = ["--out", str(tmp_path), "--config", str(config), "--models", "models"]
    assert fusion_study.main(words) == 0
    (told,) = asked
    assert told.models == Path("models")
    assert not plans.is_plan(STUDY / "protocol.yaml")


def test_what_a_command_prints_becomes_a_row(tmp_path, monkeypatch):
    printed = (
        "store: 300 examples, 3112 tokens, 75.5 bytes a token; "
        "334 s, peak memory 2.1 GiB.\n"
    )

    def run(*_, **__):
        return language_models.subprocess.CompletedProcess([], 0, printed, "")

    monkeypatch.setattr(language_models.subprocess, "run", run)
    row = language_models.run("capture", [], tmp_path / "commands.csv")
    expected = {
        "command": "capture",
        "seconds": 334,
        "peak_memory_GiB": 2.1,
        "examples": 300,
        "tokens": 3112,
    }
    assert row == expected | {"bytes_a_token": 75.5}
    assert report.read_rows(tmp_path / "commands.csv") == [row]


def test_tables_and_figure(tmp_path):
    ran = [
        {
            "command": "capture",
            "seconds": 3.0,
            "peak_memory_GiB": 1.0,
            "examples": 2.0,
            "tokens": 9.0,
            "bytes_a_token": 70.0,
        }
    ]
    training = [
        {"arm": arm, "part": part, "step": step, "sft": 2.0, "uld": 3.0, "graph": 4.0}
        for arm in ("labels", "fused")
        for part in ("training", "held out")
        for step in (0, 5)
    ]
    score = {
        "task": "gcd",
        "problems": 4,
        "correct": 1,
        "accuracy": 0.25,
        "low": 0.1,
        "high": 0.6,
        "majority": 0.5,
        "chance": 0.1,
    }
    text = language_models.tables(
        ran, training, [{"student": "fused", **score, "unextracted": 2}]
    )
    assert "70.0 bytes a token" in text
    assert "25.0% | 10.0% – 60.0%" in " ".join(text.split())
    language_models.draw(training, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 5000


def test_tiny_models_share_nothing_but_bytes():
    example = tiny_models.sums(1)[0]
    student, teacher = (
        tiny_models.llama(width=16, layers=1),
        tiny_models.gpt2(width=16, layers=1),
    )
    ends = [encode(example, pair.tokenizer).ends for pair in (student, teacher)]
    assert len(ends[0]) != len(ends[1])
    assert ends[0][-1] == ends[1][-1] == len(example.completion)
    (problem,) = tiny_models.problems([example])
    assert example.completion.endswith(f"<answer>{problem.answer}</answer>.")


def test_summary_of_speed_is_of_medians():
    rows = [
        {
            "kind": kind,
            "tokens": 100,
            "seconds": seconds,
            "cpu_seconds": seconds / 2,
            "peak_MiB": seconds,
        }
        for kind in trainer_speed.RUNS
        for seconds in (1.0, 2.0, 10.0)
    ]
    summary = trainer_speed.summarise(rows)
    figures = ("tokens_a_second", "tokens_a_cpu_second", "peak_MiB", "runs")
    assert [tuple(row[name] for name in figures) for row in summary] == [
        (50.0, 100.0, 2.0, 3)
    ] * len(trainer_speed.RUNS)
    assert "TRL GOLD" in trainer_speed.table(summary)


@pytest.mark.parametrize("kind", ["fusion", "chunked", "capture"])
def test_measures_in_this_process(kind):
    row = trainer_speed.measure(kind, steps=1, seed=0)
    assert row["kind"] == kind
    assert row["tokens"] > 8 * 10
    assert row["seconds"] > 0
