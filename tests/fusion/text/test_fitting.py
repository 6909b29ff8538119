"""Which examples fit: refused or left out by number, counted, and cut."""

import copy

import pytest

from fusion.text.conversations import Example, Message, encode
from fusion.text.fitting import ExamplesWarning, fit, warn_of
from tests.fusion import tiny


@pytest.fixture
def tokenizer(gpt2):
    return gpt2[1]


SHORT = Example("sum ", "7")


def chat(prompt, answer="7"):
    return Example((Message("user", prompt),), answer)


@pytest.fixture
def mixed():
    """Twenty examples; every third prompt is long, and the last answer."""
    examples = [chat("long " * 40 if i % 3 == 2 else f"sum {i}") for i in range(19)]
    return [*examples, chat("sum", "number " * 80)]


def test_examples_that_do_not_fit_are_refused_by_number(mixed, tokenizer):
    with pytest.raises(ValueError, match=r"All rows must fit.* 6 of 20 do") as caught:
        fit(mixed, tokenizer, 64, name="rows")
    head, *lines = str(caught.value).splitlines()
    assert "on_bad_rows=drop" in head
    assert [line.split(":")[0].strip() for line in lines] == [
        str(number) for number in range(3, 20, 3)
    ]
    assert all("must be shorter than max_length = 64" in line for line in lines)


def test_only_ten_are_listed(tokenizer):
    examples = [chat("long " * 40)] * 13 + [chat("sum")]
    with pytest.raises(ValueError, match="13 of 14") as caught:
        fit(examples, tokenizer, 64)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 10 + 1
    assert lines[-1].strip() == "… and 3 more."


def test_examples_are_left_out_and_cut_ones_counted(mixed, tokenizer):
    fitting = fit(mixed, tokenizer, 64, on_bad_rows="drop")
    assert fitting.examples == [e for i, e in enumerate(mixed) if i % 3 != 2 or i == 19]
    assert [row.number for row in fitting.bad] == list(range(3, 20, 3))
    assert fitting.cut == (20,)
    assert fitting.total == 20
    with pytest.warns(ExamplesWarning, match="6 of 20 rows are left out") as caught:
        warn_of(fitting, "rows")
    assert "1 of 20 rows are cut at max_length = 64 tokens: number 20." in str(
        caught[0].message
    )
    for example in fitting.examples:
        assert len(encode(example, tokenizer, 64).input_ids) <= 64


def test_nothing_is_said_where_all_fit(tokenizer):
    fitting = fit(tiny.sums(5), tokenizer)
    assert fitting.examples == tiny.sums(5)
    assert fitting.summary() == ""
    warn_of(fitting, "rows")


def test_a_template_that_refuses_names_the_row(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    examples = [Example("sum ", "7"), chat("sum")]
    with pytest.raises(ValueError, match=r"1 of 2 .*\n  2: .*roles must alternate"):
        fit(examples, tokenizer)


def test_where_nothing_fits_dropping_is_no_way_out(tokenizer):
    with pytest.raises(ValueError, match=r"2 of 2 do not.*choose others"):
        fit([chat("long " * 40)] * 2, tokenizer, 64, on_bad_rows="drop")
    with pytest.raises(ValueError, match="on_bad_rows must be one of"):
        fit([], tokenizer, on_bad_rows="ignore")


@pytest.mark.parametrize("edge", [0, 1])
def test_a_prompt_fits_while_there_is_room_for_one_token(edge, tokenizer):
    example = chat("sum")
    encoded = encode(example, tokenizer)
    prompt = int(encoded.positions[0]) + 1
    fitting = fit([example, SHORT], tokenizer, prompt + edge, on_bad_rows="drop")
    assert len(fitting.bad) == 1 - edge
    # Where there is room for all there is nothing to cut.
    whole = fit([example], tokenizer, len(encoded.input_ids))
    assert whole.cut == ()
    assert fit([example], tokenizer, len(encoded.input_ids) - 1).cut == (1,)
