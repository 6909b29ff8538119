"""Time and memory of the fusion losses.

Measured by themselves, on a chunked head, and as a share of a training step.

Each loss runs forward and backward from the student's logits, against stored top-k
logits of a teacher; beside them the cross-entropy of the same logits, the k × k graph
by outer products, and TRL's ULD loss where that is installed (it sorts whole rows of
both models, and has no k). "sft + uld + graph" reads all it needs in one pass, the
cross-entropy included.

    python -m simulations.loss_speed --out DIR [--quick] [--seed S] [--repeats R]
        [--parts step head losses]

writes step.csv, head.csv, losses.csv, meta.json and loss_speed.md. With a CUDA device
everything runs there, at B = 4 and T = 2048. Times on a CPU are those of the processor,
in all threads. Peak memory is that above the inputs: of the process on Linux, else
empty; of the device on CUDA.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import fusion
from simulations import _processes as processes
from simulations import _report as report
from simulations._report import Row

Run: TypeAlias = Callable[[], Any]

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
REPEATS = 5
VOCABULARIES, KS = (49_152, 151_936), (10, 64, 256)
BATCH, LENGTH = (4, 2048) if CUDA else (1, 512)
HEAD_LENGTH, HEAD_WIDTH = 2048, 896
# The shape of SmolLM2-135M.
DECODER = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
STEP_TOKENS, STEP_K = 512, 10


@dataclass(frozen=True)
class Sizes:
    """What a run measures: smaller with --quick, whose numbers say nothing."""

    batch: int = BATCH
    length: int = LENGTH
    vocabularies: tuple[int, ...] = VOCABULARIES
    ks: tuple[int, ...] = KS
    head_length: int = HEAD_LENGTH
    head_width: int = HEAD_WIDTH
    layers: int = 30


QUICK = Sizes(1, 64, (4096,), (10,), 256, 64, 2)


def seconds_and_peak(run: Run, repeats: int) -> tuple[float, float | str]:
    """Return the median time of a run, and the peak of memory of the first one.

    The peak is above what was there before, in MB.
    """
    gc.collect()
    before = _memory(reset=True)
    times = []
    peak: float | str = ""
    for _ in range(repeats + 1):
        start = _clock()
        run()
        times.append(_clock() - start)
        if len(times) == 1 and before is not None:
            peak = ((_memory() or 0) - before) / 1e6
    return median(times[1:] or times), peak


def _clock() -> float:
    """Seconds: of the processor in this process on a CPU, else of the wall.

    The processor's time does not count other work on the machine.
    """
    if not CUDA:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _memory(reset: bool = False) -> int | None:
    """Bytes in use after a reset of the peak, or the peak since then.

    None where the system tells neither.
    """
    if CUDA:
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.max_memory_allocated())
    return processes.peak_bytes(reset)


def differentiated(loss: Callable[[], Tensor], *inputs: Tensor) -> Run:
    """Return a run of a loss and its gradient."""

    def run() -> None:
        torch.autograd.grad(loss(), inputs)

    return run


def losses(sizes: Sizes, V: int, k: int, seed: int) -> Iterator[tuple[str, Run]]:
    """Yield the name and the run of each loss on the same logits."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    shape = (sizes.batch, sizes.length, V)
    logits = (
        2 * torch.randn(shape, generator=generator, device=DEVICE)
    ).requires_grad_()
    teacher = fusion.top_k(
        2 * torch.randn(shape, generator=generator, device=DEVICE), k
    )
    labels = torch.randint(V, shape[:2], generator=generator, device=DEVICE)
    index = torch.arange(sizes.length, device=DEVICE).expand(shape[:2]).contiguous()
    pairs = torch.ones(shape[:2], dtype=torch.bool, device=DEVICE)
    objective = fusion.FusionLoss(graph="row_means")

    def bare() -> fusion.TopKLogits:
        return fusion.top_k(logits, k, statistics=False)

    def graph(kind: str, channels: str = "rank") -> Callable[[], Tensor]:
        return lambda: fusion.graph_loss(bare(), teacher, kind, channels)

    def both() -> Tensor:
        student = bare()
        return fusion.uld_loss(student, teacher) + fusion.graph_loss(student, teacher)

    def everything() -> Tensor:
        out = fusion.read(logits, labels, k)
        return objective(
            out.topk,
            out.nll,
            {"teacher": fusion.TeacherTerm(teacher, index, index, pairs)},
        ).total

    def at_teacher(loss: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: loss(
            fusion.read(logits, labels, k, ids=teacher.ids).logprobs_at, teacher
        )

    runs: dict[str, Callable[[], Tensor]] = {
        "cross-entropy": lambda: F.cross_entropy(
            logits.flatten(0, 1), labels.flatten()
        ),
        "uld": lambda: fusion.uld_loss(bare(), teacher),
        "graph: row_means": graph("row_means"),
        "graph: row_means, vocabulary": graph("row_means", "vocabulary"),
        "graph: norm": graph("norm"),
        "graph: spectral": graph("spectral"),
        "graph: gw": graph("gw"),
        "graph by outer products": lambda: outer_products(
            bare().values, teacher.values
        ),
        "uld + graph": both,
        "sft + uld + graph": everything,
        "kl": at_teacher(fusion.kl_loss),
        "jsd": at_teacher(fusion.jsd_loss),
    }
    for name, loss in runs.items():
        if k == sizes.ks[0] or name != "cross-entropy":
            yield name, differentiated(loss, logits)
    if k == sizes.ks[0] and (loss_of_trl := trl_uld(logits, labels, seed)) is not None:
        yield "TRL's ULD (whole rows)", differentiated(loss_of_trl, logits)


def outer_products(student: Tensor, teacher: Tensor) -> Tensor:
    """The graph-on-logits loss as it is told.

    Outer products, a k × k graph, its row means, sorted.
    """
    features = []
    for H in (student, teacher):
        graph = (H[..., :, None] * H[..., None, :]).mean(dim=1)
        features.append(graph.mean(dim=2).sort(dim=1).values)
    return (features[0] - features[1]).abs().sum(dim=1).mean()


def trl_uld(logits: Tensor, labels: Tensor, seed: int) -> Callable[[], Tensor] | None:
    """TRL's loss on the same positions, with its cross-entropy left out.

    None where it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from trl.experimental.gold.gold_trainer import ULDLoss
    except ImportError:
        return None
    settings: Any = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,
        uld_skip_teacher_eos=False,
        use_extended_uld=False,
        uld_token_merge_strategy=None,
    )
    generator = torch.Generator(DEVICE).manual_seed(seed + 1)
    teacher = 2 * torch.randn(logits.shape, generator=generator, device=DEVICE)
    loss = ULDLoss(settings, device=DEVICE)

    def run() -> Tensor:
        value: Tensor = loss(logits, teacher, labels, labels, labels, labels)
        return value

    return run


def measure_losses(sizes: Sizes, repeats: int, seed: int, path: Path) -> None:
    """Measure every loss at every vocabulary and k."""
    for V in sizes.vocabularies:
        for k in sizes.ks:
            for name, run in tqdm(
                losses(sizes, V, k, seed), desc=f"V = {V}, k = {k}", unit="loss"
            ):
                seconds, peak = seconds_and_peak(run, repeats)
                row = {
                    "V": V,
                    "k": "" if "cross" in name or "TRL" in name else k,
                    "loss": name,
                }
                report.append_row(
                    path,
                    row | {"seconds": seconds, "peak_mb": peak, "repeats": repeats},
                )


def measure_head(sizes: Sizes, repeats: int, seed: int, path: Path) -> None:
    """Measure the largest head, whole and in chunks; once on a CPU.

    Negative log-likelihoods, top-k logits and the gradient.
    """
    V, d = sizes.vocabularies[-1], sizes.head_width
    generator = torch.Generator(DEVICE).manual_seed(seed)
    weight = (
        torch.randn(V, d, generator=generator, device=DEVICE) / d**0.5
    ).requires_grad_()
    larger = (
        ((4, "whole"), (4, "chunked")) if CUDA else ((4, "chunked"),)
    )  # whole: 20 GB
    for B, name in ((1, "whole"), (1, "chunked"), *larger):
        hidden = torch.randn(
            B, sizes.head_length, d, generator=generator, device=DEVICE
        ).requires_grad_()
        labels = torch.randint(V, hidden.shape[:2], generator=generator, device=DEVICE)
        run = differentiated(head(name, hidden, weight, labels), hidden, weight)
        seconds, peak = seconds_and_peak(run, repeats if CUDA else 0)
        row = {
            "B": B,
            "T": sizes.head_length,
            "V": V,
            "d": d,
            "head": name,
            "seconds": seconds,
            "peak_mb": peak,
        }
        report.append_row(path, row)


def head(
    name: str, hidden: Tensor, weight: Tensor, labels: Tensor
) -> Callable[[], Tensor]:
    """Return the sum of both quantities that training needs of a head."""

    def whole() -> Tensor:
        logits = hidden @ weight.T
        values = fusion.top_k(logits, statistics=False).values
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten()) + values.mean()

    def chunked() -> Tensor:
        out = fusion.chunked_head(hidden, weight, labels)
        return out.mean_nll + out.topk.values.mean()

    return whole if name == "whole" else chunked


def measure_step(sizes: Sizes, repeats: int, seed: int, path: Path) -> None:
    """Let training steps with and without the losses take turns."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(**DECODER | {"num_hidden_layers": sizes.layers})
    ).to(DEVICE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens = torch.randint(DECODER["vocab_size"], (1, STEP_TOKENS), device=DEVICE)
    labels = torch.cat([tokens[:, 1:], tokens.new_full((1, 1), -100)], dim=1)
    teacher = fusion.top_k(
        2 * torch.randn(1, STEP_TOKENS, DECODER["vocab_size"], device=DEVICE), STEP_K
    )
    index = torch.arange(STEP_TOKENS, device=DEVICE)[None, :]
    term = {"teacher": fusion.TeacherTerm(teacher, index, index, labels != -100)}
    objective = fusion.FusionLoss(graph="row_means")

    def sft() -> Tensor:
        loss: Tensor = model(input_ids=tokens, labels=tokens).loss
        return loss

    def added() -> Tensor:
        out = model(input_ids=tokens, labels=tokens)
        student = fusion.top_k(out.logits, STEP_K, labels != -100, statistics=False)
        return objective(student, out.loss, term).total

    def read_once() -> Tensor:
        out = fusion.read(model(input_ids=tokens).logits, labels, STEP_K)
        return objective(out.topk, out.nll, term).total

    steps: dict[str, Callable[[], Tensor]] = {
        "sft": sft,
        "sft, then top_k": added,
        "read once": read_once,
    }
    for repeat in tqdm(range(repeats + 1), desc="step", unit="round"):
        for name, loss in steps.items():
            start = _clock()
            loss().backward()
            optimiser.step()
            optimiser.zero_grad()
            if repeat:  # the first round warms up
                report.append_row(
                    path, {"step": name, "repeat": repeat, "seconds": _clock() - start}
                )


PARTS: dict[str, Callable[[Sizes, int, int, Path], None]] = {
    "step": measure_step,
    "head": measure_head,
    "losses": measure_losses,
}


def tables(found: dict[str, list[Row]]) -> str:
    """Lay out what was measured."""
    layouts = {"losses": _losses_table, "head": _head_table, "step": _step_table}
    return "\n\n".join(
        layout(found[name]) for name, layout in layouts.items() if found[name]
    )


def _losses_table(rows: Sequence[Row]) -> str:
    plain = {row["V"]: row["seconds"] for row in rows if row["loss"] == "cross-entropy"}
    lines = [
        [
            row["V"],
            row["k"],
            row["loss"],
            f"{1e3 * row['seconds']:.0f}",
            f"{row['seconds'] / plain[row['V']]:.2f}",
            _mb(row),
        ]
        for row in rows
    ]
    header = ["V", "k", "loss", "ms", "× cross-entropy", "peak, MB"]
    text = f"Forward and backward, medians of {rows[0]['repeats']}."
    return "\n\n".join(["## Losses", report.markdown_table(header, lines), text])


def _head_table(rows: Sequence[Row]) -> str:
    names = ("B", "T", "V", "d", "head")
    lines = [
        [*(row[name] for name in names), f"{row['seconds']:.1f}", _mb(row)]
        for row in rows
    ]
    peaks = [row["peak_mb"] for row in rows[:2]]
    share = (
        ""
        if "" in peaks
        else f"The chunked head's peak is {peaks[1] / peaks[0]:.1%} "
        "of the whole one's at B = 1."
    )
    title = "## The head: cross-entropy and 10 logits a position, forward and backward"
    return "\n\n".join(
        [title, report.markdown_table([*names, "s", "peak, MB"], lines), share]
    )


def _step_table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row["step"] for row in rows))
    seconds = {
        name: median([row["seconds"] for row in rows if row["step"] == name])
        for name in names
    }
    lines = [
        [name, f"{s:.3f}", f"{s / seconds['sft'] - 1:+.1%}"]
        for name, s in seconds.items()
    ]
    return "\n\n".join(
        [
            "## A training step of a 135M-parameter decoder, "
            f"T = {STEP_TOKENS}, k = {STEP_K}",
            report.markdown_table(["step", "s", "added"], lines),
            f"Medians of {len(rows) // len(names)}, in turns, with AdamW's step. "
            "`sft`: the model's own loss. `sft, then top_k`: that plus ULD and the "
            "row-means graph of `fusion.top_k`. `read once`: all three from "
            "`fusion.read`, with one gradient array.",
        ]
    )


def _mb(row: Row) -> str:
    return "" if row["peak_mb"] == "" else f"{row['peak_mb']:.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        help="repeats of each run (default: %(default)s)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="what to measure anew (default: all)",
    )
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    device = (
        torch.cuda.get_device_name()
        if CUDA
        else f"CPU, {torch.get_num_threads()} threads"
    )
    versions = report.versions() | {"torch": torch.__version__}
    facts = {
        "seed": arguments.seed,
        "device": device,
        "B": sizes.batch,
        "T": sizes.length,
        "versions": versions,
    }
    if set(arguments.parts) == set(PARTS):
        (folder / "meta.json").unlink(missing_ok=True)
    report.claim(folder, facts)
    for name in arguments.parts:
        # Times are compared within one process only, so earlier ones of the same part
        # are of no use.
        path = folder / f"{name}.csv"
        path.unlink(missing_ok=True)
        PARTS[name](sizes, arguments.repeats, arguments.seed, path)
    found = {name: report.resume_rows(folder / f"{name}.csv") for name in PARTS}
    text = (
        f"{device}; B = {sizes.batch}, T = {sizes.length} for the losses.\n\n"
        f"{tables(found)}"
    )
    (folder / "loss_speed.md").write_text(f"# What the fusion losses cost\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
