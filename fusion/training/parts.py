"""Parts of a trainer that its settings describe, and settings that none can have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from fusion.teachers.store import TeacherStore
from fusion.text.align import How
from fusion.training.batches import Collator
from fusion.training.config import FusionConfig
from fusion.training.data import FittingExamples
from fusion.training.sampling import STRATEGIES, strategy
from fusion.training.weights import likelihood_scale


def collator_of(
    stores: Mapping[str, TeacherStore],
    tokenizer: PreTrainedTokenizerBase,
    args: FusionConfig,
    examples: FittingExamples | None,
) -> Collator:
    """Make the collator that the settings describe, for a student's tokenizer."""
    ce_temperature = 1.0 if args.ce_temperature is None else args.ce_temperature
    if args.weighting == "ce" and args.ce_temperature is None:
        keys = () if examples is None else examples.keys
        ce_temperature = likelihood_scale(stores, keys)
    return Collator(
        stores,
        padding=_padding(tokenizer),
        k=args.k,
        how=cast(How, args.align),
        weighting=args.weighting,
        static_weights=args.static_weights,
        ce_temperature=ce_temperature,
    )


def _padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """Token to pad with: any will do, as it is masked."""
    tokens: list[int | None] = [tokenizer.pad_token_id, tokenizer.eos_token_id]
    for token in tokens:
        if token is not None:
            return token
    return 0


def student_of(args: FusionConfig) -> str:
    """Return the name of the student in the settings.

    Raises
    ------
    ValueError
        If there is none.
    """
    if args.student is None:
        raise ValueError(
            "student must name a model, but is None: "
            "set student, or pass model and processing_class."
        )
    return args.student


def checked(args: FusionConfig | None) -> FusionConfig:
    """Require settings of type FusionConfig, and at most one GPU in this process.

    Raises
    ------
    TypeError
        If they are of another type.
    ValueError
        If the trainer cannot train with one of them.
    """
    if not isinstance(args, FusionConfig):
        raise TypeError(
            f"args must be a FusionConfig, but is of type {type(args).__name__}: "
            "make one of your settings."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"Each process must have one device, but this one has {args.n_gpu}: "
            "start it with `accelerate launch`."
        )
    how = strategy(args)
    if how not in STRATEGIES:
        raise ValueError(
            f"train_sampling_strategy must be one of {', '.join(STRATEGIES)}, "
            f"but is {how}: choose one of them."
        )
    if args.fsdp and args.device.type == "cpu":
        raise ValueError(
            f"fsdp must be left out on CPUs, but is {args.fsdp}: "
            "accelerate shards models on accelerators alone."
        )
    accelerator: Any = args.accelerator_config
    if accelerator.dispatch_batches:
        raise ValueError(
            "accelerator_config.dispatch_batches must be false, but is true: "
            "each rank reads its own examples and the teachers' rows of them."
        )
    return args


def check_live(share: float, teachers: Collection[str]) -> None:
    """Require someone to score the student's own completions.

    Raises
    ------
    ValueError
        If ``share``, that of the steps that learn them, is above 0, and there is no
        teacher.
    """
    if share > 0 and not teachers:
        raise ValueError(
            "live_teachers must name a teacher where on_policy is above 0, but there "
            "is none: add live_teachers.NAME=FOLDER, or set on_policy=0."
        )
