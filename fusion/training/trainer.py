"""`FusionTrainer`: the Trainer of transformers with teachers' stores.

The loss is that of `fusion.FusionLoss` (fusion/losses/objective.py) with ULD, which is
where its formula stands. The means are over the whole step, its micro-batches on all
ranks, and over all teachers. A teacher's weight for an example is a matter of the
example (`fusion.training.batches`), so a teacher that has not seen it takes no part.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from fusion._extras import needed_by
from fusion.logits.head import IGNORED, HeadOutput, read
from fusion.logits.topk import TopKLogits
from fusion.losses.terms import FusionLossOutput, TeacherTerm, Totals
from fusion.models import load_model, load_tokenizer
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from fusion.training.batches import Batch, Collator, EncodedExamples, TeacherBatch
from fusion.training.config import FusionConfig

AUTO = "auto"


class Meter:
    """Sums and counts of terms by name, on all ranks alike; their quotients are what is logged."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: dict[str, Tensor | float] = dict.fromkeys(self._names, 0.0)
        self._counts: dict[str, Tensor | float] = dict.fromkeys(self._names, 0.0)

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum over ``count`` things; what lies on a device stays there until it is asked for."""
        self._sums[name] = self._sums[name] + (
            total.detach() if isinstance(total, Tensor) else total
        )
        self._counts[name] = self._counts[name] + count

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all ranks of the terms that occurred; collective."""
        both = torch.tensor(
            [[float(v) for v in part.values()] for part in (self._sums, self._counts)]
        )
        sums, counts = accelerator.reduce(both.to(accelerator.device), "sum").tolist()
        return {
            n: s / c for n, s, c in zip(self._names, sums, counts, strict=True) if c > 0
        }


