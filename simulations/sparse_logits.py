"""What a few logits a position tell of losses over the whole vocabulary.

A teacher is cut to its k largest logits, alone or with m more entries of every row:
tokens drawn by their probability (fusion.logits.tail), or ranks drawn evenly. Each way
estimates a loss of whole rows, and its gradient in the student's logits:
  KL                      KL(teacher ‖ student), of one vocabulary;
  ULD, probabilities      Σ_r |t_r − s_r| over ranks r of sorted probabilities;
  ULD, log-probabilities  the same of their logarithms;
  GLD, log-probabilities  the row-means graph loss, whose nodes are all ranks.
Student and teacher have the same vocabulary, or the student a larger one. Losses of
ranks are over as many as both have. The ways are
  top-k                   what is kept, and nothing else;
  top-k, renormalised     the same after its probabilities are divided by their sum;
  top-k and the rest      all other tokens are one more (fusion.kl_loss);
  draws                   the sum over the tail is that over independent draws, each
                          weighing p_tail / m;
  stratified draws        the same, one draw from each m-th of the tail's probability;
  sorted draws            k + m values, as if they were the k + m largest ones;
  draws by rank           each draw is compared at its rank, and weighs p_tail / (m p);
  even ranks              m ranks, one from each m-th of the tail's, the same at all
                          positions; each weighs (ranks of the tail) / m.

    python -m simulations.sparse_logits --out DIR [--quick] [--seed S] [--repeats R]

writes summary.csv, meta.json and sparse_logits.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

import fusion
import gwtools as gw
from fusion.logits.tail import TailSample, sample_tail
from simulations import _report as report
from simulations._report import Row

TITLE = "# What a few logits a position tell of whole rows"
ROWS = ("peaked", "flat", "Zipf")
SHOWN_K = 20  # in the tables of losses of ranks; the others are in summary.csv
NOTES = """\
- KL. The top k alone has a biased gradient: P_k q − p on the k tokens, P_k q elsewhere,
  with P_k their probability: it moves a student that is the teacher. Renormalised it is
  that of another teacher. The rest as one token moves no such student, but tells
  nothing of what the tail is made of. Draws have no bias but noise, in the gradient
  above all, which averages out over positions and steps. One repeat is off by more than
  the rest as one token is: on flat and Zipf rows (k = 20, m = 50) it takes forty.
- ULD of probabilities weighs a rank by about its probability. Draws that are compared
  at their ranks have no bias and little noise in their value.
- ULD and GLD of log-probabilities weigh all ranks alike: draws by probability do not
  help them. As if they were the next largest values, sorted draws are no sorted tail:
  most of the bias stays, the gradient may turn further away from that of whole rows,
  and a student that is the teacher has a loss. Compared at their ranks they have no
  bias, but on peaked rows a deviation of several times the loss, as unlikely draws
  weigh most. For GLD that is no way, as a node is one rank of all positions.
- Ranks help these two: one from each m-th of the tail, the same at all positions. ULD
  has no bias then, GLD hardly any; with fifty the deviation is below five per cent.
- Centred logits have no GLD over all ranks: the sums of rows, which make it, are zero.

