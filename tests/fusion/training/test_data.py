"""Examples of a trainer: refused, left out or cut before the first step."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

import fusion
from fusion.text.conversations import Example, Message
from fusion.text.rows import ExamplesWarning
from fusion.training.data import check_stores, fitting_examples
from fusion.training.trainer import FusionTrainer
from tests.fusion import tiny

EXAMPLES = tiny.sums(6)
LONG = Example((Message("user", "long " * 400),), "7")


@pytest.fixture
def fitted(llama):
    model, tokenizer = llama

    def make(examples, **settings):
        quiet = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
        args = fusion.FusionConfig("student", **quiet, **settings)
        return fitting_examples(examples, tokenizer, model, args, "training examples")

    return make


def test_prompts_that_do_not_fit_are_refused_before_the_first_step(llama):
    args = fusion.FusionConfig("student", max_length=256, use_cpu=True)
    with pytest.raises(ValueError, match=r"All held-out examples .* 1 of 7 are"):
        FusionTrainer(
            llama[0], args, EXAMPLES, [*EXAMPLES, LONG], processing_class=llama[1]
        )


def test_prompts_that_do_not_fit_are_left_out_on_request(fitted):
    with pytest.warns(ExamplesWarning, match="1 of 7 training examples are left out"):
        found = fitted([LONG, *EXAMPLES], max_length=256, on_bad_rows="drop")
    assert [feature["key"] for feature in found] == [e.key for e in EXAMPLES]
    assert fitted(None) is None
    with pytest.raises(ValueError, match="at least one of the training examples"):
        fitted([])


def test_tokens_that_the_student_does_not_know_are_refused(fitted, llama):
    tokenizer = copy.deepcopy(llama[1])
    tokenizer.add_tokens(["<think>"])
    args = fusion.FusionConfig("student", use_cpu=True, disable_tqdm=True)
    example = Example("sum ", "<think>7", row=5)
    with pytest.raises(ValueError, match="'<think>' in row 5 has the id"):
        fitting_examples([*EXAMPLES, example], tokenizer, llama[0], args, "rows")


def test_stores_must_hold_some_of_what_is_kept(llama):
    store = rows_with([3, 1])
    store[LONG.key] = store.pop(EXAMPLES[2].key)
    args = fusion.FusionConfig(
        "student",
        max_length=256,
        on_bad_rows="drop",
        use_cpu=True,
        disable_tqdm=True,
    )
    with (
        pytest.warns(ExamplesWarning, match="1 of 7"),
        pytest.raises(ValueError, match="The store of one must hold some"),
    ):
        FusionTrainer(
            llama[0],
            args,
            [*EXAMPLES, LONG],
            processing_class=llama[1],
            stores={"one": store},
        )


def test_texts_end_at_the_context_of_the_student(fitted, llama):
    context = llama[0].config.max_position_embeddings
    example = Example((Message("user", "sum"),), "number" + " number" * context)
    with pytest.warns(ExamplesWarning, match=f"at max_length = {context} tokens"):
        found = fitted([*EXAMPLES, example], max_length=10**6)
    assert len(found[len(EXAMPLES)]["encoded"].input_ids) == context


def test_settings_of_bad_rows_are_checked():
    with pytest.raises(ValueError, match="on_bad_rows must be one of"):
        fusion.FusionConfig("student", on_bad_rows="skip", use_cpu=True)


def rows_with(ids):
    """A store of one example whose ids are these, as `check_stores` asks it."""
    rows = SimpleNamespace(ids=np.array([ids], dtype=np.int32))

    class Store(dict):
        manifest = SimpleNamespace(vocabulary=9)

        def check(self, **_):
            pass

    return Store({EXAMPLES[2].key: rows})


def test_channels_of_tokens_need_known_tokens():
    args = fusion.FusionConfig("student", channels="vocabulary", use_cpu=True)
    check_stores({"server": rows_with([3, 1])}, args, EXAMPLES, None)
    unknown = rows_with([3, -1])
    with pytest.raises(ValueError, match=r"The store of server must hold the tokens"):
        check_stores({"server": unknown}, args, EXAMPLES, None)
    by_rank = fusion.FusionConfig("student", use_cpu=True)
    check_stores({"server": unknown}, by_rank, EXAMPLES, None)
    unknown = rows_with([3, 1])
    unknown.manifest = SimpleNamespace(vocabulary=0)
    with pytest.raises(ValueError, match="a vocabulary of 0: use channels 'rank'"):
        check_stores({"server": unknown}, args, EXAMPLES, None)