class FusionTrainer(Trainer):
    """Fuses what stores hold of teachers into a student.

    Parameters
    ----------
    model : PreTrainedModel, optional
        The student; by default that of ``args.student``.
    args : FusionConfig
    train_dataset, eval_dataset : sequence of Example
    processing_class : PreTrainedTokenizerBase, optional
        The student's fast tokenizer; by default that of ``args.student``.
    stores : mapping of str to TeacherStore, optional
        By default those that ``args.stores`` names.
    **kwargs
        As of `transformers.Trainer`.

    Raises
    ------
    ValueError
        If there is no student, a store does not hold what the settings need, or none
        holds any of the examples.

    Examples
    --------
    Two steps of a student as small as can be, by the store of a teacher of the same
    making; both have random weights.

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
        **kwargs: Any,
    ) -> None:
        args = _checked(args)
        self.stores = (
            {name: TeacherStore(path) for name, path in args.stores.items()}
            if stores is None
            else dict(stores)
        )
        self._objective = args.objective(self.stores)
        _check_stores(
            self.stores, args, [*(train_dataset or []), *(eval_dataset or [])]
        )
        tokenizer = (
            load_tokenizer(_student(args))
            if processing_class is None
            else processing_class
        )
        student = load_model(_student(args)) if model is None else model
        self._tokenizer = tokenizer
        names = ["sft", "uld", "graph"]
        names += [
            f"{kind}/{name}"
            for name in self.stores
            for kind in ("uld", "graph", "coverage", "weight")
        ]
        names += [
            f"gradient/{term}"
            for term in names
            if term == "sft" or term.startswith(("uld/", "graph/"))
        ]
        self._meters = {"train": Meter(names), "eval": Meter(names)}
        self._totals: Totals | None = None
        super().__init__(
            model=prepared(student, args),
            args=args,
            train_dataset=_encoded(train_dataset, tokenizer, args),
            eval_dataset=_encoded(eval_dataset, tokenizer, args),
            processing_class=tokenizer,
            data_collator=Collator(
                self.stores,
                next(
                    i
                    for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
                    if i is not None
                ),
                args.k,
                args.align,  # type: ignore[arg-type]
                args.weighting,
                args.static_weights,
                args.ce_temperature,
            ),
            **kwargs,
        )
        # The loss comes divided by the totals of the whole step: it needs no division
        # by the number of micro-batches.
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True
        base: Any = getattr(student, "get_base_model", lambda: student)()
        self._skips_prompts = (
            "logits_to_keep" in inspect.signature(base.forward).parameters
        )

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Train; True or "auto" goes on from the newest whole checkpoint of ``output_dir``, or starts where there is none."""
        if resume_from_checkpoint in (True, AUTO):
            resume_from_checkpoint = newest_checkpoint(str(self.args.output_dir))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def save_student(self) -> None:
        """Write the student to ``output_dir`` as a folder of its own: adapters are merged into it."""
        out = str(self.args.output_dir)
        if self.args.lora is None:
            self.save_model(out)
        elif self.is_world_process_zero():
            self.accelerator.unwrap_model(
                self.model
            ).merge_and_unload().save_pretrained(out)
        if self.is_world_process_zero():
            self._tokenizer.save_pretrained(out)
            self.state.save_to_json(str(Path(out) / "trainer_state.json"))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, *args: Any
    ) -> Any:
        """Take the micro-batches of one step, and count what the loss of all of them is divided by."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, *args)
        total = self.accelerator.reduce(
            counted(batches).float().to(self.args.device), "sum"
        )
        # Gradients are averaged over ranks, but the ranks' sums add up to the step's.
        self._totals = Totals(*(total / self.accelerator.num_processes).unbind())
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,  # a Batch
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch: its share of the step's in training, its own in evaluation."""
        head, logits = self._read(model, inputs)
        teachers = {
            name: self._term(name, batch) for name, batch in inputs["teachers"].items()
        }
        if model.training and self._totals is not None:
            objective, totals = (
                replace(self._objective, weight=self._fusion_weight()),
                self._totals,
            )
        else:
            objective, totals = self._objective, Totals(*counted([inputs]).unbind())
        output = objective(head.topk, head.nll, teachers, totals)
        meter = self._meters["train" if model.training else "eval"]
        record(meter, output, head.topk, inputs["teachers"])
        if model.training and self.args.log_term_gradients:
            for name, norm in output.gradient_norms(logits).items():
                meter.add(f"gradient/{name}", norm / self.accelerator.num_processes, 1)
        loss = output.total.to(torch.float32)
        return (loss, {"loss": loss}) if return_outputs else loss

    def _read(self, model: nn.Module, inputs: Batch) -> tuple[HeadOutput, Tensor]:
        """Forward the student; return what the losses need of its logits behind the prompts, and these."""
        length, first = inputs["input_ids"].shape[1], inputs["first"]
        keep = {"logits_to_keep": length - first} if self._skips_prompts else {}
        out = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            **keep,
        )
        logits = out.logits if self._skips_prompts else out.logits[:, first:]
        moments = self.args.standardize in ("center", "zscore")
        return read(
            logits[:, :-1], _targets(inputs), self.args.k, statistics=moments
        ), logits

    def _term(self, name: str, batch: TeacherBatch) -> TeacherTerm:
        """Return what the loss needs of a teacher's rows of a batch, which are raw logits."""
        rows: dict[str, Any] = {
            part: batch.get(part)
            for part in ("values", "ids", "mask", "logsumexp", "mean", "std")
        }
        pairs: dict[str, Any] = {
            part: batch[part]
            for part in ("student_index", "teacher_index", "pairs", "weights")
        }
        topk = TopKLogits(**rows, vocabulary=self.stores[name].manifest.vocabulary)
        return TeacherTerm(
            topk, **pairs, temperature=self.args.teacher_temperatures.get(name)
        )

    def _fusion_weight(self) -> float:
        return float(
            self.args.fusion_weight_at(
                self.state.global_step / max(1, self.state.max_steps)
            )
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, beside the loss, the mean of every term since the last time."""
        if "loss" in logs:
            logs = (
                logs
                | self._meters["train"].means(self.accelerator)
                | {"fusion_weight": self._fusion_weight()}
            )
            self._meters["train"].reset()
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; every term and the loss are means over the whole set, at the first step's fusion weight."""
        prefix = kwargs.get("metric_key_prefix", "eval")
        meter = self._meters["eval"]
        meter.reset()
        output: Any = super().evaluation_loop(*args, **kwargs)
        means = meter.means(self.accelerator)
        means["loss"] = self._objective.combined(
            *(means.get(name, 0.0) for name in ("sft", "uld", "graph"))
        )
        output.metrics.update(
            {f"{prefix}_{name}": value for name, value in means.items()}
        )
        return output


def counted(batches: Sequence[Batch]) -> Tensor:
    """Return the `Totals` of some batches, shape (3,), so that ranks can add theirs: tokens, weighted pairs and sequences."""
    total = torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        total[0] += _targets(batch).ne(IGNORED).sum().item()
        for teacher in batch["teachers"].values():
            weights = teacher["weights"].double()
            total[1] += (weights @ teacher["pairs"].sum(dim=1).double()).item()
            total[2] += weights.sum().item()
    return total


def record(
    meter: Meter,
    output: FusionLossOutput,
    student: TopKLogits,
    teachers: Mapping[str, TeacherBatch],
) -> None:
    """Add a batch to what is logged: each teacher's terms unweighted, and those of all teachers with their weights."""
    for name, sums in output.sums.items():
        kind, _, teacher = name.partition("/")
        counts = output.counts[name]
        meter.add(name, sums.sum(), counts.sum())
        if teacher:
            weights = teachers[teacher]["weights"]
            meter.add(kind, (weights * sums).sum(), (weights * counts).sum())
    for name, batch in teachers.items():
        seen = batch["mask"].any(dim=1)
        meter.add(f"coverage/{name}", batch["pairs"].sum(), student.mask[seen].sum())
        meter.add(f"weight/{name}", batch["weights"].sum(), len(batch["weights"]))


def prepared(model: PreTrainedModel, args: FusionConfig) -> nn.Module:
    """Make the student train what the settings say: adapters, its last layers, or all."""
    if args.lora is not None:
        with needed_by("lora"):
            from peft import LoraConfig, get_peft_model
        return get_peft_model(
            model, LoraConfig(**{"task_type": "CAUSAL_LM", **args.lora})
        )
    if args.trained_layers is not None:
        model.requires_grad_(False)
        children = list(model.base_model.named_children())
        layers = [
            (i, child)
            for i, (_, child) in enumerate(children)
            if isinstance(child, nn.ModuleList)
        ]
        if not layers:
            raise ValueError(
                f"student must keep its layers in a ModuleList for trained_layers, but {type(model).__name__} does not: "
                "use lora."
            )
        # Behind the layers comes the final norm; the head, often tied to the
        # embeddings, stays as it is.
        last, stack = layers[-1]
        for part in (
            *list(stack)[-args.trained_layers :],
            *(child for _, child in children[last + 1 :]),
        ):
            part.requires_grad_(True)
    return model


def newest_checkpoint(folder: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer's state is the last file of a checkpoint, and older ones are deleted
    only after it: if it can be read, all is there.
    """
    found = sorted(
        Path(folder).glob("checkpoint-*"),
        key=lambda path: int(path.name.rpartition("-")[2]),
        reverse=True,
    )
    return next((str(path) for path in found if _whole(path)), None)


def _whole(checkpoint: Path) -> bool:
    try:
        return isinstance(
            json.loads((checkpoint / "trainer_state.json").read_bytes()), dict
        )
    except (OSError, ValueError):
        return False


def _targets(batch: Batch) -> Tensor:
    """Tokens (B, T) that the rows of logits from ``first`` on predict."""
    return batch["labels"][:, batch["first"] + 1 :]


def _encoded(
    examples: Any, tokenizer: PreTrainedTokenizerBase, args: FusionConfig
) -> EncodedExamples | None:
    return (
        None
        if examples is None
        else EncodedExamples(examples, tokenizer, args.max_length)
    )


def _checked(args: FusionConfig | None) -> FusionConfig:
    if not isinstance(args, FusionConfig):
        raise TypeError(
            f"args must be a FusionConfig, but is of type {type(args).__name__}: make one of your settings."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"Each process must have one device, but this one has {args.n_gpu}: start it with `accelerate launch`."
        )
    return args


def _student(args: FusionConfig) -> str:
    if args.student is None:
        raise ValueError(
            "student must name a model, but is None: set student, or pass model and processing_class."
        )
    return args.student


def _check_stores(
    stores: Mapping[str, TeacherStore], args: FusionConfig, examples: Sequence[Example]
) -> None:
    for name, store in stores.items():
        store.check(k=args.k, logits=args.standardize not in ("logprob", "softmax"))
        if examples and not any(example.key in store for example in examples):
            raise ValueError(
                f"The store of {name} must hold some of the examples, but holds none of {len(examples)}: "
                "capture this data set, with the same prompts and completions."
            )
