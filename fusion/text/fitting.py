"""Which examples a model can use: found before it is trained or asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from fusion.text.conversations import Encoded, encode
from fusion.text.messages import Example
from fusion.text.rows import (
    LISTED,
    ON_BAD_ROWS,
    ExamplesWarning,
    OnBadRows,
    require_or_drop,
)
from gwtools._check import choice


class Fitting(NamedTuple):
    """Which examples fit a tokenizer and a length.

    Attributes
    ----------
    examples : list of Example
        Those that can be used, in their order.
    bad : tuple of str
        What is wrong with each of the others.
    cut : tuple of Example
        Those of ``examples`` whose completion is cut.
    tokens, labels : int
        Tokens of ``examples``, and how many of them are of completions and their ends.
    """

    examples: list[Example]
    bad: tuple[str, ...]
    cut: tuple[Example, ...]
    tokens: int = 0
    labels: int = 0


def fit(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    *,
    columns: int | None = None,
    name: str = "examples",
    on_bad_rows: OnBadRows = "error",
    progress: bool = False,
) -> Fitting:
    """Tokenize all examples once, and tell which can be used.

    Parameters
    ----------
    examples : sequence of Example
        What shall be learnt, or asked.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    max_length : int, optional
        Tokens beyond it are cut from the completion's end; a prompt must be shorter.
    columns : int, optional
        How many tokens the model has embeddings of; tokenizers may have got more.
    name : str
        What the examples are called in messages.
    on_bad_rows : {"error", "drop"}
        Whether examples that cannot be used are an error or left out.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    Fitting
        The examples that can be used, and what was found of the others.

    Raises
    ------
    ValueError
        If an example cannot be used and ``on_bad_rows`` is "error", or none can: the
        chat template does not render it, or its prompt leaves no room for the
        completion.

    Warns
    -----
    ExamplesWarning
        If examples are left out, or completions are cut.

    Examples
    --------
    >>> import fusion
    >>> from fusion.text.fitting import fit
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = Tokenizer(
    ...     models.WordLevel(
    ...         {"</s>": 0, "two": 1, "plus": 2, "is": 3, "four": 4}, unk_token="</s>"
    ...     )
    ... )
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    >>> examples = [
    ...     fusion.Example("two plus two is", "four"),
    ...     fusion.Example("two plus two plus two plus two is", "four"),
    ... ]
    >>> try:
    ...     fit(examples, tokenizer, max_length=6)
    ... except ValueError as error:
    ...     print(str(error).splitlines()[0])  # doctest: +ELLIPSIS
    All examples must be usable, but 1 of 2 are not: repair them, or leave them out ...
    """
    choice(on_bad_rows, "on_bad_rows", ON_BAD_ROWS)
    good = []
    bad = []
    cut = []
    tokens = 0
    labels = 0
    bar = tqdm(examples, desc="tokenize", unit="example", disable=not progress)
    for example in bar:
        try:
            encoded = encode(example, tokenizer, max_length)
            if columns is not None:
                _check_known(encoded, columns, example, tokenizer)
        except ValueError as error:
            bad.append(str(error))
            continue
        good.append(example)
        tokens += len(encoded.input_ids)
        labels += len(encoded.ends)
        if encoded.cut:
            cut.append(example)
    total = len(good) + len(bad)
    if bad:
        require_or_drop(bad, total, name, on_bad_rows, stacklevel=3)
    if cut:
        places = ", ".join(example.place for example in cut[:LISTED])
        more = ", …" if len(cut) > LISTED else ""
        warnings.warn(
            f"The completions of {len(cut)} of {total} {name} are cut at max_length = "
            f"{max_length} tokens: {places}{more}.",
            ExamplesWarning,
            stacklevel=2,
        )
    return Fitting(good, tuple(bad), tuple(cut), tokens, labels)


def _check_known(
    encoded: Encoded,
    columns: int,
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Refuse tokens that a tokenizer has got after the model's embedding was made."""
    largest = int(encoded.input_ids.max())
    if largest >= columns:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise ValueError(
            f"tokens must be among the {columns} that the model has embeddings of, "
            f"but {token!r} in {example.place} has the id {largest}: "
            "use the tokenizer that the model was trained with, or resize its "
            "embeddings and train them."
        )
