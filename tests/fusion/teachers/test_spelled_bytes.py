"""Tokens are placed in their text, whatever of them a server cannot spell."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.teachers.spelled_bytes import SILENT, find, place, spellings
from tests.fusion.teachers import served


def shown(*texts):
    return [spellings(text, None) for text in texts]


TEXT = "ok 😊!"
WAYS = {
    "spelled": (["ok", " 😊", "!"], [2, 7, 8]),
    "one sign a byte": (["ok", " ", *"\ufffd" * 4, "!"], [2, 3, 4, 5, 6, 7, 8]),
    "three signs": (["ok", " ", *"\ufffd" * 3, "!"], [2, 3, 4, 5, 7, 8]),
    "several in one": (["ok", " ", "\ufffd\ufffd", "\ufffd", "!"], [2, 3, 5, 7, 8]),
    "behind a space": (["ok", " \ufffd", "\ufffd", "!"], [2, 4, 7, 8]),
    "nothing": (["ok", " ", "", "", "", "", "!"], [2, 3, 4, 5, 6, 7, 8]),
    "nothing, too often": (["ok", " ", *[""] * 6, "!"], [2, 3, 4, 5, 6, 7, 7, 7, 8]),
    "whole at the last": (["ok", " ", "", "", "", "😊", "!"], [2, 3, 4, 5, 6, 7, 8]),
    "whole, with a space": (["ok", "", "", " 😊!"], [2, 4, 5, 8]),
    "byte level": (["ok", "ĠðŁĺ", "Ĭ", "!"], [2, 6, 7, 8]),
    "byte fallback": (["ok", "▁", "<0xF0>", "<0x9F>", "<0x98>", "<0x8A>", "!"], None),
    "escaped": (
        ["ok", " ", "bytes:\\xf0\\x9f\\x98", "bytes:\\x8a", "!"],
        [2, 3, 6, 7, 8],
    ),
    "a space before": (["▁ok", "▁", "😊", "!"], [2, 3, 7, 8]),
}


@pytest.mark.parametrize("way", WAYS)
def test_parts_of_characters_are_placed(way):
    texts, ends = WAYS[way]
    assert place(shown(*texts), TEXT.encode()) == (ends or [2, 3, 4, 5, 6, 7, 8])


def test_what_does_not_make_the_text_is_not_placed():
    for texts in (["ok"], ["ok", "!"], ["ok \ufffd!"], ["ok", " 😊", "!", "!"], []):
        assert place(shown(*texts), TEXT.encode()) is None
    # Only bytes that can have no spelling are missing.
    assert place(shown("ok", "\ufffd"), b"ok!") is None
    # More ways than are tried, and as many tokens, one way each.
    assert place(shown(*"\ufffd" * 600), ("é" * 300).encode()) == list(range(1, 601))
    assert place(shown(*[""] * 300, *"ab"), ("é" * 300 + "ab").encode()) is None


def test_own_bytes_are_preferred_to_the_text():
    tokens = [spellings("\ufffd", b"\xf0\x9f\x98"), spellings("\ufffd", b"\x8a")]
    assert place(tokens, "😊".encode()) == [3, 4]
    # The sign itself is a character, too.
    assert place(shown("\ufffd", "!"), "\ufffd!".encode()) == [3, 4]


def test_parts_of_a_text_are_found_everywhere():
    tokens = shown("yes", "?", " yes", "", "\n", "y", "es", "<end>")
    places = find(tokens, b"yes")
    assert [(one.first, one.ends) for one in places] == [
        (0, [3]),
        (2, [3]),
        (5, [1, 3]),
    ]
    assert find(tokens, b"no") == []
    # A character that its last token shows is cut among the empty ones before it.
    tokens = shown("?", "", "", "", "", "😊", "!", "")
    (place,) = find(tokens, "😊!".encode())
    assert (place.first, place.ends) == (2, [1, 2, 3, 4, 5])


# Of one to four bytes in UTF-8, marks that combine, and letters that other alphabets
# write bytes with.
CHARACTERS = "ab 0\n\té¡ÃĠβםعॐ漢字カé\u0301\u200d\ufeff😊🇩🎉𝄞"
# Each at most once, so that there is one way to place what is spelled.
TEXTS = st.lists(
    st.sampled_from(sorted(set(CHARACTERS))), min_size=1, max_size=12, unique=True
).map("".join)
SHOWS = (served.replaced, served.escaped, served.byte_level, None)


@settings(max_examples=50)
@given(text=TEXTS, data=st.data())
def test_ends_are_the_true_ones_wherever_the_tokens_are_spelled(text, data):
    whole = text.encode()
    cuts = data.draw(st.sets(st.integers(1, len(whole)), max_size=8)) | {len(whole)}
    true = sorted(cuts)
    pieces = []
    for start, end in zip([0, *true], true, strict=False):
        pieces.append(whole[start:end])
    show = data.draw(st.sampled_from(SHOWS))
    if show is None:
        texts = served.shown_at_the_last(pieces)
    else:
        texts = [show(piece) for piece in pieces]
    ends = place(shown(*texts), whole)
    assert ends is not None
    assert ends == sorted(ends)
    assert ends[-1] == len(whole)
    if show in (served.escaped, served.byte_level):
        assert ends == true
        return
    # Elsewhere a cut between two characters is known where both are.
    for i, end in enumerate(true[:-1]):
        spelled = "\ufffd" not in texts[i] + texts[i + 1] and texts[i] and texts[i + 1]
        if spelled:
            assert ends[i] == end


def test_tokens_without_bytes_stand_around_a_text():
    assert place([SILENT, *shown("ok"), SILENT], b"ok") == [0, 2, 2]
