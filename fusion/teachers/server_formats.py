"""The forms in which servers return log-probabilities, read as one.

fusion/SERVERS.md says for each server how to ask, and what is lost.

Every form becomes entries, one for each token, of the candidates that the server
lists. Whether their values can be used is checked later: a log-probability may still be
text, or NaN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

_TOKEN_ID = re.compile(r"token_id:(\d+)")


class Candidate(NamedTuple):
    """One token that might come next, as a server shows it."""

    text: Any
    data: Any  # its bytes, where the server gives them
    logprob: Any
    id: Any = -1  # −1 where the server does not tell it
    rank: Any = None  # 1 for the likeliest, where the server tells it


class Entry(NamedTuple):
    """What a server says of one token of a text."""

    token: Candidate
    top: Sequence[Candidate]
    by_text: bool = False  # named by text: tokens of one text are one candidate


class Reading(NamedTuple):
    """The tokens of a text."""

    entries: list[Entry]
    text: str | None  # None where the answer of the server does not hold it
    whole: bool  # True for prompt and completion, False for the completion alone


def readings(answer: Mapping[str, Any]) -> list[Reading]:
    """Read a server's answer to one request.

    Parameters
    ----------
    answer : mapping
        The JSON object that the server returned; of several choices, the first counts.

    Returns
    -------
    list of Reading
        What was generated, and the prompt where the server was asked for it.

    Raises
    ------
    ValueError
        If it has none of the known forms, or a part of another type.
    """
    if "error" in answer and len(answer) <= 2:
        raise ValueError(f"the server answered {str(answer['error'])[:80]!r}")
    if answer.get("choices") is not None:
        return _of_choices(answer)
    if answer.get("meta_info") is not None:
        return _of_sglang(answer)
    for name in ("completion_probabilities", "probs"):
        if answer.get(name) is not None:
            entries = _content(answer[name], name)
            return [Reading(entries, _text(answer, "content"), whole=False)]
    logprobs = answer.get("logprobs")
    if logprobs is None:
        raise ValueError(
            "it has no log-probabilities: ask the server for them, see SERVERS.md"
        )
    # Ollama's generated text is `response`, or the message's content.
    text = _text(answer, "response")
    if isinstance(answer.get("message"), Mapping):
        text = _text(answer["message"], "content")
    return [_of_logprobs(logprobs, text)]


def _of_choices(answer: Mapping[str, Any]) -> list[Reading]:
    """Read the first choice of an answer of OpenAI's form."""
    choices = _list(answer["choices"], "choices")
    if not choices:
        raise ValueError("`choices` is empty")
    choice = _mapping(choices[0], "choices[0]")
    text = _text(choice, "text")
    if choice.get("message") is not None:
        message = _mapping(choice["message"], "message")
        if message.get("tool_calls"):
            raise ValueError("the answer calls tools: only text can be scored")
        text = _text(message, "content")
    found = []
    if choice.get("logprobs") is not None:
        found.append(_of_logprobs(choice["logprobs"], text))
    # vLLM gives those of a prompt beside a chat's choices, or in a completion's.
    for holder in (choice, answer):
        if holder.get("prompt_logprobs") is not None:
            ids = holder.get("prompt_token_ids")
            entries = _of_prompt(holder["prompt_logprobs"], ids)
            found.append(Reading(entries, _text(holder, "prompt_text"), whole=True))
            break
    if not found:
        raise ValueError("its choice has no `logprobs`: ask the server for them")
    return found


def _of_logprobs(logprobs: Any, text: str | None) -> Reading:
    """Read ``logprobs``: a list of tokens, that list as ``content``, or columns."""
    if not isinstance(logprobs, Mapping):
        return Reading(_content(logprobs, "logprobs"), text, whole=False)
    if logprobs.get("content") is not None:
        entries = _content(logprobs["content"], "logprobs.content")
        return Reading(entries, text, whole=False)
    if logprobs.get("tokens") is None:
        raise ValueError("`logprobs` has neither `content` nor `tokens`")
    entries = _columns(logprobs)
    # Nothing predicts the first token of a text: where it has no log-probability, the
    # prompt was echoed.
    echoed = bool(entries) and entries[0].token.logprob is None
    return Reading(entries, text, whole=echoed)


def _content(rows: Any, name: str) -> list[Entry]:
    """Read one mapping a token, as chats, llama.cpp and Ollama return them."""
    entries = []
    for item in _list(rows, name):
        row = _mapping(item, f"an entry of {name}")
        if "top_logprobs" in row or "top_probs" in row:
            top = row.get("top_logprobs")
            if top is None:
                top = row.get("top_probs")
            candidates = [
                _candidate(one) for one in _list(top or [], f"{name}.top_logprobs")
            ]
            entries.append(Entry(_candidate(row), candidates))
        elif "probs" in row:
            entries.append(_of_old_llama(row))
        else:
            entries.append(Entry(_candidate(row), ()))
    return entries


def _candidate(item: Any) -> Candidate:
    """Read a token with its log-probability, or with its probability."""
    row = _mapping(item, "a token")
    logprob = row.get("logprob")
    if logprob is None and "prob" in row:
        logprob = _log(row["prob"])
    text = row.get("token")
    number = row.get("id", -1)
    return _named(text, row.get("bytes"), logprob, number)


