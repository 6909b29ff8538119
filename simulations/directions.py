"""Directed spaces and the Kullback-Leibler loss against POT, from the same start.

Random pairs of 5 to 30 atoms of unlike numbers, with weights that are not uniform. For
squares of directed values: travel times in the plane that grow uphill, shortest paths
in digraphs, and matrices of random entries. For the divergence: Gaussian kernels of
clouds, strengths of contacts in graphs, and symmetric matrices of random entries. The
last third of the pairs has features, of shares α of 0.3, 0.5 and 0.8. The objective of
every plan is computed here, from the dense matrices.

    python -m simulations.directions --out DIR [--quick] [--seed S] [--pairs K]

writes trials.csv (one row a pair, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and directions.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ot
from scipy.sparse.csgraph import dijkstra

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

PLAIN_PAIRS = 200  # those behind have features
PAIRS, QUICK_PAIRS = 300, 12
SHARES = (0.3, 0.5, 0.8)
FEWEST, MOST = 5, 30  # atoms of a space
# Relative differences of objectives that count as none, and that an answer may have.
EQUAL, CLOSE = 1e-6, 1e-3
POT_LOSSES = {"square": "square_loss", "kl": "kl_loss"}
UNITS = {
    "pot, one, auto": "sum L(C_ik, D_jl) pi_ij pi_kl, or its share and that of the "
    "features, of POT's plan, of ConditionalGradient's and of solve's",
    "lower": "of the certificate of solve's plan, in the same units",
    "seconds_...": "of the call by the process clock, certificate included",
}
NOTES = """\
- POT: `ot.gromov.gromov_wasserstein(armijo=False)` from the product coupling; \
one: `gw.ConditionalGradient()`, from the same
  coupling; auto: `gw.solve(x, y, loss=...)`. \
All objectives are those of the plans, computed apart from both.
- fused: (1 − α)⟨M, π⟩ + α times that sum, random costs M in [0, 1]; \
POT: `ot.gromov.fused_gromov_wasserstein`.
  Seconds of these pairs are those of a busy machine.
- as good: objectives at most 1e-6 above POT's, relative to it; ratio: \
the mean objective over POT's mean.
- one takes line searches in its first ten steps. That number was chosen on pairs of \
other seeds, 900 and 901.
- proved: the mean of lower / objective of auto, with `effort="cubic"`; seconds: the \
median, by the process clock on one thread."""


def _roads(size: int, rng: np.random.Generator) -> Numbers:
    """Distances in the plane, and twice the height that is climbed."""
    points = rng.standard_normal((size, 2))
    climbed = points[None, :, 0] - points[:, None, 0]
    return np.asarray(ot.dist(points, metric="euclidean") + 2 * np.maximum(climbed, 0))


def _paths(size: int, rng: np.random.Generator) -> Numbers:
    """Shortest paths along the edges of a ring with more edges."""
    edges = np.where(
        rng.random((size, size)) < 0.15, rng.integers(1, 6, (size, size)), 0
    )
    edges[np.arange(size), np.arange(1, size + 1) % size] = 2
    return np.asarray(dijkstra(edges))


def _entries(size: int, rng: np.random.Generator) -> Numbers:
    return 0.05 + rng.random((size, size))


def _kernel(size: int, rng: np.random.Generator) -> Numbers:
    """A Gaussian kernel of a cloud in the plane, and a little everywhere."""
    return np.asarray(0.01 + np.exp(-ot.dist(rng.standard_normal((size, 2)))))


def _contacts(size: int, rng: np.random.Generator) -> Numbers:
    """How often pairs of people of two groups meet, smoothed by one twentieth."""
    group = rng.integers(0, 2, size)
    rate = np.where(group[:, None] == group, 3.0, 0.5)
    counts = np.triu(rng.poisson(rate))
    return np.asarray(0.05 + counts + np.triu(counts, 1).T)


def _symmetric(size: int, rng: np.random.Generator) -> Numbers:
    entries = _entries(size, rng)
    return (entries + entries.T) / 2


FAMILIES: dict[str, tuple[str, Callable[[int, np.random.Generator], Numbers]]] = {
    "roads": ("square", _roads),
    "kernels": ("kl", _kernel),
    "paths": ("square", _paths),
    "contacts": ("kl", _contacts),
    "random": ("square", _entries),
    "random symmetric": ("kl", _symmetric),
}


class Pair(NamedTuple):
    """Two weighted matrices, the loss between their values, and costs if any."""

    family: str
    loss: str
    C: Numbers
    D: Numbers
    a: Numbers
    b: Numbers
    features: Numbers | None = None
    alpha: float = 1.0


def pair(seed: int, number: int) -> Pair:
    """Draw a pair; its family goes round."""
    rng = np.random.default_rng([seed, number])
    family = list(FAMILIES)[number % len(FAMILIES)]
    loss, draw = FAMILIES[family]
    n, m = rng.choice(np.arange(FEWEST, MOST + 1), size=2, replace=False)
    C, D = (draw(int(size), rng) for size in (n, m))
    a, b = (rng.uniform(0.2, 1.0, int(size)) for size in (n, m))
    drawn = Pair(family, loss, C, D, a / a.sum(), b / b.sum())
    if number < PLAIN_PAIRS:
        return drawn
    share = SHARES[number % len(SHARES)]
    return drawn._replace(
        family=f"{family}, fused", features=rng.random((int(n), int(m))), alpha=share
    )


def objective(drawn: Pair, plan: Numbers) -> float:
    """Return the objective of any masses, with its features if there are any."""
    structure = mean_loss(drawn, plan)
    if drawn.features is None:
        return structure
    linear = float(np.sum(drawn.features * plan))
    return (1 - drawn.alpha) * linear + drawn.alpha * structure


def mean_loss(drawn: Pair, plan: Numbers) -> float:
    """Return Σ L(C_ik, D_jl) π_ij π_kl of any masses."""
    _, loss, C, D, *_ = drawn
    rows, cols = plan.sum(axis=1), plan.sum(axis=0)
    if loss == "square":
        own = rows @ C**2 @ rows + cols @ D**2 @ cols
        return float(own - 2 * np.sum((C @ plan @ D.T) * plan))
    own = rows @ (C * np.log(C) - C) @ rows + cols @ D @ cols
    return float(own - np.sum((C @ plan @ np.log(D).T) * plan))


def pot_plan(drawn: Pair) -> Numbers:
    """Return POT's plan from the product coupling."""
    _, loss, C, D, a, b, features, alpha = drawn
    settings: dict[str, Any] = {
        "loss_fun": POT_LOSSES[loss],
        "symmetric": loss != "square",
        "armijo": False,
    }
    if features is None:
        plan = ot.gromov.gromov_wasserstein(C, D, a, b, **settings)
    else:
        plan = ot.gromov.fused_gromov_wasserstein(
            features, C, D, a, b, alpha=alpha, **settings
        )
    return np.asarray(plan)


