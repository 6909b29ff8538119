"""Settings of a training run, from YAML files and ``key=value`` arguments."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from transformers import TrainingArguments

from fusion import _check
from fusion.losses.objective import ALIGNMENTS, FusionLoss
from fusion.text.rows import ON_BAD_ROWS, TURNS

# Settings of which each is one of a few words; those of the losses are checked there.
CHOICES = {
    "weighting": ("uniform", "static", "ce"),
    "fusion_schedule": ("constant", "linear", "cosine"),
    "align": ("bytes", "positional"),
    "alignment": ALIGNMENTS,
    "turns": TURNS,
    "on_bad_rows": ON_BAD_ROWS,
}
# Values of `standardize` by which rows of logits become distributions.
NORMALIZED = ("logprob", "softmax")


@dataclass
class FusionConfig(TrainingArguments):
    """Arguments of `transformers.TrainingArguments`, plus those of fusion.

    The loss is ``(1 − w) · SFT + w · (uld_weight · A + graph_weight · GLD)``, where w
    is `fusion_weight`, scheduled, and A the token-level loss of `alignment`; its means
    are over all teachers, with the weights of `weighting` (`fusion.FusionLoss`,
    fusion/losses/objective.py).

    Attributes
    ----------
    student : str
        Local folder of the student, a Hugging Face causal language model.
    data, eval_data : str
        Training and held-out examples, read by the command line; see
        `fusion.tasks.read_data`.
    stores : dict of str to str
        Folder of each teacher's store, by a name of your choice.
    weighting : {"uniform", "static", "ce"}
        Weights of the teachers that have seen an example; they sum to 1. "ce": softmax
        of minus NLL per byte over `ce_temperature`; "static": as `static_weights`.
    static_weights : dict of str to float
        Weight of each teacher up to a factor, for `weighting` "static".
    ce_temperature : float, optional
        In nats a byte, for "ce": a teacher so much more likely weighs e times as much.
        None takes the median difference between an example's best teacher and worst.
    least_coverage : float
        Least share of the training examples that every store must hold; 0 allows any.
    k : int
        Logits kept per position; at most that of the stores.
    standardize : {"logprob", "none", "center", "softmax", "zscore"}
        What the losses compare; "none" are the raw logits of the published method.
    temperature : float
        Divides the logits of student and teacher. Other than 1 only where `standardize`
        is neither "logprob" nor "softmax".
    teacher_temperatures : dict of str to float
        Temperatures of teachers that have their own.
    align : {"bytes", "positional"}
        Which positions the token-level loss compares: those whose next byte is the
        same, or the n-th of each.
    alignment : {"uld", "kl", "jsd"}
        The token-level loss. KL and JSD compare the probabilities of the teacher's k
        tokens: they need teachers with the student's tokenizer, and temperature 1.
    beta : float
        Weight of the teacher in JSD, between 0 and 1.
    graph : {"row_means", "norm", "spectral", "gw"} or None
        Kind of `fusion.graph_loss`; None trains without one.
    channels : {"rank", "vocabulary"}
        Nodes of the graphs.
    uld_weight, graph_weight : float
        Factors of the token-level loss, ULD or another, and of GLD, at least 0.
    fusion_weight, final_fusion_weight : float
        w at the first and, unless `fusion_schedule` is "constant", at the last step, in
        [0, 1].
    fusion_schedule : {"constant", "linear", "cosine"}
        How w goes from the first to the last step.
    max_length : int
        Tokens beyond it, or beyond the student's context, are cut from the completion's
        end.
    turns : {"last", "all"}
        Whether the command line learns the last answer of each conversation or all.
    on_bad_rows : {"error", "drop"}
        Whether examples that cannot be used, as prompts of `max_length` tokens or more,
        are an error before the first step or left out.
    lora : dict
        Arguments of `peft.LoraConfig`; None trains the student's own weights.
    trained_layers : int
        Train the last so many decoder layers and the final norm alone; None trains all.
    head_chunk : int
        Positions whose logits are in memory at once (`fusion.chunked_head`): less
        memory, and their head is applied twice. None keeps all logits of a batch.
    packing : bool
        Must be False, as a graph is of the positions of one example alone.
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

    # What is trained, and on what.
    student: str | None = None
    data: str | None = None
    eval_data: str | None = None
    stores: dict[str, str] = field(default_factory=dict)
    # The teachers' weights for each example.
    weighting: str = "uniform"
    static_weights: dict[str, float] = field(default_factory=dict)
    ce_temperature: float | None = None
    least_coverage: float = 0.5
    # What the losses compare of student and teachers.
    k: int = 10
    standardize: str = "logprob"
    temperature: float = 1.0
    teacher_temperatures: dict[str, float] = field(default_factory=dict)
    align: str = "bytes"
    alignment: str = "uld"
    beta: float = 0.5
    # The losses and their weights: ULD at aligned positions, GLD between graphs.
    graph: str | None = "row_means"
    channels: str = "rank"
    uld_weight: float = 1.0
    graph_weight: float = 1.0
    fusion_weight: float = 0.5
    fusion_schedule: str = "constant"
    final_fusion_weight: float = 0.0
    # How the student is trained.
    max_length: int = 1024
    turns: str = "last"
    on_bad_rows: str = "error"
    lora: dict[str, Any] | None = None
    trained_layers: int | None = None
    head_chunk: int | None = None
    packing: bool = False
    log_term_gradients: bool = False
    # Defaults of the Trainer's own arguments: the columns of the examples are joined
    # with teachers by the collator, and evaluations need no logits.
    remove_unused_columns: bool = False
    prediction_loss_only: bool = True

    def __post_init__(self) -> None:
        """Check the settings of fusion before those of the Trainer are resolved."""
        for name, options in CHOICES.items():
            value = getattr(self, name)
            _check.choice(value, name, options)
        if self.ce_temperature is not None:
            _check.number(self.ce_temperature, "ce_temperature", above=0)
        _check.number(self.uld_weight, "uld_weight", least=0)
        for name in ("fusion_weight", "final_fusion_weight", "least_coverage"):
            _check.number(getattr(self, name), name, least=0, most=1)
        for name, temperature in self.teacher_temperatures.items():
            _check.number(temperature, f"teacher_temperatures.{name}", above=0)
        for name, weight in self.static_weights.items():
            _check.number(weight, f"static_weights.{name}", least=0)
        _check.count(self.k, "k")
        _check.count(self.max_length, "max_length")
        self.objective(self.stores)  # checks the settings of the losses
        self._check_teachers()
        self._check_trained()
        self._check_inherited()
        super().__post_init__()  # type: ignore[no-untyped-call]

    def _check_teachers(self) -> None:
        """Require that settings of single teachers fit the stores."""
        self._check_names("static_weights", self.static_weights)
        self._check_names("teacher_temperatures", self.teacher_temperatures)
        if self.weighting == "static":
            lacking = set(self.stores) - set(self.static_weights)
            if lacking:
                missing = ", ".join(sorted(lacking))
                raise ValueError(
                    "static_weights must hold every teacher of stores, "
                    f"but lacks {missing}: add a weight."
                )
        self._check_temperatures()

    def _check_names(self, name: str, by_teacher: Mapping[str, float]) -> None:
        """Require that a setting names teachers of the stores alone."""
        unknown = sorted(set(by_teacher) - set(self.stores))
        if unknown:
            teachers = ", ".join(self.stores)
            if not teachers:
                teachers = "no names, as there are no stores"
            raise ValueError(
                f"{name} must name teachers of stores, "
                f"but names {', '.join(unknown)}: use {teachers}."
            )

    def _check_temperatures(self) -> None:
        """Require temperature 1 where the log-sum-exp at another would be needed."""
        temperatures = {self.temperature, *self.teacher_temperatures.values()}
        others = sorted(temperatures - {1})
        if not others:
            return
        if self.standardize in NORMALIZED:
            raise ValueError(
                f"temperatures must be 1 where standardize is {self.standardize!r}, "
                "as stores hold the log-sum-exp at 1 only, "
                f"but one is {others[0]}: use 'center', which has them, too."
            )
        if self.alignment != "uld":
            raise ValueError(
                f"temperatures must be 1 where alignment is {self.alignment!r}, "
                "as stores hold the log-sum-exp at 1 only, "
                f"but one is {others[0]}: use 'uld', which has them, too."
            )

    def _check_trained(self) -> None:
        """Require adapters or a number of last layers, not both."""
        for name in ("trained_layers", "head_chunk"):
            if getattr(self, name) is not None:
                _check.count(getattr(self, name), name)
        if self.lora is not None and self.trained_layers is not None:
            raise ValueError(
                "lora and trained_layers must not both be set, "
                "but are: choose one of them."
            )

    def _check_inherited(self) -> None:
        """Refuse settings of transformers' Trainer that fusion cannot train with."""
        if self.packing:
            raise ValueError(
                "packing must be false, but is true: a graph is of the positions of "
                "one example, which packed rows mix; save padding by "
                "train_sampling_strategy=group_by_length."
            )
        # Smoothing would be a second loss beside the teachers', on other terms.
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor must be 0, "
                f"but is {self.label_smoothing_factor}: the teachers smooth the labels."
            )
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns must be false, "
                "but is true: the collator joins teachers by a column."
            )

    def objective(self, teachers: Iterable[str]) -> FusionLoss:
        """Return the loss at the first step, with factor 1 for every teacher.

        Parameters
        ----------
        teachers : iterable of str
            Names of the teachers.

        Returns
        -------
        FusionLoss
            Its weight is `fusion_weight`, not scheduled.

        Raises
        ------
        ValueError
            If a setting of the loss is unknown or outside its range.
        """
        # λ = 1 for each teacher: how much one counts is said by its weights of the
        # examples alone, and an example's weights sum to 1 over the teachers.
        ones = dict.fromkeys(teachers, 1.0)
        return FusionLoss(
            weight=self.fusion_weight,
            alignment=self.alignment,
            graph=self.graph,
            channels=self.channels,
            alignment_weight=self.uld_weight,
            graph_weight=self.graph_weight,
            teacher_weights=ones,
            standardize=self.standardize,
            temperature=self.temperature,
            beta=self.beta,
        )

    def fusion_weight_at(self, progress: float) -> float:
        """Return the weight w after a share of all steps.

        Parameters
        ----------
        progress : float
            The share of steps done, in [0, 1].

        Returns
        -------
        float
            From `fusion_weight` to `final_fusion_weight`, as `fusion_schedule` says.
        """
        start = self.fusion_weight
        end = self.final_fusion_weight
        if self.fusion_schedule == "linear":
            return start + (end - start) * progress
        if self.fusion_schedule == "cosine":
            # Half a period of the cosine, from 1 to −1.
            cosine = math.cos(math.pi * progress)
            return end + (start - end) * (1.0 + cosine) / 2.0
        return start


