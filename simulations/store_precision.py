"""What a store's bits are worth: errors of quantities made of stored logits.

A teacher's k largest logits are kept in 32, 16 or 8 bits, raw or relative to the
largest of their row, with log-sum-exp and mean of the full row in float32 beside them,
relative likewise. A number that is added to a whole row changes no probability, but it
takes digits from raw logits. bfloat16 has 8 significant bits; 8-bit numbers divide the
range of a row's k logits into 255 equal steps, and keep its ends in float32.

Stores of format 2 (`fusion.TeacherStore`) are the line "float16, relative". Format 1
was "float16, raw", with the mean in float16, too.

    python -m simulations.store_precision --out DIR [--quick] [--seed S]

writes precision.csv, meta.json and store_precision.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

import fusion
from simulations import _report as report
from simulations._report import Row

POSITIONS, VOCABULARY, TOP = 512, 32_768, 10
QUICK_POSITIONS, QUICK_VOCABULARY = 16, 256
SHIFTS = (0, 100, 1000)
# Logits are multiples of this number, so that shifted ones are exact in float32.
UNIT = 2.0**-10
SPREAD = 3.0  # standard deviation of logits
# A token's ids of 4 bytes each, and its log-sum-exp, mean, standard deviation,
# likelihood and length.
BESIDE = 4 * TOP + 4 + 4 + 2 + 2 + 2
NOTES = """\
- Largest errors over all positions: of the k log-probabilities, in nats, and of the k \
logits less the mean of their row.
- ULD and GLD (row means) are between these logits, centred, and those of a random \
student; their errors are relative.
- bytes: a token's, files' headers and keys aside. Relative logits leave out the \
largest, which is 0, and keep the shift in float32."""


def _cast(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def kept(values: Tensor) -> Tensor:
        return values.to(dtype).float()

    return kept


def _eight_bits(values: Tensor) -> Tensor:
    """Round to 255 equal steps of the range of each row (T, k)."""
    highest, lowest = values[:, :1], values[:, -1:]
    step = (highest - lowest) / 255
    return lowest + step * ((values - lowest) / step).round()


@dataclass(frozen=True)
class Kept:
    """How values are kept: bytes of each, further ones a row, and what is read back."""

    bytes: int
    ends: int  # numbers of 4 bytes that say the range of a row
    read: Callable[[Tensor], Tensor]


FORMATS = {
    "float32": Kept(4, 0, _cast(torch.float32)),
    "float16": Kept(2, 0, _cast(torch.float16)),
    "bfloat16": Kept(2, 0, _cast(torch.bfloat16)),
    "8 bits": Kept(1, 1, _eight_bits),
}


def draw(T: int, V: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the logits (1, T, V) of a teacher and of a student, in float64."""
    generator = torch.Generator().manual_seed(seed)
    both = SPREAD * torch.randn(2, 1, T, V, generator=generator, dtype=torch.float64)
    teacher, student = UNIT * (both / UNIT).round()
    return teacher, student


def stored(
    exact: fusion.TopKLogits,
    kept: Kept,
    relative: bool,
    shift: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values (T, k), log-sum-exp and mean (T, 1), and what was subtracted.

    They are what is read of a store in which logits plus the shift were kept.
    """
    assert exact.logsumexp is not None
    assert exact.mean is not None
    values = exact.values[0] + shift
    largest = values[:, :1] if relative else torch.zeros_like(values[:, :1])
    logsumexp = exact.logsumexp[0, :, None] + shift - largest
    mean = exact.mean[0, :, None] + shift - largest
    read = kept.read((values - largest).float())
    return read, logsumexp.float(), mean.float(), largest.float()


def losses(student: fusion.TopKLogits, teacher: fusion.TopKLogits) -> dict[str, float]:
    """Return ULD and GLD of centred logits."""
    return {
        "uld": float(fusion.uld_loss(student, teacher)),
        "gld": float(fusion.graph_loss(student, teacher, "row_means")),
    }


def measure(T: int, V: int, seed: int) -> list[Row]:
    """Return a row for every way to keep logits and every shift."""
    logits, of_student = draw(T, V, seed)
    exact = fusion.top_k(logits, TOP)
    student = fusion.top_k(of_student, TOP, standardize="center")
    logprobs = exact.standardized("logprob").values[0]
    centred = exact.standardized("center")
    wanted = losses(student, centred)
    rows = []
    for (name, kept), relative, shift in product(
        FORMATS.items(), (False, True), SHIFTS
    ):
        values, logsumexp, mean, largest = stored(exact, kept, relative, shift)
        # Training takes raw logits and their mean in float32.
        raw = (values + largest) - (mean + largest)
        found = losses(student, replace(centred, values=raw.double()[None]))
        row = {
            "values": name,
            "relative": "yes" if relative else "no",
            "shift": shift,
            "bytes": bytes_of(kept, relative),
            "logprob": _largest(values - logsumexp, logprobs),
            "centred": _largest(values - mean, centred.values[0]),
        }
        for loss, value in wanted.items():
            row[loss] = abs(found[loss] / value - 1)
        rows.append(row)
    return rows


def bytes_of(kept: Kept, relative: bool) -> int:
    """Return how many bytes a token takes."""
    if relative:
        return BESIDE + (TOP - 1) * kept.bytes + 4 + 4 * kept.ends
    # Raw rows have two ends that are not known.
    return BESIDE + TOP * kept.bytes + 8 * kept.ends


def _largest(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference."""
    return float((found.double() - wanted).abs().max())


def table(rows: Sequence[Row]) -> str:
    """Lay the numbers out."""
    header = [
        "values",
        "relative",
        "shift",
        "bytes",
        "log-probability",
        "centred logit",
        "ULD",
        "GLD",
    ]
    lines = []
    for row in rows:
        errors = [row[name] for name in ("logprob", "centred", "uld", "gld")]
        told = [row[name] for name in ("values", "relative", "shift", "bytes")]
        lines.append([*told, *(f"{error:.1e}" for error in errors)])
    return report.markdown_table(header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    T = QUICK_POSITIONS if arguments.quick else POSITIONS
    V = QUICK_VOCABULARY if arguments.quick else VOCABULARY
    (folder / "meta.json").unlink(missing_ok=True)
    facts = {"seed": arguments.seed, "T": T, "V": V, "k": TOP}
    versions = report.versions() | {"torch": torch.__version__}
    report.claim(folder, facts | {"versions": versions})
    rows = measure(T, V, arguments.seed)
    report.write_rows(folder / "precision.csv", rows)
    text = f"{NOTES}\n\nT = {T}, V = {V}, k = {TOP}.\n\n{table(rows)}"
    title = "# What a store's bits are worth"
    (folder / "store_precision.md").write_text(f"{title}\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
