"""Distillation of language models by optimal transport between their logits.

The package holds losses, stores of teachers' logits, and a trainer.

`read` keeps the largest logits of every position of the student, `top_k` those of a
teacher, of whatever vocabulary; `align` pairs positions of one text in two
tokenizations; `FusionLoss` adds to the supervised loss how far they are apart:

>>> import torch, fusion
>>> output = fusion.read(
...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]),
...     labels=torch.tensor([[0, 1]]),
...     k=2,
... )
>>> teacher = fusion.top_k(
...     torch.tensor([[[4.0, 1.0, 0.0, 0.5], [2.0, 0.0, 3.0, 2.5]]]), k=2
... )
>>> ours, theirs = fusion.align([3, 7], [3, 7])
>>> ours = torch.from_numpy(ours)[None]
>>> theirs = torch.from_numpy(theirs)[None]
>>> loss = fusion.FusionLoss(weight=0.25, graph="row_means")
>>> result = loss(
...     output.topk, output.nll, {"teacher": fusion.TeacherTerm(teacher, ours, theirs)}
... )
>>> {name: round(term.item(), 2) for name, term in result.terms.items()}
{'sft': 0.29, 'uld/teacher': 1.75, 'graph/teacher': 7.56}

`result.total` is what to differentiate. With models and data on disk, `python -m
fusion` captures what teachers say in a `TeacherStore`, once, and trains a student on
it: `FusionTrainer` with the settings of `FusionConfig`. fusion/examples holds settings
of every command, and a loop of plain PyTorch. Read on in `help(fusion.FusionLoss)`.

What helps a student? In this project's study of small models on eight families of
questions (simulations/fusion_study.py), no loss between graphs is shown to raise
accuracy over that of the labels alone, neither the published one nor those that were
tried in its place; ULD + GLD, as published, lowered it. What helped are a teacher's own
answers to questions without labels: let it write them (`python -m fusion generate`),
and train on labels and answers, with ULD of raw logits beside at about a tenth of the
gradient, or without. So there is no graph loss by default, and a small weight of ULD.
ULD of log-probabilities, all that most servers give, took away what answers gave. With
language models of 135 and 270 million parameters the order was the same (one family,
one seed).

Names are loaded when they are first used: the losses need torch alone, the trainer
needs transformers. Where one of these is missing, an ``ImportError`` says which extra
to install.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusion._extras import needed_by

# At once, since the name is also that of its module: whoever imports that first would
# otherwise hide the function.
from fusion.text.align import align

# Type checkers and editors do not run `__getattr__`, which loads these names.
if TYPE_CHECKING:
    from fusion.logits.head import HeadOutput, chunked_head, read
    from fusion.logits.topk import TopKLogits, top_k
    from fusion.losses.graphs import graph_loss
    from fusion.losses.objective import FusionLoss
    from fusion.losses.terms import FusionLossOutput, TeacherTerm, Totals
    from fusion.losses.tokens import jsd_loss, kl_loss, uld_loss
    from fusion.teachers.store import TeacherStore
    from fusion.text.conversations import Example, encode, read_examples
    from fusion.training.config import FusionConfig
    from fusion.training.trainer import FusionTrainer

# The module that defines each public name.
_MODULE_OF = {
    "Example": "text.conversations",
    "FusionConfig": "training.config",
    "FusionLoss": "losses.objective",
    "FusionLossOutput": "losses.terms",
    "FusionTrainer": "training.trainer",
    "HeadOutput": "logits.head",
    "TeacherStore": "teachers.store",
    "TeacherTerm": "losses.terms",
    "TopKLogits": "logits.topk",
    "Totals": "losses.terms",
    "chunked_head": "logits.head",
    "encode": "text.conversations",
    "graph_loss": "losses.graphs",
    "jsd_loss": "losses.tokens",
    "kl_loss": "losses.tokens",
    "read": "logits.head",
    "read_examples": "text.conversations",
    "top_k": "logits.topk",
    "uld_loss": "losses.tokens",
}

__all__ = [
    "Example",
    "FusionConfig",
    "FusionLoss",
    "FusionLossOutput",
    "FusionTrainer",
    "HeadOutput",
    "TeacherStore",
    "TeacherTerm",
    "TopKLogits",
    "Totals",
    "align",
    "chunked_head",
    "encode",
    "graph_loss",
    "jsd_loss",
    "kl_loss",
    "read",
    "read_examples",
    "top_k",
    "uld_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The first use of a name imports its module, and what that needs.
    with needed_by(f"fusion.{name}"):
        module = import_module(f"fusion.{_MODULE_OF[name]}")
        value = getattr(module, name)
    # The next use finds it without a call.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # Also names that have not been loaded.
    return sorted({*globals(), *__all__})
