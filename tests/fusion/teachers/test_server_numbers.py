"""Numbers of a server's log: each is stored as it is meant, or refused."""

import math

import pytest

from tests.fusion.teachers import odd

VLLM_FULL = [
    {"token": "no", "logprob": -3.0},
    {"token": "yes", "logprob": -0.5},
    {"token": "a", "logprob": -1.0},
]
UNSORTED = [
    {"token": "yes", "logprob": -0.5},
    {"token": "no", "logprob": -1},
    {"token": "a", "logprob": -0.2},
]
# For each: k, the row, and the words by which it is refused, or the values, negative
# log-likelihoods and ends that are read.
ROWS = {
    "null": (1, odd.plain(odd.token(logprob=None)), "is null"),
    "minus infinity": (1, odd.plain(odd.token(logprob=-math.inf)), "not known"),
    "stand-in": (1, odd.plain(logprob=-9999.0), "not known"),
    "lowest float": (1, odd.plain(logprob=-3.4e38), "not known"),
    "huge integer": (1, odd.plain(logprob=-(10**400)), "not known"),
    "NaN": (1, odd.plain(logprob=math.nan), "is NaN"),
    "text": (1, odd.plain(logprob="-0.5"), "is '-0.5', not a number"),
    "truth": (1, odd.plain(logprob=False), "is False, not a number"),
    "logits": (1, odd.plain(logprob=12.5), "above 0"),
    "rounding": (1, odd.plain(odd.token(logprob=1e-6)), ([[0]], [0], [3])),
    "few": (2, odd.plain(), "1 top log-probabilities, not 2: ask the server for 2"),
    "no candidates": (1, odd.plain({"token": "yes", "logprob": -0.5}), "not 1: ask"),
    "unsorted": (
        3,
        odd.plain({"token": "yes", "logprob": -0.5, "top_logprobs": UNSORTED}),
        ([[-0.2, -0.5, -1]], [0.5], [3]),
    ),
    "twice": (
        2,
        odd.plain(odd.token() | {"top_logprobs": odd.token()["top_logprobs"] * 2}),
        "it has 1 top",
    ),
    "twice, without ids": (
        2,
        odd.plain(
            {
                "token": "yes",
                "logprob": -0.5,
                "top_logprobs": [{"token": "yes", "logprob": -0.5}] * 2,
            }
        ),
        "it has 1 top",
    ),
    "two tokens that are no text": (
        2,
        odd.plain(
            {
                "token": "yes",
                "logprob": -0.5,
                "top_logprobs": [{"token": "\ufffd", "logprob": -0.5}] * 2,
            }
        ),
        ([[-0.5, -0.5]], [0.5], [3]),
    ),
    "twice, unlike": (
        2,
        odd.plain(
            odd.token() | {"top_logprobs": [{"id": 7, "logprob": -i} for i in (1, 2)]}
        ),
        "listed twice",
    ),
    "chosen is unlikely": (
        1,
        odd.plain({**odd.token(), "logprob": -7.5}),
        ([[-0.5]], [7.5], [3]),
    ),
    "chosen is first of a full list": (
        3,
        odd.plain(
            {"token": "no", "logprob": -3.0, "top_logprobs": VLLM_FULL}, completion="no"
        ),
        "ask the server for top_logprobs=4",
    ),
    "chosen is first of a full list of ids": (
        3,
        odd.plain(
            {
                "token": "token_id:5",
                "bytes": list(b"yes"),
                "logprob": -3.0,
                "top_logprobs": [
                    {"token": f"token_id:{number}", "logprob": logprob}
                    for number, logprob in ((5, -3.0), (7, -0.5), (8, -1.0))
                ],
            }
        ),
        "ask the server for top_logprobs=4",
    ),
    "chosen is first of a longer list": (
        2,
        odd.plain(
            {"token": "no", "logprob": -3.0, "top_logprobs": VLLM_FULL}, completion="no"
        ),
        ([[-0.5, -1]], [3], [2]),
    ),
    "id too large": (1, odd.plain(id=2**31), "an id is 2147483648, not an integer"),
    "id below -1": (1, odd.plain(id=-2), "an id is -2, not"),
    "id is a fraction": (1, odd.plain(id=1.5), "an id is 1.5, not"),
    "id is text": (1, odd.plain(id="7"), "an id is '7', not"),
    "one text for several tokens, or one that was added": (
        2,
        odd.row_of(
            odd.columns(
                ["ye", "s"],
                [-0.5, -3.0],
                [{"ye": -0.5, "a": -1}, {"\ufffd": -1, "s": -3.0}],
            )
        ),
        "at token 2, several of its likeliest tokens have one text",
    ),
    "one text for several tokens": (
        2,
        odd.row_of(
            odd.columns(
                ["ye", "s"],
                [-0.5, -0.5],
                [{"ye": -0.5, "a": -1, "b": -2}, {"s": -0.5, "\ufffd": -1}],
            )
        ),
        "at token 2, several of its likeliest tokens have one text",
    ),
    "prompt of lower rank": (
        1,
        odd.row_of(odd.prompted([odd.MARK], [(*odd.YES[:2], -5, 3)]), completion="yes"),
        "of rank 3",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_odd_rows_are_read_right_or_refused(case):
    odd.check(*ROWS[case])
