"""Examples of a trainer: refused, left out or cut before the first step."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

import fusion
from fusion.text.conversations import Example, Message
from fusion.text.rows import ExamplesWarning
from fusion.training.data import check_kept, check_stores, fitting_examples
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
    lenient = {"least_coverage": 0.0, "use_cpu": True}
    args = fusion.FusionConfig(
        "student", graph="row_means", channels="vocabulary", **lenient
    )
    check_stores({"server": rows_with([3, 1])}, args, EXAMPLES, None)
    unknown = rows_with([3, -1])
    with pytest.raises(ValueError, match=r"The store of server must hold the tokens"):
        check_stores({"server": unknown}, args, EXAMPLES, None)
    by_rank = fusion.FusionConfig("student", **lenient)
    check_stores({"server": unknown}, by_rank, EXAMPLES, None)
    unknown = rows_with([3, 1])
    unknown.manifest = SimpleNamespace(vocabulary=0)
    with pytest.raises(ValueError, match="a vocabulary of 0: use channels 'rank'"):
        check_stores({"server": unknown}, args, EXAMPLES, None)


class Holding(dict):
    """A store of these examples, as `check_stores` asks it."""

    manifest = SimpleNamespace(vocabulary=9)

    def __init__(self, examples):
        super().__init__({example.key: None for example in examples})

    def check(self, **_):
        pass


@pytest.mark.parametrize(
    ("settings", "logits"),
    [
        ({}, True),
        ({"standardize": "logprob"}, False),
        ({"standardize": "softmax", "graph": "row_means"}, False),
        # KL and JSD compare log-probabilities, whatever the losses of rows would.
        ({"alignment": "kl"}, False),
        ({"alignment": "jsd", "standardize": "center"}, False),
        ({"alignment": "kl", "graph": "row_means"}, True),
    ],
    ids=str,
)
def test_stores_of_log_probabilities_do_where_nothing_else_is_compared(
    settings, logits
):
    asked = []

    class Server(Holding):
        def check(self, *, logits, **_):
            asked.append(logits)

    args = fusion.FusionConfig("student", use_cpu=True, **settings)
    check_stores({"server": Server(EXAMPLES)}, args, EXAMPLES)
    assert asked == [logits]


def test_a_loss_that_is_nothing_is_refused():
    """Where labels have no weight, somebody must teach."""
    settings = {"fusion_weight": 1.0, "use_cpu": True}
    args = fusion.FusionConfig("student", **settings)
    with pytest.raises(ValueError, match="less than 1 where there are no stores"):
        check_stores({}, args, EXAMPLES)
    check_stores({"whole": Holding(EXAMPLES)}, args, EXAMPLES)
    settings |= {"fusion_schedule": "linear"}
    check_stores({}, fusion.FusionConfig("student", **settings), EXAMPLES)


def test_examples_must_fill_a_batch_where_others_are_left_out(llama):
    model, tokenizer = llama
    for size, refused in ((6, False), (7, True)):
        args = fusion.FusionConfig(
            "student",
            per_device_train_batch_size=size,
            dataloader_drop_last=True,
            use_cpu=True,
        )
        examples = fitting_examples(EXAMPLES, tokenizer, model, args, "examples")
        if not refused:
            check_kept({}, args, examples, None)
            continue
        with pytest.raises(ValueError, match=r"at least 7 training .* there are 6"):
            check_kept({}, args, examples, None)


def test_stores_must_hold_enough_of_the_training_examples():
    """Examples that are there twice count once, and held-out ones not at all."""
    stores = {"whole": Holding(EXAMPLES), "few": Holding(EXAMPLES[:2])}
    for least, refused in ((0.0, False), (1 / 3, False), (0.34, True), (1.0, True)):
        args = fusion.FusionConfig("student", least_coverage=least, use_cpu=True)
        examples = [*EXAMPLES, *EXAMPLES[:2]]
        if not refused:
            check_stores(stores, args, examples, tiny.sums(12)[6:])
            continue
        with pytest.raises(
            ValueError, match=r"store of few .* holds 2 of 6, as"
        ) as said:
            check_stores(stores, args, examples, EXAMPLES[:2])
        assert f"at least {least:.0%}" in str(said.value)
        assert "least_coverage=0 to train so" in str(said.value)


def test_rows_that_are_left_out_need_no_teacher(llama):
    """Half of them has none: what counts is what is trained on."""
    bad = [Example((Message("user", f"long {i} " * 400),), "7") for i in range(7)]
    made = {}
    for on_bad_rows in ("drop", "error"):
        args = fusion.FusionConfig(
            "student", on_bad_rows=on_bad_rows, max_length=256, use_cpu=True
        )
        made[on_bad_rows] = args
    stores = {"one": Holding(EXAMPLES)}
    check_stores(stores, made["drop"], [*EXAMPLES, *bad])
    with pytest.raises(ValueError, match="holds 6 of 13"):
        check_stores(stores, made["error"], [*EXAMPLES, *bad])
    with (
        pytest.warns(ExamplesWarning, match="7 of 13"),
        pytest.raises(ValueError, match="holds 2 of 6"),
    ):
        FusionTrainer(
            llama[0],
            made["drop"],
            [*EXAMPLES, *bad],
            processing_class=llama[1],
            stores={"few": Holding(EXAMPLES[:2])},
        )
