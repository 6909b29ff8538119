"""The text of an example, as a chat template renders it, or the reason it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from fusion.text.messages import Example, Message

Messages = Sequence[Message]
Tools = Sequence[Mapping[str, Any]]

# Stands where the completion goes while a chat template is rendered.
_MARK = "[[completion]]"


class Rendering(NamedTuple):
    """The text of an example in three parts.

    Attributes
    ----------
    head, completion, tail : str
        The text before the completion, the completion as it stands in the text, which
        may lack white space around it, and the text after it.
    skipped : int
        How many bytes of white space a template strips from the completion's start.
    """

    head: str
    completion: str
    tail: str
    skipped: int = 0

    @property
    def text(self) -> str:
        """The whole text."""
        return self.head + self.completion + self.tail


def render(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the text before and after the completion, as of :func:`rendering`."""
    found = rendering(example, tokenizer)
    return found.head, found.tail


def rendering(example: Example, tokenizer: PreTrainedTokenizerBase) -> Rendering:
    """Return the text of an example, plain or as the tokenizer's chat template puts it.

    Its parts together are what the template makes of the whole conversation.

    Parameters
    ----------
    example : Example
        Its completion is never changed but by templates that strip the white space
        around it.
    tokenizer : PreTrainedTokenizerBase
        Its chat template renders prompts that are conversations; plain prompts are
        followed by its end-of-sequence token.

    Returns
    -------
    Rendering
        Text, and where the completion stands in it.

    Raises
    ------
    ValueError
        If the prompt is a conversation and the tokenizer has no chat template, or one
        that fails, changes more of the completion than white space around it, does not
        render it once, or makes nothing of a field of a message or of a tool; the
        message names the row.
    """
    completion = example.completion
    if isinstance(example.prompt, str):
        return Rendering(example.prompt, completion, tokenizer.eos_token or "")
    if not tokenizer.chat_template:
        raise ValueError(
            "tokenizer must have a chat template for prompts that are conversations, "
            f"as in {example.place}, but has none: set tokenizer.chat_template, "
            "or give prompt and completion as plain text."
        )
    # 1. The text, and the text with a mark in place of the answer.
    whole = _conversation(example, tokenizer, completion)
    mark = _MARK
    while mark in whole:
        mark = f"[{mark}]"
    head, tail = _around(mark, example, tokenizer)

    # 2. Templates may strip the answer. Before some answers, as before those that hold
    #    their reasoning, they put another text than before the mark: that which they
    #    put before an answer that is to be generated.
    found = _matching(whole, head, completion, tail)
    if found is None:
        generated = _generation_prompt(example, tokenizer)
        if generated is not None:
            found = _matching(whole, generated, completion, tail)
    if found is None:
        raise ValueError(
            "chat template must render the answer as it is, but changes that of "
            f"{example.place}, {completion[:40]!r}: use another template, or drop it."
        )

    # 3. A field without which the text stays the same is not rendered.
    _check_used(example.prompt, example, tokenizer, whole)
    return found


def _matching(whole: str, head: str, completion: str, tail: str) -> Rendering | None:
    """Return the parts of a text, with the completion as it is or stripped."""
    if head + completion + tail == whole:
        return Rendering(head, completion, tail)
    # What stands between, if it is the completion without some white space around it.
    shown = whole[len(head) : len(whole) - len(tail)]
    if head + shown + tail != whole or shown.strip() != completion.strip():
        return None
    first = completion.find(shown)
    if first < 0 or not shown.strip():
        return None
    return Rendering(head, shown, tail, len(completion[:first].encode()))


def _text(
    turns: Messages,
    tools: Tools,
    tokenizer: PreTrainedTokenizerBase,
    *,
    generate: bool = False,
) -> str:
    """Return what the chat template makes of turns."""
    text = tokenizer.apply_chat_template(
        [turn.as_dict() for turn in turns],
        tools=[dict(tool) for tool in tools] or None,
        tokenize=False,
        add_generation_prompt=generate,
    )
    return str(text)


def _conversation(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    answer: str,
) -> str:
    """Render the turns of an example, and an answer behind them."""
    turns = (*_turns(example), Message("assistant", answer))
    try:
        return _text(turns, example.tools, tokenizer)
    except Exception as error:  # a template may fail in any way
        reason = str(error).removesuffix(".")
        raise ValueError(
            f"chat template must render the conversation of {example.place}, "
            f"but fails ({type(error).__name__}: {reason}): "
            "repair or drop it, or use another template."
        ) from error


def _turns(example: Example) -> tuple[Message, ...]:
    """Return the turns before the answer."""
    return () if isinstance(example.prompt, str) else example.prompt


def _generation_prompt(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
) -> str | None:
    """Return the text before an answer that is to be generated, if there is any."""
    try:
        return _text(_turns(example), example.tools, tokenizer, generate=True)
    except Exception:  # a template may fail in any way
        return None


def _around(
    mark: str,
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[str, str]:
    """Return the text before and after a mark in the answer's place."""
    pieces = _conversation(example, tokenizer, mark).split(mark)
    times = len(pieces) - 1
    if times != 1:
        raise ValueError(
            "chat template must render the answer exactly once, "
            f"but did so {times} times in {example.place}: use another template."
        )
    head, tail = pieces
    return head, tail


def _check_used(
    turns: Messages,
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    whole: str,
) -> None:
    """Require that no field of a turn and no tool leaves the text as it is."""
    answer = Message("assistant", example.completion)
    for i, turn in enumerate(turns):
        for name in turn.fields:
            for lesser in _without(turn, name):
                others = (*turns[:i], lesser, *turns[i + 1 :], answer)
                if _gives(whole, others, example.tools, tokenizer):
                    _refuse_unused(example, f"`{name}` of message {i + 1}")
    conversation = (*turns, answer)
    for i in range(len(example.tools)):
        tools = (*example.tools[:i], *example.tools[i + 1 :])
        if _gives(whole, conversation, tools, tokenizer):
            _refuse_unused(example, f"definition {i + 1} of `tools`")


def _without(turn: Message, name: str) -> list[Message]:
    """Return a turn without a field, and without each of several calls in it."""
    fields = dict(turn.fields)
    value = fields.pop(name)
    lesser = [turn.with_fields(fields)]
    # A template may render the first call alone.
    if name == "tool_calls" and isinstance(value, list) and len(value) > 1:
        for i in range(len(value)):
            calls = [*value[:i], *value[i + 1 :]]
            lesser.append(turn.with_fields({**turn.fields, name: calls}))
    return lesser


def _gives(
    whole: str,
    turns: Messages,
    tools: Tools,
    tokenizer: PreTrainedTokenizerBase,
) -> bool:
    """Tell whether turns are rendered as a text; a template that fails gives none."""
    try:
        return _text(turns, tools, tokenizer) == whole
    except Exception:  # a template may fail in any way
        return False


def _refuse_unused(example: Example, what: str) -> None:
    """Say what the template makes nothing of."""
    raise ValueError(
        f"chat template must render {what} in {example.place}, but gives the same "
        "text without it: use a template that renders it, or leave it out."
    )
