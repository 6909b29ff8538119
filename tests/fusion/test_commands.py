"""The command line: example files, the steps in a row, mistakes in one sentence."""

import json
import math
import runpy
import sys

import numpy as np
import pytest

from fusion import commands
from fusion.__main__ import main
from fusion.teachers.server_logs import import_logprobs
from fusion.teachers.store import TeacherStore
from fusion.training.config import read_config
from tests.fusion import tiny
from tests.fusion.teachers import odd

COMMANDS = ("capture", "import", "report", "train", "evaluate")


@pytest.fixture(scope="module")
def models(tmp_path_factory, llama, gpt2):
    """The tiny models as folders, and data for them."""
    folder = tmp_path_factory.mktemp("models")
    for name, parts in (("student", llama), ("teacher", gpt2)):
        for part in parts:
            part.save_pretrained(folder / name)
    rows = [
        {"prompt": e.prompt, "completion": e.completion, "domain": e.domain}
        for e in tiny.sums(24)
    ]
    problems = [
        {"prompt": row["prompt"], "answer": row["completion"], "task": "sums"}
        for row in rows[:4]
    ]
    for name, found in (
        ("train", rows[:16]),
        ("held_out", rows[16:]),
        ("all", rows),
        ("problems", problems),
    ):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in found)
        )
    return folder


