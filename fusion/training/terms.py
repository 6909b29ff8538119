"""Sums over the loss's terms: denominators of a step, and means for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.logits.head import IGNORED
from fusion.logits.topk import TopKLogits
from fusion.losses.terms import FusionLossOutput
from fusion.training.batches import Batch, targets

Number = Tensor | float
# Of the student's own completions: how many tokens they have, and how many of them the
# student has ended itself, as a share.
OF_COMPLETIONS = ("length", "ended")


class Meter:
    """Sums and counts of terms by name; their quotients, over all ranks, are logged.

    Parameters
    ----------
    names : sequence of str
        All terms that may occur. They are the same on all ranks, which add up arrays of
        one shape, whichever terms have occurred on each.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: dict[str, Number] = {}
        self._counts: dict[str, Number] = {}
        for name in self.names:
            self._sums[name] = 0.0
            self._counts[name] = 0.0

    def add(self, name: str, total: Number, count: Number) -> None:
        """Add the sum of a term over ``count`` things."""
        # Tensors stay on their device until the means are asked for: reading a number
        # at every micro-batch would wait for the device each time.
        if isinstance(total, Tensor):
            total = total.detach()
        self._sums[name] = self._sums[name] + total
        self._counts[name] = self._counts[name] + count

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all ranks of the terms that occurred; every rank must call it."""
        own_sums = []
        own_counts = []
        for name in self.names:
            own_sums.append(float(self._sums[name]))
            own_counts.append(float(self._counts[name]))
        # One exchange for both.
        own = torch.tensor([own_sums, own_counts])  # (2, number of names)
        own = own.to(accelerator.device)
        summed = accelerator.reduce(own, "sum")
        sums, counts = summed.tolist()
        means = {}
        for name, total, count in zip(self.names, sums, counts, strict=True):
            if count > 0:
                means[name] = total / count
        return means


def term_names(teachers: Iterable[str], alignment: str = "uld") -> list[str]:
    """Return the names of all that is logged: means of terms, then gradient norms.

    Parameters
    ----------
    teachers : iterable of str
        Their names.
    alignment : {"uld", "kl", "jsd"}
        The token-level loss.
    """
    # "uld" and "graph" are the means over all teachers.
    means = ["sft", alignment, "graph"]
    gradients = ["gradient/sft"]
    for name in teachers:
        means += [
            f"{alignment}/{name}",
            f"graph/{name}",
            f"coverage/{name}",
            f"weight/{name}",
        ]
        gradients += [f"gradient/{alignment}/{name}", f"gradient/graph/{name}"]
    return means + gradients


def meters(
    stores: Iterable[str], live_teachers: Iterable[str], alignment: str
) -> dict[str, Meter]:
    """Return the meters of a run: "train", "eval", and "own" of own completions.

    Parameters
    ----------
    stores, live_teachers : iterable of str
        Names of the teachers of the data, and of those of own completions.
    alignment : {"uld", "kl", "jsd"}
        The token-level loss.
    """
    names = term_names(stores, alignment)
    of_own = [*term_names(live_teachers, alignment), *OF_COMPLETIONS]
    return {"train": Meter(names), "eval": Meter(names), "own": Meter(of_own)}


def check_metric(metric: str | None, names: Iterable[str]) -> None:
    """Require that the best checkpoint is chosen by what is evaluated.

    Parameters
    ----------
    metric : str or None
        What it is chosen by, with "eval_" or without; None where none is chosen.
    names : iterable of str
        Of `term_names`.

    Raises
    ------
    ValueError
        If it is no metric of an evaluation.
    """
    known = ["loss"]
    for name in names:
        if not name.startswith("gradient/"):
            known.append(name)
    if metric is not None and metric.removeprefix("eval_") not in known:
        raise ValueError(
            f"metric_for_best_model must be one of {', '.join(known)}, "
            f"but is {metric}: choose one of them."
        )


def denominators(batches: Sequence[Batch]) -> Tensor:
    """Return the denominators of the loss of some batches, a float64 tensor (3,).

    In the order of `fusion.Totals`, they are the number of labels, and the sums over
    all teachers and examples of weight · number of pairs, or the sum of the pairs'
    weights, and of the weight itself. They are of this rank's batches alone.
    """
    tokens = 0.0
    pairs = 0.0
    sequences = 0.0
    for batch in batches:
        labelled = targets(batch).ne(IGNORED)  # (B, rows from ``first`` on)
        tokens += labelled.sum().item()
        for teacher in batch["teachers"].values():
            weights = teacher["weights"].double()  # (B,)
            of_pairs = teacher.get("pair_weights", teacher["pairs"])  # (B, P)
            weighted_pairs = weights @ of_pairs.double().sum(dim=1)
            pairs += weighted_pairs.item()
            sequences += weights.sum().item()
    counts = [tokens, pairs, sequences]
    return torch.tensor(counts, dtype=torch.float64)


def record(
    meter: Meter,
    output: FusionLossOutput,
    student: TopKLogits,
    batch: Batch,
    teachers: Iterable[str],
) -> None:
    """Add the terms of a batch to what is logged.

    Each teacher's own terms ("uld/NAME") are unweighted; in those of all teachers
    ("uld"), each teacher has its weight for each example.

    Parameters
    ----------
    meter : Meter
        What they are added to.
    output : FusionLossOutput
        The loss of the batch.
    student : TopKLogits
        The student's logits.
    batch : Batch
        The batch.
    teachers : iterable of str
        All teachers, of which some may have seen no example of this batch.
    """
    of_batch = batch["teachers"]
    for name, sums in output.sums.items():
        counts = output.counts[name]  # (B,), as the sums
        meter.add(name, sums.sum(), counts.sum())
        kind, _, teacher = name.partition("/")
        if teacher:
            weights = of_batch[teacher]["weights"]  # (B,)
            weighted_sum = (weights * sums).sum()
            weighted_count = (weights * counts).sum()
            meter.add(kind, weighted_sum, weighted_count)

    for name in teachers:
        # The mean weight is over all examples: over those of a teacher's batches alone
        # it would depend on how examples are divided into batches.
        weight: Number = 0.0
        if name in of_batch:
            weight = of_batch[name]["weights"].sum()
            # Coverage is the share of the student's positions that are in a pair, over
            # the examples that the teacher has seen.
            seen = of_batch[name]["mask"].any(dim=1)  # (B,)
            positions = student.mask[seen].sum()
            pairs = of_batch[name]["pairs"].sum()
            meter.add(f"coverage/{name}", pairs, positions)
        meter.add(f"weight/{name}", weight, batch["examples"])

    if "ended" in batch:
        meter.add("length", student.mask.sum(), batch["examples"])
        meter.add("ended", batch["ended"], batch["examples"])
