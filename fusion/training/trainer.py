"""`FusionTrainer`: the Trainer of transformers with teachers' stores.

The loss is that of `fusion.FusionLoss` with ULD; fusion/losses/objective.py has the
formula. Its means are over the whole step, that is, over the step's micro-batches on
all ranks, and over all teachers. Teachers have a weight for each example
(`fusion.training.batches`), which is 0 where they have not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from fusion.losses.objective import GraphLoss
from fusion.losses.terms import Totals
from fusion.models import load_model, load_tokenizer
from fusion.tasks import Problem
from fusion.teachers.live import LiveTeacher
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from fusion.training.batches import Batch
from fusion.training.checkpoints import check_place, newest_checkpoint
from fusion.training.comparison import (
    check_tokenizers,
    teacher_terms,
    teachers_tokens,
)
from fusion.training.config import FusionConfig
from fusion.training.config_checks import AUTO
from fusion.training.data import (
    FittingExamples,
    check_kept,
    check_stores,
    fitting_examples,
)
from fusion.training.interruption import Interruption
from fusion.training.on_policy import (
    Share,
    load_teachers,
    own_completions,
    without_labels,
)
from fusion.training.parts import check_live, checked, collator_of, student_of
from fusion.training.progress import Progress
from fusion.training.sampling import (
    EpochSampler,
    batches_an_epoch,
    examples_at_once,
    held_out_sampler,
    training_sampler,
)
from fusion.training.start import Start
from fusion.training.students import (
    head_of,
    nothing,
    prepared,
    reader_of,
)
from fusion.training.terms import check_metric, denominators, meters, record


class FusionTrainer(Trainer):
    """Trains a student on examples and on the teachers' logits for them in stores.

    Parameters
    ----------
    model : PreTrainedModel, optional
        The student; by default that of ``args.student``.
    args : FusionConfig
        All settings.
    train_dataset, eval_dataset : sequence of Example, optional
        Training and held-out examples.
    processing_class : PreTrainedTokenizerBase, optional
        The student's fast tokenizer; by default that of ``args.student``.
    stores : mapping of str to TeacherStore, optional
        By default those that ``args.stores`` names.
    graph : callable, optional
        A graph loss of your own in place of ``args.graph``; see `fusion.FusionLoss`.
    student_k : int, optional
        Logits a position that ``graph`` sees of the student; by default ``args.k``.
    live_teachers : mapping of str to LiveTeacher, optional
        Who scores the student's own completions (`fusion.teachers.live`); by default
        those that ``args.live_teachers`` names.
    prompts : sequence of Problem, optional
        What the student answers then; by default the prompts of ``train_dataset``.
    **kwargs
        As of `transformers.Trainer`.

    Raises
    ------
    TypeError
        If ``args`` is not a FusionConfig.
    ValueError
        If there is no student, a process has several devices, a store holds too few of
        the examples or not what the settings need, or an example does not fit the
        student and ``args.on_bad_rows`` is "error".

    Warns
    -----
    fusion.text.rows.ExamplesWarning
        If examples are left out, or completions cut.

    Examples
    --------
    Two steps of a tiny student with a teacher of the same size; both have random
    weights.

    >>> import fusion, torch
    >>> from fusion.teachers.capture import capture
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    >>> words = Tokenizer(
    ...     models.WordLevel(
    ...         {"</s>": 0, "two": 1, "plus": 2, "is": 3, "four": 4}, unk_token="</s>"
    ...     )
    ... )
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    >>> small = GPT2Config(
    ...     vocab_size=5,
    ...     n_embd=8,
    ...     n_layer=1,
    ...     n_head=1,
    ...     bos_token_id=0,
    ...     eos_token_id=0,
    ...     initializer_range=1.0,
    ... )
    >>> _ = torch.manual_seed(0)
    >>> student, teacher = GPT2LMHeadModel(small), GPT2LMHeadModel(small)
    >>> examples = [fusion.Example("two plus two is", "four")]
    >>> capture(teacher, tokenizer, examples, "teacher-store", k=3, progress=False)
    >>> quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    >>> args = fusion.FusionConfig(
    ...     "student",
    ...     stores={"teacher": "teacher-store"},
    ...     k=3,
    ...     max_steps=2,
    ...     use_cpu=True,
    ...     **quiet,
    ... )
    >>> trainer = fusion.FusionTrainer(
    ...     student, args, examples, processing_class=tokenizer
    ... )
    >>> trainer.train().global_step  # doctest: +ELLIPSIS
    {'train_runtime': ...}
    2
    """

    args: FusionConfig

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: FusionConfig | None = None,
        train_dataset: Sequence[Example] | None = None,
        eval_dataset: Sequence[Example] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        stores: Mapping[str, TeacherStore] | None = None,
        graph: GraphLoss | None = None,
        student_k: int | None = None,
        live_teachers: Mapping[str, LiveTeacher] | None = None,
        prompts: Sequence[Problem] | None = None,
        **kwargs: Any,
    ) -> None:
        args = checked(args)
        if stores is None:
            stores = {name: TeacherStore(path) for name, path in args.stores.items()}
        self.stores = dict(stores)
        named = args.live_teachers if live_teachers is None else live_teachers
        check_live(args.on_policy, named)
        self._objective = args.objective([*self.stores, *named])
        if graph is not None:
            self._objective = replace(self._objective, graph=graph)
        # Before models are loaded, which may take minutes.
        check_stores(self.stores, args, train_dataset, eval_dataset)

        if processing_class is None:
            processing_class = load_tokenizer(student_of(args))
        self._tokenizer = processing_class
        live_teachers = self._fitting_teachers(args, live_teachers)
        self._meters = meters(self.stores, live_teachers, args.alignment)
        check_metric(args.metric_for_best_model, self._meters["eval"].names)
        if model is None:
            model = load_model(student_of(args))

        # Denominators of the step that is under way; None before the first one.
        self._totals: Totals | None = None

        training, held_out = self._fitting(args, model, train_dataset, eval_dataset)
        examples = training or held_out
        collator: Any = collator_of(self.stores, processing_class, args, examples)
        self._own = own_completions(
            model, processing_class, live_teachers, prompts, collator, training, args
        )
        super().__init__(
            model=prepared(model, args),
            args=args,
            train_dataset=training,
            eval_dataset=held_out,
            processing_class=processing_class,
            data_collator=collator,
            **kwargs,
        )
        self._watch(Start(self.model, collator, training, held_out, self._own))
        # The loss comes divided by the totals of the whole step: the Trainer must not
        # divide it by the number of micro-batches. Its older versions look at the first
        # of these, newer ones at the second.
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True
        self._reader = reader_of(self.model, processing_class, args, student_k)
        self._head = head_of(self.model)

    def _fitting_teachers(
        self, args: FusionConfig, given: Mapping[str, LiveTeacher] | None
    ) -> Mapping[str, LiveTeacher]:
        """Return the teachers in memory; all teachers' tokenizers suit the losses."""
        check_tokenizers(self.stores, self._tokenizer, args.alignment)
        teachers = load_teachers(args) if given is None else given
        check_tokenizers(teachers, self._tokenizer, args.alignment)
        return teachers

    def _fitting(
        self,
        args: FusionConfig,
        model: PreTrainedModel,
        train_dataset: Sequence[Example] | None,
        eval_dataset: Sequence[Example] | None,
    ) -> tuple[FittingExamples | None, FittingExamples | None]:
        """Return the examples that fit the student, to learn and to evaluate on.

        Before the first step: what does not fit would end the training there.
        """
        fitting = partial(fitting_examples, tokenizer=self._tokenizer, model=model)
        training = fitting(train_dataset, args=args, name="training examples")
        held_out = fitting(eval_dataset, args=args, name="held-out examples")
        # What a store holds may have been left out.
        check_kept(self.stores, args, training, held_out)
        return training, held_out

    def _watch(self, start: Start) -> None:
        """Add what prints, counts and ends training: lines, progress, interruption."""
        self._progress = Progress(self.callback_handler.callbacks)
        self._interruption = Interruption(self.accelerator)
        for callback in (start, self._progress, self._interruption):
            self.add_callback(callback)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Train the student.

        With ``resume_from_checkpoint`` True or "auto", go on from the newest whole
        checkpoint of ``output_dir``, or from the start where there is none. Interrupted
        (Ctrl-C, SIGTERM), it saves one after the step and raises
        `fusion.training.interruption.TrainingInterrupted`.
        """
        checkpoint = resume_from_checkpoint or None
        if checkpoint in (True, AUTO):
            checkpoint = newest_checkpoint(str(self.args.output_dir))
        self._check_place(checkpoint)
        # What an earlier training did not log is none of this one's.
        self._meters["train"].reset()
        self._meters["own"].reset()
        with self._interruption:
            return super().train(checkpoint, *args, **kwargs)

    def _check_place(self, checkpoint: Any) -> None:
        """Require that training goes on behind the examples that it has learnt."""
        args = self.args
        if checkpoint is None or self.train_dataset is None or args.ignore_data_skip:
            return
        batch = self._train_batch_size
        batches = batches_an_epoch(args, self.train_dataset, batch)
        check_place(checkpoint, batches, args.gradient_accumulation_steps)

    def save_student(self) -> None:
        """Write the student, with adapters merged, as a model to ``output_dir``."""
        out = str(self.args.output_dir)
        # One rank writes; `save_model` sees to that itself.
        writes = self.is_world_process_zero()
        if self.args.lora is None:
            self.save_model(out)
        elif writes:
            adapted = self.accelerator.unwrap_model(self.model)
            merged = adapted.merge_and_unload()
            merged.save_pretrained(out)
        if writes:
            self._tokenizer.save_pretrained(out)
            state = Path(out) / "trainer_state.json"
            self.state.save_to_json(str(state))

    def get_batch_samples(
        self,
        epoch_iterator: Any,
        num_batches: int,
        *args: Any,
    ) -> Any:
        """Take the micro-batches of a step, and set the denominators of its loss."""
        # After the last step nothing is left, though its epoch may have more examples:
        # a run that goes on from there would take another step.
        if self.state.global_step >= self.state.max_steps:
            return [], None
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, *args)
        if batches and self._own is not None:
            batches = self._with_own(batches)
        self._progress.count(batches)
        # float32: some accelerators have no float64.
        counts = denominators(batches).float()
        counts = counts.to(self.args.device)
        step_counts = self.accelerator.reduce(counts, "sum")
        # Ranks average their gradients, where the step needs their sum. So each rank's
        # loss is multiplied by the number of ranks: its denominators are divided by it.
        self._totals = _totals(step_counts / self.accelerator.num_processes)
        return batches, items

    def _with_own(self, batches: list[Batch]) -> list[Batch]:
        """Return a step's batches, or as many of the student's own completions."""
        step = self.state.global_step
        own: Any = self._own
        if not own.takes(step):
            return batches
        args = self.args
        share = Share(
            rank=args.process_index,
            world=args.world_size,
            batches=len(batches),
            size=examples_at_once(args, self._train_batch_size) // args.world_size,
        )
        model: Any = self.accelerator.unwrap_model(self.model)
        found: list[Batch] = own.batches(model, step, share)
        return found

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,  # a Batch
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch.

        In training it is the micro-batch's part of the loss of its step, in evaluation
        the loss of the batch alone.
        """
        # A rank's share of the last batch of an epoch may be of fillers alone.
        if not inputs["examples"]:
            loss = nothing(model, inputs)
            return (loss, {"loss": loss}) if return_outputs else loss

        # KL and JSD are of the teachers' tokens.
        of_tokens = self.args.alignment != "uld"
        ids = teachers_tokens(inputs) if of_tokens else None
        head, logits = self._reader(model, self._head, inputs, ids)
        own = "ended" in inputs
        known: Any = self._own.teachers if own and self._own else self.stores
        teachers = teacher_terms(
            inputs,
            known,
            self.args.teacher_temperatures,
            head.logprobs_at,
        )

        objective = self._objective
        totals = self._totals
        # Totals are None where a caller asks for a loss before the first step.
        if model.training and totals is not None:
            w = self._fusion_weight(self.state.global_step)
            objective = replace(objective, weight=w)
        else:
            # This batch alone, with the first step's fusion weight: evaluations compare
            # students, whatever step they are at.
            totals = _totals(denominators([inputs]))
        nll = without_labels(head.nll) if own else head.nll
        output = objective(head.topk, nll, teachers, totals)

        kind = "own" if own else "train"
        meter = self._meters[kind if model.training else "eval"]
        record(meter, output, head.topk, inputs, known)
        if model.training and self.args.log_term_gradients:
            # As the losses are larger by the number of ranks, so are their gradients.
            ranks = self.accelerator.num_processes
            for name, norm in output.gradient_norms(logits).items():
                if not own or name != "sft":
                    meter.add(f"gradient/{name}", norm / ranks, 1)

        # In evaluation the denominators are float64, and so is the total.
        loss = output.total.to(torch.float32)
        if return_outputs:
            return loss, {"loss": loss}
        return loss

    def _fusion_weight(self, step: int) -> float:
        """The weight w of a step, from 0 on."""
        last = max(1, self.state.max_steps - 1)
        progress = min(1.0, step / last)
        return float(self.args.fusion_weight_at(progress))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, beside the loss, the mean of every term since the last time."""
        # The logs of evaluations and of the end of training have no "loss".
        if "loss" in logs:
            meter = self._meters["train"]
            means = meter.means(self.accelerator) | self._means_of_own()
            ended = max(0, self.state.global_step - 1)
            weight = {"fusion_weight": self._fusion_weight(ended)}
            speed = self._progress.speed(self.accelerator, self.state)
            logs = logs | means | weight | speed
            meter.reset()
        super().log(logs, *args, **kwargs)

    def _means_of_own(self) -> dict[str, float]:
        """Means of the terms of own completions since the last time, ``own_TERM``."""
        if self._own is None:
            return {}
        meter = self._meters["own"]
        means = meter.means(self.accelerator)
        meter.reset()
        return {f"own_{name}": value for name, value in means.items()}

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate on examples, or on the held-out ones that the trainer was given.

        Of a mapping of examples by name, each set has metrics of its own.
        """
        if isinstance(eval_dataset, list | tuple):
            model: Any = self.model
            eval_dataset = fitting_examples(
                eval_dataset, self._tokenizer, model, self.args, "held-out examples"
            )
        return super().evaluate(eval_dataset, *args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the loss and its terms, as means over the whole set.

        The loss is that of the first step's fusion weight.
        """
        prefix = kwargs.get("metric_key_prefix", "eval")
        meter = self._meters["eval"]
        meter.reset()
        of_evaluation = not self.accelerator._models
        output: Any = super().evaluation_loop(*args, **kwargs)
        if of_evaluation:
            self._forget_preparation()

        means = meter.means(self.accelerator)
        # The loss of the means, in place of the mean of the batches' losses: batches
        # have unequal numbers of tokens, pairs and sequences.
        sft = means.get("sft", 0.0)
        alignment = means.get(self.args.alignment, 0.0)
        graph = means.get("graph", 0.0)
        means["loss"] = self._objective.combined(sft, alignment, graph)
        for name, value in means.items():
            output.metrics[f"{prefix}_{name}"] = value
        return output

    def _forget_preparation(self) -> None:
        """Undo what an evaluation before training has made of the student.

        Accelerate prepares it for evaluation alone, without what adds up gradients over
        ranks, and would later take it for ready.
        """
        # A student in shards is prepared in the same way for both.
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return
        model: Any = self.model
        # Its forward pass had the precision of evaluation around it.
        self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        self.accelerator._models.clear()
        vars(model).pop("_is_accelerate_prepared", None)
        self.model_wrapped = model

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        """Return the places of training examples."""
        examples = self.train_dataset if train_dataset is None else train_dataset
        return training_sampler(self.args, examples, self._train_batch_size)

    def _get_eval_sampler(self, eval_dataset: Any) -> EpochSampler:
        """Return the places of held-out examples."""
        return held_out_sampler(self.args, eval_dataset)


def _totals(counts: Tensor) -> Totals:
    """Denominators from their counts (3,), in the order of `denominators`."""
    tokens, pairs, sequences = counts.unbind()
    return Totals(tokens, pairs, sequences)
