"""A server that answers one request in the form of every server that is read."""

import math

PROMPT = "Say it: "
TEXT = "ok 😊 né!"
MESSAGES = [{"role": "user", "content": PROMPT}]
K = 3
START = (b"<s>", 1)
HEAD = ((b"Say", 10), (b" it", 11), (b": ", 12))
# One byte a token in characters of several, so that no form has to guess.
ANSWER = (
    (b"ok", 20),
    (b" ", 21),
    (b"\xf0", 22),
    (b"\x9f", 23),
    (b"\x98", 24),
    (b"\x8a", 25),
    (b" n", 26),
    (b"\xc3", 27),
    (b"\xa9", 28),
    (b"!", 29),
)
END = (b"<end>", 2)
ENDS = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 12]
# The token that is chosen is the likeliest, the second, none of the likeliest, …
RANKS = (1, 2, 5)


def candidates(i, token):
    """The likeliest tokens at position i, and the chosen one: bytes, id, logprob."""
    rank = RANKS[i % len(RANKS)]
    listed = []
    for r in range(1, K + 1):
        logprob = -0.25 * (r + i % 4)
        other = (f"w{r}".encode(), 100 + r)
        listed.append((*(token if r == rank else other), logprob))
    own = (*token, -0.25 * (rank + i % 4))
    return listed, own


def positions(start=False, head=False):
    """The same for the answer, its end and what precedes it."""
    tokens = [*ANSWER, END]
    before = [START] * start + [*HEAD] * head
    found = []
    for i, token in enumerate([*before, *tokens]):
        found.append(candidates(i - len(before), token))
    return found


def expected():
    """Values, ids and negative log-likelihoods of the answer and its end."""
    values, ids, nll = [], [], []
    for listed, own in positions():
        values.append([logprob for _, _, logprob in listed])
        ids.append([number for _, number, _ in listed])
        nll.append(-own[2])
    return values, ids, nll


def replaced(token):
    return token.decode(errors="replace")


def escaped(token):
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def shown_at_the_last(tokens):
    """Texts of tokens that are decoded together: empty but for the last of each."""
    texts = []
    held = b""
    for token in tokens:
        held += token
        try:
            texts.append(held.decode())
            held = b""
        except UnicodeDecodeError:
            texts.append("")
    return texts


def byte_level(token):
    """GPT-2's alphabet."""
    table = {}
    other = 0
    for byte in range(256):
        if 33 <= byte < 127 or 161 <= byte < 173 or byte >= 174:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + other)
            other += 1
    return "".join(table[byte] for byte in token)


def byte_fallback(token):
    """SentencePiece's alphabet."""
    if not token.isascii():
        return f"<0x{token[0]:02X}>"
    return token.decode().replace(" ", "▁")


def content(show, with_bytes=False, with_ids=False, texts=None):
    """One mapping a token, with its likeliest ones in a list."""
    entries = []
    for i, (listed, own) in enumerate(positions()):
        rows = []
        for token, number, logprob in [own, *listed]:
            row = {"token": show(token), "logprob": logprob}
            if with_bytes:
                row["bytes"] = list(token)
            if with_ids:
                row["id"] = number
            rows.append(row)
        entry, *top = rows
        if texts is not None:
            entry["token"] = texts[i]
            entry["bytes"] = list(texts[i].encode())
        entries.append(entry | {"top_logprobs": top})
    return entries


def chat(entries):
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "logprobs": {"content": entries}}
    return {"object": "chat.completion", "choices": [choice]}


def openai_chat():
    return chat(content(replaced, with_bytes=True))


def vllm_chat():
    """Texts decoded together, and the chosen token before one likely token more."""
    texts = shown_at_the_last([token for token, _ in (*ANSWER, END)])
    entries = content(replaced, texts=texts)
    for entry, (listed, own) in zip(entries, positions(), strict=True):
        ordered = dict.fromkeys([own, *listed, (b"w9", 109, -9.0)])
        entry["top_logprobs"] = [
            {"token": replaced(token), "bytes": [], "logprob": logprob}
            for token, _, logprob in list(ordered)[: K + 1]
        ]
    return chat(entries)


def vllm_chat_with_ids():
    """Ids in place of texts, which are in the bytes of the chosen tokens alone."""
    entries = content(replaced)
    for entry, (listed, own) in zip(entries, positions(), strict=True):
        entry["token"] = f"token_id:{own[1]}"
        entry["bytes"] = list(replaced(own[0]).encode())
        entry["top_logprobs"] = [
            {
                "token": f"token_id:{number}",
                "bytes": list(f"token_id:{number}".encode()),
                "logprob": logprob,
            }
            for _, number, logprob in listed
        ]
    return chat(entries)


