"""Teachers in memory say what their stores would, of all texts that they can read."""

import numpy as np
import pytest

pytest.importorskip("transformers")

from fusion.teachers.capture import capture
from fusion.teachers.live import LiveTeacher
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Message
from tests.fusion import tiny

K = 6
EXAMPLES = tiny.sums(8)


def test_a_live_teacher_says_what_its_store_would(gpt2, tmp_path):
    """A store's batches are of other lengths: float16 hides most of the difference."""
    capture(*gpt2, EXAMPLES, tmp_path / "store", k=K, progress=False)
    store = TeacherStore(tmp_path / "store")
    teacher = LiveTeacher(*gpt2, K)
    found = teacher.rows(EXAMPLES[:5])
    assert list(found) == [example.key for example in EXAMPLES[:5]]
    for key, rows in found.items():
        stored = store[key]
        assert np.array_equal(rows.ends, stored.ends)
        assert np.allclose(rows.values, stored.values, atol=4e-3)
        assert np.allclose(rows.nll, stored.nll, atol=4e-3)
    manifest = teacher.manifest
    assert (manifest.model, manifest.tokenizer, manifest.vocabulary) == (
        store.manifest.model,
        store.manifest.tokenizer,
        store.manifest.vocabulary,
    )


def test_what_a_template_changes_is_left_out(llama):
    """This one strips answers: what is left is not the text that was written."""
    question = (Message("user", "and?"),)
    kept = tiny.Example(question, "so")
    changed = tiny.Example(question, " \n")
    teacher = LiveTeacher(*llama, K)
    assert set(teacher.rows([kept, changed])) == {kept.key}
    assert teacher.rows([changed]) == {}


def test_prompts_beyond_the_context_are_refused(llama):
    long = tiny.Example("sum " * 600, "7")
    with pytest.raises(ValueError, match="All prompts must be usable"):
        LiveTeacher(*llama, K).check([long], "prompts")


def test_more_logits_than_tokens_are_refused(llama):
    with pytest.raises(ValueError, match="k must be"):
        LiveTeacher(*llama, 10**6)
