"""Settings of a training run, from YAML files and ``key=value`` arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from transformers import TrainingArguments

from fusion.logits.topk import KINDS
from fusion.losses.graphs import CHANNELS
from fusion.losses.graphs import KINDS as GRAPHS
from fusion.losses.objective import ALIGNMENTS, FusionLoss
from fusion.models import DTYPES
from fusion.text.rows import ON_BAD_ROWS, TURNS
from fusion.training import config_checks
from fusion.training.config_checks import AUTO
from fusion.training.setting_types import check_settings, from_words, setting
from fusion.training.settings import read_settings, require_known

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
    on_policy : float
        Share of the steps, chosen at random, that learn the student's own completions
        in place of the data, scored by `live_teachers`, by the same losses but SFT, as
        these completions have no labels: from 0, the default, to 1. Their terms are
        logged as ``own_TERM``, with the completions' mean length and the share of those
        that the student ended.
    live_teachers : dict of str to str
        Folder of each teacher that scores them, by a name of your choice; it may be
        that of a store.
    live_templates : dict of str to str
        Jinja files that are the chat templates of live teachers in place of their own.
    live_dtype : {"float32", "bfloat16", "float16", "auto"}
        What live teachers compute in; "auto": as they are saved.
    on_policy_prompts : str
        What the student answers then, read by the command line; see
        `fusion.tasks.read_prompts`. By default the prompts of `data`.
    on_policy_length : int
        Tokens where its completions are cut off.
    on_policy_temperature : float
        Divides the logits that they are drawn by.
    weighting : {"uniform", "static", "ce", "confidence"}
        Weights of the teachers that have seen an example; they sum to 1. "ce": the
        softmax of minus the NLL per byte over `ce_temperature`; "static": in proportion
        to `static_weights`. "confidence" is "uniform" for examples, and weighs the
        teachers of one position by the probability that each gives its likeliest token
        (`fusion.training.confidence`), which graphs do not see.
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
    # The student's own completions, and who scores them.
    on_policy: float = setting(
        "share of the steps that learn the student's own completions, which "
        "live_teachers score",
        least=0,
        most=1,
        default=0.0,
    )
    live_teachers: dict[str, str] = setting(
        "folder of each teacher for on_policy: live_teachers.NAME=FOLDER",
        default_factory=dict,
    )
    live_templates: dict[str, str] = setting(
        "Jinja file of a teacher without a chat template: live_templates.NAME=FILE",
        default_factory=dict,
    )
    live_dtype: str = setting(
        "what live teachers compute in; auto: as they are saved",
        choices=(*DTYPES, "auto"),
        default="float32",
    )
    on_policy_prompts: str | None = setting(
        "what the student answers for on_policy: JSONL with prompt or messages, or "
        "reasoning-gym:TASK+TASK:SIZE:SEED; null: the prompts of data",
        default=None,
    )
    on_policy_length: int = setting(
        "tokens where its own completions are cut off", least=1, default=128
    )
    on_policy_temperature: float = setting(
        "divides the logits that they are drawn by", above=0, default=1.0
    )
    # The teachers' weights for each example.
    weighting: str = setting(
        "how much each teacher counts for an example, or (confidence) at a position",
        choices=("uniform", "static", "ce", "confidence"),
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
        config_checks.check_teachers(self)
        config_checks.check_live_teachers(self)
        config_checks.check_trained(self)
        config_checks.check_inherited(self)
        if self.greater_is_better is None:
            self.greater_is_better = _greater_is_better(self.metric_for_best_model)
        resolve: Any = super().__post_init__  # which transformers gives no types
        resolve()

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
