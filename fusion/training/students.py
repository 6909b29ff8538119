"""The student in training: which of its weights learn, and how its logits are read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from fusion._extras import needed_by
from fusion.logits.head import HeadOutput, chunked_head, read
from fusion.models import vocabulary_size
from fusion.training.batches import Batch, targets
from fusion.training.config import FusionConfig

# Values of `standardize` that need mean and standard deviation of full rows of logits.
OF_MOMENTS = ("center", "zscore")


def prepared(model: PreTrainedModel, args: FusionConfig) -> nn.Module:
    """Make the student train what the settings say: adapters, its last layers, or all.

    Raises
    ------
    ValueError
        If the last layers are to be trained of a model that has no list of layers.
    """
    if args.lora is not None:
        with needed_by("lora"):
            from peft import LoraConfig, get_peft_model
        settings = {"task_type": "CAUSAL_LM", **args.lora}
        # Adapters begin at random: a run that starts again must begin with the same.
        set_seed(args.seed)
        return get_peft_model(model, LoraConfig(**settings))
    if args.trained_layers is not None:
        _freeze_all_but_last(model, args.trained_layers)
    return model


def _freeze_all_but_last(model: PreTrainedModel, count: int) -> None:
    """Train the last ``count`` layers and the final norm alone."""
    model.requires_grad_(False)
    parts = list(model.base_model.children())
    layers: list[nn.Module] | None = None
    for i, part in enumerate(parts):
        if isinstance(part, nn.ModuleList):
            layers = list(part)
            # What follows the layers: the final norm. The head, often tied to the
            # embeddings, is no part of the base model, and stays frozen.
            following = parts[i + 1 :]
    if layers is None:
        raise ValueError(
            f"student must keep its layers in a ModuleList for trained_layers, "
            f"but {type(model).__name__} does not: use lora."
        )
    for part in layers[-count:] + following:
        part.requires_grad_(True)


@dataclass(frozen=True)
class Reader:
    """Reads negative log-likelihoods and top-k logits of a student's forward passes.

    Parameters
    ----------
    k : int
        Logits kept a position.
    vocabulary : int
        Columns of logits that are of tokens.
    statistics : bool
        Whether mean and standard deviation of full rows are needed.
    chunk : int or None
        Positions whose logits are in memory at once; None for all.
    skips_prompts : bool
        Whether the student's forward pass can leave out the logits of the prompts.
    """

    k: int
    vocabulary: int
    statistics: bool
    chunk: int | None
    skips_prompts: bool

    def __call__(
        self,
        model: nn.Module,
        head: nn.Module,
        batch: Batch,
        ids: Tensor | None,
    ) -> tuple[HeadOutput, Tensor]:
        """Forward the student, and read its logits behind the prompts.

        Parameters
        ----------
        model : nn.Module
            The student, which may be wrapped.
        head : nn.Module
            The head of the student, which is not.
        batch : Batch
            The batch.
        ids : int64 tensor of shape (B, T − first − 1, K), or None
            Tokens whose log-probabilities are wanted as well.

        Returns
        -------
        tuple of HeadOutput and tensor
            What was read, and the logits themselves, (B, T − first, V), for the norms
            of gradients; where they are read in chunks, what the model returned instead
            of them.
        """
        if self.chunk is None:
            logits = self._forward(model, batch)
            logits = self._behind_prompts(logits, batch)  # (B, T − first, V)
            # The last row predicts a token behind the text, for which there is no
            # label.
            rows = logits[:, :-1]
            found = read(
                rows,
                targets(batch),
                self.k,
                ids=ids,
                statistics=self.statistics,
                # Of a head that is padded, the columns of tokens alone.
                vocabulary=min(self.vocabulary, rows.shape[-1]),
            )
            return found, logits

        outputs: list[HeadOutput] = []

        def read_in_place_of_head(hidden: Tensor) -> Tensor:
            hidden = self._behind_prompts(hidden, batch)  # (B, T − first, d)
            output = self._read_chunks(head, hidden[:, :-1], batch, ids)
            outputs.append(output)
            # The student takes it for its logits, and returns it.
            return hidden[..., :1]

        # Inside the forward pass, as wrappers of the student gather its weights and
        # choose its precision for no longer than that.
        # A compiled student calls it as it is: gradients are made on the way.
        uncompiled: Any = torch.compiler.disable(read_in_place_of_head)
        with _forward_replaced(head, uncompiled):
            instead = self._forward(model, batch)
        (found,) = outputs
        return found, instead

    def _forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The student's logits, of all positions or behind the prompts alone."""
        input_ids = batch["input_ids"]  # (B, T)
        options = {}
        if self.skips_prompts:
            # The head is then applied to the rows behind the prompts alone.
            options["logits_to_keep"] = input_ids.shape[1] - batch["first"]
        output = model(
            input_ids=input_ids,
            attention_mask=batch["attention_mask"],
            use_cache=False,
            **options,
        )
        logits: Tensor = output.logits
        return logits

    def _behind_prompts(self, rows: Tensor, batch: Batch) -> Tensor:
        """Rows (B, T − first, …) of those that a forward pass has at the head."""
        if self.skips_prompts:
            return rows
        return rows[:, batch["first"] :]

    def _read_chunks(
        self,
        head: Any,
        hidden: Tensor,  # (B, T − first − 1, d)
        batch: Batch,
        ids: Tensor | None,
    ) -> HeadOutput:
        """Read the logits of hidden states, of which few are in memory at once."""
        weight, bias = head.weight, head.bias  # (V, d), (V,)
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            # As the head would compute under autocast.
            dtype = torch.get_autocast_dtype(device)
            weight = weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        return chunked_head(
            hidden,
            weight,
            targets(batch),
            self.k,
            bias=bias,
            ids=ids,
            statistics=self.statistics,
            chunk=int(self.chunk or 0),
            vocabulary=min(self.vocabulary, len(weight)),
        )


