"""Examples as a trainer takes them: checked before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion.models import longest
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from fusion.text.fitting import fit
from fusion.text.rows import OnBadRows
from fusion.training.batches import EncodedExamples
from fusion.training.config import NORMALIZED, FusionConfig


def fitting_examples(
    examples: Sequence[Example] | None,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    args: FusionConfig,
    name: str,
) -> EncodedExamples | None:
    """Return those of the examples that fit the student, in its tokens.

    Parameters
    ----------
    examples : sequence of Example, optional
        None gives None.
    tokenizer : PreTrainedTokenizerBase
        The student's.
    model : PreTrainedModel
        The student, whose context is a limit beside that of the settings.
    args : FusionConfig
        All settings.
    name : str
        What the examples are called in errors and warnings.

    Raises
    ------
    ValueError
        If there is none, or one cannot be used and ``args.on_bad_rows`` is "error".
    """
    if examples is None:
        return None
    if not examples:
        raise ValueError(
            f"There must be at least one of the {name}, but there is none: "
            "give some, or leave them out."
        )
    max_length = longest(model, args.max_length)
    fitting = fit(
        examples,
        tokenizer,
        max_length,
        columns=model.config.get_text_config().vocab_size,
        name=name,
        on_bad_rows=cast(OnBadRows, args.on_bad_rows),
        progress=not args.disable_tqdm,
    )
    return EncodedExamples(fitting.examples, tokenizer, max_length)


def check_stores(
    stores: Mapping[str, TeacherStore],
    args: FusionConfig,
    *datasets: Sequence[Example] | None,
) -> None:
    """Require that every store holds some of the examples, and what the loss needs.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
        By the teachers' names.
    args : FusionConfig
        All settings.
    *datasets : sequence of Example or None
        The examples.

    Raises
    ------
    ValueError
        If a store does not.
    """
    examples: list[Example] = []
    for dataset in datasets:
        if dataset:
            examples.extend(dataset)
    # Distributions can be made of stored log-probabilities, too.
    needs_logits = args.standardize not in NORMALIZED
    needs_tokens = args.channels == "vocabulary" and args.graph is not None
    for name, store in stores.items():
        store.check(k=args.k, logits=needs_logits)
        # Lazily, up to the first: a key is a hash of the whole text.
        held = (example.key for example in examples if example.key in store)
        first = next(held, None)
        if first is not None and needs_tokens:
            _check_tokens(name, store, first)
        if examples and first is None:
            raise ValueError(
                f"The store of {name} must hold some of the examples, "
                f"but holds none of {len(examples)}: "
                "capture this data set, with the same prompts and completions."
            )


def _check_tokens(name: str, store: TeacherStore, key: str) -> None:
    """Require a store that knows the tokens of its logits, by one of its examples."""
    least = int(store[key].ids.min())
    length = store.manifest.vocabulary
    if least < 0 or length == 0:
        raise ValueError(
            f"The store of {name} must hold the tokens of its logits for channels "
            f"'vocabulary', but has ids from {least} on and a vocabulary of {length}: "
            "use channels 'rank', or import it with ids and the vocabulary's length."
        )