def read_config(arguments: Iterable[str], **defaults: Any) -> FusionConfig:
    """Return the configuration of YAML files and ``key=value`` arguments.

    Parameters
    ----------
    arguments : iterable of str
        See `read_settings`.
    **defaults
        Settings that the arguments need not give.

    Raises
    ------
    ValueError
        If a key is unknown or a value is outside its range.
    """
    settings = defaults | read_settings(arguments)
    # Fields that __init__ does not take are results of other settings.
    names = [entry.name for entry in fields(FusionConfig) if entry.init]
    require_known(settings, names)
    return FusionConfig(**settings)


def read_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Merge YAML files and ``key=value`` arguments; the last one on a key wins.

    Values are YAML, with numbers like ``1e-4`` as in YAML 1.2. A dotted key reaches
    into a mapping: ``stores.gemma=DIR``. Mappings are merged, and ``null`` unsets one
    that an earlier argument gives; no other value replaces a mapping, or is replaced
    by one.

    Parameters
    ----------
    arguments : iterable of str
        Paths of YAML files, and ``key=value``.

    Raises
    ------
    ValueError
        If an argument is neither ``key=value`` nor a YAML file that holds a mapping, a
        key is empty, or one is given both a mapping and another value.
    """
    settings: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if equals:
            path = _path(key)
            value = _parsed(text, source=key)
            _merge(settings, _nested(path, value))
        else:
            _merge(settings, _file(Path(argument)))
    return settings


def require_known(settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Require that every key is one of ``names``; the error offers the closest.

    Raises
    ------
    ValueError
        If a key is none of them.
    """
    names = list(names)
    for key in settings:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            remedy = "see --help for the keys."
            if close:
                remedy = f"did you mean {close[0]}?"
            raise ValueError(
                "Every key must be a setting of this command, "
                f"but {key!r} is none: {remedy}"
            )