Cells: bias ± standard deviation of the value, in % of the loss of whole rows; then the
cosine between the gradient of whole rows and the expected one ({repeats} repeats, less
what noise adds to the length of their mean), and between it and that of one repeat.
Values are means over {T} positions. same: the value where student and teacher are
equal, which is to be 0, in % of the loss of whole rows (Zipf rows). The {k} largest of
{V} entries hold {p} of the probability of peaked, flat and Zipf rows."""


@dataclass(frozen=True)
class Sizes:
    """What a run measures: smaller with --quick, whose numbers say nothing."""

    positions: int = 16
    vocabulary: int = 2000
    other: int = 3000
    ks: tuple[int, ...] = (10, 20, 50)
    draws: tuple[int, ...] = (10, 50)


QUICK = Sizes(4, 30, 40, (4,), (3,))


@dataclass(frozen=True)
class Kept:
    """A teacher, of which little is kept, and random numbers for what is drawn."""

    teacher: Tensor  # (1, T, V)
    k: int
    m: int
    generator: Generator

    def top(self, kind: str) -> fusion.TopKLogits:
        return fusion.top_k(self.teacher, self.k, standardize=kind)

    def tail(self, stratified: bool) -> TailSample:
        return sample_tail(
            self.teacher,
            self.top("none"),
            self.m,
            stratified=stratified,
            ranked=stratified,
            generator=self.generator,
        )


Estimate: TypeAlias = Callable[[Tensor, Kept], Tensor]


def teacher_rows(kind: str, T: int, V: int, generator: Generator) -> Tensor:
    """Draw logits (1, T, V) of one kind, in float64."""
    noise = torch.randn(1, T, V, generator=generator, dtype=torch.float64)
    # Positions differ: with equal sums of rows, GLD would compare mean rows alone.
    sharpness = 0.5 + torch.rand(1, T, 1, generator=generator, dtype=torch.float64)
    if kind != "Zipf":
        return (5.0 if kind == "peaked" else 1.0) * sharpness * noise
    shuffled = torch.stack([torch.randperm(V, generator=generator) for _ in range(T)])
    rank = shuffled[None].double() + 1
    # Mandelbrot's form of Zipf's law for words.
    return sharpness * (noise / 5 - torch.log(rank + 2.7))


def students(
    kind: str, teacher: Tensor, other: int, generator: Generator
) -> dict[str, Tensor]:
    """Draw students: less sure, of the teacher's vocabulary and of another one."""
    T = teacher.shape[1]
    unlike = teacher_rows(kind, T, other, generator)
    drawn = {}
    for name, rows in (("same", teacher), ("other", unlike)):
        noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        drawn[name] = 0.8 * rows + noise / 2
    return drawn


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of whole rows, the mean over positions."""
    log_p = teacher.log_softmax(dim=2)
    log_q = student.log_softmax(dim=2)
    return F.kl_div(log_q, log_p, log_target=True, reduction="sum") / len(log_p[0])


def _kl_of_top(renormalised: bool) -> Estimate:
    def loss(student: Tensor, kept: Kept) -> Tensor:
        top = kept.top("logprob")
        log_p = top.values
        if renormalised:
            log_p = log_p.log_softmax(dim=2)
        log_q = student.log_softmax(dim=2).gather(2, top.ids)
        return (log_p.exp() * (log_p - log_q)).sum(dim=2).mean()

    return loss


def _kl_and_rest(student: Tensor, kept: Kept) -> Tensor:
    top = kept.top("logprob")
    log_q = student.log_softmax(dim=2).gather(2, top.ids)
    return fusion.kl_loss(log_q, top)


def _kl_of_draws(stratified: bool) -> Estimate:
    of_top = _kl_of_top(renormalised=False)

    def loss(student: Tensor, kept: Kept) -> Tensor:
        tail = kept.tail(stratified)
        log_q = student.log_softmax(dim=2).gather(2, tail.ids)
        of_tail = tail.estimate(tail.logprobs - log_q)
        return of_top(student, kept) + of_tail.mean()

    return loss


def _ranked(loss: Callable[..., Tensor], kind: str) -> Estimate:
    """The loss of the k largest on both sides."""

    def of_top(student: Tensor, kept: Kept) -> Tensor:
        ours = fusion.top_k(student, kept.k, standardize=kind)
        return loss(ours, kept.top(kind))

    return of_top


def _renormalised(student: Tensor, kept: Kept) -> Tensor:
    ours = fusion.top_k(student, kept.k).values.softmax(dim=2)
    theirs = kept.top("none").values.softmax(dim=2)
    return (ours - theirs).abs().sum(dim=2).mean()


def _sorted_draws(loss: Callable[..., Tensor], kind: str) -> Estimate:
    """The loss of k + m values, as if the draws were the next largest."""

    def of_draws(student: Tensor, kept: Kept) -> Tensor:
        top = kept.top(kind)
        tail = kept.tail(stratified=True)  # in descending order
        values = tail.logprobs.exp() if kind == "softmax" else tail.logprobs
        theirs = fusion.TopKLogits(
            values=torch.cat([top.values, values], dim=2),
            ids=torch.cat([top.ids, tail.ids], dim=2),
            mask=top.mask,
            logsumexp=None,
            mean=None,
            std=None,
            vocabulary=top.vocabulary,
            standardize=kind,
        )
        return loss(fusion.top_k(student, theirs.k, standardize=kind), theirs)

    return of_draws


def _sorted(logits: Tensor, kind: str) -> Tensor:
    """Whole rows in descending order."""
    values: Tensor = logits.log_softmax(dim=2)
    values = values.sort(dim=2, descending=True).values
    return values.exp() if kind == "softmax" else values


def _draws_by_rank(kind: str) -> Estimate:
    """ULD of the k largest, and of each draw at its rank over its chance."""
    of_top = _ranked(fusion.uld_loss, kind)

    def of_draws(student: Tensor, kept: Kept) -> Tensor:
        tail = kept.tail(stratified=True)
        p = tail.logprobs.exp()
        theirs = p if kind == "softmax" else tail.logprobs
        ours = _sorted(student, kind).gather(2, tail.ranks)
        of_tail = tail.estimate((theirs - ours).abs() / p)
        return of_top(student, kept) + of_tail.mean()

    return of_draws


def _even_ranks(student: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
    """Return k ranks and m drawn evenly among the others, and what each stands for."""
    count = min(student.shape[2], kept.teacher.shape[2]) - kept.k
    uniforms = torch.rand(kept.m, generator=kept.generator, dtype=torch.float64)
    parts = torch.arange(kept.m, dtype=torch.float64)
    places = ((parts + uniforms) * count / kept.m).long().clamp(max=count - 1)
    ranks = torch.cat([torch.arange(kept.k), kept.k + places])
    number = torch.ones(len(ranks), dtype=torch.float64)
    number[kept.k :] = count / kept.m
    return ranks, number


def _uld_of_even_ranks(kind: str) -> Estimate:
    def loss(student: Tensor, kept: Kept) -> Tensor:
        ranks, number = _even_ranks(student, kept)
        ours = _sorted(student, kind)[..., ranks]
        theirs = _sorted(kept.teacher, kind)[..., ranks]
        return ((theirs - ours).abs() * number).sum(dim=2).mean()

    return loss


def _gld_of_even_ranks(student: Tensor, kept: Kept) -> Tensor:
    """The graph loss with nodes that stand for as many ranks as their weights say."""
    ranks, number = _even_ranks(student, kept)
    total = float(number.sum())
    graphs = []
    for logits in (student, kept.teacher):
        H = _sorted(logits, "logprob")[0][:, ranks]
        graphs.append(gw.GramSpace(H / len(H) ** 0.5, number / total))
    x, y = graphs
    of_pair: Tensor = gw.batch.row_means([x], [y], p=1)
    return total * of_pair[0]


def _whole(loss: Callable[..., Tensor], kind: str) -> Callable[..., Tensor]:
    """The loss over all ranks that both sides have."""

    def of_rows(student: Tensor, teacher: Tensor) -> Tensor:
        k = min(student.shape[2], teacher.shape[2])
        sides = (fusion.top_k(rows, k, standardize=kind) for rows in (student, teacher))
        return loss(*sides)

    return of_rows


def _uld(kind: str) -> dict[str, Estimate]:
    return {
        "sorted draws": _sorted_draws(fusion.uld_loss, kind),
        "draws by rank": _draws_by_rank(kind),
        "even ranks": _uld_of_even_ranks(kind),
    }


# Each loss of whole rows, and its estimates without and with further entries.
LOSSES: dict[
    str, tuple[Callable[..., Tensor], dict[str, Estimate], dict[str, Estimate]]
] = {
    "KL": (
        kl,
        {
            "top-k": _kl_of_top(renormalised=False),
            "top-k, renormalised": _kl_of_top(renormalised=True),
            "top-k and the rest": _kl_and_rest,
        },
        {"draws": _kl_of_draws(False), "stratified draws": _kl_of_draws(True)},
    ),
    "ULD, probabilities": (
        _whole(fusion.uld_loss, "softmax"),
        {
            "top-k": _ranked(fusion.uld_loss, "softmax"),
            "top-k, renormalised": _renormalised,
        },
        _uld("softmax"),
    ),
    "ULD, log-probabilities": (
        _whole(fusion.uld_loss, "logprob"),
        {"top-k": _ranked(fusion.uld_loss, "logprob")},
        _uld("logprob"),
    ),
    "GLD, log-probabilities": (
        _whole(fusion.graph_loss, "logprob"),
        {"top-k": _ranked(fusion.graph_loss, "logprob")},
        {
            "sorted draws": _sorted_draws(fusion.graph_loss, "logprob"),
            "even ranks": _gld_of_even_ranks,
        },
    ),
}
# With the vocabularies that it can have.
PAIRS = [(loss, "same") for loss in LOSSES]
PAIRS += [(loss, "other") for loss in LOSSES if loss != "KL"]


def value_and_gradient(
    loss: Callable[[Tensor], Tensor], student: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a loss and its gradient in the student's logits."""
    logits = student.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient.flatten()


