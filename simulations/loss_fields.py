"""What each loss moves: gradients with respect to the logits.

In each case one thing differs between student and teacher.

Both have T positions and V = k logits each, always in the same order, so that ranks are
tokens. The cases differ in
  co-activation   each channel's logits are the teacher's in another order of positions:
                  every channel has the teacher's values, but channels no longer move
                  together;
  positions       whole rows are the teacher's in another order: the graph is the
                  teacher's;
  constants       a number is added to each row: the probabilities are the teacher's;
  marginals       the channels' means are moved apart: the way channels move together is
                  the teacher's.

    python -m simulations.loss_fields --out DIR [--quick] [--seed S]

writes fields.csv (value, norm of the gradient, and its energy by what it moves: whole
rows, whole channels, single logits), meta.json, loss_fields.md and loss_fields.png.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

import fusion
from simulations import _report as report
from simulations._report import Row

POSITIONS, CHANNELS, QUICK_POSITIONS = 32, 8, 12
ROUNDING = 1e-9
SHARES = ("rows", "channels", "single")
NOTES = """\
- Values and gradients are of raw logits, one sequence. KL is KL(teacher ‖ student) \
in nats a token, ULD in logits a token, the
  row-means graph loss in squared logits, the others in their fourth power: \
only the pattern of a column is comparable.
- rows, channels, single: shares of the squared gradient that move all logits of a \
position alike, all positions of a channel
  alike, and neither. Whole rows are the constant that no probability depends on.
