"""Exported log-probabilities: a store of them is that of the captured logits, or is refused."""

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
    logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    ends = [0, *encode(example, teacher[1]).ends]
    whole = example.completion.encode()
    content = [
        {
            "token": "?",
            "bytes": list(whole[ends[i] : ends[i + 1]]),
            "logprob": row[target],
            "top_logprobs": [
                {"token": "?", "logprob": row[v], "id": int(v)}
                for v in np.argsort(row)[-k:]
            ],
        }
        for i, (row, target) in enumerate(zip(logprobs, targets, strict=True))
    ]
    return {
        "prompt": example.prompt,
        "completion": example.completion,
        "logprobs": {"content": content},
    }


def test_exported_log_probabilities_are_those_of_the_captured_logits(tmp_path, llama):
    examples = EXAMPLES[:6]
    lines = "".join(
        json.dumps(exported(llama, example, k=4)) + "\n"
        for example in [*examples, examples[0]]
    )
    (tmp_path / "log.jsonl").write_text(lines, encoding="utf-8")
    import_logprobs(tmp_path / "log.jsonl", tmp_path / "server", k=4, shard_size=4)
    capture(*llama, examples, tmp_path / "own", k=4, progress=False)
    server, own = TeacherStore(tmp_path / "server"), TeacherStore(tmp_path / "own")
    assert not server.manifest.logits
    assert len(server) == len(own) == 6
    for example in examples:
        theirs, ours = server[example.key], own[example.key]
        np.testing.assert_allclose(
            theirs.values, ours.values - ours.logsumexp[:, None], rtol=1e-3, atol=5e-3
        )
        np.testing.assert_allclose(theirs.nll, ours.nll, rtol=1e-3, atol=5e-3)
        np.testing.assert_array_equal(theirs.ids, ours.ids)
        np.testing.assert_array_equal(theirs.ends, ours.ends)
        assert theirs.mean is theirs.std is None
        assert not theirs.logsumexp.any()
    server.check(k=4)
    with pytest.raises(ValueError, match="log-probabilities only"):
        server.check(logits=True)
    with pytest.raises(ValueError, match="an unknown one"):
        server.check(tokenizer=llama[1])


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