def measure(seed: int, number: int) -> Row:
    """Solve one pair three times."""
    drawn = pair(seed, number)
    family, loss, C, D, a, b, features, alpha = drawn
    directed = loss == "square"
    given: dict[str, Any] = {"loss": loss}
    if features is not None:
        given |= {"features": features, "alpha": alpha}
    x = gw.DenseSpace(C, a, directed=directed)
    y = gw.DenseSpace(D, b, directed=directed)
    one_start = gw.ConditionalGradient()
    calls: dict[str, Callable[[], Any]] = {
        "pot": lambda: pot_plan(drawn),
        "one": lambda: gw.solve(x, y, one_start, **given),
        "auto": lambda: gw.solve(x, y, effort="cubic", **given),
    }
    row: Row = {"pair": number, "family": family, "n": len(a), "m": len(b)}
    seconds = {}
    for name, call in calls.items():
        started = time.process_time()
        found = call()
        seconds[f"seconds_{name}"] = time.process_time() - started
        plan = found if name == "pot" else found.plan.dense()
        row[name] = objective(drawn, plan)
    return row | {"lower": found.certificate.lower} | seconds


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family, and one for each loss."""
    groups: dict[str, list[Row]] = {}
    for name, (loss, _) in FAMILIES.items():
        for family, together in ((name, "all"), (f"{name}, fused", "all, fused")):
            here = [row for row in trials if row["family"] == family]
            groups[f"{loss}: {family}"] = here
            groups.setdefault(f"{loss}: {together}", []).extend(here)
    rows = []
    for name in sorted(groups, reverse=True):
        group = groups[name]
        if not group:
            continue
        summary: Row = {"family": name, "pairs": len(group)}
        pot = np.array([row["pot"] for row in group])
        for call, share in (("one", EQUAL), ("auto", EQUAL), ("auto", CLOSE)):
            found = np.array([row[call] for row in group])
            word = "as_good" if share == EQUAL else "close"
            summary[f"{call}_{word}"] = int(np.sum(found <= pot * (1 + share) + 1e-12))
            summary[f"{call}_ratio"] = float(found.mean() / pot.mean())
        proved = [row["lower"] / max(row["auto"], 1e-12) for row in group]
        summary["proved"] = float(np.mean(proved))
        for call in ("pot", "one", "auto"):
            seconds = [row[f"seconds_{call}"] for row in group]
            summary[f"seconds_{call}"] = float(np.median(seconds))
        rows.append(summary)
    return rows


def table(summary: Sequence[Row]) -> str:
    """Lay the families out."""
    header = ["loss: family", "pairs", "one: as good", "ratio", "auto: as good"]
    header += [f"at most {CLOSE:g} above", "ratio", "proved"]
    header += ["s, POT", "s, one", "s, auto"]
    rows = []
    for row in summary:
        cells = [row["family"], row["pairs"]]
        cells += [row["one_as_good"], f"{row['one_ratio']:.4f}"]
        cells += [row["auto_as_good"], row["auto_close"], f"{row['auto_ratio']:.4f}"]
        cells.append(f"{row['proved']:.0%}")
        cells += [f"{row[f'seconds_{name}']:.4f}" for name in ("pot", "one", "auto")]
        rows.append(cells)
    return report.markdown_table(header, rows)


def publish(folder: Path) -> None:
    """Write the summary and the Markdown of all trials, and print the table."""
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    below = sum(row["lower"] <= min(row["auto"], row["pot"]) + 1e-12 for row in trials)
    check = (
        f"The certified lower end is below both plans' objectives on {below} of "
        f"{len(trials)} pairs."
    )
    text = "\n\n".join([NOTES, check, table(summary)])
    (folder / "directions.md").write_text(
        f"# Directed spaces and the Kullback-Leibler loss against POT\n\n{text}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    comparison = report.Comparison(
        measure, publish, range, (PAIRS, QUICK_PAIRS), "pairs", UNITS
    )
    return comparison.main(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
