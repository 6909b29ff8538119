"""Exported log-probabilities make the store of the captured logits, or are refused."""

import json
import re

import numpy as np
import pytest

from fusion.teachers.capture import capture
from fusion.teachers.server_logs import import_logprobs
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode, read_examples
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


@pytest.mark.parametrize("damage", ["text", "few", "none"])
def test_refuses_exports_that_do_not_fit_their_text(tmp_path, llama, damage):
    row = exported(llama, EXAMPLES[0], k=3)
    if damage == "text":
        row["completion"] += "!"
    elif damage == "few":
        row["logprobs"]["content"][2]["top_logprobs"].pop()
    else:
        row["logprobs"] = None
    with pytest.raises(ValueError, match=r"^Row 1 must have the log-probabilities"):
        import_logprobs([row], tmp_path, k=3)


def plain(**changed):
    """A row of one token, without a model; changes are of its likeliest token."""
    top = {"token": "yes", "logprob": -0.5, "id": 7} | changed
    token = {"token": "yes", "logprob": -0.5, "top_logprobs": [top]}
    return {
        "prompt": "right?",
        "completion": "yes",
        "logprobs": {"content": [token]},
    }


def refused(path, match, rows, **settings):
    """Nothing is written, and the refusal is one sentence with its remedy."""
    with pytest.raises(ValueError, match=match) as caught:
        import_logprobs(rows, path / "store", **{"k": 1, **settings})
    assert re.fullmatch(r"[^\n]+, but [^\n]+: [^\n]+\.", str(caught.value))
    assert not (path / "store").exists()


@pytest.mark.parametrize("name", ["k", "shard_size"])
@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_refuses_sizes_before_rows_are_read(tmp_path, name, size):
    def unread():
        pytest.fail("the source was read")
        yield

    match = f"^{name} must be an integer at least 1"
    refused(tmp_path, match, unread(), **{name: size})


def test_refuses_sources_without_rows(tmp_path):
    empty = tmp_path / "log.jsonl"
    empty.write_text("")
    for source in ([], iter([]), empty, str(empty)):
        refused(tmp_path, "^source must hold at least one row", source)


@pytest.mark.parametrize("number", [2**31, 2**32, 10**30, -2, -(2**40), 1.5, "7", True])
def test_refuses_ids_that_stores_cannot_hold(tmp_path, number):
    match = rf"^Row 2 must .*an id is {number!r}, not an integer from 0 to 2147483647"
    refused(tmp_path, match, [plain(), plain(id=number)])


@pytest.mark.parametrize("logprob", [-1e6, -(10**400), float("-inf"), float("nan")])
def test_refuses_log_probabilities_that_stores_cannot_hold(tmp_path, logprob):
    of_top = plain(logprob=logprob)
    refused(tmp_path, "^Row 2 must ", [plain(), of_top])
    of_token = plain()
    of_token["logprobs"]["content"][0]["logprob"] = logprob
    refused(tmp_path, "^Row 2 must ", [plain(), of_token])


@pytest.mark.parametrize("content", ["yes", ["yes"], {"yes": 1}, [], None])
def test_refuses_rows_of_another_form(tmp_path, content):
    row = plain()
    row["logprobs"]["content"] = content
    refused(tmp_path, "^Row 2 must have the log-probabilities", [plain(), row])


@pytest.mark.parametrize("number", [0, 2**31 - 1, -1, np.int64(7)])
def test_ids_that_fit_are_kept(tmp_path, number):
    import_logprobs([plain(id=number)], tmp_path, k=1)
    store = TeacherStore(tmp_path)
    (example,) = read_examples([plain()])
    assert store[example.key].ids.tolist() == [[number]]
