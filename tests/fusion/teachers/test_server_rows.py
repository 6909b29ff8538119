"""The completion of a row is found among the tokens that a server tells of."""

import pytest

from tests.fusion.teachers import odd

LONG = "yes, as far as I can see"
# For each: k, the row, and the words by which it is refused, or the values, negative
# log-likelihoods and ends that are read.
ROWS = {
    "byte too large": (1, odd.plain(odd.token() | {"bytes": [256]}), "a byte is 256"),
    "byte below 0": (1, odd.plain(odd.token() | {"bytes": [-1]}), "a byte is -1"),
    "byte is truth": (1, odd.plain(odd.token() | {"bytes": [True]}), "a byte is True"),
    "bytes are a number": (
        1,
        odd.plain(odd.token() | {"bytes": 3}),
        "are 3, not a list",
    ),
    "no bytes": (1, odd.plain(odd.token() | {"bytes": None}), ([[-0.5]], [0.5], [3])),
    "other text": (1, odd.plain(completion="yes!"), "tokens spell 'yes', not 'yes!'"),
    "token is a number": (
        1,
        odd.plain({**odd.token(), "token": 3}),
        "a token is 3, not text",
    ),
    "tokens are text": (
        1,
        {**odd.plain(), "logprobs": {"content": ["yes"]}},
        "type str",
    ),
    "no tokens": (1, {**odd.plain(), "logprobs": {"content": []}}, "tells no token"),
    "no log-probabilities": (
        1,
        {**odd.plain(), "logprobs": None},
        "neither `response`",
    ),
    "no prompt": (1, {"completion": "yes", "logprobs": [odd.token()]}, "`prompt` and"),
    "no mapping": (1, ["yes"], "of type list, not an object"),
    "response is text": (1, odd.row_of("yes"), "is of type str"),
    "response of one": (
        1,
        odd.row_of([odd.columns(["yes"], [-0.5], [{"yes": -0.5}])]),
        ([[-0.5]], [0.5], [3]),
    ),
    "response disagrees": (
        1,
        odd.row_of(odd.columns(["yes"], [-0.5], [{"yes": -0.5}]), completion="no"),
        "its completion is 'no' and the server's 'yes'",
    ),
    "empty answer": (
        1,
        odd.row_of(odd.columns([], [], [], text="")),
        "completion is empty",
    ),
    "ids for texts": (
        1,
        odd.row_of(odd.columns(["token_id:7"], [-0.5], [{"token_id:7": -0.5}])),
        "spells no token",
    ),
    "ids for texts and bytes": (
        1,
        odd.plain(odd.token("token_id:7") | {"bytes": list(b"token_id:7")}),
        "spells no token",
    ),
    "echo without a start": (
        1,
        odd.row_of(
            odd.columns(
                ["right", "?yes"],
                [None, -0.5],
                [None, {"?yes": -0.5}],
                text="right?yes",
            ),
            completion="yes",
        ),
        ([[-0.5]], [0.5], [3]),
    ),
    "echo with a start token": (
        1,
        odd.row_of(
            odd.columns(
                ["<s>", "right", "?yes", "<end>"],
                [None, -3.0, -0.5, -1.0],
                [None, {"right": -3.0}, {"?yes": -0.5}, {"<end>": -1.0}],
                text="right?yes",
            ),
            completion="yes",
        ),
        ([[-0.5], [-1]], [0.5, 1], [3, 3]),
    ),
    "echo of more than the answer": (
        1,
        odd.row_of(
            odd.columns(
                ["right", "?", "yes!", "!"],
                [None, -3.0, -0.5, -1.0],
                [None, {"?": -3.0}, {"yes!": -0.5}, {"!": -1.0}],
                text="right?yes!!",
            ),
            completion="yes",
        ),
        ([[-0.5]], [0.5], [3]),
    ),
    "echo of another prompt": (
        1,
        odd.row_of(
            odd.columns(
                ["left", "yes"], [None, -1], [None, {"yes": -1}], text="leftyes"
            )
        ),
        "the server echoes is 'leftyes'",
    ),
    "prompt with a start token": (
        1,
        odd.row_of(
            odd.prompted([odd.RIGHT], [odd.MARK], [odd.YES, (8, "no", -0.9, 2)]),
            completion="yes",
        ),
        ([[-0.5]], [0.5], [3]),
    ),
    "prompt with the answer twice": (
        1,
        {
            "messages": [
                {"role": "user", "content": "yes?"},
                {"role": "assistant", "content": "yes"},
            ],
            "response": odd.prompted(
                [odd.YES], [odd.MARK], [odd.YES], [(9, "<end>", -1, 1)]
            ),
        },
        "2 times in the prompt: ask the server with continue_final_message=true",
    ),
    "prompt with a long answer twice": (
        1,
        {
            "messages": [
                {"role": "user", "content": f"{LONG}?"},
                {"role": "assistant", "content": LONG},
            ],
            "response": odd.prompted(
                [(8, LONG, -7, 1)],
                [odd.MARK],
                [(8, LONG, -2, 1)],
                [(9, "<end>", -1, 1)],
            ),
        },
        ([[-2], [-1]], [2, 1], [24, 24]),
    ),
    "prompt with its end": (
        1,
        {
            "messages": [
                {"role": "user", "content": "right?"},
                {"role": "assistant", "content": "yes"},
            ],
            "response": odd.prompted(
                [odd.RIGHT], [odd.MARK], [odd.YES], [(9, "<end>", -1, 1)]
            ),
        },
        ([[-0.5], [-1]], [0.5, 1], [3, 3]),
    ),
    "parts without an end": (
        1,
        odd.plain(odd.token("\ufffd"), odd.token("\ufffd"), completion="é"),
        ([[-0.5]] * 2, [0.5] * 2, [1, 2]),
    ),
    "parts and an end of nothing": (
        1,
        odd.plain(*[odd.token("\ufffd")] * 3, odd.token(""), completion="😊"),
        ([[-0.5]] * 4, [0.5] * 4, [1, 2, 4, 4]),
    ),
    "half a pair of UTF-16": (
        1,
        odd.plain(odd.token("\ud83d"), odd.token("\ude0a"), completion="😊"),
        ([[-0.5]] * 2, [0.5] * 2, [1, 4]),
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_odd_rows_are_read_right_or_refused(case):
    odd.check(*ROWS[case])