def compared(
    estimate: Estimate,
    student: Tensor,
    kept: Kept,
    repeats: int,
    whole: tuple[Tensor, Tensor],  # value and gradient of whole rows
) -> Row:
    """Compare an estimate with the loss of whole rows."""
    loss = partial(estimate, kept=kept)
    drawn = [value_and_gradient(loss, student) for _ in range(repeats)]
    values = torch.stack([value for value, _ in drawn])
    gradients = torch.stack([gradient for _, gradient in drawn])
    value, gradient = whole
    of_one = F.cosine_similarity(gradients, gradient[None], dim=1)
    of_mean = gradients.mean(dim=0) @ gradient / gradient.norm()
    of_mean = of_mean / _length_of_expectation(gradients)
    # Equal logits have equal vocabularies.
    equal = kept.teacher.shape == student.shape
    same = estimate(kept.teacher, kept) / value if equal else None
    return {
        "bias": float(values.mean() / value - 1),
        "deviation": float(values.std(correction=0) / value),
        "cosine_of_mean": float(of_mean),
        "cosine_of_one": float(of_one.mean()),
        "same": "" if same is None else float(same),
    }


def _length_of_expectation(gradients: Tensor) -> Tensor:
    """Norm of the expectation of independent rows, from pairs of two of them."""
    count = len(gradients)
    squares = (gradients**2).sum()
    square_of_sum = (gradients.sum(dim=0) ** 2).sum()
    if count == 1:
        return squares.sqrt()
    of_pairs = (square_of_sum - squares) / (count * (count - 1))
    return (of_pairs if of_pairs > 0 else square_of_sum / count**2).sqrt()


