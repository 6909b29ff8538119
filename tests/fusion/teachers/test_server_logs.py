"""Exported log-probabilities make the store of the captured logits, or are refused."""

import json

import numpy as np
import pytest

from fusion.teachers.capture import capture
from fusion.teachers.server_logs import import_logprobs
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode
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
