"""A teacher's answers: which are kept, in what form, and after an interruption."""

import copy
import json
import os

import pytest

pytest.importorskip("transformers")

import torch

from fusion import answers, evaluate
from fusion.__main__ import main
from fusion.answers import generate_answers
from fusion.evaluate import Written
from fusion.tasks import Problem, read_prompts
from fusion.text.conversations import read_examples

PROMPTS = ("one and two", "the", "a longer prompt than the others are", "seven", "x y")


@pytest.fixture(scope="module")
def teacher(llama):
    """A tiny model that ends some of its answers, and its tokenizer."""
    model, tokenizer = copy.deepcopy(llama[0]), llama[1]
    ids = tokenizer(PROMPTS[0])["input_ids"]
    for _ in range(4):
        token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
    # What it says fourth becomes what ends answers.
    head = model.lm_head.weight.data
    head[tokenizer.eos_token_id] = 1.1 * head[token]
    return model, tokenizer


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def scripted(monkeypatch, texts, ended):
    """Let texts be what any teacher writes, and return the batches that are asked."""
    asked = []

    def write(model, tokenizer, problems, max_new_tokens, batch_size, first=0):
        for start in range(first * batch_size, len(problems), batch_size):
            part = slice(start, start + batch_size)
            asked.append(start)
            places = [*range(len(problems))][part]
            yield Written(places, texts[part], ended[part])

    monkeypatch.setattr(answers, "write", write)
    return asked


def test_what_is_kept_is_what_the_model_ended(teacher, tmp_path):
    problems = [Problem(prompt, "", "t") for prompt in PROMPTS]
    path = tmp_path / "new" / "said.jsonl"
    found = generate_answers(*teacher, problems, path, max_new_tokens=12, batch_size=2)
    texts = evaluate.generate(*teacher, problems, max_new_tokens=12, batch_size=1)
    rows = {row["prompt"]: row["completion"] for row in rows_of(path)}
    assert 0 < len(rows) == found.kept < found.asked == len(PROMPTS)
    for prompt, completion in rows.items():
        assert completion == texts[PROMPTS.index(prompt)]
    # It is data to train on, and the order is that of the prompts.
    examples = read_examples(path)
    order = [PROMPTS.index(example.prompt) for example in examples]
    assert order == sorted(order)
    assert {example.domain for example in examples} == {"t"}
    assert [file.name for file in path.parent.iterdir()] == ["said.jsonl"]


TEXTS = ["4", "the answer is: 4", " \n", "<answer>5</answer>", "#### 4 and so"]
ENDED = [True, True, True, True, False]


@pytest.mark.parametrize(
    ("keep", "kept", "counts"),
    [
        ("ended", [0, 1, 3], "3 of 5 answers kept (1 cut off, 1 empty, 0 wrong)"),
        ("solved", [1], "1 of 5 answers kept (1 cut off, 1 empty, 2 wrong)"),
    ],
)
def test_answers_are_checked(llama, monkeypatch, tmp_path, keep, kept, counts):
    scripted(monkeypatch, TEXTS, ENDED)
    problems = [Problem(prompt, "4", "t") for prompt in PROMPTS]
    path = tmp_path / "said.jsonl"
    found = generate_answers(*llama, problems, path, keep=keep)
    assert str(found) == counts
    assert [row["completion"] for row in rows_of(path)] == [TEXTS[i] for i in kept]