def plan(sizes: Sizes, loss: str) -> Iterator[tuple[str, Estimate, int, int]]:
    """Yield the name, estimate, k and m of everything to compare."""
    _, of_top, of_more = LOSSES[loss]
    for k in sizes.ks:
        for name, estimate in of_top.items():
            yield name, estimate, k, 0
        for m in sizes.draws:
            for name, estimate in of_more.items():
                yield name, estimate, k, m


def measure(sizes: Sizes, repeats: int, seed: int) -> list[Row]:
    """Compare every estimate, on rows of every kind."""
    found = []
    for kind in tqdm(ROWS, desc="rows"):
        generator = Generator().manual_seed(seed)
        teacher = teacher_rows(kind, sizes.positions, sizes.vocabulary, generator)
        drawn = students(kind, teacher, sizes.other, generator)
        for loss, vocabulary in PAIRS:
            student = drawn[vocabulary]
            whole = partial(LOSSES[loss][0], teacher=teacher)
            target = value_and_gradient(whole, student)
            for name, estimate, k, m in plan(sizes, loss):
                kept = Kept(teacher, k, m, Generator().manual_seed(seed))
                row: Row = {"loss": loss, "vocabulary": vocabulary, "rows": kind}
                row |= {"estimate": name, "k": k, "m": m, "whole": float(target[0])}
                # What draws nothing is the same each time.
                times = repeats if m else 1
                row |= compared(estimate, student, kept, times, target)
                found.append(row)
    return found


