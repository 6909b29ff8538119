"""Settings of a training run, from YAML files and ``key=value`` arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from transformers import TrainingArguments

from fusion import _check
from fusion.logits.topk import KINDS
from fusion.losses.graphs import CHANNELS
from fusion.losses.graphs import KINDS as GRAPHS
from fusion.losses.objective import ALIGNMENTS, FusionLoss
from fusion.text.rows import ON_BAD_ROWS, TURNS
from fusion.training.setting_types import check_settings, from_words, setting
from fusion.training.settings import read_settings, require_known

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
# What evaluations tell of, and whether more of it is better.
_METRICS = {
    **dict.fromkeys(("loss", "sft", *ALIGNMENTS, "graph"), False),
    "coverage": True,
}


@dataclass
class FusionConfig(TrainingArguments):
    """Arguments of `transformers.TrainingArguments`, plus those of fusion.

    The loss is ``(1 − w) · SFT + w · (uld_weight · A + graph_weight · GLD)``, where w
    is `fusion_weight`, scheduled, and A the token-level loss of `alignment`; its means
    are over all teachers, with the weights of `weighting` (`fusion.FusionLoss`,
    fusion/losses/objective.py).

    Of the metrics of evaluations the losses are better where they are smaller, and the
    coverage where it is larger, so that `greater_is_better` need not be given for
    `metric_for_best_model`. `resume_from_checkpoint` may be "auto": the newest
    checkpoint of `output_dir`, or the start where there is none.

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
        Weights of the teachers that have seen an example; they sum to 1. "ce": the
        softmax of minus the NLL per byte over `ce_temperature`; "static": in proportion
        to `static_weights`.
    static_weights : dict of str to float
        Weight of each teacher up to a factor, for `weighting` "static".
    ce_temperature : float, optional
        In nats a byte, for `weighting` "ce": a teacher that is so much more likely
        weighs e times as much. None takes the median difference between the best
        teacher of an example and the worst.
    least_coverage : float
        Least share of the training examples that every store must hold, between 0 and
        1; 0 allows any.
    k : int
        Logits kept per position; at most that of the stores.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        What the losses compare; "none" are raw logits, as of the published method. A
        store of log-probabilities only needs "logprob" or "softmax".
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
        Kind of `fusion.graph_loss`; None, the default, trains without one, as the
        study of this project found none that helps
        (``simulations/results/fusion_study``).
    channels : {"rank", "vocabulary"}
        Nodes of the graphs.
    uld_weight, graph_weight : float
        Factors of the token-level loss, ULD or another, and of GLD, at least 0.
    fusion_weight, final_fusion_weight : float
        w at the first and, unless `fusion_schedule` is "constant", at the last step, in
        [0, 1]. The gradient of ULD is several times that of SFT: by default it counts
        about a tenth of it (`fusion.FusionLoss`).
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
        If a value is not of its type or outside its range, or two contradict each
        other.

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
    student: str | None = setting(
        "folder of the student, a Hugging Face causal language model",
        necessary=True,
        default=None,
    )
    data: str | None = setting(
        "examples to learn: JSONL with prompt and completion or messages, "
        "or reasoning-gym:TASK+TASK:SIZE:SEED",
        necessary=True,
        default=None,
    )
    eval_data: str | None = setting("held-out examples, as data", default=None)
    stores: dict[str, str] = setting(
        "folder of each teacher's store: stores.NAME=FOLDER; none: the data alone",
        default_factory=dict,
    )
    # The teachers' weights for each example.
    weighting: str = setting(
        "how much each teacher counts for an example",
        choices=("uniform", "static", "ce"),
        default="uniform",
    )
    static_weights: dict[str, float] = setting(
        "for weighting static: static_weights.NAME=WEIGHT",
        least=0,
        default_factory=dict,
    )
    ce_temperature: float | None = setting(
        "for weighting ce, in nats a byte: a teacher so much more likely weighs e "
        "times as much; null: the teachers' median difference",
        above=0,
        default=None,
    )
    least_coverage: float = setting(
        "least share of the training examples that every store must hold; 0: any",
        least=0,
        most=1,
        default=0.5,
    )
    # What the losses compare of student and teachers.
    k: int = setting(
        "logits a position, at most those of the stores", least=1, default=10
    )
    standardize: str = setting("what the losses compare", choices=KINDS, default="none")
    temperature: float = setting("divides all logits", above=0, default=1.0)
    teacher_temperatures: dict[str, float] = setting(
        "of teachers that have their own: teacher_temperatures.NAME=NUMBER",
        above=0,
        default_factory=dict,
    )
    align: str = setting(
        "which positions are compared", choices=("bytes", "positional"), default="bytes"
    )
    alignment: str = setting(
        "token-level loss; kl and jsd need the student's tokenizer",
        choices=ALIGNMENTS,
        default="uld",
    )
    beta: float = setting("the teacher's weight in jsd", above=0, most=1, default=0.5)
    # The losses and their weights: ULD at aligned positions, GLD between graphs.
    graph: str | None = setting(
        "kind of graph loss; null: none", choices=(*GRAPHS, None), default=None
    )
    channels: str = setting("nodes of the graphs", choices=CHANNELS, default="rank")
    uld_weight: float = setting("factor of the token-level loss", least=0, default=1.0)
    graph_weight: float = setting("factor of the graph loss", least=0, default=1.0)
    fusion_weight: float = setting(
        "w at the first step: the loss is (1 - w) SFT + w (teachers')",
        least=0,
        most=1,
        default=0.02,
    )
    fusion_schedule: str = setting(
        "how w goes from the first to the last step",
        choices=("constant", "linear", "cosine"),
        default="constant",
    )
    final_fusion_weight: float = setting(
        "w at the last step, unless fusion_schedule is constant",
        least=0,
        most=1,
        default=0.0,
    )
    # How the student is trained.
    max_length: int = setting(
        "tokens beyond it, or the context, are cut from the completion",
        least=1,
        default=1024,
    )
    turns: str = setting(
        "answers of a conversation that are learnt", choices=TURNS, default="last"
    )
    on_bad_rows: str = setting(
        "what happens to rows that cannot be used", choices=ON_BAD_ROWS, default="error"
    )
    lora: dict[str, Any] | None = setting(
        "trains adapters, by arguments of peft.LoraConfig: lora.r=8", default=None
    )
    trained_layers: int | None = setting(
        "trains the last so many layers and the final norm alone", least=1, default=None
    )
    head_chunk: int | None = setting(
        "positions whose logits are in memory at once: less memory, more time",
        least=1,
        default=None,
    )
    packing: bool = setting("must be false", default=False)
    log_term_gradients: bool = setting(
        "logs the norm of every term's gradient, to choose weights by", default=False
    )
    # Defaults of the Trainer's own arguments: the columns of the examples are joined
    # with teachers by the collator, and evaluations need no logits.
    remove_unused_columns: bool = False
    prediction_loss_only: bool = True

    def __post_init__(self) -> None:
        """Check the settings of fusion before those of the Trainer are resolved."""
        # Words that stand for the newest checkpoint, and for none.
        if isinstance(self.resume_from_checkpoint, bool):
            self.resume_from_checkpoint = AUTO if self.resume_from_checkpoint else None
        check_settings(type(self), vars(self))
        self.objective(self.stores)  # checks the settings of the losses
        self._check_teachers()
        self._check_trained()
        self._check_inherited()
        if self.greater_is_better is None:
            self.greater_is_better = _greater_is_better(self.metric_for_best_model)
        resolve: Any = super().__post_init__  # which transformers gives no types
        resolve()

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
            if self.stores and not any(self.static_weights.values()):
                raise ValueError(
                    "static_weights must hold a weight above 0, but all are 0: "
                    "weigh a teacher, or leave the stores out to learn the labels."
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
        if self.lora is not None and self.trained_layers is not None:
            raise ValueError(
                "lora and trained_layers must not both be set, "
                "but are: choose one of them."
            )
        if self.head_chunk is not None and self.log_term_gradients:
            raise ValueError(
                "log_term_gradients must be false where head_chunk is set, but is "
                "true: gradients are with respect to all logits; leave out one of them."
            )

    def _check_inherited(self) -> None:
        """Refuse settings of transformers' Trainer that fusion cannot train with."""
        if self.packing:
            raise ValueError(
                "packing must be false, but is true: a graph is of the positions of "
                "one example, which packed rows mix; save padding by "
                "train_sampling_strategy=group_by_length."
            )
        for name in _COUNTS:
            _check.count(getattr(self, name), name)
        # Below 0, max_steps leaves the length to num_train_epochs.
        epochs_count = self.max_steps < 0
        if self.max_steps == 0 or (epochs_count and self.num_train_epochs <= 0):
            raise ValueError(
                "max_steps or num_train_epochs must be above 0, but they are "
                f"{self.max_steps} and {self.num_train_epochs}: give one of them."
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
        # Of its type or text, of which both name the same strategy.
        strategy = getattr(self.save_strategy, "value", self.save_strategy)
        if self.resume_from_checkpoint == AUTO and strategy == "no":
            raise ValueError(
                "save_strategy must not be no where resume_from_checkpoint is auto, "
                "but is: without checkpoints there is nothing to go on from; "
                "add save_strategy=steps."
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
        """Return the weight w between the first and the last step.

        Parameters
        ----------
        progress : float
            From 0, the first step, to 1, the last.

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


def _greater_is_better(metric: str | None) -> bool | None:
    """Tell whether more of a metric is better; None where transformers has to know.

    Metrics are ``eval_KIND`` or ``eval_KIND/TEACHER``, without "eval_" if one likes,
    and with the name of the examples before the kind where there are several sets.
    """
    if metric is None:
        return None
    kind, _, _ = metric.partition("/")
    return _METRICS.get(kind.split("_")[-1])


def read_config(arguments: Iterable[str], **defaults: Any) -> FusionConfig:
    """Return the configuration of YAML files and ``key=value`` arguments.

    Booleans may also be the words that the command line of transformers reads as such:
    yes, no, t, f, y, n, 1 and 0. ``null`` leaves a setting at its default, unless null
    is a value of it.

    Parameters
    ----------
    arguments : iterable of str
        See `fusion.training.settings.read_settings`.
    **defaults
        Settings that the arguments need not give.

    Raises
    ------
    ValueError
        If a key is unknown, or a value is not of its type or outside its range.
    """
    settings = defaults | read_settings(arguments)
    # Fields that __init__ does not take are results of other settings.
    names = [entry.name for entry in fields(FusionConfig) if entry.init]
    require_known(settings, names)
    return FusionConfig(**from_words(FusionConfig, settings))
