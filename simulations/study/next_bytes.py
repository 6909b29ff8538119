"""Two vocabularies brought to a common one, and losses between single positions.

Every token belongs to a symbol: the first byte of its text, or itself where it is
special; the tokens that end a text are one symbol. A distribution over tokens becomes
one over symbols, the same ones for both tokenizers: what the next byte will be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase as Tokenizer

from fusion import TeacherTerm, TopKLogits
from fusion.text.byte_offsets import byte_of_character

END = "end of text"
# Logarithm of a probability that is left out. Not −inf, whose gradient is NaN: its
# exponential is 0 all the same.
_NEVER = -1e4


@dataclass(frozen=True, eq=False)
class Symbols:
    """The symbol of every token, of the S symbols that the student has tokens for.

    A token of the teacher whose symbol the student cannot say has the number S.
    """

    student: Tensor  # (V,) int64
    teacher: Tensor  # (V',) int64
    count: int  # S


class Compared(NamedTuple):
    """P aligned pairs of B examples, over S symbols and the rest of them."""

    log_ours: Tensor  # (B, P, S + 1), the student's; 0 for symbols not covered
    theirs: Tensor  # (B, P, S + 1), the teacher's probabilities
    covered: Tensor  # bool (B, P, S + 1): what the teacher's k tokens begin with
    mask: Tensor  # bool (B, P)

    def profiles(self) -> tuple[Tensor, Tensor]:
        """Probabilities (B, P, S + 1) of both, zero where there is no pair."""
        ours = self.log_ours.exp()
        counts = self.covered & self.mask[:, :, None]
        return torch.where(counts, ours, 0.0), torch.where(counts, self.theirs, 0.0)


def symbols(student: Tokenizer, teacher: Tokenizer) -> Symbols:
    """Number the symbols of two tokenizers' tokens."""
    numbers: dict[str | bytes, int] = {}
    ours = []
    for text in texts(student):
        number = numbers.setdefault(_symbol(text), len(numbers))
        ours.append(number)
    S = len(numbers)
    theirs = [numbers.get(_symbol(text), S) for text in texts(teacher)]
    return Symbols(torch.tensor(ours), torch.tensor(theirs), S)


def _symbol(text: str | bytes) -> str | bytes:
    """First byte of a token's bytes; a special token's name."""
    return text[:1] if isinstance(text, bytes) else text


def texts(tokenizer: Tokenizer) -> list[str | bytes]:
    """Each token's bytes; of a special token its name, or END."""
    added = tokenizer.added_tokens_decoder
    table = byte_of_character()
    found: list[str | bytes] = []
    for token, name in enumerate(
        tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    ):
        if token == tokenizer.eos_token_id:
            found.append(END)
        elif name == "" or (token in added and added[token].special):
            found.append(name)
        elif token not in added and all(character in table for character in name):
            found.append(bytes(table[character] for character in name))
        else:
            found.append(name.replace("▁", " ").encode())
    return found


def at_pairs(student: TopKLogits, term: TeacherTerm) -> tuple[TopKLogits, TopKLogits]:
    """Rows of both sides at the aligned pairs (B, P), valid where both are."""
    ours_at = term.student_index
    theirs_at = term.teacher_index
    if ours_at is None or theirs_at is None:
        raise ValueError(
            "the teacher's term must have pairs of positions, but has none: "
            "pass student_index and teacher_index."
        )
    pairs = term.pairs
    if pairs is None:
        pairs = torch.ones_like(ours_at, dtype=torch.bool)
    pairs = pairs & student.mask.gather(1, ours_at)
    pairs = pairs & term.topk.mask.gather(1, theirs_at)
    return student.select(ours_at, pairs), term.topk.select(theirs_at, pairs)


def compare(shared: Symbols, student: TopKLogits, term: TeacherTerm) -> Compared:
    """Bring both sides at the aligned pairs to the symbols that the teacher covers.

    The teacher says nothing of tokens behind its k largest. Its missing mass and the
    mass on symbols that the student has no token for are one more symbol, the rest; the
    student's probabilities of all symbols that are not covered are the rest, too.
    """
    ours, theirs = at_pairs(student, term)
    S = shared.count

    # The teacher's masses, and the rest: what it does not say, or the student cannot.
    of_teacher = shared.teacher[theirs.ids]  # (B, P, k), S where the student cannot
    B, P, _ = of_teacher.shape
    probabilities = theirs.standardized("logprob").values.exp()
    masses = probabilities.new_zeros(B, P, S + 1)
    masses = masses.scatter_add(2, of_teacher, probabilities)[:, :, :S]
    covered = torch.zeros(B, P, S + 1, dtype=torch.bool)
    covered = covered.scatter(2, of_teacher, True)[:, :, :S]
    eps = torch.finfo(masses.dtype).eps
    rest = 1 - masses.sum(dim=2, keepdim=True)
    theirs_all = torch.cat([masses, rest.clamp(min=eps)], dim=2)

    # The student's logarithms, and the rest.
    of_student = shared.student[ours.ids]  # (B, P, V)
    logs = _log_sums(ours.standardized("logprob").values, of_student, S)
    log_rest = torch.where(covered, _NEVER, logs).logsumexp(dim=2, keepdim=True)
    # Where the teacher covers all that the student can say, rounding alone is left.
    complete = covered.all(dim=2, keepdim=True)
    log_rest = torch.where(complete, math.log(eps), log_rest)
    log_ours = torch.cat([torch.where(covered, logs, 0.0), log_rest], dim=2)

    always = torch.ones(B, P, 1, dtype=torch.bool)
    covered = torch.cat([covered, always], dim=2)
    return Compared(log_ours, theirs_all, covered, ours.mask)


