"""All forms of one answer are read as one: numbers, ids and ends of tokens."""

import json
import re

import numpy as np
import pytest

from fusion.teachers.server_formats import readings
from fusion.teachers.server_rows import read_row
from tests.fusion.teachers import served


@pytest.mark.parametrize("as_chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("name", served.FORMS)
def test_every_form_of_one_answer_gives_the_same_rows(name, as_chat):
    # As it comes from a file.
    row = json.loads(json.dumps(served.row(name, as_chat)))
    example, rows, _ = read_row(row, served.K)
    assert example.completion == served.TEXT
    values, ids, nll = served.expected()
    np.testing.assert_allclose(rows.values, values, rtol=1e-3)
    np.testing.assert_allclose(rows.nll, nll, rtol=1e-3)
    assert rows.ends.tolist() == served.ENDS
    _, knows_ids, _ = served.FORMS[name]
    unknown = np.full_like(ids, -1).tolist()
    assert rows.ids.tolist() == (ids if knows_ids else unknown)


BAD = {
    "refused": ({"error": {"message": "no such model"}}, "no such model"),
    "nothing": ({"done": True}, "no log-probabilities"),
    "no choice": ({"choices": []}, "`choices` is empty"),
    "choices": ({"choices": "yes"}, "`choices` is of type str"),
    "unasked": ({"choices": [{"text": "yes", "logprobs": None}]}, "ask the server"),
    "tools": (
        {"choices": [{"message": {"content": None, "tool_calls": [{}]}}]},
        "calls tools",
    ),
    "content": (
        {"choices": [{"message": {"content": ["yes"]}, "logprobs": {"content": []}}]},
        "`content` is of type list",
    ),
    "columns": (
        {"logprobs": {"tokens": ["a"], "token_logprobs": [], "top_logprobs": [{}]}},
        "unlike lengths",
    ),
    "no top": (
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": None}},
        "`top_logprobs` is of type NoneType",
    ),
    "odd": ({"logprobs": {"refusal": []}}, "neither `content` nor `tokens`"),
    "sglang unasked": ({"text": "yes", "meta_info": {}}, "return_logprob"),
    "pairs": ({"meta_info": {"output_token_logprobs": [[-1, 2]]}}, "not [log-prob"),
    "own": (
        {"prompt_logprobs": [{"7": {}}], "prompt_token_ids": [8], "choices": [{}]},
        "not among its candidates",
    ),
    "chosen elsewhere": (
        {"probs": [{"content": "a", "probs": [{"tok_str": "b", "prob": 1}]}]},
        "'a' is 0 times among the likeliest",
    ),
    "chosen twice": (
        {"probs": [{"content": "a", "probs": [{"tok_str": "a", "prob": 0.4}] * 2}]},
        "'a' is 2 times among the likeliest",
    ),
    "probability": ({"probs": [{"token": "a", "prob": 2, "top_probs": []}]}, "is 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_answers_of_another_form(case):
    answer, says = BAD[case]
    with pytest.raises(ValueError, match=re.escape(says)):
        readings(answer)