def reader_of(
    student: Any,
    tokenizer: PreTrainedTokenizerBase,
    args: FusionConfig,
    student_k: int | None = None,
) -> Reader:
    """Make the reader of a student's logits that the settings describe.

    Parameters
    ----------
    student : PreTrainedModel
        The student, with adapters or without.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    args : FusionConfig
        All settings.
    student_k : int, optional
        Logits kept a position where these are more than ``args.k``.

    Raises
    ------
    ValueError
        If ``student_k`` is less than ``args.k``, or more than the tokens, or the head
        cannot be read in chunks where ``args.head_chunk`` asks for it.
    """
    if args.head_chunk is not None:
        check_head(student)
    vocabulary = vocabulary_size(tokenizer)
    k = args.k if student_k is None else student_k
    if not args.k <= k <= vocabulary and student_k is not None:
        raise ValueError(
            f"student_k must be between k = {args.k} and the {vocabulary} tokens of "
            f"the student, but is {student_k}: choose a number between them."
        )
    return Reader(
        k=k,
        vocabulary=vocabulary,
        statistics=args.standardize in OF_MOMENTS,
        chunk=args.head_chunk,
        skips_prompts=can_skip_prompts(student),
    )


def nothing(model: nn.Module, batch: Batch) -> Tensor:
    """Return 0 of a batch without labels, by a forward pass of the student.

    Every rank of several takes part in each backward pass, also one whose share of a
    batch has no example: all gradients are 0 there.
    """
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
    )
    total: Tensor = output.logits.float().sum()
    return 0.0 * total


def head_of(student: Any) -> nn.Module:
    """Return the student's head, without what adapters put around the student."""
    if hasattr(student, "get_base_model"):
        student = student.get_base_model()
    head: nn.Module = student.get_output_embeddings()
    return head


def can_skip_prompts(student: Any) -> bool:
    """Tell whether the student's forward pass can leave out logits of the prompts."""
    # The forward pass of a model with adapters takes any argument, and hands it on.
    if hasattr(student, "get_base_model"):
        student = student.get_base_model()
    signature = inspect.signature(student.forward)
    return "logits_to_keep" in signature.parameters


def check_head(student: Any) -> None:
    """Require a head whose output is the student's logits, to be read in chunks.

    Raises
    ------
    ValueError
        If it is no linear layer, or the student scales or caps what it returns.
    """
    head = head_of(student)
    if type(head) is not nn.Linear:
        raise ValueError(
            "head_chunk needs a student whose head is a linear layer, "
            f"but it is of type {type(head).__name__}: leave head_chunk out."
        )
    outputs: list[Tensor] = []
    hook = head.register_forward_hook(lambda *call: outputs.append(call[-1]))
    # Several tokens: the embedding of one for padding may be 0, and so its logits.
    ids = torch.arange(4, device=head.weight.device)[None] % len(head.weight)
    with hook, torch.no_grad():
        logits = student(input_ids=ids, use_cache=False).logits
    # Few tokens tell: a scale or a cap changes every logit but 0.
    if len(outputs) != 1 or not torch.equal(outputs[0].float(), logits.float()):
        raise ValueError(
            "head_chunk needs a student whose logits are what its head returns, "
            f"but {type(student).__name__} scales or caps them: leave head_chunk out."
        )


@contextmanager
def _forward_replaced(module: Any, forward: Any) -> Iterator[None]:
    """Have a module compute something else for a while."""
    # An attribute of the instance hides the method of its class. There may be one
    # before, as hooks of other libraries work that way.
    earlier = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if earlier is None:
            del module.forward
        else:
            module.forward = earlier
