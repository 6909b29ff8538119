"""The study of fusion: commands, what they print, and the tables.

The tables are of both simulations.
"""

from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("reasoning_gym")

from fusion import commands
from fusion.tasks import read_problems
from fusion.text.conversations import encode, read_examples
from fusion.training.config import read_config
from simulations import _report as report
from simulations import tiny_models, trainer_speed
from simulations.study import language_models


def test_data_depend_on_the_seed_alone_and_held_out_text_is_not_trained_on(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        language_models.write_data(tmp_path / name, language_models.QUICK, seed)
    files = ("all", "train", "held_out", "problems")
    texts = {
        name: [(tmp_path / name / f"{file}.jsonl").read_text() for file in files]
        for name in "abc"
    }
    assert texts["a"] == texts["b"]
    assert all(a != c for a, c in zip(texts["a"], texts["c"], strict=True))
    keys = [
        {e.key for e in read_examples(tmp_path / "a" / f"{file}.jsonl")}
        for file in files[:3]
    ]
    assert keys[0] == keys[1] | keys[2]
    assert not keys[1] & keys[2]
    problems = read_problems(str(tmp_path / "a" / "problems.jsonl"))
    assert {p.task for p in problems} == set(language_models.TASKS)
    assert not {p.example().key for p in problems} & keys[0]


def test_commands_are_understood():
    told = language_models.commands(
        Path("models"), Path("work"), language_models.FULL, seed=3
    )
    assert [name.split()[0] for name in told] == [
        "capture",
        "evaluate",
        "train",
        "evaluate",
        "train",
        "evaluate",
    ]
    for words in told.values():
        if words[0] == "train":
            assert read_config([*words[1:], "use_cpu=true"]).max_steps == 60
        else:
            assert commands.settings_of(
                getattr(commands, f"{words[0].capitalize()}Settings"), words[1:]
            )


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
        for arm in language_models.ARMS
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
