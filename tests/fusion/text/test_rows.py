"""Rows are read as they are written, or refused by their number."""

import json

import pytest

from fusion.text.messages import Example, Message
from fusion.text.rows import ExamplesWarning, read_examples

USER = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
RESULT = {"role": "tool", "content": "5", "name": "add"}
ROWS = [
    {"prompt": "a", "completion": "b", "domain": "x", "other": 1},
    {"prompt": [USER], "completion": [ANSWER]},
    {"messages": [USER, ANSWER]},
]
CHAT = Example((Message("user", "a"),), "b")


def test_rows_become_examples():
    examples = read_examples(ROWS)
    assert examples == [Example("a", "b", "x"), CHAT, CHAT]
    assert [example.row for example in examples] == [1, 2, 3]


def test_files_data_sets_and_rows_agree(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(ROWS[1]), "", "  ", json.dumps(ROWS[2]), "", ""]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    assert read_examples(path) == [CHAT, CHAT]
    assert [example.row for example in read_examples(path)] == [1, 4]
    assert read_examples(datasets.Dataset.from_list(ROWS[1:2])) == [CHAT]


def test_turns_keep_what_they_have_but_for_nothing():
    # Data sets give every message the fields of all of them.
    user = {**USER, "tool_calls": None, "name": ""}
    row = {"messages": [user, CALL, RESULT, ANSWER], "tools": [{"name": "add"}]}
    (example,) = read_examples([row])
    assert [turn.as_dict() for turn in example.prompt] == [USER, CALL, RESULT]
    assert example.tools == ({"name": "add"},)


def test_every_turn_of_the_assistant_is_learnt_where_asked_for():
    turns = [USER, {**ANSWER, "content": "c"}, RESULT, ANSWER]
    first, second = read_examples([{"messages": turns, "domain": "x"}], turns="all")
    assert first == Example((Message("user", "a"),), "c", "x")
    assert second == read_examples([{"messages": turns, "domain": "x"}])[0]
    assert (first.row, second.row) == (1, 1)
    assert read_examples(ROWS, turns="all") == read_examples(ROWS)
    with pytest.raises(ValueError, match=r"turns must be .*, but is 'first': choose"):
        read_examples(ROWS, turns="first")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a"},
        {"prompt": "a", "completion": ""},
        {"prompt": "", "completion": "b"},
        {"prompt": "a", "completion": "\ud800"},
        {"prompt": "a", "completion": [ANSWER]},
        {"prompt": [USER], "completion": [{**ANSWER, "role": "user"}]},
        {"messages": [USER]},
        {"messages": [ANSWER]},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]},
        {"messages": [{"role": "user", "content": None}, ANSWER]},
        {"messages": [{"role": "user"}, ANSWER]},
        {"messages": [USER, {**ANSWER, "tool_calls": [{"name": "add"}]}]},
        {"messages": [USER, {**ANSWER, "reasoning_content": "hm"}]},
        {"messages": [USER, {**ANSWER, "content": [{"type": "text", "text": "b"}]}]},
        {"messages": [USER, ANSWER], "tools": '[{"name": "add"}]'},
        {"messages": [USER, ANSWER], "tools": ["add"]},
        {"prompt": "a", "completion": "b", "tools": [{"name": "add"}]},
        ["a", "b"],
    ],
    ids=str,
)
def test_refuses_other_rows_by_number(row):
    with pytest.raises(ValueError, match=r"^Row 2 must have .*: repair or drop it\.$"):
        read_examples([ROWS[0], row])


def test_answers_that_are_more_than_text_are_named():
    row = {"messages": [USER, CALL, RESULT, ANSWER]}
    with pytest.raises(ValueError, match=r"message 2 is an answer .* has `tool_calls`"):
        read_examples([row], turns="all")


@pytest.mark.parametrize(
    ("row", "renaming"),
    [
        (
            {"instruction": "a", "input": "", "output": "b"},
            "`instruction` .* to `prompt`, and `output` to `completion`",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            "`conversations` to `messages`, and `from` to `role`, `value` to `content`",
        ),
        (
            {"messages": [{"from": "human", "value": "a"}]},
            "rename `from` to `role`, .*'human' to 'user'",
        ),
        ({"conversations": [USER, ANSWER]}, "rename `conversations` to `messages`"),
    ],
)
def test_rows_of_other_forms_are_told_what_to_rename(row, renaming):
    with pytest.raises(ValueError, match=f"^Row 1 must have .*{renaming}.*\\.$"):
        read_examples([row])


@pytest.mark.parametrize("line", [b"{", b'{"prompt": "\xff"}', b"1" * 5000])
def test_refuses_files_that_are_no_jsonl(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\r\n' + line)
    with pytest.raises(ValueError, match=r"x\.jsonl .* line 2 is none: .*\.$"):
        read_examples(path, on_bad_rows="drop")


def test_bad_rows_are_all_named_or_left_out():
    good = {"prompt": "sum", "completion": "7"}
    rows = [good, {"prompt": "sum"}, good, {"text": "7"}, good | {"completion": ""}]
    with pytest.raises(ValueError, match="3 of 5 are not") as caught:
        read_examples(rows)
    lines = str(caught.value).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["2", "4", "5"]
    with pytest.warns(ExamplesWarning, match="3 of 5 rows are left out"):
        assert len(read_examples(rows, on_bad_rows="drop")) == 2
    with pytest.raises(ValueError, match=r"2 of 2 are not: .*choose others"):
        read_examples(rows[3:], on_bad_rows="drop")
    with pytest.raises(ValueError, match="on_bad_rows must be one of"):
        read_examples(rows, on_bad_rows="skip")


def test_bad_rows_are_of_a_file(tmp_path):
    path = tmp_path / "train.jsonl"
    good = {"prompt": "sum", "completion": "7"}
    lines = [json.dumps(row) for row in (good, {"text": "7"}, {"text": "8"})]
    path.write_text("\n".join(lines[:2]))
    with pytest.raises(ValueError, match=r"train\.jsonl: Row 2 must have"):
        read_examples(path)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"All rows of .*train\.jsonl must be usable"):
        read_examples(path)
    with pytest.warns(ExamplesWarning, match=r"2 of 3 rows of .*train\.jsonl are left"):
        read_examples(path, on_bad_rows="drop")
