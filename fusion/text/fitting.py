"""Which examples can be used: found before a model is asked, not at the step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from fusion import _check
from fusion.text.conversations import Example, encode

OnBadRows = Literal["error", "drop"]
ON_BAD_ROWS = ("error", "drop")
# So many examples are listed by number; the others are counted.
_LISTED = 10


class ExamplesWarning(UserWarning):
    """Says which examples are left out, and which completions are cut."""


class BadRow(NamedTuple):
    """An example that cannot be used.

    Attributes
    ----------
    number : int
        Its place, from 1 on.
    reason : str
        What it would have to be, what it is, and what to do.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class Fitting:
    """Which examples fit a tokenizer and a length.

    Attributes
    ----------
    examples : list of Example
        Those that can be used, in their order.
    bad : tuple of BadRow
        The others.
    cut : tuple of int
        Numbers, from 1 on, of examples whose completion is cut at ``max_length``.
    max_length : int or None
        The length, in tokens.
    """

    examples: list[Example]
    bad: tuple[BadRow, ...]
    cut: tuple[int, ...]
    max_length: int | None

    @property
    def total(self) -> int:
        """How many examples there were."""
        return len(self.examples) + len(self.bad)

    def summary(self, name: str = "examples") -> str:
        """Say what is left out and what is cut, in lines; empty where nothing is.

        Parameters
        ----------
        name : str
            What the examples are called.

        Returns
        -------
        str
            The first ten of each are listed by number.
        """
        lines = []
        if self.bad:
            lines.append(f"{len(self.bad)} of {self.total} {name} are left out:")
            lines += listed(self.bad)
        if self.cut:
            numbers = ", ".join(map(str, self.cut[:_LISTED]))
            more = ", …" if len(self.cut) > _LISTED else ""
            lines.append(
                f"{len(self.cut)} of {self.total} {name} are cut at max_length = "
                f"{self.max_length} tokens: number {numbers}{more}."
            )
        return "\n".join(lines)


def fit(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    *,
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
    name : str
        What the examples are called in errors.
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
        If an example cannot be used and ``on_bad_rows`` is "error", or none can: its
        template refuses it, or its prompt leaves no room for the completion.

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
    ...     fusion.Example("two plus two plus two is", "four"),
    ... ]
    >>> fitting = fit(examples, tokenizer, max_length=5, on_bad_rows="drop")
    >>> len(fitting.examples), fitting.cut
    (1, (1,))
    >>> print(fitting.summary())  # doctest: +ELLIPSIS
    1 of 2 examples are left out:
      2: prompt must be shorter than max_length = 5 tokens, but has 6: ...
    1 of 2 examples are cut at max_length = 5 tokens: number 1.
    """
    _check.choice(on_bad_rows, "on_bad_rows", ON_BAD_ROWS)
    good = []
    bad = []
    cut = []
    bar = tqdm(examples, desc="tokenize", unit="example", disable=not progress)
    for number, example in enumerate(bar, start=1):
        try:
            encoded = encode(example, tokenizer, max_length)
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
            continue
        good.append(example)
        if encoded.cut:
            cut.append(number)
    fitting = Fitting(good, tuple(bad), tuple(cut), max_length)
    if bad and (on_bad_rows == "error" or not good):
        raise ValueError(_refusal(fitting, name))
    return fitting


def warn_of(fitting: Fitting, name: str) -> None:
    """Warn of what is left out and what is cut, where anything is.

    Parameters
    ----------
    fitting : Fitting
        Of the examples.
    name : str
        What they are called.
    """
    summary = fitting.summary(name)
    if summary:
        warnings.warn(summary, ExamplesWarning, stacklevel=3)


def listed(bad: Sequence[BadRow]) -> list[str]:
    """Lay out the first ten of some bad rows, a line each, and count the others."""
    lines = [f"  {number}: {reason}" for number, reason in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  … and {len(bad) - _LISTED} more.")
    return lines


def _refusal(fitting: Fitting, name: str) -> str:
    """Say which examples cannot be used, and what to do."""
    remedy = "repair them, or leave them out with on_bad_rows=drop"
    if not fitting.examples:
        remedy = "repair them, or choose others"
    lines = [
        f"All {name} must fit the model, but {len(fitting.bad)} of {fitting.total} "
        f"do not, by their numbers below: {remedy}.",
        *listed(fitting.bad),
    ]
    return "\n".join(lines)
