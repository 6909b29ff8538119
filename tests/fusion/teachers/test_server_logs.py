"""Exported log-probabilities make the store of the captured logits, or are refused."""

import json
import re

import numpy as np
import pytest

from fusion.teachers.capture import capture
from fusion.teachers.server_logs import import_logprobs
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode, read_examples
from tests.fusion.teachers import odd, served
from tests.fusion.teachers.test_capture import EXAMPLES, said


def exported(teacher, example, k):
    """A row as a chat completion server would export it."""
    rows, targets = said(teacher, example)
    logsumexp = np.log(np.exp(rows).sum(axis=1, keepdims=True))
    logprobs = rows - logsumexp  # (n, V)
    _, tokenizer = teacher
    code = encode(example, tokenizer)
    whole = example.completion.encode()
    first = 0  # byte
    content = []
    for row, target, last in zip(logprobs, targets, code.ends, strict=True):
        # In ascending order, as servers promise none.
        top = []
        for v in np.argsort(row)[-k:]:
            top.append({"token": "?", "logprob": row[v], "id": int(v)})
        token = {
            "token": "?",
            "bytes": list(whole[first:last]),
            "logprob": row[target],
            "top_logprobs": top,
        }
        content.append(token)
        first = last
    return {
        "prompt": example.prompt,
        "completion": example.completion,
        "logprobs": {"content": content},
    }


def test_exported_log_probabilities_are_those_of_the_captured_logits(tmp_path, llama):
    examples = EXAMPLES[:6]
    model, tokenizer = llama
    # The first example is asked twice, and stored once.
    lines = []
    for example in [*examples, examples[0]]:
        row = exported(llama, example, k=4)
        lines.append(json.dumps(row) + "\n")
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines), encoding="utf-8")

    import_logprobs(log, tmp_path / "server", k=4, shard_size=4)
    capture(model, tokenizer, examples, tmp_path / "own", k=4, progress=False)
    server = TeacherStore(tmp_path / "server")
    own = TeacherStore(tmp_path / "own")
    assert not server.manifest.logits
    assert len(server) == len(own) == 6
    for example in examples:
        theirs = server[example.key]
        ours = own[example.key]
        # Both are rounded to float16, but before and after the subtraction.
        logprobs = ours.values - ours.logsumexp[:, None]
        np.testing.assert_allclose(theirs.values, logprobs, rtol=1e-3, atol=5e-3)
        np.testing.assert_allclose(theirs.nll, ours.nll, rtol=1e-3, atol=5e-3)
        np.testing.assert_array_equal(theirs.ids, ours.ids)
        np.testing.assert_array_equal(theirs.ends, ours.ends)
        assert theirs.mean is theirs.std is None
        assert not theirs.logsumexp.any()
    server.check(k=4)
    with pytest.raises(ValueError, match="log-probabilities only"):
        server.check(logits=True)
    with pytest.raises(ValueError, match="an unknown one"):
        server.check(tokenizer=tokenizer)


def refused(path, match, rows, **settings):
    """Nothing is written, and the refusal begins with a sentence and its remedy."""
    with pytest.raises(ValueError, match=match) as caught:
        import_logprobs(rows, path / "store", **{"k": 1, **settings})
    sentence, *listed = str(caught.value).splitlines()
    assert re.fullmatch(r"[^\n]+, but [^\n]+: [^\n]+\.", sentence)
    assert not (path / "store").exists()
    return listed


@pytest.mark.parametrize("name", ["k", "shard_size"])
@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_refuses_sizes_before_rows_are_read(tmp_path, name, size):
    match = f"^{name} must be an integer at least 1"
    refused(tmp_path, match, unread(), **{name: size})


def unread():
    pytest.fail("the source was read")
    yield


def test_refuses_other_settings_before_rows_are_read(tmp_path):
    refused(tmp_path, "^on_bad_rows must be one of", unread(), on_bad_rows="skip")
    for vocabulary in (-1, 1.5, True, None, "8"):
        match = "^vocabulary must be an integer at least 0"
        refused(tmp_path, match, unread(), vocabulary=vocabulary)


