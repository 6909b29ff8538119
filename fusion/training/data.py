"""Examples as a trainer takes them: checked before the first step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion.models import longest
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from fusion.text.fitting import Fitting, fit
from fusion.text.rows import OnBadRows
from fusion.training.batches import EncodedExamples
from fusion.training.config import FusionConfig
from fusion.training.config_checks import NORMALIZED
from fusion.training.sampling import examples_at_once


class FittingExamples(EncodedExamples):
    """Examples that fit the student, and what was found of them.

    Parameters
    ----------
    fitting : Fitting
        Which they are.
    tokenizer : PreTrainedTokenizerBase
        The student's.
    max_length : int, optional
        Tokens beyond it are cut from the completion's end.
    context : int, optional
        How many tokens the student can read.
    """

    def __init__(
        self,
        fitting: Fitting,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        context: int | None,
    ) -> None:
        super().__init__(fitting.examples, tokenizer, max_length)
        self.fitting = fitting
        self.context = context

    @cached_property
    def keys(self) -> list[str]:
        """The examples' keys in the stores."""
        return [example.key for example in self.examples]


def fitting_examples(
    examples: Sequence[Example] | None,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    args: FusionConfig,
    name: str,
) -> FittingExamples | None:
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
    return FittingExamples(fitting, tokenizer, max_length, longest(model))


def check_stores(
    stores: Mapping[str, TeacherStore],
    args: FusionConfig,
    training: Sequence[Example] | None,
    held_out: Sequence[Example] | None = None,
) -> None:
    """Require that every store holds enough of the examples, and what the loss needs.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
        By the teachers' names.
    args : FusionConfig
        All settings.
    training, held_out : sequence of Example or None
        The examples. Held-out ones alone need not be in any number.

    Raises
    ------
    TypeError
        If the held-out examples are several sets.
    ValueError
        If a store does not. Where bad rows are to be left out, how many it holds is not
        asked yet: they may be those that it does not hold.
    """
    if isinstance(held_out, Mapping):
        raise TypeError(
            "Held-out examples must be one sequence, but are a mapping: "
            "give one set here, and the others to FusionTrainer.evaluate."
        )
    only_teachers = args.fusion_weight == 1 and args.fusion_schedule == "constant"
    # Where all steps are of the student's own completions, no data are learnt.
    if not stores and only_teachers and args.on_policy < 1:
        raise ValueError(
            "fusion_weight must be less than 1 where there are no stores, but is "
            f"{args.fusion_weight}: the loss would be 0; add a store, or set "
            "fusion_weight=0 to learn the labels alone."
        )
    # A key is a hash of the whole text: each is made once.
    trained = {example.key for example in training or ()}
    others = {example.key for example in held_out or ()}
    least = args.least_coverage if args.on_bad_rows == "error" else 0.0
    _check_keys(stores, args, trained, others, least)


def check_kept(
    stores: Mapping[str, TeacherStore],
    args: FusionConfig,
    training: FittingExamples | None,
    held_out: FittingExamples | None,
) -> None:
    """Require of the stores what `check_stores` does, of the examples that are used.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
        By the teachers' names.
    args : FusionConfig
        All settings.
    training, held_out : FittingExamples or None
        The examples.

    Raises
    ------
    ValueError
        If a store does not hold enough of them, or not what the loss needs.
    """
    trained = set() if training is None else set(training.keys)
    others = set() if held_out is None else set(held_out.keys)
    _check_keys(stores, args, trained, others, args.least_coverage)
    if training is not None and args.dataloader_drop_last:
        _check_batches(len(training), args)


def _check_batches(count: int, args: FusionConfig) -> None:
    """Require a whole batch on every rank, where no other is trained on."""
    least = examples_at_once(args, args.train_batch_size)
    if count < least:
        raise ValueError(
            f"There must be at least {least} training examples where "
            f"dataloader_drop_last leaves out incomplete batches, but there are "
            f"{count}: leave it out, or lower per_device_train_batch_size."
        )


def held(store: TeacherStore, keys: Iterable[str]) -> int:
    """Return how many of these examples a store holds."""
    return sum(key in store for key in keys)


def _check_keys(
    stores: Mapping[str, TeacherStore],
    args: FusionConfig,
    training: Collection[str],
    held_out: Collection[str],
    least: float,
) -> None:
    """Require what `check_stores` does, by the keys of distinct examples."""
    # Distributions can be made of stored log-probabilities, too, and KL and JSD compare
    # nothing else.
    of_rows = args.alignment == "uld" or args.graph is not None
    needs_logits = of_rows and args.standardize not in NORMALIZED
    needs_tokens = args.channels == "vocabulary" and args.graph is not None
    keys = [*training, *held_out]
    for name, store in stores.items():
        store.check(k=args.k, logits=needs_logits)
        first = next((key for key in keys if key in store), None)
        if first is not None and needs_tokens:
            _check_tokens(name, store, first)
        if keys and first is None:
            raise ValueError(
                f"The store of {name} must hold some of the examples, "
                f"but holds none of {len(keys)}: "
                "capture this data set, with the same prompts and completions."
            )
        count = held(store, training)
        if count < least * len(training):
            raise ValueError(
                f"The store of {name} must hold at least {least:.0%} of the training "
                f"examples, but holds {count} of {len(training)}, as another system "
                "prompt or other white space makes another example: "
                "capture these data, or set least_coverage=0 to train so."
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
