"""Which examples fit: refused or left out and counted, and cut."""

import copy

import pytest

from fusion.text.conversations import encode
from fusion.text.fitting import fit
from fusion.text.messages import Example, Message
from fusion.text.rows import ExamplesWarning
from tests.fusion import tiny

SHORT = Example("sum ", "7")


@pytest.fixture
def tokenizer(gpt2):
    return gpt2[1]


def chat(prompt, answer="7", row=None):
    return Example((Message("user", prompt),), answer, row=row)


@pytest.fixture
def mixed():
    """Twenty examples; every third prompt is long, and the last answer."""
    prompts = ["long " * 40 if row % 3 == 0 else f"sum {row}" for row in range(1, 20)]
    examples = [chat(prompt, row=row) for row, prompt in enumerate(prompts, start=1)]
    return [*examples, chat("sum", "number " * 80, row=20)]


def test_examples_that_do_not_fit_are_refused_by_row(mixed, tokenizer):
    with pytest.raises(ValueError, match=r"All rows must be .* 6 of 20 are") as caught:
        fit([*mixed[:19], SHORT], tokenizer, 64, name="rows")
    head, *lines = str(caught.value).splitlines()
    assert "on_bad_rows=drop" in head
    assert len(lines) == 6
    for row, line in zip(range(3, 20, 3), lines, strict=True):
        assert "must be shorter than max_length = 64" in line
        assert f"in row {row}:" in line


def test_only_ten_are_listed(tokenizer):
    examples = [chat("long " * 40)] * 13 + [SHORT]
    with pytest.raises(ValueError, match="13 of 14") as caught:
        fit(examples, tokenizer, 64)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 10 + 1
    assert lines[-1].strip() == "… and 3 more."


def test_examples_are_left_out_and_cut_ones_counted(mixed, tokenizer):
    with pytest.warns(ExamplesWarning) as caught:
        fitting = fit(mixed, tokenizer, 64, name="rows", on_bad_rows="drop")
    left_out, cut = (str(warning.message) for warning in caught)
    assert left_out.startswith("6 of 20 rows are left out:\n")
    assert "1 of 20 rows are cut at max_length = 64 tokens: row 20." in cut
    assert fitting.examples == [e for e in mixed if e.row % 3]
    assert len(fitting.bad) == 6
    assert fitting.cut == (mixed[-1],)
    for example in fitting.examples:
        assert len(encode(example, tokenizer, 64).input_ids) <= 64


def test_nothing_is_said_where_all_fit(tokenizer):
    codes = [encode(example, tokenizer) for example in tiny.sums(5)]
    tokens = sum(len(code.input_ids) for code in codes)
    labels = sum(int(code.completion_mask.sum()) for code in codes)
    assert fit(tiny.sums(5), tokenizer) == (tiny.sums(5), (), (), tokens, labels)
    assert fit([], tokenizer) == ([], (), (), 0, 0)


def test_a_template_that_fails_names_the_row(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    message = r"1 of 2 .*\n  .* row 7, .*roles must alternate"
    with pytest.raises(ValueError, match=message):
        fit([SHORT, chat("sum", row=7)], tokenizer)


def test_where_nothing_fits_dropping_is_no_way_out(tokenizer):
    with pytest.raises(ValueError, match=r"2 of 2 are not: .*choose others"):
        fit([chat("long " * 40)] * 2, tokenizer, 64, on_bad_rows="drop")
    with pytest.raises(ValueError, match="on_bad_rows must be one of"):
        fit([], tokenizer, on_bad_rows="ignore")


@pytest.mark.parametrize("edge", [0, 1])
def test_a_prompt_fits_while_there_is_room_for_one_token(edge, tokenizer):
    example = chat("sum")
    encoded = encode(example, tokenizer)
    prompt = int(encoded.positions[0]) + 1
    with pytest.warns(ExamplesWarning):
        fitting = fit([example, SHORT], tokenizer, prompt + edge, on_bad_rows="drop")
    assert len(fitting.bad) == 1 - edge
    # Where there is room for all there is nothing to cut.
    whole = len(encoded.input_ids)
    assert fit([example], tokenizer, whole).cut == ()
    with pytest.warns(ExamplesWarning, match="1 of 1 examples are cut"):
        assert fit([example], tokenizer, whole - 1).cut == (example,)
