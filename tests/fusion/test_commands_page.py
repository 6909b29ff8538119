"""The page on fusing one's own models: each command runs, and prints what it says."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import torch

from fusion.__main__ import main
from fusion.text.conversations import read_examples
from tests.fusion import tiny

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fusing-your-own-models.md"
TEXT = PAGE.read_text(encoding="utf-8")
# What is run, and what it prints.
BLOCKS = re.findall(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", TEXT, re.DOTALL)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the page begins with; the teacher ends some of its answers."""
    examples = tiny.sums(28)
    teacher, tokenizer = tiny.gpt2()
    ids = tokenizer(examples[8].prompt)["input_ids"]
    for _ in range(4):
        token = int(teacher(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
    head = teacher.get_output_embeddings().weight.data
    head[tokenizer.eos_token_id] = 1.1 * head[token]
    for name, parts in (("student", tiny.llama()), ("teacher", (teacher, tokenizer))):
        for part in parts:
            part.save_pretrained(tmp_path / "models" / name)
    labels, prompts, problems = examples[:8], examples[8:24], examples[24:]
    write(
        tmp_path / "labels.jsonl",
        [
            {"prompt": e.prompt, "completion": e.completion, "domain": e.domain}
            for e in labels
        ],
    )
    write(
        tmp_path / "prompts.jsonl",
        [{"prompt": e.prompt, "domain": e.domain} for e in prompts],
    )
    write(
        tmp_path / "test.jsonl",
        [{"prompt": e.prompt, "answer": "7", "task": e.domain} for e in problems],
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command):
    """Run a line of a shell, in this process."""
    words = shlex.split(command)
    if words[0] == "cat":
        *sources, arrow, target = words[1:]
        assert arrow == ">"
        with open(target, "wb") as file:
            for source in sources:
                with open(source, "rb") as part:
                    shutil.copyfileobj(part, file)
        return
    assert words[:3] == ["python", "-m", "fusion"]
    quiet = ["log_level=warning", "report_to=none"] if words[3] == "train" else []
    assert main([*words[3:], *quiet]) == 0


def plain(text):
    """Lines without what differs between machines: numbers, and digests."""
    text = re.sub(r"\bmodel [0-9a-f]{12}", "model N", text)
    return [re.sub(r"[0-9][0-9.,]*", "N", line) for line in text.splitlines()]


def test_every_command_of_the_page_runs_and_prints_what_it_says(folder, capfd):
    assert len(BLOCKS) == 7
    for commands, printed in BLOCKS:
        capfd.readouterr()
        for command in commands.splitlines():
            run(command)
        said = capfd.readouterr()
        lines = plain(f"{said.err}\n{said.out}".replace("\r", "\n"))
        for line in plain(printed):
            assert line in lines, line
    assert (folder / "fused" / "config.json").is_file()
    assert (folder / "fused-own" / "config.json").is_file()


def test_rows_may_be_streamed_from_a_local_file(folder):
    datasets = pytest.importorskip("datasets")
    streamed = datasets.load_dataset(
        "json",
        data_files=str(folder / "labels.jsonl"),
        split="train",
        streaming=True,
    )
    assert read_examples(streamed) == read_examples(folder / "labels.jsonl")


def test_the_page_names_tests_that_there_are():
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8")))
    assert len(named) > 8
    assert named <= found


def test_the_numbers_of_the_study_are_those_recorded():
    rows = (ROOT / "simulations/results/fusion_study/summary.csv").read_text()
    kept = {}
    for row in rows.splitlines()[1:]:
        arm, against, _, _, *numbers = row.split(",")[:7]
        kept[arm, against] = [f"{100 * float(x):+.1f}" for x in numbers]
    for key, words in {
        ("sequence", "labels"): "{} points over the labels alone on",
        ("sequence_uld", "sequence"): "ULD adds {} points",
        ("hybrid", "labels"): "`): {} points over the labels",
    }.items():
        gain, low, high = kept[key]
        flat = " ".join(TEXT.replace("−", "-").split())
        assert words.format(gain) in flat
        assert f"{low.lstrip('+')} to {high}" in flat.replace("(+", "(")