def shares(sizes: Sizes, seed: int, k: int) -> str:
    """Say how much probability the k largest logits of each kind of rows have."""
    numbers = []
    for kind in ROWS:
        generator = Generator().manual_seed(seed)
        rows = teacher_rows(kind, sizes.positions, sizes.vocabulary, generator)
        top = fusion.top_k(rows, k, standardize="softmax").values
        numbers.append(f"{100 * float(top.sum(dim=2).mean()):.0f} %")
    return ", ".join(numbers)


def table(found: Sequence[Row], loss: str, vocabulary: str, ks: Sequence[int]) -> str:
    """Lay out the estimates of one loss."""
    lines: dict[tuple[int, int, str], list[str]] = {}
    same: dict[tuple[int, int, str], str] = {}
    for row in found:
        if (row["loss"], row["vocabulary"]) == (loss, vocabulary) and row["k"] in ks:
            place = (row["k"], row["m"], row["estimate"])
            lines.setdefault(place, []).append(_cell(row))
            same[place] = _percent(row["same"])
    header = ["k", "m", "estimate", *ROWS, "same"]
    cells = [
        [k, m or "", name, *of_rows, same[k, m, name]]
        for (k, m, name), of_rows in lines.items()
    ]
    return report.markdown_table(header, cells)


def _cell(row: Row) -> str:
    spread = f" ± {100 * row['deviation']:.2g}" if row["m"] else ""
    cosines = f"{row['cosine_of_mean']:.2f}"
    if row["m"]:
        cosines += f", {row['cosine_of_one']:.2f}"
    return f"{100 * row['bias']:+.2g}{spread}; {cosines}"


def _percent(value: float | str) -> str:
    if isinstance(value, str):
        return ""
    return "0" if abs(value) < 1e-9 else f"{100 * value:.2g}"


def text_of(found: Sequence[Row], sizes: Sizes, repeats: int, seed: int) -> str:
    """Say what was measured."""
    k = SHOWN_K if SHOWN_K in sizes.ks else sizes.ks[0]
    T = sizes.positions
    V = sizes.vocabulary
    parts = [NOTES.format(T=T, k=k, V=V, repeats=repeats, p=shares(sizes, seed, k))]
    for loss, vocabulary in PAIRS:
        of_student = V if vocabulary == "same" else sizes.other
        parts.append(f"## {loss}; {V} tokens, the student {of_student}")
        ks = sizes.ks if loss == "KL" else (k,)
        parts.append(table(found, loss, vocabulary, ks))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--repeats", type=int, help="draws of each estimate (default: 100, quick 5)"
    )
    arguments = parser.parse_args(argv)
    folder: Path = report.results_folder(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    repeats = arguments.repeats or (5 if arguments.quick else 100)
    (folder / "meta.json").unlink(missing_ok=True)
    facts = {
        "seed": arguments.seed,
        "repeats": repeats,
        "T": sizes.positions,
        "V": [sizes.vocabulary, sizes.other],
        "versions": report.versions() | {"torch": torch.__version__},
    }
    report.claim(folder, facts)
    found = measure(sizes, repeats, arguments.seed)
    report.write_rows(folder / "summary.csv", found)
    text = text_of(found, sizes, repeats, arguments.seed)
    (folder / "sparse_logits.md").write_text(f"{TITLE}\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
