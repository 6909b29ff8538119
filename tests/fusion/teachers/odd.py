"""Small rows of servers' logs, to be spoiled, and what is to become of them."""

import re

import numpy as np
import pytest

from fusion.teachers.server_rows import read_row


def token(text="yes", logprob=-0.5, **changed):
    """A token of a chat, whose likeliest one has the changes."""
    top = {"token": text, "logprob": logprob, "id": 7} | changed
    return {"token": text, "logprob": logprob, "top_logprobs": [top]}


def plain(*tokens, completion="yes", **changed):
    """A row without a model: of one token, whose likeliest one has the changes."""
    return {
        "prompt": "right?",
        "completion": completion,
        "logprobs": {"content": list(tokens) or [token(**changed)]},
    }


def row_of(answer, **asked):
    return {"prompt": "right?", **asked, "response": answer}


def columns(tokens, logprobs, tops, text="yes", **more):
    logprobs = {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops}
    return {"choices": [{"text": text, "logprobs": logprobs, **more}]}


def prompted(*rows):
    """vLLM's log-probabilities of a prompt: id, text, logprob and rank of each."""
    found = [None]
    for row in rows:
        found.append(
            {
                str(number): {"decoded_token": text, "logprob": logprob, "rank": rank}
                for number, text, logprob, rank in row
            }
        )
    return {"choices": [{"text": "", "prompt_logprobs": found}]}


# Tokens of a prompt.
YES = (7, "yes", -0.5, 1)
RIGHT = (1, "right", -9.0, 1)
MARK = (2, "?", -9.0, 1)


def check(k, row, right):
    """A row is refused with these words, or its values, likelihoods and ends are so."""
    if isinstance(right, str):
        with pytest.raises(Exception, match=re.escape(right)):
            read_row(row, k)
        return
    rows = read_row(row, k).rows
    values, nll, ends = right
    np.testing.assert_allclose(rows.values, values, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(rows.nll, nll, rtol=1e-3, atol=1e-5)
    assert rows.ends.tolist() == ends