def test_an_interrupted_run_goes_on_behind_its_last_whole_batch(
    llama, monkeypatch, tmp_path
):
    problems = [Problem(prompt, "4", "t") for prompt in PROMPTS]
    scripted(monkeypatch, TEXTS, ENDED)
    whole = tmp_path / "whole.jsonl"
    generate_answers(*llama, problems, whole, batch_size=2)

    asked = scripted(monkeypatch, TEXTS, ENDED)
    path, partial = tmp_path / "said.jsonl", tmp_path / "said.jsonl.partial"
    write = answers.write

    def interrupted(*arguments):
        yield next(write(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(answers, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_answers(*llama, problems, path, batch_size=2)
    monkeypatch.setattr(answers, "write", write)
    # What was being written when the process was killed counts for nothing.
    partial.write_text(partial.read_text() + '{"problems": [2, ')
    assert not path.exists()
    generate_answers(*llama, problems, path, batch_size=2)
    assert asked == [0, 2, 4]
    assert path.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_runs_into_one_folder_do_not_meet(llama, monkeypatch, tmp_path):
    """One writes all of its file while another is in the middle of writing its own."""
    problems = [Problem(prompt, "4", "t") for prompt in PROMPTS]
    scripted(monkeypatch, TEXTS, ENDED)
    others = iter(["second.jsonl", "third.jsonl"])
    fsync = os.fsync

    def meanwhile(descriptor):
        name = next(others, None)
        if name is not None:
            generate_answers(*llama, problems, tmp_path / name, keep="solved")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    generate_answers(*llama, problems, tmp_path / "first.jsonl")
    counts = {path.name: len(rows_of(path)) for path in tmp_path.iterdir()}
    assert counts == {"first.jsonl": 3, "second.jsonl": 1, "third.jsonl": 1}


def test_what_another_run_left_is_not_gone_on_with(llama, gpt2, monkeypatch, tmp_path):
    problems = [Problem(prompt, "4", "t") for prompt in PROMPTS]
    scripted(monkeypatch, TEXTS, ENDED)
    path = tmp_path / "said.jsonl"
    origin = answers._origin(*llama, problems, 256, 8)
    partial = tmp_path / "said.jsonl.partial"
    partial.write_text(json.dumps(origin) + "\n")
    for model, asked, words in (
        (gpt2, problems, {}),
        (llama, problems[1:], {}),
        (llama, problems, {"max_new_tokens": 8}),
    ):
        with pytest.raises(ValueError, match="is of other ones: delete it"):
            generate_answers(*model, asked, path, **words)
    generate_answers(*llama, problems, path)


def test_rows_have_the_form_of_their_prompts(llama, monkeypatch, tmp_path):
    turns = [{"role": "user", "content": "two and two?"}]
    tool = {"type": "function", "function": {"name": "add"}}
    rows = [
        {"prompt": "one and one is", "domain": "sums"},
        {"prompt": turns, "answer": "4", "tools": [tool]},
        {"messages": [*turns, {"role": "assistant", "content": "five"}]},
        {"messages": turns},
    ]
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = read_prompts(str(source))
    assert [problem.answer for problem in problems] == ["", "4", "", ""]
    scripted(monkeypatch, ["2", "4", "4", "4"], [True] * 4)
    path = tmp_path / "said.jsonl"
    generate_answers(*llama, problems, path)
    reply = [{"role": "assistant", "content": "4"}]
    chat = {"prompt": turns, "completion": reply}
    assert rows_of(path) == [
        {"prompt": "one and one is", "completion": "2", "domain": "sums"},
        {**chat, "tools": [tool]},
        chat,
        chat,
    ]
    assert [e.completion for e in read_examples(path)] == ["2", "4", "4", "4"]


@pytest.mark.parametrize(
    ("problems", "words", "expected"),
    [
        ([], {}, "There must be a prompt to answer"),
        ([Problem("a", "", "t")], {"keep": "solved"}, "1 of 1 have none"),
        ([Problem("a", "", "t")], {"keep": "some"}, "keep must be one of"),
        ([Problem("a", "b", "t")], {}, "must be fit to be kept"),
    ],
)
def test_mistakes(llama, monkeypatch, tmp_path, problems, words, expected):
    scripted(monkeypatch, [""], [True])
    with pytest.raises(ValueError, match=expected):
        generate_answers(*llama, problems, tmp_path / "said.jsonl", **words)
    assert not (tmp_path / "said.jsonl").exists()


def test_nothing_is_written_over(llama, tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text("precious")
    with pytest.raises(ValueError, match="must be new"):
        generate_answers(*llama, [Problem("a", "b", "t")], path)
    assert path.read_text() == "precious"


def test_lines_without_a_prompt_are_named(tmp_path):
    source = tmp_path / "prompts.jsonl"
    for row in ({}, {"messages": []}, {"messages": "text"}, {"prompt": ""}):
        source.write_text('{"prompt": "one"}\n' + json.dumps(row) + "\n")
        with pytest.raises(ValueError, match="Line 2 must be a JSON object"):
            read_prompts(str(source))


def test_the_command_writes_data_and_says_how_much(teacher, capsys, tmp_path):
    for part in teacher:
        part.save_pretrained(tmp_path / "teacher")
    source = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS]
    source.write_text("".join(lines))
    words = [
        "generate",
        f"teacher={tmp_path / 'teacher'}",
        f"data={source}",
        f"out={tmp_path / 'said.jsonl'}",
        "max_new_tokens=12",
        "device=cpu",
    ]
    assert main(words) == 0
    told = capsys.readouterr().out
    kept = len(rows_of(tmp_path / "said.jsonl"))
    assert f"said.jsonl: {kept} of 5 answers kept" in told
    assert main(words) == 2
    assert "must be new" in capsys.readouterr().err