def _path(key: str) -> list[str]:
    """The names that a dotted key consists of."""
    key = key.strip()
    path = key.split(".")
    for name in path:
        if not name.strip():
            raise ValueError(
                "The key of an argument must be names joined by dots, "
                f"but {key!r} lacks one: write key=value or key.name=value."
            )
    return path


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    """The mapping of mappings in which the keys of ``path`` lead to the value."""
    *outer, last = path
    nested: dict[str, Any] = {last: value}
    for key in reversed(outer):
        nested = {key: nested}
    return nested


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",  # of the keys, in errors
) -> None:
    """Put new settings into others: a value replaces, a mapping is merged by key."""
    for key, value in new.items():
        name = f"{prefix}{key}"
        earlier = into.get(key)
        _check_kind(name, earlier, value)
        if not isinstance(value, Mapping):
            into[key] = value
        elif isinstance(earlier, dict):
            _merge(earlier, value, f"{name}.")
        else:
            # A copy: what is merged later must not change the mapping given.
            into[key] = dict(value)


def _check_kind(name: str, earlier: Any, later: Any) -> None:
    """Require that a mapping is not replaced by a value, nor a value by a mapping."""
    # None is no value: a setting is unset by it, and set again afterwards.
    if earlier is None or later is None:
        return
    if isinstance(earlier, Mapping) != isinstance(later, Mapping):
        raise ValueError(
            f"{name} must be a mapping or a single value throughout, "
            f"but is {earlier!r} first and {later!r} later: leave out one of them."
        )


def _file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file."""
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            "An argument must be key=value or a .yaml file, "
            f"but is {str(path)!r}: write it as one of them."
        )
    text = path.read_text(encoding="utf-8")
    settings = _parsed(text, source=str(path))
    if not _has_text_keys(settings):
        raise ValueError(
            f"{path} must hold a mapping of settings, "
            "but does not: write one `key: value` a line."
        )
    return settings


def _has_text_keys(settings: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether settings are a mapping whose keys are text; YAML allows others.

    Empty text is none.
    """
    if not isinstance(settings, dict):
        return False
    return all(isinstance(key, str) and key.strip() for key in settings)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.1, in which 1e-4 is a string, with the numbers of YAML 1.2."""


# A number in scientific notation, with or without a point and a sign of the exponent.
_SCIENTIFIC = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
# PyYAML tries the pattern only on values that begin with one of these.
_FIRST_CHARACTERS = list("-+.0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    _SCIENTIFIC,
    _FIRST_CHARACTERS,
)


def _parsed(text: str, source: str) -> Any:
    """The value of a text in YAML; errors name the source."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())  # on one line
        raise ValueError(
            f"{source} must be valid YAML, but {where}: quote or correct the value."
        ) from error
