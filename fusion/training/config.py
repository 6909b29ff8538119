"""Settings of a fusion run: the Trainer's arguments and the few that fusion adds, from YAML files and ``key=value``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainingArguments

from fusion import _check
from fusion.losses.objective import FusionLoss

CHOICES = {
    "weighting": ("uniform", "static", "ce"),
    "fusion_schedule": ("constant", "linear", "cosine"),
    "align": ("bytes", "positional"),
}


@dataclass
class FusionConfig(TrainingArguments):
    """Arguments of `transformers.TrainingArguments`, plus those of fusion.

    The loss is ``(1 − w) · SFT + w · (uld_weight · ULD + graph_weight · GLD)``, where w
    is `fusion_weight`, scheduled; its means are over all teachers, with the weights of
    `weighting` (`fusion.FusionLoss`, fusion/losses/objective.py).

    Attributes
    ----------
    student : str
        Folder or name of the student, a Hugging Face causal language model.
    data, eval_data : str
        Training and held-out examples, read by the command line; see
        `fusion.tasks.read_data`.
    stores : dict of str to str
        Folder of each teacher's store, by a name of your choice.
    weighting : {"uniform", "static", "ce"}
        Weights of the teachers that know an example; they sum to 1. "ce": the softmax
        of minus the mean NLL per byte over `ce_temperature`; "static": in proportion to
        `static_weights`.
    k : int
        Logits kept per position; at most that of the stores.
    standardize : {"logprob", "none", "center", "softmax", "zscore"}
        What the losses compare; "none" are the raw logits of the published method.
    temperature : float
        Divides the logits of student and teacher; `teacher_temperatures` where a
        teacher is to have its own. Other than 1 only where `standardize` is neither
        "logprob" nor "softmax".
    align : {"bytes", "positional"}
        Which positions ULD compares: those whose next byte is the same, or the n-th of
        each.
    graph : {"row_means", "norm", "spectral", "gw"} or None
        Kind of `fusion.graph_loss`, on `channels` "rank" or "vocabulary"; None trains
        without one.
    fusion_weight, final_fusion_weight : float
        w at the first and, unless `fusion_schedule` is "constant", at the last step, in
        [0, 1].
    max_length : int
        Tokens beyond it are cut from the completion's end.
    lora : dict
        Arguments of `peft.LoraConfig`; None trains the student's own weights.
    trained_layers : int
        Train the last so many decoder layers and the final norm alone; None trains all.
    log_term_gradients : bool
        Log the norm of every unweighted term's gradient with respect to the student's
        logits, to choose weights by; costs a pass through the losses a term.

    Raises
    ------
    ValueError
        If a value is outside its range, or two contradict each other.

    Examples
    --------
    Half of the loss is the teachers' at the first step, and none at the last.

    >>> import fusion
    >>> settings = fusion.FusionConfig(
    ...     "student", use_cpu=True, fusion_weight=0.5, fusion_schedule="linear"
    ... )
    >>> [settings.fusion_weight_at(progress) for progress in (0.0, 0.5, 1.0)]
    [0.5, 0.25, 0.0]
    """

    student: str | None = None
    data: str | None = None
    eval_data: str | None = None
    stores: dict[str, str] = field(default_factory=dict)
    weighting: str = "uniform"
    static_weights: dict[str, float] = field(default_factory=dict)
    ce_temperature: float = 1.0
    k: int = 10
    standardize: str = "logprob"
    temperature: float = 1.0
    teacher_temperatures: dict[str, float] = field(default_factory=dict)
    align: str = "bytes"
    graph: str | None = "row_means"
    channels: str = "rank"
    uld_weight: float = 1.0
    graph_weight: float = 1.0
    fusion_weight: float = 0.5
    fusion_schedule: str = "constant"
    final_fusion_weight: float = 0.0
    max_length: int = 1024
    lora: dict[str, Any] | None = None
    trained_layers: int | None = None
    log_term_gradients: bool = False
    remove_unused_columns: bool = False
    prediction_loss_only: bool = True

    def __post_init__(self) -> None:
        """Check the settings of fusion before those of the Trainer are resolved."""
        for name, options in CHOICES.items():
            _check.choice(getattr(self, name), name, options)
        _check.number(self.ce_temperature, "ce_temperature", above=0)
        _check.number(self.uld_weight, "uld_weight", least=0)
        for name in ("fusion_weight", "final_fusion_weight"):
            _check.number(getattr(self, name), name, least=0, most=1)
        for name, value in self.teacher_temperatures.items():
            _check.number(value, f"teacher_temperatures.{name}", above=0)
        for name, value in self.static_weights.items():
            _check.number(value, f"static_weights.{name}", least=0)
        for name in ("k", "max_length"):
            _check.count(getattr(self, name), name)
        self.objective(self.stores)
        self._check_teachers()
        self._check_trained()
        super().__post_init__()  # type: ignore[no-untyped-call]

    def _check_teachers(self) -> None:
        for name in ("static_weights", "teacher_temperatures"):
            if unknown := sorted(set(getattr(self, name)) - set(self.stores)):
                raise ValueError(
                    f"{name} must name teachers of stores, but names {', '.join(unknown)}: "
                    f"use {', '.join(self.stores) or 'no names, as there are no stores'}."
                )
        if self.weighting == "static" and set(self.static_weights) != set(self.stores):
            missing = ", ".join(sorted(set(self.stores) - set(self.static_weights)))
            raise ValueError(
                f"static_weights must hold every teacher of stores, but lacks {missing}: add a weight."
            )
        hot = sorted({self.temperature, *self.teacher_temperatures.values()} - {1})
        if hot and self.standardize in ("logprob", "softmax"):
            raise ValueError(
                f"temperatures must be 1 where standardize is {self.standardize!r}, as stores hold the log-sum-exp at 1 only, "
                f"but one is {hot[0]}: use 'center', which has them, too."
            )

    def _check_trained(self) -> None:
        if self.trained_layers is not None:
            _check.count(self.trained_layers, "trained_layers")
        if self.lora is not None and self.trained_layers is not None:
            raise ValueError(
                "lora and trained_layers must not both be set, but are: choose one of them."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor must be 0, but is {self.label_smoothing_factor}: the teachers smooth the labels."
            )
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns must be false, but is true: the collator joins teachers by a column."
            )

    def objective(self, teachers: Iterable[str]) -> FusionLoss:
        """Return the loss at the first step: the teachers count by the weights of examples alone."""
        return FusionLoss(
            weight=self.fusion_weight,
            graph=self.graph,
            channels=self.channels,
            alignment_weight=self.uld_weight,
            graph_weight=self.graph_weight,
            teacher_weights=dict.fromkeys(teachers, 1.0),
            standardize=self.standardize,
            temperature=self.temperature,
        )

    def fusion_weight_at(self, progress: float) -> float:
        """Return w after the share ``progress`` in [0, 1] of all steps."""
        start, end = self.fusion_weight, self.final_fusion_weight
        if self.fusion_schedule == "linear":
            return start + (end - start) * progress
        if self.fusion_schedule == "cosine":
            return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0
        return start


def read_config(arguments: Iterable[str], **defaults: Any) -> FusionConfig:
    """Return the configuration of YAML files and ``key=value`` arguments; see `read_settings`.

    Raises
    ------
    ValueError
        If a key is unknown or a value is outside its range.
    """
    settings = defaults | read_settings(arguments)
    known(settings, [entry.name for entry in fields(FusionConfig) if entry.init])
    return FusionConfig(**settings)


def read_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Merge YAML files and ``key=value`` arguments from left to right; the last word on a key wins.

    Values are YAML, with numbers like ``1e-4`` as in YAML 1.2. A dotted key reaches
    into a mapping: ``stores.gemma=DIR``.

    Raises
    ------
    ValueError
        If an argument is neither ``key=value`` nor a YAML file that holds a mapping.
    """
    settings: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        _merge(
            settings,
            _nested(key.strip().split("."), _parsed(text, key))
            if equals
            else _file(Path(argument)),
        )
    return settings


def known(settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Require that every key is one of ``names``; the error offers the closest."""
    names = list(names)
    for key in settings:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            remedy = (
                f"did you mean {close[0]}?" if close else "see --help for the keys."
            )
            raise ValueError(
                f"Every key must be a setting of this command, but {key!r} is none: {remedy}"
            )


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _file(path: Path) -> dict[str, Any]:
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"An argument must be key=value or a .yaml file, but is {str(path)!r}: write it as one of them."
        )
    settings = _parsed(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(settings, dict) or not all(
        isinstance(key, str) for key in settings
    ):
        raise ValueError(
            f"{path} must hold a mapping of settings, but does not: write one `key: value` a line."
        )
    return settings


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.1 takes 1e-4 for a string; YAML 1.2, which people expect, for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _parsed(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ValueError(
            f"{source} must be valid YAML, but {where}: quote or correct the value."
        ) from error
