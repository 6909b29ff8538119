"""The command line: example files, the steps in a row, mistakes in one sentence."""

import json
import math
import re
import runpy
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fusion import commands
from fusion.__main__ import main
from fusion.command_settings import (
    CaptureSettings,
    EvaluateSettings,
    GenerateSettings,
    ImportSettings,
    ReportSettings,
    settings_in,
    settings_of,
    train_settings,
    trainer_settings,
)
from fusion.teachers.server_logs import import_logprobs
from fusion.teachers.store import TeacherStore
from fusion.training.config import read_config
from tests.fusion import tiny
from tests.fusion.teachers import odd

COMMANDS = ("generate", "capture", "import", "report", "train", "evaluate")
KINDS = {
    "generate": GenerateSettings,
    "capture": CaptureSettings,
    "import": ImportSettings,
    "report": ReportSettings,
    "evaluate": EvaluateSettings,
}


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
        "standardize: center\ngraph: row_means\ngraph_weight: 0.2\nfusion_weight: 0.5\n"
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
        if name == "train":
            entries = [*train_settings(), *trainer_settings()]
        else:
            entries = settings_in(KINDS[name])
        for entry in entries:
            assert f"\n  {entry.name}: " in told
            assert entry.metadata["help"] in told
            for choice in entry.metadata.get("choices", ()):
                assert str(choice or "null") in told


def test_example_files_are_understood():
    for name in KINDS:
        assert settings_of(KINDS[name], [str(commands.EXAMPLES / f"{name}.yaml")])
    config = read_config([str(commands.EXAMPLES / "train.yaml"), "use_cpu=true"])
    assert config.learning_rate == 2e-4
    assert config.stores


ASKED = ("teacher=x", "data=y", "store=z")
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
    "missing student": (["train", "data=x", "use_cpu=true"], "student must be given"),
    "no student": (["train", "data=x", "student=nowhere"], "nowhere must be a local"),
    "going on": (
        ["train", "resume_from_checkpoint=auto", "save_strategy=no"],
        "add save_strategy=steps",
    ),
    "wrong type": (["capture", *ASKED, "k=ten"], "k must be an integer"),
    "wrong size": (["evaluate", "model=x", "data=y", "batch_size=1.5"], "an integer"),
    "wrong word": (["capture", *ASKED, "turns=some"], "turns must be one of"),
    "wrong dtype": (["capture", *ASKED, "dtype=int8"], "dtype must be one of"),
    "no data": (["capture", *ASKED], "there is no file y"),
    "nothing to ask": (["generate", "teacher=x", "data=y", "out=z"], "no file y"),
    "nothing to score": (["evaluate", "model=x", "data=y"], "there is no file y"),
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


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RANK", "x", "RANK must be a number from 0 on"),
        ("RANK", "-1", "RANK must be a number from 0 on"),
        ("RANK", "1", "RANK must be less than WORLD_SIZE = 1"),
        ("WORLD_SIZE", "", "WORLD_SIZE must be a number from 1 on"),
    ],
)
def test_wrong_ranks_are_told_before_the_model(
    capsys, monkeypatch, name, value, expected
):
    monkeypatch.setenv(name, value)
    assert main(["capture", *ASKED]) == 2
    assert expected in capsys.readouterr().err


def test_what_is_missing_is_told_before_any_model_is_loaded(
    capsys, models, monkeypatch, tmp_path
):
    def load(*_, **__):
        pytest.fail("a model is loaded")

    monkeypatch.setattr("fusion.models.load_model", load)
    monkeypatch.setattr("fusion.training.trainer.load_model", load)
    data = f"data={models / 'all.jsonl'}"
    student = f"student={models / 'student'}"
    train = ["train", student, "use_cpu=true", f"output_dir={tmp_path / 'out'}"]
    capture = ["capture", f"teacher={models / 'teacher'}", f"store={tmp_path / 's'}"]
    cases = {
        "no file nope": [*capture, data, "template=nope"],
        "no file none.jsonl": [*train, "data=none.jsonl"],
        "no file other.jsonl": [*train, data, "eval_data=other.jsonl"],
        "nowhere": [*train, data, "stores.a=nowhere"],
    }
    for expected, words in cases.items():
        assert main(words) == 2
        told = capsys.readouterr().err
        assert expected in told
        assert len(told.splitlines()) == 1


def test_device_maps_capture_the_same_as_one_device(capsys, models, tmp_path):
    folder = f"teacher={models / 'teacher'}"
    data = f"data={models / 'all.jsonl'}"
    for name, where in (("one", "device=cpu"), ("map", "device_map={'': cpu}")):
        done(capsys, "capture", folder, data, f"store={tmp_path / name}", where)
    one, spread = TeacherStore(tmp_path / "one"), TeacherStore(tmp_path / "map")
    assert one.manifest == spread.manifest
    key = tiny.sums(1)[0].key
    assert np.array_equal(one[key].values, spread[key].values)


def test_quantised_models_are_not_moved(models, monkeypatch):
    """They are loaded onto their device: moving some kinds is an error."""
    asked = []

    def load(path, dtype, device_map=None):
        asked.append(device_map)
        return SimpleNamespace(to=asked.append)

    monkeypatch.setattr("fusion.models.load_model", load)
    monkeypatch.setattr("fusion.models.is_quantized", lambda path: True)
    words = ["teacher=x", "data=y", "store=z", "device=cuda:1"]
    commands._placed("x", settings_of(CaptureSettings, words))
    commands._placed("x", settings_of(CaptureSettings, [*words, "device_map=auto"]))
    assert asked == [{"": "cuda:1"}, "auto"]


def test_an_interrupted_training_goes_on(capsys, models, tmp_path):
    """By the defaults of the command, from the newest of two checkpoints."""
    words = [
        "train",
        f"student={models / 'student'}",
        f"data={models / 'train.jsonl'}",
        f"output_dir={tmp_path / 'out'}",
        "resume_from_checkpoint=auto",
        *("use_cpu=true", "disable_tqdm=true", "max_steps=20", "trained_layers=1"),
    ]
    told = done(capsys, *words)
    out = tmp_path / "out"
    assert f"No checkpoint in {out}: starting from step 0." in told
    # As if the process had ended after step 18.
    names = {path.name for path in out.glob("checkpoint-*")}
    assert names == {"checkpoint-18", "checkpoint-20"}
    shutil.rmtree(out / "checkpoint-20")
    (out / "model.safetensors").unlink()
    told = done(capsys, *words)
    assert "No checkpoint" not in told
    assert "20 steps" in told
    assert (out / "model.safetensors").exists()
    assert main(words[:-5] + words[-4:]) == 2  # anew
    assert "must be without checkpoints" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("steps", 0.1)),
        (["load_best_model_at_end=no"], ("steps", 0.1)),
        (["load_best_model_at_end=true", "eval_strategy=epoch"], ("epoch", 10)),
        (
            ["load_best_model_at_end=true", "eval_strategy=steps", "eval_steps=3"],
            ("steps", 3),
        ),
        (
            ["load_best_model_at_end=true", "eval_strategy=steps", "logging_steps=7"],
            ("steps", 7),
        ),
    ],
)
def test_checkpoints_are_of_evaluated_steps_where_the_best_is_kept(words, expected):
    config = read_config([*words, "use_cpu=true"], **commands._saving(words))
    assert (config.save_strategy.value, config.save_steps) == expected


def test_without_counts_of_memory_the_time_alone_is_told(monkeypatch):
    assert "GiB" in commands.spent(0.0)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert re.fullmatch(r"\d+ s", commands.spent(0.0))


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