def _named(text: Any, data: Any, logprob: Any, number: Any = -1) -> Candidate:
    """Make a candidate; vLLM may show ids in place of texts."""
    match = _TOKEN_ID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return Candidate(text, data, logprob, number)
    # The bytes beside it are the token's own, unless they spell the id, too.
    if isinstance(data, list | bytes) and list(data) == list(text.encode()):
        data = None
    return Candidate(None, data, logprob, int(match[1]))


def _of_old_llama(row: Mapping[str, Any]) -> Entry:
    """Read a token of llama.cpp before it gave log-probabilities."""
    text = row.get("content")
    top = []
    own = []
    for item in _list(row["probs"], "probs"):
        one = _mapping(item, "a token")
        logprob = _log(one.get("prob"))
        top.append(Candidate(one.get("tok_str"), None, logprob))
        if one.get("tok_str") == text:
            own.append(logprob)
    # The token has no probability of its own, but for that among the likeliest.
    if len(own) != 1:
        raise ValueError(
            f"the chosen token {text!r} is {len(own)} times among the likeliest, not "
            "once: ask a server that gives log-probabilities"
        )
    return Entry(Candidate(text, None, own[0]), top)


def _log(prob: Any) -> Any:
    """Return the logarithm of a probability, or refuse another value."""
    number = isinstance(prob, Real) and not isinstance(prob, bool)
    if not number or not 0 <= float(prob) <= 1:
        raise ValueError(f"a probability is {prob!r}, not a number from 0 to 1")
    return math.log(prob) if float(prob) > 0 else -math.inf


def _columns(logprobs: Mapping[str, Any]) -> list[Entry]:
    """Read the columns of OpenAI's completions."""
    columns = {}
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        columns[name] = _list(logprobs.get(name), name)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"its columns are of unlike lengths: {lengths}")
    entries = []
    for text, logprob, top in zip(*columns.values(), strict=True):
        candidates = []
        for name, value in _mapping(top or {}, "top_logprobs").items():
            candidates.append(_named(name, None, value))
        by_text = any(one.id == -1 for one in candidates)
        entries.append(Entry(_named(text, None, logprob), candidates, by_text))
    return entries


def _of_prompt(rows: Any, ids: Any) -> list[Entry]:
    """Read vLLM's ``prompt_logprobs``: for each token, candidates by their ids."""
    entries = []
    for i, item in enumerate(_list(rows, "prompt_logprobs")):
        # Nothing predicts the first token, and nothing is said of it.
        if item is None:
            entries.append(Entry(Candidate(None, None, None), ()))
            continue
        candidates = {}
        for key, value in _mapping(item, "an entry of prompt_logprobs").items():
            one = _mapping(value, "a token of prompt_logprobs")
            number = int(key)
            candidates[number] = Candidate(
                one.get("decoded_token"),
                None,
                one.get("logprob"),
                number,
                one.get("rank"),
            )
        if not candidates:
            raise ValueError("an entry of `prompt_logprobs` is empty")
        # The prompt's own token comes first, unless the server lists them separately.
        own = next(iter(candidates))
        if ids is not None:
            own = _list(ids, "prompt_token_ids")[i]
        if own not in candidates:
            raise ValueError(f"token {i + 1} of the prompt is not among its candidates")
        entries.append(Entry(candidates[own], list(candidates.values())))
    return entries


def _of_sglang(answer: Mapping[str, Any]) -> list[Reading]:
    """Read ``meta_info`` of SGLang: what was generated, then the prompt."""
    meta = _mapping(answer["meta_info"], "meta_info")
    found = []
    for kind, text in (("output", _text(answer, "text")), ("input", None)):
        rows = meta.get(f"{kind}_token_logprobs")
        if not rows:
            continue
        tops = meta.get(f"{kind}_top_logprobs")
        entries = _triples(rows, tops, kind)
        found.append(Reading(entries, text, whole=kind == "input"))
    if not found:
        raise ValueError(
            "`meta_info` has no log-probabilities: ask with return_logprob=true"
        )
    return found


def _triples(rows: Any, tops: Any, kind: str) -> list[Entry]:
    """Read log-probability, id and text of each token."""
    tokens = _list(rows, f"{kind}_token_logprobs")
    top = _list(tops or [None] * len(tokens), f"{kind}_top_logprobs")
    if len(top) != len(tokens):
        raise ValueError(f"it has {len(top)} lists for {len(tokens)} tokens")
    entries = []
    for token, candidates in zip(tokens, top, strict=True):
        listed = [_triple(one) for one in _list(candidates or [], "top_logprobs")]
        entries.append(Entry(_triple(token), listed))
    return entries


def _triple(item: Any) -> Candidate:
    """Read one token of SGLang."""
    if not isinstance(item, list | tuple) or len(item) != 3:
        raise ValueError(f"a token is {item!r}, not [log-probability, id, text]")
    logprob, number, text = item
    return Candidate(text, None, logprob, number)


def _text(holder: Mapping[str, Any], name: str) -> str | None:
    """Return a text of the server's answer, or None where it has none."""
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` is of type {type(value).__name__}, not text")
    return value


def _list(value: Any, name: str) -> Sequence[Any]:
    """Require a list."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{name}` is of type {type(value).__name__}, not a list")
    return value


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Require a mapping."""
    # JSON makes dicts, which are told faster.
    if not isinstance(value, (dict, Mapping)):
        raise ValueError(f"`{name}` is of type {type(value).__name__}, not an object")
    return value
