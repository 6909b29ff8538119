"""Batches of a fusion: padded tokens, teachers' logits, aligned pairs and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, cast

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
from fusion.training.confidence import confidence_weights

# Tokens that are kept of encoded examples, 13 bytes each. Encoding an example again
# costs more than a step of a small student on it.
_KEPT_TOKENS = 4_000_000
# Of full rows of logits, which a store may hold beside the largest of them.
STATISTICS = ("logsumexp", "mean", "std")

Codes = Sequence[Encoded]
# One teacher's rows of each example of a batch; None where it has not seen the example.
Rows = Sequence[TeacherRows | None]
# What belongs to one example, by teacher that has seen it.
RowsByTeacher = Mapping[str, TeacherRows]
WeightByTeacher = Mapping[str, float]


class TeacherBatch(TypedDict, total=False):
    """One teacher's logits for a batch of B examples, and what they are compared with.

    Of an example that the teacher has not seen, every position and pair is masked.

    Attributes
    ----------
    values, ids : float32 and int64 tensors of shape (B, T', k)
        The teacher's k largest raw logits at each of its T' completion positions, and
        their tokens.
    mask : bool tensor of shape (B, T')
        True at the positions that an example has, False at padding.
    logsumexp, mean, std : float32 tensors of shape (B, T')
        Of the teacher's full rows of raw logits; absent where the store lacks them.
    student_index, teacher_index : int64 tensors of shape (B, P)
        Aligned positions, into the student's rows of logits from ``first`` of the
        :class:`Batch` on, and into the teacher's T'.
    pairs : bool tensor of shape (B, P)
        True where the two indices are a pair, False at padding.
    weights : tensor of shape (B,)
        Weight of the teacher for each example; 0 where it has not seen the example.
    pair_weights : tensor of shape (B, P)
        Weight of each pair beside that of its example; absent where all are 1.
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
    pair_weights: Tensor


class Batch(TypedDict):
    """A batch of B examples in the student's tokens, with the teachers' logits.

    Attributes
    ----------
    input_ids, attention_mask, labels : int64 tensors of shape (B, T)
        Tokens padded on the right, 1 at tokens and 0 at padding, and the tokens of the
        completion, −100 elsewhere.
    first : int
        Rows of the student's logits before this position predict no label; the indices
        of pairs count from it.
    examples : int
        How many of the B are more than fillers; 0 where all labels are −100.
    teachers : dict of TeacherBatch
        By name, of the teachers that have seen any of the examples.
    ended : int, optional
        Of a batch of the student's own completions, how many it has ended itself; other
        batches have no such entry. The tokens of `labels` are then no labels: they say
        where logits are compared.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    first: int
    examples: int
    teachers: dict[str, TeacherBatch]
    ended: NotRequired[int]


class Feature(TypedDict):
    """One example before it is joined with others.

    Attributes
    ----------
    key : str
        Its key in the stores.
    encoded : Encoded
        Its tokens.
    filler : bool
        True of an example that only fills a batch up: it has neither labels nor
        teachers there.
    """

    key: str
    encoded: Encoded
    filler: NotRequired[bool]


class EncodedExamples(Dataset[Feature]):
    """Examples in the tokens of one tokenizer, which encodes each at its first access.

    Once the examples that are kept fill 55 MB, the others are encoded at every access.

    Parameters
    ----------
    examples : sequence of Example
        What to encode.
    tokenizer : PreTrainedTokenizerBase
        The student's tokenizer.
    max_length : int, optional
        Tokens beyond it are cut from the completion's end.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
    ) -> None:
        self.examples = examples
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._kept: dict[int, Feature] = {}
        self._room = _KEPT_TOKENS

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int | None) -> Feature:
        """Return one example, encoded; of None, one that only fills a batch up."""
        if index is None:
            # Tokens that the model can read. A row without any would be one of padding
            # alone, in which attention may divide by zero.
            return {**self[0], "filler": True}
        if index not in self._kept:
            feature = self._encoded(index)
            length = len(feature["encoded"].input_ids)
            if length > self._room:
                return feature
            self._kept[index] = feature
            self._room -= length
        return self._kept[index]

    def _encoded(self, index: int) -> Feature:
        """Encode one example."""
        example = self.examples[index]
        encoded = encode(example, self._tokenizer, self._max_length)
        return {"key": example.key, "encoded": encoded}

    def lengths(self) -> list[int]:
        """Return the number of tokens of each example."""
        places = range(len(self))
        return [len(self[place]["encoded"].input_ids) for place in places]


@dataclass(frozen=True)
class Collator:
    """Joins examples with the teachers' rows of them, which are found by content.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
        The teachers' stores, by name.
    padding : int
        Token to pad with; it is masked.
    k : int
        Logits kept per position.
    how : {"bytes", "positional"}
        See :func:`fusion.align`.
    weighting : {"uniform", "static", "ce", "confidence"}
        Of the teachers that have seen an example; the weights of an example sum to 1.
        "confidence" weighs pairs besides (`fusion.training.confidence`).
    static_weights : mapping of str to float
        Weights of the teachers up to a factor, for "static".
    ce_temperature : float
        In nats a byte, for "ce": a teacher that is so much more likely weighs e times
        as much.

    Raises
    ------
    ValueError
        Of a call, if the batch is empty or a store holds fewer than ``k`` logits.
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
        if not features:
            raise ValueError(
                "features must hold at least one example, "
                "but the batch is empty: leave it out."
            )
        encoded: list[Encoded] = []
        # For each example, what each teacher that has seen it said and weighs.
        rows_by_teacher: list[RowsByTeacher] = []
        weights: list[WeightByTeacher] = []
        fillers = []
        for place, feature in enumerate(features):
            filler = feature.get("filler", False)
            if filler:
                fillers.append(place)
            seen = {} if filler else self._seen(feature["key"])
            encoded.append(feature["encoded"])
            rows_by_teacher.append(seen)
            weights.append(self._weights(seen))

        # Prompts predict no label: logits are read from the earliest completion on.
        first = min(map(_first_row, encoded))

        teachers: dict[str, TeacherBatch] = {}
        for name in self.stores:
            rows = [seen.get(name) for seen in rows_by_teacher]
            if rows.count(None) < len(rows):
                self._check_k(name, rows)
                teacher = self._teacher(encoded, rows, first)
                teacher["weights"] = _weights_of(name, weights)
                teachers[name] = teacher
        if self.weighting == "confidence":
            for name, of_pairs in confidence_weights(teachers).items():
                teachers[name]["pair_weights"] = of_pairs

        input_ids, attention_mask, labels = self._tokens(encoded)
        labels[fillers] = IGNORED
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "first": first,
            "examples": len(features) - len(fillers),
            "teachers": teachers,
        }

    def _seen(self, key: str) -> RowsByTeacher:
        """Rows of an example by teacher, of those whose stores hold it."""
        rows = {}
        for name, store in self.stores.items():
            if key in store:
                rows[name] = store[key]
        return rows

    def _check_k(self, name: str, rows: Rows) -> None:
        """Require that one teacher's rows hold k logits a position."""
        widths = []
        for row in rows:
            if row is not None:
                _, width = row.values.shape
                widths.append(width)
        # Of all rows: the sentence is the same in whatever order the examples come.
        least = min(widths)
        if least < self.k:
            raise ValueError(
                f"k must be at most that of the store of {name}, "
                f"but is {self.k} where it holds {least}: lower k, or capture again."
            )

    def _tokens(self, encoded: Codes) -> tuple[Tensor, Tensor, Tensor]:
        """Input ids, attention mask and labels of the examples, padded to (B, T)."""
        input_ids = []
        masks = []
        labels = []
        for code in encoded:
            ids = code.input_ids  # (n_i,)
            input_ids.append(ids)
            masks.append(np.ones_like(ids))
            # The loss is of the completion alone: the prompt is given.
            labels.append(np.where(code.completion_mask, ids, IGNORED))
        return (
            padded(input_ids, self.padding),
            padded(masks),
            padded(labels, IGNORED),
        )

    def weights_of(self, key: str) -> WeightByTeacher:
        """Return the weights of the teachers that have seen the example of a key."""
        return self._weights(self._seen(key))

    def _weights(self, rows: RowsByTeacher) -> WeightByTeacher:
        """Weights of the teachers that have seen one example; they sum to 1, or to 0.

        The sum is 0 where all of their static weights are.
        """
        scores = self._scores(rows)
        total = sum(scores.values())
        weights = {}
        for name, score in scores.items():
            weights[name] = score / total if total else 0.0
        return weights

    def _scores(self, rows: RowsByTeacher) -> WeightByTeacher:
        """Weights of the teachers that have seen one example, up to a factor."""
        if self.weighting == "static":
            scores = {}
            for name in rows:
                scores[name] = float(self.static_weights[name])
            return scores
        if self.weighting == "ce" and rows:
            return self._likelihood_scores(rows)
        return dict.fromkeys(rows, 1.0)

    def _likelihood_scores(self, rows: RowsByTeacher) -> WeightByTeacher:
        """Numerators of the softmax over teachers of −NLL per byte / temperature."""
        nll = {}  # in nats a byte
        for name, row in rows.items():
            nll[name] = nats_per_byte(row)
        # Shifting all by the least changes no weight, and keeps the exponentials of all
        # teachers from being 0 at once.
        least = min(nll.values())
        scores = {}
        for name, value in nll.items():
            exponent = (least - value) / self.ce_temperature
            scores[name] = float(np.exp(exponent))
        return scores

    def _teacher(
        self,
        encoded: Codes,
        rows: Rows,
        first: int,
    ) -> TeacherBatch:
        """Pad one teacher's rows and the pairs that align them with the student's."""
        # Any, as some of the keys below are variables.
        batch: Any = self._pairs(encoded, rows, first)

        # A store holds logits in descending order: the k largest come first.
        shape = (0, self.k)
        no_values = np.zeros(shape, dtype=np.float32)
        no_ids = np.zeros(shape, dtype=np.int64)
        batch["values"] = _padded_field(rows, "values", no_values, shifted=True)
        batch["ids"] = _padded_field(rows, "ids", no_ids)

        # A store has a statistic for all of its examples or for none: any row that it
        # holds tells which.
        seen = next(filter(None, rows))
        no_statistic = np.zeros(0, dtype=np.float32)
        for name in STATISTICS:
            if getattr(seen, name) is not None:
                # A standard deviation is the same whatever is added to a row.
                shifted = name != "std"
                batch[name] = _padded_field(rows, name, no_statistic, shifted)
        return cast(TeacherBatch, batch)

    def _pairs(
        self,
        encoded: Codes,
        rows: Rows,
        first: int,
    ) -> TeacherBatch:
        """Align one teacher's positions with the student's in every example."""
        masks = []
        student_index = []
        teacher_index = []
        pairs = []
        nothing = np.zeros(0, dtype=np.int64)
        for code, row in zip(encoded, rows, strict=True):
            if row is None:
                length = 0
                student = teacher = nothing
            else:
                ends = row.ends
                length = len(ends)
                # (P,) each, as positions in the completion.
                student, teacher = align(
                    code.ends,
                    ends,
                    self.how,
                    student_start=code.start,
                    teacher_start=row.start,
                )
            # Rows are counted from ``first``, positions from the completion's start:
            # ``start`` is the row of position 0.
            start = _first_row(code) - first
            masks.append(np.ones(length, dtype=bool))
            student_index.append(student + start)
            teacher_index.append(teacher)
            pairs.append(np.ones(len(student), dtype=bool))
        return {
            "mask": padded(masks),
            "student_index": padded(student_index),
            "teacher_index": padded(teacher_index),
            "pairs": padded(pairs),
        }


def targets(batch: Batch) -> Tensor:
    """Return the labels that the rows of logits from ``first`` on predict."""
    # Row t predicts token t + 1.
    start = batch["first"] + 1
    return batch["labels"][:, start:]


def nats_per_byte(rows: TeacherRows) -> float:
    """Return a teacher's negative log-likelihood of a completion per byte of its text.

    The bytes of a text are the same for every tokenizer; a mean per token would favour
    the teachers with short tokens.
    """
    # float64: the sum of many float16 would lose digits.
    nll = rows.nll.astype(np.float64)  # (n,), in nats
    length = int(rows.ends[-1])  # in bytes
    return float(nll.sum()) / max(1, length)


def padded(rows: Sequence[NDArray[Any]], value: float = 0) -> Tensor:
    """Stack arrays (n_i, …) into a tensor (B, N, …), padded behind with ``value``.

    N is the largest n_i, and at least 1.
    """
    longest = 1
    for row in rows:
        longest = max(longest, len(row))
    first = rows[0]
    shape = (len(rows), longest, *first.shape[1:])
    whole = np.full(shape, value, dtype=first.dtype)
    for target, row in zip(whole, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(whole)


def _first_row(code: Encoded) -> int:
    """Row of the student's logits that predicts the completion's first token."""
    return int(code.positions[0])


def _weights_of(name: str, weights: Sequence[WeightByTeacher]) -> Tensor:
    """Weights (B,) of one teacher for the examples; 0 where it has not seen one."""
    of_examples = [by_teacher.get(name, 0.0) for by_teacher in weights]
    return torch.tensor(of_examples)


def _padded_field(
    rows: Rows,
    name: str,
    empty: NDArray[Any],
    shifted: bool = False,
) -> Tensor:
    """Pad one field of a teacher's rows; ``empty`` (0, …) gives its width and dtype.

    A field that is relative to the largest logit of each row is made raw by its shift.
    """
    fields = []
    for row in rows:
        if row is None:
            fields.append(empty)
            continue
        values = getattr(row, name)  # (n, K) or (n,)
        if empty.ndim == 2:
            width = empty.shape[1]
            values = values[:, :width]
        values = values.astype(empty.dtype)
        if shifted:
            # In float32: sums of half precision would be rounded to the shift's digits.
            shift = row.shift  # (n,)
            values = values + (shift[:, None] if values.ndim == 2 else shift)
        fields.append(values)
    return padded(fields)
