"""Twelve kinds of tokenizer times fifteen conversations: any two read the same bytes.

Or one sentence refuses a conversation, and names its row.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from fusion.text.align import align
from fusion.text.conversations import Example, Message, encode
from fusion.text.templates import rendering
from tests.fusion.text import kinds

CALL = Message("assistant", None, {"tool_calls": [{"name": "add"}]})
CONVERSATIONS = {
    "plain turns": [("user", "Hello there"), "Hello world"],
    "system": [("system", "be brief"), ("user", "Hello"), "yes."],
    "several turns": [("user", "a"), ("assistant", "b"), ("user", "12"), "345"],
    "names": [Message("user", "Hello", {"name": "Ann"}), "Hello Ann"],
    "calls of tools": [("user", "sum"), CALL, ("tool", "5"), "5"],
    "empty turns": [("user", ""), ("assistant", ""), ("user", ""), "0"],
    "emoji and joiners": [("user", "👩‍👩‍👧?"), "👩‍👩‍👧 👍🏽x"],
    "combining marks": [("user", "e\u0301"), "cafe\u0301 x\u0323\u0301 \u1100\u1161"],
    "line ends": [("user", "a\r\nb"), "c\r\nd\ne"],
    "right to left": [("user", "שלום"), "مرحبا \u200fabc"],
    "very long": [("user", "Hello world 東京 " * 40), "the answer é is 12\n" * 150],
    "begins with a space": [("user", "Hello"), " Hello"],
    "begins as the header ends": [("user", "Hello"), "\nHello"],
    "begins with a mark": [("user", "Hello"), "\u0301Hello"],
    "holds special tokens": [("user", "</s> <s>"), "<|end|>a</s>[/INST]"],
}
TOOLS = {"calls of tools": ({"type": "function", "function": {"name": "add"}},)}


def example_of(name):
    *turns, answer = CONVERSATIONS[name]
    prompt = tuple(t if isinstance(t, Message) else Message(*t) for t in turns)
    row = list(CONVERSATIONS).index(name) + 1
    return Example(prompt, answer, tools=TOOLS.get(name, ()), row=row)


@cache
def read(kind, name):
    """What a tokenizer reads of a conversation, or the sentence that refuses it."""
    try:
        return encode(example_of(name), kinds.made(kind))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("kind", kinds.MAKERS)
def test_tokens_are_those_of_the_rendered_text(kind, name):
    tokenizer, example, code = kinds.made(kind), example_of(name), read(kind, name)
    if isinstance(code, str):
        assert f"row {example.row}" in code
        assert code.endswith(".")
        assert code.count(". ") == 0
        return
    turns = [turn.as_dict() for turn in example.prompt]
    turns.append({"role": "assistant", "content": example.completion})
    text = tokenizer.apply_chat_template(
        turns, tools=list(example.tools) or None, tokenize=False
    )
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = code.input_ids.tolist()
    assert ids == whole["input_ids"][: len(ids)]

    # What is marked is a suffix, and covers the completion but for white space that is
    # dropped at its end.
    first = len(ids) - len(code.ends)
    ends = code.ends.tolist()
    assert code.completion_mask.tolist() == [False] * first + [True] * len(ends)
    assert ends == sorted(ends)
    assert not example.completion.encode()[ends[-1] :].strip()
    parts = rendering(example, tokenizer)
    assert parts.text == text
    assert code.start <= parts.skipped

    # Tokens of the prompt start in it, and the first that is marked ends behind it.
    head = parts.head
    spans = whole["offset_mapping"]
    assert all(left <= len(head) for left, _ in spans[:first])
    assert spans[first][1] >= len(head)
    # By the bytes that tokens spell, from the beginning of the text on.
    if kind in kinds.EXACT:
        before = len(head.encode())
        size = len(parts.completion.encode())
        edges = kinds.edges_of(tokenizer.convert_ids_to_tokens(ids), text, kind)
        assert (min(0, edges[first] - before) or parts.skipped) == code.start
        wanted = np.clip(np.array(edges[first + 1 : -1]) - before, 0, size)
        assert ends == [end + parts.skipped for end in (*wanted, size)]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_any_two_tokenizers_read_the_same_bytes(name):
    """Pairs start at one byte, and all text between two pairs is the same bytes."""
    whole = example_of(name).completion.encode()
    codes = {kind: read(kind, name) for kind in kinds.MAKERS}
    read_by = {kind: code for kind, code in codes.items() if not isinstance(code, str)}
    assert len(read_by) >= 5
    for (_, x), (_, y) in combinations(read_by.items(), 2):
        at_x, at_y = align(x.ends, y.ends, student_start=x.start, teacher_start=y.start)
        from_x = np.append([x.start], x.ends)[at_x]
        from_y = np.append([y.start], y.ends)[at_y]
        assert from_x.tolist() == from_y.tolist()
        # The end tokens follow the whole text in both, up to dropped white space.
        shorter = min(x.ends[-1], y.ends[-1])
        assert not whole[shorter : max(x.ends[-1], y.ends[-1])].strip()


def test_each_kind_reads_most_conversations():
    for kind in kinds.MAKERS:
        codes = [read(kind, name) for name in CONVERSATIONS]
        refused = [code for code in codes if isinstance(code, str)]
        assert len(refused) <= 7, refused