- Where a loss is zero up to rounding its gradient is shown as zero."""


def cases(T: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return student and teacher logits (1, T, k) of every case, in float64."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.linspace(14, 0, CHANNELS, dtype=torch.float64)
    loading = torch.linspace(0.6, 0.2, CHANNELS, dtype=torch.float64)
    common = torch.randn(T, 1, generator=generator, dtype=torch.float64).clamp(
        -1.5, 1.5
    )
    teacher = base + loading * common
    shuffled = torch.stack(
        [column[torch.randperm(T, generator=generator)] for column in teacher.T], dim=1
    )
    constants = torch.randn(T, 1, generator=generator, dtype=torch.float64)
    moved = torch.linspace(0.5, -0.5, CHANNELS, dtype=torch.float64)
    students = {
        "co-activation": shuffled,
        "positions": teacher[torch.randperm(T, generator=generator)],
        "constants": teacher + constants,
        "marginals": teacher + moved,
    }
    return {name: (student[None], teacher[None]) for name, student in students.items()}


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    theirs = fusion.top_k(teacher, CHANNELS)
    labels = torch.zeros(student.shape[:2], dtype=torch.int64)
    return fusion.kl_loss(
        fusion.read(student, labels, CHANNELS, ids=theirs.ids).logprobs_at, theirs
    )


def _uld(student: Tensor, teacher: Tensor) -> Tensor:
    return fusion.uld_loss(
        *(fusion.top_k(logits, CHANNELS) for logits in (student, teacher))
    )


def _graph(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return fusion.graph_loss(
            *(fusion.top_k(logits, CHANNELS) for logits in (student, teacher)), kind
        )

    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "KL": _kl,
    "ULD": _uld,
    "graph: row_means": _graph("row_means"),
    "graph: spectral": _graph("spectral"),
    "graph: gw": _graph("gw"),
}


def field(
    loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor
) -> tuple[float, Tensor]:
    """Return a loss and its gradient (T, k)."""
    logits = student.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "graph_loss of kind", UserWarning
        )  # shown, not to be trained with
        value = loss(logits, teacher)
    (gradient,) = torch.autograd.grad(value, logits)
    if (
        value < ROUNDING
    ):  # the sign of a rounding error; at the minimum itself zero is a subgradient
        gradient = torch.zeros_like(gradient)
    return float(value.detach()), gradient[0]


def shares(gradient: Tensor) -> dict[str, float]:
    """Split the energy of a gradient (T, k).

    Its parts move whole rows, whole channels and single logits.
    """
    total = float((gradient**2).sum())
    if total < 1e-24:
        return dict.fromkeys(SHARES, 0.0)
    rows = gradient.mean(dim=1, keepdim=True).expand_as(gradient)
    channels = (gradient - rows).mean(dim=0, keepdim=True).expand_as(gradient)
    parts = (rows, channels, gradient - rows - channels)
    return {
        name: float((part**2).sum()) / total
        for name, part in zip(SHARES, parts, strict=True)
    }


def measure(T: int, seed: int) -> tuple[list[Row], dict[tuple[str, str], Tensor]]:
    """Return a row and the gradient for every loss in every case."""
    rows, fields = [], {}
    for case, (student, teacher) in cases(T, seed).items():
        for name, loss in LOSSES.items():
            value, gradient = field(loss, student, teacher)
            norm = float(gradient.norm())
            rows.append(
                {"case": case, "loss": name, "value": value, "gradient_norm": norm}
                | shares(gradient)
            )
            fields[case, name] = gradient
    return rows, fields


def table(rows: Sequence[Row]) -> str:
    """Lay the numbers out; what rounding leaves is zero."""
    header = [
        "differs in",
        "loss",
        "value",
        "gradient norm",
        *(f"{name}, %" for name in SHARES),
    ]
    lines = [
        [row["case"], row["loss"], _number(row["value"]), _number(row["gradient_norm"])]
        + [
            f"{100 * row[name]:.0f}" if row["gradient_norm"] > ROUNDING else ""
            for name in SHARES
        ]
        for row in rows
    ]
    return report.markdown_table(header, lines)


def _number(value: float) -> str:
    return "0" if abs(value) < ROUNDING else f"{value:.3g}"


def draw(
    rows: Sequence[Row], fields: Mapping[tuple[str, str], Tensor], path: Path
) -> None:
    """Draw every gradient relative to its largest entry, with a colour bar for all.

    Scales of losses do not compare, so each panel has its own, whose size is the norm
    below it; a gradient that is zero says so.
    """
    names = list(dict.fromkeys(row["case"] for row in rows))
    with report.figure_style():
        figure = Figure(figsize=(1.9 * len(LOSSES) + 0.8, 1.7 * len(names)))
        panels = figure.subplots(len(names), len(LOSSES), sharex=True, sharey=True)
        for i, case in enumerate(names):
            for j, loss in enumerate(LOSSES):
                image = _panel(panels[i, j], fields[case, loss])
                panels[0, j].set_title(loss, fontsize="medium")
                panels[-1, j].set_xlabel("channel (rank of the logit)")
            panels[i, 0].set_ylabel(f"differs: {case}\nposition")
        bar = figure.colorbar(image, ax=panels, shrink=0.6, pad=0.02)
        bar.set_ticks([-1, 0, 1])
        bar.set_label(
            "gradient with respect to the student's logit, of the panel's largest\n"
            "(blue: a step of descent raises the logit, red: it lowers it)"
        )
        figure.suptitle(
            "What each loss moves, by what differs between student and teacher",
            fontsize="medium",
        )
        figure.savefig(path)


def _panel(axes: Axes, gradient: Tensor) -> AxesImage:
    """Draw one gradient (T, k) in parts of its largest entry."""
    norm = float(gradient.norm())
    top = max(float(gradient.abs().max()), ROUNDING)
    shown = (gradient / top).numpy()
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.grid(visible=False)
    if norm > ROUNDING:
        at, label = (0.98, 0.03), f"norm {_number(norm)}"
        place = {"ha": "right", "va": "bottom"}
    else:
        at, label = (0.5, 0.5), "nothing"
        place = {"ha": "center", "va": "center"}
    box = {"facecolor": "white", "alpha": 0.8, "pad": 1, "edgecolor": "none"}
    axes.text(*at, label, transform=axes.transAxes, size=6, bbox=box, **place)
    return image


def main(argv: Sequence[str] | None = None) -> int:
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    T = QUICK_POSITIONS if arguments.quick else POSITIONS
    (folder / "meta.json").unlink(missing_ok=True)
    versions = report.versions() | {"torch": torch.__version__}
    report.claim(
        folder, {"seed": arguments.seed, "T": T, "k": CHANNELS, "versions": versions}
    )
    rows, fields = measure(T, arguments.seed)
    report.write_rows(folder / "fields.csv", rows)
    draw(rows, fields, folder / "loss_fields.png")
    text = "\n\n".join([NOTES, table(rows)])
    (folder / "loss_fields.md").write_text(f"# What each loss moves\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
