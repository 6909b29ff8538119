"""Positions that are paired predict the same next byte, and all that do are paired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.text.align import align
from fusion.text.conversations import Example, encode
from tests.fusion.tiny import (
    digits_tokenizer,
    fallback_tokenizer,
    sums,
    whole_tokenizer,
)

TOKENIZERS = [digits_tokenizer, whole_tokenizer, fallback_tokenizer]
# Sorted cuts of a text of 12 bytes, with empty tokens.
ends = st.lists(st.integers(0, 12), max_size=9).map(sorted)


first_starts = st.integers(-2, 0)


def starts(ends, first=0):
    return [first, *ends[:-1]][: len(ends)]


def brute_force(student, teacher, first=0, other=0):
    """Every pair of tokens that start at one byte, each the last that does."""
    ours, theirs = starts(student, first), starts(teacher, other)
    return [
        (i, j)
        for i in range(len(ours))
        for j in range(len(theirs))
        if ours[i] == theirs[j]
        and ours[i] not in ours[i + 1 :]
        and theirs[j] not in theirs[j + 1 :]
    ]


@given(ends, ends, first_starts, first_starts)
def test_pairs_are_those_of_brute_force(student, teacher, first, other):
    rows, columns = align(student, teacher, student_start=first, teacher_start=other)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == brute_force(
        student, teacher, first, other
    )


def test_tokens_that_begin_in_the_prompt_meet_only_their_like():
    # "Q: 12": [: 1][2] against [ ][12], and against another [: 12].
    assert [i.tolist() for i in align([1, 2], [0, 2], student_start=-2)] == [[], []]
    pairs = align([1, 2], [2], student_start=-2, teacher_start=-2)
    assert [i.tolist() for i in pairs] == [[0], [0]]


@pytest.mark.parametrize("start", [2, 0.5, None], ids=str)
def test_refuses_starts_behind_the_first_end(start):
    with pytest.raises(ValueError, match=r"^teacher_start must be .*: pass"):
        align([1], [1], teacher_start=start)


@given(ends, ends)
def test_swapping_the_models_swaps_the_pairs(student, teacher):
    assert [p.tolist() for p in align(student, teacher)] == [
        p.tolist() for p in align(teacher, student)[::-1]
    ]


@given(ends)
def test_a_tokenization_meets_itself_at_every_distinct_start(cuts):
    rows, columns = align(cuts, cuts)
    assert rows.tolist() == columns.tolist()
    assert len(rows) == len(set(starts(cuts)))


@given(ends, ends)
def test_positional_pairs_ignore_the_text(student, teacher):
    rows, columns = align(student, teacher, how="positional")
    assert (
        rows.tolist()
        == columns.tolist()
        == list(range(min(len(student), len(teacher))))
    )


def test_whole_numbers_meet_digits_where_the_number_starts():
    # "12 345": [1][2][ 3][4][5] against [12][ 345]
    rows, columns = align([1, 2, 4, 5, 6], [2, 6])
    assert (rows.tolist(), columns.tolist()) == ([0, 2], [0, 1])


def test_split_characters_meet_only_at_the_same_byte():
    # "a東b": 東 as its three bytes, as two and one, and whole
    bytewise, halves, whole = [1, 2, 3, 4, 5], [1, 3, 4, 5], [1, 4, 5]
    assert [i.tolist() for i in align(bytewise, halves)] == [[0, 1, 3, 4], [0, 1, 2, 3]]
    assert [i.tolist() for i in align(bytewise, whole)] == [[0, 1, 4], [0, 1, 2]]
    assert [i.tolist() for i in align([1, 2, 4, 5], halves)] == [[0, 1, 3], [0, 1, 3]]


@given(st.integers(0, 10**6), st.sampled_from(TOKENIZERS), st.sampled_from(TOKENIZERS))
def test_paired_tokens_of_real_tokenizers_start_at_the_same_byte(seed, first, second):
    example = sums(1, seed)[0]
    codes = [encode(example, make()) for make in (first, second)]
    ours, theirs = codes
    rows = align(
        ours.ends, theirs.ends, student_start=ours.start, teacher_start=theirs.start
    )
    at_ours, at_theirs = (starts(code.ends.tolist(), code.start) for code in codes)
    assert [at_ours[i] for i in rows[0]] == [at_theirs[j] for j in rows[1]]


def test_ends_of_texts_meet():
    codes = [
        encode(Example("1 + 1 =", " 1234 é"), make())
        for make in (digits_tokenizer, whole_tokenizer)
    ]
    rows, columns = align(*(code.ends for code in codes))
    assert (rows[-1], columns[-1]) == tuple(len(code.ends) - 1 for code in codes)


@pytest.mark.parametrize("bad", [[3, 2], [[1]], [0.5], [-1, 0]], ids=str)
def test_refuses_what_is_no_list_of_ends(bad):
    with pytest.raises(ValueError, match=r"^student_ends must be .*: pass the bytes"):
        align(bad, [1])


def test_refuses_unknown_ways():
    with pytest.raises(ValueError, match="'bytes', 'positional', but is 'words'"):
        align([1], [1], how="words")


def test_nothing_meets_nothing():
    assert [len(i) for i in align(np.array([], dtype=int), [1, 2])] == [0, 0]