def columns(show, echo=False, offsets=True):
    """OpenAI's completions: columns, and the likeliest tokens by their text."""
    found = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    at = 0
    for i, (listed, own) in enumerate(positions(head=echo)):
        first = echo and i == 0
        found["tokens"].append(show(own[0]))
        found["token_logprobs"].append(None if first else own[2])
        top = {show(token): logprob for token, _, logprob in [*listed, own]}
        found["top_logprobs"].append(None if first else top)
        found["text_offset"].append(at if offsets else -1)
        at += len(show(own[0]))
    text = PROMPT * echo + TEXT
    return {"choices": [{"text": text, "logprobs": found}]}


def by_ids(own, listed):
    """vLLM's candidates of a token of the prompt: its own first."""
    found = {}
    for rank, (token, number, logprob) in [(7, own), *enumerate(listed, start=1)]:
        found[str(number)] = {
            "logprob": logprob,
            "rank": rank,
            "decoded_token": replaced(token),
        }
    return found


def vllm_prompt(start=True):
    rows = [by_ids(own, listed) for listed, own in positions(start, head=True)]
    return [None, *rows[1:]]


def vllm_chat_of_prompt():
    generated = {"message": {"content": "Thanks."}, "logprobs": None}
    return {"choices": [generated], "prompt_logprobs": vllm_prompt()}


def vllm_completions_of_prompt():
    choice = {"text": "", "logprobs": None, "prompt_logprobs": vllm_prompt(start=False)}
    return {"choices": [choice]}


def triples(kind, **what):
    rows, tops = [], []
    for listed, own in positions(**what):
        rows.append([own[2], own[1], replaced(own[0])])
        tops.append([[logprob, n, replaced(t)] for t, n, logprob in listed])
    if what:
        rows[0][0] = None
        tops[0] = None
    return {f"{kind}_token_logprobs": rows, f"{kind}_top_logprobs": tops}


def sglang():
    return {"text": TEXT, "meta_info": triples("output")}


def sglang_of_prompt():
    return {"text": " Thanks.", "meta_info": triples("input", start=True, head=True)}


def llama_cpp():
    entries = content(lambda t: t.decode(errors="ignore"), True, True)
    return {"content": TEXT, "completion_probabilities": entries}


def llama_cpp_completions():
    logprobs = {"content": llama_cpp()["completion_probabilities"]}
    return {"choices": [{"text": TEXT, "logprobs": logprobs}]}


def llama_cpp_old():
    """Probabilities alone; the chosen token must be among the likeliest."""
    entries = []
    for listed, own in positions():
        probs = [
            {"tok_str": replaced(token), "prob": math.exp(logprob)}
            for token, _, logprob in dict.fromkeys([*listed, own])
        ]
        entries.append({"content": replaced(own[0]), "probs": probs})
    return {"content": TEXT, "completion_probabilities": entries}


def ollama():
    return {"message": {"content": TEXT}, "done": True, "logprobs": content(replaced)}


def ollama_generate():
    return {"response": TEXT, "done": True, "logprobs": content(replaced)}


# For each form: the server's answer, whether it tells ids, and whether the completion
# is the row's, since it was scored in the prompt.
FORMS = {
    "openai chat": (openai_chat(), False, False),
    "openai completions": (columns(escaped), False, False),
    "openai completions, echoed": (columns(escaped, echo=True), False, True),
    "vllm chat": (vllm_chat(), False, False),
    "vllm chat, ids": (vllm_chat_with_ids(), True, False),
    "vllm chat, prompt": (vllm_chat_of_prompt(), True, True),
    "vllm completions": (columns(replaced), False, False),
    "vllm completions, prompt": (vllm_completions_of_prompt(), True, True),
    "vllm 0.8 completions": (columns(byte_level), False, False),
    "sglang": (sglang(), True, False),
    "sglang, prompt": (sglang_of_prompt(), True, True),
    "sglang completions": (columns(replaced, offsets=False), False, False),
    "sglang completions, echoed": (columns(replaced, True, False), False, True),
    "llama.cpp": (llama_cpp(), True, False),
    "llama.cpp completions": (llama_cpp_completions(), True, False),
    "llama.cpp, old": (llama_cpp_old(), False, False),
    "ollama chat": (ollama(), False, False),
    "ollama generate": (ollama_generate(), False, False),
    "tokens of sentencepiece": (chat(content(byte_fallback)), False, False),
}


def row(name, as_chat):
    """The row of a log with a form's answer, of a conversation or of plain text."""
    answer, _, fixed = FORMS[name]
    if as_chat:
        turns = [{"role": "assistant", "content": TEXT}] if fixed else []
        return {"messages": [*MESSAGES, *turns], "response": answer}
    completion = {"completion": TEXT} if fixed else {}
    return {"prompt": PROMPT, **completion, "response": answer}