def test_a_vocabulary_holds_every_id(tmp_path):
    match = "^vocabulary must be larger than every id, but is 7 where an id is 7"
    refused(
        tmp_path,
        match,
        [odd.plain(id=3), odd.plain(id=7, text="no", completion="no")],
        vocabulary=7,
    )
    import_logprobs([odd.plain(id=7)], tmp_path, k=1, vocabulary=8)
    assert TeacherStore(tmp_path).manifest.vocabulary == 8


def test_refuses_sources_without_rows(tmp_path):
    empty = tmp_path / "log.jsonl"
    empty.write_text("\n \n")
    for source in ([], iter([]), empty, str(empty)):
        refused(tmp_path, "^source must hold at least one row", source)
    listed = refused(
        tmp_path, "but all 2 cannot be", [odd.plain(id=-2)] * 2, on_bad_rows="drop"
    )
    assert len(listed) == 1


def test_a_bad_row_spoils_itself_alone(tmp_path):
    rows = [odd.plain(completion="yes"), odd.plain(id=-2), odd.plain(odd.token("no"))]
    rows[2]["completion"] = "no"
    done = import_logprobs(rows, tmp_path, k=1, on_bad_rows="drop")
    assert (done.examples, done.tokens, done.repeated) == (2, 2, 0)
    (bad,) = done.left_out
    assert str(bad) == (
        "Row 2: at token 1, an id is -2, not an integer from 0 to 2147483647: "
        "leave out ids that are not known."
    )
    assert len(TeacherStore(tmp_path)) == 2


def test_the_first_of_several_answers_counts(tmp_path):
    done = import_logprobs([odd.plain(), odd.plain(logprob=-3)], tmp_path, k=1)
    assert (done.examples, done.tokens, done.repeated) == (1, 1, 1)
    (example,) = read_examples([odd.plain()])
    assert TeacherStore(tmp_path)[example.key].values.tolist() == [[-0.5]]


@pytest.mark.parametrize("name", ["ollama chat", "openai completions, echoed"])
@pytest.mark.parametrize("as_chat", [True, False])
def test_what_is_stored_is_written_as_data(tmp_path, name, as_chat):
    row = served.row(name, as_chat) | {"domain": "emoji", "id": "\ud83d é"}
    data = tmp_path / "data.jsonl"
    rows = [row, row, odd.plain(id=-2)]
    import_logprobs(rows, tmp_path / "a", k=3, on_bad_rows="drop", data=data)
    (example,) = read_examples(data)
    assert (example.completion, example.domain) == (served.TEXT, "emoji")
    assert example.key in TeacherStore(tmp_path / "a")
    text = data.read_text(encoding="utf-8")
    assert "logprob" not in text
    assert json.loads(text)["id"] == "\ud83d é"


def test_all_bad_rows_are_found_before_anything_is_written(tmp_path):
    rows = [odd.plain(id=-2 if i % 2 else 7) for i in range(30)]
    listed = refused(tmp_path, "but 15 of 30 cannot be", rows)
    assert len(listed) == 11
    assert listed[0].startswith("  Row 2: at token 1, an id is -2")
    assert listed[9].startswith("  Row 20: ")
    assert listed[10] == "  … and 5 more."


def test_lines_that_are_no_json_spoil_themselves_alone(tmp_path):
    log = tmp_path / "log.jsonl"
    good = json.dumps(odd.plain()).encode()
    lines = [good, b"{", b"", b"\xff", good, json.dumps(odd.plain(id=-2)).encode()]
    log.write_bytes(b"\n".join(lines))
    done = import_logprobs(log, tmp_path / "store", k=1, on_bad_rows="drop")
    assert (done.examples, done.tokens, done.repeated) == (1, 1, 1)
    assert [bad.row for bad in done.left_out] == [2, 4, 6]


@pytest.mark.parametrize("number", [0, 2**31 - 1, -1, np.int64(7)])
def test_ids_that_fit_are_kept(tmp_path, number):
    import_logprobs([odd.plain(id=number)], tmp_path, k=1)
    store = TeacherStore(tmp_path)
    (example,) = read_examples([odd.plain()])
    assert store[example.key].ids.tolist() == [[number]]