def _log_sums(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Logarithms (B, P, count) of Σ exp(values) over the tokens of each group."""
    B, P, _ = values.shape
    least = torch.finfo(values.dtype).min
    largest = values.new_full((B, P, count), least)
    largest = largest.scatter_reduce(2, groups, values.detach(), "amax")
    shifted = values - largest.gather(2, groups)
    # Every symbol has tokens of the student, of which the largest adds 1.
    sums = values.new_zeros(B, P, count).scatter_add(2, groups, shifted.exp())
    return largest + sums.log()


def mean_of_pairs(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B,) of values (B, P) over the pairs of each example, and who has one."""
    values = torch.where(mask, values, 0.0)
    pairs = mask.sum(dim=1)
    return values.sum(dim=1) / pairs.clamp(min=1), pairs > 0


@dataclass(frozen=True, eq=False)
class NextBytes:
    """KL(teacher ‖ student) over the next byte at aligned pairs; no graph.

    A projection onto a common space, as GOLD and X-Token have them. It sees what ULD
    does not: which byte a probability belongs to. It moves the tokens with the same
    first byte together, each in proportion to the student's probability of it among
    these, and says nothing of their shares; like every divergence of probabilities it
    cannot shift whole rows of logits. Where each covered symbol has one token of the
    teacher, as with tokens of single bytes, or the missing mass is zero, the data
    processing inequality holds it below the divergence of the full distributions over
    symbols; else the teacher's mass on further tokens of a covered symbol counts as
    rest.
    """

    symbols: Symbols

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """Mean over an example's pairs, in nats."""
        compared = compare(self.symbols, student, term)
        theirs = compared.theirs
        terms = torch.xlogy(theirs, theirs) - theirs * compared.log_ours
        return mean_of_pairs(terms.sum(dim=2), compared.mask)


@dataclass(frozen=True, eq=False)
class Hybrid:
    """Tokens of equal text by token, the others by sorting; no graph.

    As GOLD's hybrid loss, with |p_t − p_s| where that has a divergence: Σ over those of
    the teacher's k tokens that the student has, plus ULD between the sorted
    probabilities of the others, of which the student's are its tokens that the teacher
    does not have. With the student's vocabulary within the teacher's, these are none:
    the second sum is then the teacher's mass on its own tokens, without a gradient. So
    is every probability of the student that the teacher's k tokens do not name. At most
    2, as both are probabilities. It cannot shift whole rows of logits.
    """

    partner: Tensor  # (V',) int64: the student's token of the same text, or −1
    unmatched: Tensor  # bool (V,): the student's tokens that the teacher does not have

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """Mean over an example's pairs, a difference of probabilities."""
        ours, theirs = at_pairs(student, term)
        p_s = ours.standardized("softmax").values  # (B, P, V), in descending order
        p_t = theirs.standardized("softmax").values  # (B, P, k)

        # By token, where the texts are equal.
        partner = self.partner[theirs.ids]
        matched = partner >= 0
        by_token = torch.zeros_like(p_s).scatter(2, ours.ids, p_s)
        same = by_token.gather(2, partner.clamp(min=0))
        differences = torch.where(matched, p_t - same, 0.0).abs()

        # By rank, where they are not.
        k = theirs.k
        left_t = torch.where(matched, 0.0, p_t).sort(dim=2, descending=True).values
        left_s = torch.where(self.unmatched[ours.ids], p_s, 0.0)
        left_s = left_s.sort(dim=2, descending=True).values[:, :, :k]
        values = differences.sum(dim=2) + (left_t - left_s).abs().sum(dim=2)
        return mean_of_pairs(values, ours.mask)


def hybrid(student: Tokenizer, teacher: Tokenizer) -> Hybrid:
    """Pair the tokens of two tokenizers whose texts are equal."""
    ours = texts(student)
    theirs = texts(teacher)
    first: dict[str | bytes, int] = {}
    for token, text in enumerate(ours):
        first.setdefault(text, token)
    known = set(theirs)
    partner = [first.get(text, -1) for text in theirs]
    unmatched = [text not in known for text in ours]
    return Hybrid(torch.tensor(partner), torch.tensor(unmatched))
