"""Which settings of a training run contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusion import _check

# For `resume_from_checkpoint`: the newest checkpoint of `output_dir`, if there is one.
AUTO = "auto"
# Values of `standardize` by which rows of logits become distributions.
NORMALIZED = ("logprob", "softmax")
# Numbers that transformers takes whatever they are, and then trains on nothing.
_COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)


def check_teachers(config: Any) -> None:
    """Require that settings of single teachers fit the teachers there are."""
    _check_names(config, "static_weights", config.static_weights)
    _check_names(config, "teacher_temperatures", config.teacher_temperatures)
    if config.weighting == "static":
        teachers = {*config.stores, *config.live_teachers}
        lacking = teachers - set(config.static_weights)
        if lacking:
            missing = ", ".join(sorted(lacking))
            raise ValueError(
                "static_weights must hold every teacher of stores and live_teachers, "
                f"but lacks {missing}: add a weight."
            )
        if teachers and not any(config.static_weights.values()):
            raise ValueError(
                "static_weights must hold a weight above 0, but all are 0: "
                "weigh a teacher, or leave the stores out to learn the labels."
            )
    _check_temperatures(config)


def check_live_teachers(config: Any) -> None:
    """Require that what live teachers are for and what they need go together."""
    live = config.live_teachers
    if live and not config.on_policy:
        raise ValueError(
            "on_policy must be above 0 where there are live_teachers, which score the "
            f"student's own completions alone, but is {config.on_policy}: "
            "add on_policy=0.25, or capture the teachers for stores."
        )
    unknown = sorted(set(config.live_templates) - set(live))
    if unknown:
        raise ValueError(
            "live_templates must name live_teachers, "
            f"but names {', '.join(unknown)}: use {', '.join(live) or 'none'}."
        )
    if not config.on_policy:
        return
    # A weight that rises from 0 leaves no step but the first without a loss.
    rises = config.fusion_schedule != "constant" and config.final_fusion_weight > 0
    if config.fusion_weight == 0 and not rises:
        raise ValueError(
            "fusion_weight must be above 0 where on_policy is, but is "
            f"{config.fusion_weight}: own completions have no labels, so that teachers "
            "are all that they are learnt by; raise it, or set on_policy=0."
        )
    if config.fsdp or config.deepspeed:
        raise ValueError(
            "on_policy must be 0 where the student is in shards (fsdp, deepspeed), but "
            f"is {config.on_policy}: a rank cannot write with a part of the student; "
            "train it whole, or with lora."
        )
    between = config.weighting == "ce" and config.ce_temperature is None
    if between and len(live) > 1 and not config.stores:
        raise ValueError(
            "ce_temperature must be given where weighting is ce and there are no "
            "stores that say how far teachers differ, but is null: "
            "add ce_temperature=0.5."
        )


def _check_names(config: Any, name: str, by_teacher: Mapping[str, float]) -> None:
    """Require that a setting names teachers of the stores, or live ones, alone."""
    known = dict.fromkeys([*config.stores, *config.live_teachers])
    unknown = sorted(set(by_teacher) - set(known))
    if unknown:
        teachers = ", ".join(known)
        if not teachers:
            teachers = "no names, as there are no stores"
        raise ValueError(
            f"{name} must name teachers of stores or live_teachers, "
            f"but names {', '.join(unknown)}: use {teachers}."
        )


def _check_temperatures(config: Any) -> None:
    """Require temperature 1 where the log-sum-exp at another would be needed."""
    temperatures = {config.temperature, *config.teacher_temperatures.values()}
    others = sorted(temperatures - {1})
    if not others:
        return
    if config.standardize in NORMALIZED:
        raise ValueError(
            f"temperatures must be 1 where standardize is {config.standardize!r}, "
            "as stores hold the log-sum-exp at 1 only, "
            f"but one is {others[0]}: use 'center', which has them, too."
        )
    if config.alignment != "uld":
        raise ValueError(
            f"temperatures must be 1 where alignment is {config.alignment!r}, "
            "as stores hold the log-sum-exp at 1 only, "
            f"but one is {others[0]}: use 'uld', which has them, too."
        )


def check_trained(config: Any) -> None:
    """Require adapters or a number of last layers, not both."""
    if config.lora is not None and config.trained_layers is not None:
        raise ValueError(
            "lora and trained_layers must not both be set, but are: choose one of them."
        )
    if config.head_chunk is not None and config.log_term_gradients:
        raise ValueError(
            "log_term_gradients must be false where head_chunk is set, but is "
            "true: gradients are with respect to all logits; leave out one of them."
        )


def check_inherited(config: Any) -> None:
    """Refuse settings of transformers' Trainer that fusion cannot train with."""
    if config.packing:
        raise ValueError(
            "packing must be false, but is true: a graph is of the positions of "
            "one example, which packed rows mix; save padding by "
            "train_sampling_strategy=group_by_length."
        )
    for name in _COUNTS:
        _check.count(getattr(config, name), name)
    # Below 0, max_steps leaves the length to num_train_epochs.
    epochs_count = config.max_steps < 0
    if config.max_steps == 0 or (epochs_count and config.num_train_epochs <= 0):
        raise ValueError(
            "max_steps or num_train_epochs must be above 0, but they are "
            f"{config.max_steps} and {config.num_train_epochs}: give one of them."
        )
    # Smoothing would be a second loss beside the teachers', on other terms.
    if config.label_smoothing_factor:
        raise ValueError(
            "label_smoothing_factor must be 0, "
            f"but is {config.label_smoothing_factor}: the teachers smooth the labels."
        )
    if config.remove_unused_columns:
        raise ValueError(
            "remove_unused_columns must be false, "
            "but is true: the collator joins teachers by a column."
        )
    # Of its type or text, of which both name the same strategy.
    strategy = getattr(config.save_strategy, "value", config.save_strategy)
    if config.resume_from_checkpoint == AUTO and strategy == "no":
        raise ValueError(
            "save_strategy must not be no where resume_from_checkpoint is auto, "
            "but is: without checkpoints there is nothing to go on from; "
            "add save_strategy=steps."
        )