def done(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def capture(capsys, models, tmp_path, name):
    """Capture what a model says of all examples, into a store of its name."""
    told = done(
        capsys,
        "capture",
        f"teacher={models / name}",
        f"data={models / 'all.jsonl'}",
        f"store={tmp_path / name}",
        "k=8",
        "device=cpu",
    )
    assert "24 examples" in told


def test_import_stores_what_can_be_and_lists_what_is_left_out(capsys, tmp_path):
    rows = [odd.plain(), odd.plain(), odd.plain(logprob=None)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["import", f"source={log}", f"store={tmp_path / 'store'}", "k=1"]
    assert main(words) == 2
    captured = capsys.readouterr()
    sentence, listed = captured.err.splitlines()
    assert sentence.startswith("fusion: source must hold rows that can be stored")
    assert listed == "  Row 3: at token 1, a log-probability is null."

    told = done(capsys, *words, "on_bad_rows=drop", "model=served", "vocabulary=8")
    left_out, summary = told.splitlines()
    assert left_out == listed.strip()
    assert "1 examples, 1 tokens, 1 rows repeated, 1 left out" in summary
    manifest = TeacherStore(tmp_path / "store").manifest
    assert (manifest.model, manifest.vocabulary, manifest.k) == ("served", 8, 1)


def without_constants(text):
    """Read JSON as strict parsers do, to which NaN and infinities are unknown."""
    return json.loads(text, parse_constant=pytest.fail)


def answers(path, completions):
    """Store log-probabilities of completions of one byte, and return their rows."""
    rows = []
    for completion in completions:
        top = {"token": completion, "logprob": -0.5}
        content = [top | {"top_logprobs": [top]}]
        row = {
            "prompt": "which?",
            "completion": completion,
            "logprobs": {"content": content},
        }
        rows.append(row)
    import_logprobs(rows, path, k=1)
    return rows


def test_reports_of_teachers_without_a_common_example_are_strict_json(capsys, tmp_path):
    rows = [*answers(tmp_path / "a", "xy"), *answers(tmp_path / "b", "z")]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stores = [f"stores.{name}={tmp_path / name}" for name in "ab"]
    done(capsys, "report", *stores, f"data={data}", f"out={tmp_path / 'out'}")
    found = without_constants((tmp_path / "out" / "report.json").read_text())
    (relation,) = found["relations"]
    assert relation["positions"] == 0
    assert relation["agreement"] is relation["conflict"] is None
    assert [line["nll"] for line in found["knowledge"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, np.float64("nan")], ids=repr
)
def test_json_is_strict_at_any_depth(tmp_path, bad):
    path = tmp_path / "some.json"
    commands._write_json(path, {"a": [{"b": (bad, 1.5)}], "c": bad, "d": "NaN"})
    found = without_constants(path.read_text())
    assert found == {"a": [{"b": [None, 1.5]}], "c": None, "d": "NaN"}


def train(capsys, models, tmp_path, store):
    """Return the losses on held-out text before and after twenty steps."""
    run = tmp_path / "run.yaml"
    run.write_text(
        f"student: {models / 'student'}\noutput_dir: {tmp_path / 'fused'}\n"
        "learning_rate: 5e-3\nmax_steps: 20\n"
        "use_cpu: true\ndisable_tqdm: true\nk: 8\n"
        "standardize: center\ngraph_weight: 0.2\n"
    )
    data = f"data={models / 'train.jsonl'}"
    eval_data = f"eval_data={models / 'held_out.jsonl'}"
    told = done(capsys, "train", run, store, data, eval_data)
    assert "20 steps" in told
    losses = told.partition("eval_loss ")[2].splitlines()[0]
    before, after = losses.split(" -> ")
    return float(before), float(after)


def test_capture_report_train_evaluate(capsys, models, tmp_path):
    """The student's fused loss on held-out text falls by a fifth.

    The folder that training leaves can be used again.
    """
    for name in ("teacher", "student"):
        capture(capsys, models, tmp_path, name)
    stores = [
        f"stores.gpt2={tmp_path / 'teacher'}",
        f"stores.llama={tmp_path / 'student'}",
    ]
    report = tmp_path / "report"
    data = f"data={models / 'all.jsonl'}"
    told = done(capsys, "report", *stores, data, f"out={report}")
    assert "| even | gpt2, llama |" in told
    names = {path.name for path in report.iterdir()}
    assert names == {"report.md", "report.json", "report.png"}

    before, after = train(capsys, models, tmp_path, stores[0])
    assert after < 0.8 * before

    told = done(
        capsys,
        "evaluate",
        f"model={tmp_path / 'fused'}",
        f"data={models / 'problems.jsonl'}",
        "max_new_tokens=4",
        f"out={tmp_path / 'scores'}",
        "device=cpu",
    )
    assert "| sums | 4 |" in told
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores[0]["problems"] == 4
    assert len((tmp_path / "scores" / "texts.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("name", [*COMMANDS, "models"])
def test_help_names_every_setting_and_shows_the_example(capsys, name):
    with (
        pytest.raises(SystemExit) if name == "models" else pytest.MonkeyPatch.context()
    ):
        main([name, "--help"])
    told = capsys.readouterr().out
    assert told.startswith(f"usage: fusion {name}")
    if name != "models":
        assert (commands.EXAMPLES / f"{name}.yaml").read_text().strip() in told
        settings = {
            "capture": "shard_size",
            "import": "on_bad_rows",
            "report": "stores",
            "train": "fusion_weight",
            "evaluate": "max_new_tokens",
        }
        assert settings[name] in told


def test_example_files_are_understood():
    for name in ("capture", "import", "report", "evaluate"):
        kind = getattr(commands, f"{name.capitalize()}Settings")
        assert commands.settings_of(kind, [str(commands.EXAMPLES / f"{name}.yaml")])
    config = read_config([str(commands.EXAMPLES / "train.yaml"), "use_cpu=true"])
    assert config.learning_rate == 2e-4
    assert config.stores


BAD = {
    "unknown key": (["capture", "techer=x"], "did you mean teacher"),
    "missing key": (["evaluate", "model=x"], "data must be given"),
    "missing folder": (
        ["evaluate", "model=nowhere", "data=reasoning-gym:gcd:2"],
        "nowhere must be a local",
    ),
    "missing log": (["import", "store=x", "source=nowhere.jsonl"], "nowhere.jsonl"),
    "no store": (["import", "source=nowhere.jsonl"], "store must be given"),
    "missing data": (["train", "student=x"], "data must be given"),
    "missing file": (["report", "stores.a=nowhere", "data=nowhere.jsonl"], "nowhere"),
    "bad value": (["train", "data=x", "fusion_weight=2"], "at most 1"),
    "no file": (["train", "run.json"], "key=value or a .yaml"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_sentence(capsys, case):
    words, expected = BAD[case]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fusion: ")
    assert expected in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_a_folder_with_checkpoints_is_not_trained_into_anew(capsys, tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text("{}")
    assert main(["train", "data=x", f"output_dir={tmp_path}", "use_cpu=true"]) == 2
    assert "resume_from_checkpoint=auto" in capsys.readouterr().err


def test_the_plain_loop_is_short_and_runs(models, tmp_path, monkeypatch, capsys):
    path = commands.EXAMPLES / "plain_loop.py"
    assert len(path.read_text().splitlines()) < 140
    files = [models / "student", models / "teacher", models / "train.jsonl"]
    words = [path, *files, tmp_path / "out", "--steps", "20", "--learning-rate", "5e-3"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    capsys.readouterr()
    runpy.run_path(str(path), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["10", "20"]
    assert lines[0][1::2] == ["sft", "uld/teacher", "graph/teacher"]
    assert (tmp_path / "out" / "config.json").exists()
