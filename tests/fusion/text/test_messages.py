"""Examples are known by their content, and refused where it is none."""

import copy
import hashlib
import pickle

import pytest

from fusion.text.messages import Example, Message

TURN = Message("user", "a")
CHAT = Example((TURN,), "b")


def calling(value):
    """An example that differs in the call of an earlier turn alone."""
    call = {"function": {"name": "add", "arguments": {"a": value}}}
    turns = (TURN, Message("assistant", None, {"tool_calls": [call]}))
    return Example(turns, "b")


def test_keys_are_of_the_content_alone():
    assert Example("a", "b", "x", row=1).key == Example("a", "b", "y", row=2).key
    different = [
        Example("a", "b"),
        Example("ab", "b"),
        Example("a", "bb"),
        CHAT,
        Example((Message("system", "a"),), "b"),
        Example((Message("user", "a", {"name": "c"}),), "b"),
        Example((TURN,), "b", tools=({"name": "add"},)),
        calling(1),
        calling(2),
    ]
    assert len({example.key for example in different}) == len(different)


@pytest.mark.parametrize(
    ("example", "content"),
    [
        (Example("a", "b"), b'["a","b"]'),
        (CHAT, b'[["user","a"],["assistant","b"]]'),
        (
            Example((Message("user", "a", {"name": "c"}),), "b", tools=({"d": 1},)),
            b'[["user","a",{"name":"c"}],["assistant","b"],{"tools":[{"d":1}]}]',
        ),
    ],
)
def test_keys_are_hashes_of_one_form(example, content):
    # Stores are keyed by them: another form would lose what was captured.
    assert example.key == hashlib.sha256(content).hexdigest()


def test_examples_are_values():
    for example in (Example("a", "b"), CHAT, calling(1)):
        for again in (copy.deepcopy(example), pickle.loads(pickle.dumps(example))):
            assert again == example
            assert hash(again) == hash(example)
            assert again.key == example.key


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Example("", "b"), "prompt must not be empty"),
        (lambda: Example("a", ""), "completion must not be empty"),
        (lambda: Example("a", "\ud800"), "completion must be encodable as UTF-8"),
        (lambda: Example("\ud800", "b"), "prompt must be encodable as UTF-8"),
        (lambda: Example("a", "b", tools=({},)), "prompt must be a conversation"),
        (lambda: Example((Message("user", None),), "b"), "content must be text"),
        (lambda: Example((TURN,), "b", tools=({"a": b"1"},)), "tools and fields"),
    ],
)
def test_refuses_what_is_no_example(make, says):
    with pytest.raises(ValueError, match=f"^{says}.*: .*\\.$"):
        make()
