"""Two teachers into one student: what is held out, and kills that change nothing."""

import json

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from fusion.text.conversations import read_examples
from simulations import _report as report
from simulations import real_fusion
from simulations._killing import KILLED, Ended


def test_held_out_conversations_are_not_trained_on(tmp_path):
    size = real_fusion.FULL
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        real_fusion.write_data(tmp_path / name, size, seed)
        texts.append((tmp_path / name / "all.jsonl").read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != texts[2]
    sets = {
        name: read_examples(tmp_path / "a" / f"{name}.jsonl")
        for name in ("train", "held_out", "others", "all")
    }
    assert [len(examples) for examples in sets.values()] == [200, 15, 15, 230]
    keys = {example.key for example in sets["all"]}
    assert len(keys) == 230
    languages = {
        name: {example.domain for example in examples}
        for name, examples in sets.items()
    }
    assert languages["train"] == languages["held_out"] == set(real_fusion.TRAINED_ON)
    assert languages["others"] == set(real_fusion.OTHERS)


def test_a_command_that_does_not_end_as_it_should_is_told(tmp_path, monkeypatch):
    def launch(words, errors, kill):
        errors.write_text("Loading\nteacher must be given\n")
        return Ended(status=int(words[0]), printed="", steps=0, seconds=1.0, peak=1.0)

    monkeypatch.setattr(real_fusion, "launch", launch)
    path = tmp_path / "commands.csv"
    with pytest.raises(SystemExit, match="status 2: teacher must be given"):
        real_fusion.run("capture", ["2"], path)
    with pytest.raises(SystemExit, match="status 0"):
        real_fusion.run("train", ["0"], path, kill=1.5)
    assert not path.exists()
    real_fusion.run("train", [str(KILLED)], path, kill=1.5)
    assert [row["end"] for row in report.read_rows(path)] == ["killed"]


def test_training_killed_twice_ends_with_the_same_weights(tmp_path, capsys):
    words = ["--out", str(tmp_path / "fused"), "--quick"]
    assert real_fusion.main(words) == 0
    folder = tmp_path / "fused-quick"
    files = ("commands.csv", "stores.csv", "equality.csv", "held_out.csv")
    for name in (*files, "meta.json", "real_fusion.md"):
        assert (folder / name).stat().st_size > 0
    ran = report.read_rows(folder / "commands.csv")
    ends = [row["end"] for row in ran if row["command"].startswith("train")]
    assert ends == ["finished", "killed", "killed", "finished"]
    undisturbed, first, second, rest = [
        row["steps"] for row in ran if row["command"].startswith("train")
    ]
    # What a killed process has done behind its last checkpoint is done again.
    assert first + second + rest > undisturbed == 10
    for row in report.read_rows(folder / "equality.csv"):
        assert row["equal"] == row["tensors"] > 0
        assert row["largest_difference"] == 0
    for row in report.read_rows(folder / "stores.csv"):
        assert row["examples"] == 48
        assert row["bytes"] > row["tokens"] * 60
        assert row["coverage"] > 0.9
    state = (folder / "work" / "undisturbed" / "trainer_state.json").read_text()
    assert json.loads(state)["global_step"] == undisturbed
    assert "killed twice" in (folder / "real_fusion.md").read_text(encoding="utf-8")

    capsys.readouterr()
    report.write_rows(folder / "commands.csv", ran)
    assert real_fusion.main(words) == 0
    # Finished commands are not repeated.
    assert "python -m fusion" not in capsys.readouterr().out
