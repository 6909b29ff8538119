"""From examples and teachers' stores to batches: padded tokens, teachers' rows, aligned pairs and the teachers' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from fusion.logits.head import IGNORED
from fusion.teachers.report import Store
from fusion.teachers.store import TeacherRows
from fusion.text.align import How, align
from fusion.text.conversations import Encoded, Example, encode


class TeacherBatch(TypedDict, total=False):
    """One teacher's rows of a batch of B examples; padding and examples that the teacher has not seen are masked.

    ``values`` and ``ids`` (B, T, k), ``mask`` and, where known, ``logsumexp``,
    ``mean``, ``std`` (B, T) are raw logits; ``student_index``, ``teacher_index`` and
    ``pairs`` (B, P) the aligned positions; ``weights`` (B,) what the teacher counts for
    each example, 0 where it is masked.
    """

    values: Tensor
    ids: Tensor
    mask: Tensor
    logsumexp: Tensor
    mean: Tensor
    std: Tensor
    student_index: Tensor
    teacher_index: Tensor
    pairs: Tensor
    weights: Tensor


class Batch(TypedDict):
    """A batch of B examples in the student's tokens, padded on the right, and what the teachers say of them.

    ``input_ids``, ``attention_mask`` and ``labels`` (−100 outside the completion) are
    int64 (B, T). Rows of logits before position ``first`` predict nothing; indices of
    pairs count from there.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    first: int
    teachers: dict[str, TeacherBatch]


class Feature(TypedDict):
    """One example before it is joined with others."""

    key: str
    encoded: Encoded


class EncodedExamples(Dataset[Feature]):
    """Examples in one tokenizer's tokens, made when they are asked for.

    Parameters
    ----------
    examples : sequence of Example
    tokenizer : PreTrainedTokenizerBase
    max_length : int
        Tokens beyond it are cut from the completion's end.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> None:
        self._examples, self._tokenizer, self._max_length = (
            examples,
            tokenizer,
            max_length,
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._examples)

    def __getitem__(self, index: int) -> Feature:
        """Return one example, encoded."""
        example = self._examples[index]
        return {
            "key": example.key,
            "encoded": encode(example, self._tokenizer, self._max_length),
        }


@dataclass(frozen=True)
class Collator:
    """Joins examples with what the stores hold of them, by content.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
    padding : int
        Token to pad with; it is masked.
    k : int
        Logits kept per position.
    how : {"bytes", "positional"}
        See :func:`fusion.align.align`.
    weighting : {"uniform", "static", "ce"}
        Of the teachers that have seen an example; the weights of an example sum to 1.
    static_weights : mapping of str to float
    ce_temperature : float
        In nats a byte.
    """

    stores: Mapping[str, Store]
    padding: int
    k: int = 10
    how: How = "bytes"
    weighting: str = "uniform"
    static_weights: Mapping[str, float] = field(default_factory=dict)
    ce_temperature: float = 1.0

    def __call__(self, features: Sequence[Feature]) -> Batch:
        """Return the batch; a teacher that has seen none of the examples is absent."""
        encoded = [feature["encoded"] for feature in features]
        first = min(int(code.positions[0]) for code in encoded)
        held = [
            {
                name: store[f["key"]]
                for name, store in self.stores.items()
                if f["key"] in store
            }
            for f in features
        ]
        weights = [self._weights(rows) for rows in held]
        present = [name for name in self.stores if any(name in rows for rows in held)]
        return {
            "input_ids": padded([code.input_ids for code in encoded], self.padding),
            "attention_mask": padded(
                [np.ones_like(code.input_ids) for code in encoded]
            ),
            "labels": padded(
                [
                    np.where(code.completion_mask, code.input_ids, IGNORED)
                    for code in encoded
                ],
                IGNORED,
            ),
            "first": first,
            "teachers": {
                name: self._teacher(encoded, [rows.get(name) for rows in held], first)
                | {"weights": torch.tensor([w.get(name, 0.0) for w in weights])}
                for name in present
            },
        }

    def _weights(self, rows: Mapping[str, TeacherRows]) -> dict[str, float]:
        """Weights of the teachers that have seen one example; they sum to 1."""
        if not rows:
            return {}
        if self.weighting == "static":
            scores = {name: float(self.static_weights[name]) for name in rows}
        elif self.weighting == "ce":
            best = min(map(nats_per_byte, rows.values()))
            scores = {
                name: float(np.exp((best - nats_per_byte(row)) / self.ce_temperature))
                for name, row in rows.items()
            }
        else:
            scores = dict.fromkeys(rows, 1.0)
        total = sum(scores.values())
        return {name: score / total if total else 0.0 for name, score in scores.items()}

    def _teacher(
        self, encoded: Sequence[Encoded], rows: Sequence[TeacherRows | None], first: int
    ) -> TeacherBatch:
        """Pad one teacher's rows and the pairs that align them with the student's."""
        none = np.zeros(0, dtype=np.int64)
        aligned = [
            (none, none) if row is None else align(code.ends, row.ends, self.how)
            for code, row in zip(encoded, rows, strict=True)
        ]
        starts = [int(code.positions[0]) - first for code in encoded]
        batch: Any = {
            "mask": padded(
                [
                    np.ones(0 if row is None else len(row.ends), dtype=bool)
                    for row in rows
                ]
            ),
            "student_index": padded(
                [pairs[0] + start for pairs, start in zip(aligned, starts, strict=True)]
            ),
            "teacher_index": padded([pairs[1] for pairs in aligned]),
            "pairs": padded([np.ones(len(pairs[0]), dtype=bool) for pairs in aligned]),
        }
        seen = [row for row in rows if row is not None]
        for name, kind in (("values", np.float32), ("ids", np.int64)):
            empty = np.zeros((0, self.k), dtype=kind)
            batch[name] = padded(
                [
                    empty if r is None else getattr(r, name)[:, : self.k].astype(kind)
                    for r in rows
                ]
            )
        for name in ("logsumexp", "mean", "std"):
            if getattr(seen[0], name) is not None:
                nothing = np.zeros(0, dtype=np.float32)
                batch[name] = padded(
                    [
                        nothing if r is None else getattr(r, name).astype(np.float32)
                        for r in rows
                    ]
                )
        return batch  # type: ignore[no-any-return]


def nats_per_byte(rows: TeacherRows) -> float:
    """Return a teacher's negative log-likelihood of a completion per byte, which tokenizations do not change."""
    return float(rows.nll.astype(np.float64).sum()) / max(1, int(rows.ends[-1]))


def padded(rows: Sequence[NDArray[Any]], value: float = 0) -> Tensor:
    """Stack arrays (n_i, …) into one tensor (B, max n_i, …), at least one long, with ``value`` behind the shorter."""
    longest = max(1, *(len(row) for row in rows)) if rows else 1
    whole = np.full(
        (len(rows), longest, *rows[0].shape[1:]), value, dtype=rows[0].dtype
    )
    for into, row in zip(whole, rows, strict=True):
        into[: len(row)] = row
    return torch.from_numpy(whole)
