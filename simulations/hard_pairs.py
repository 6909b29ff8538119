"""What search finds on hard pairs, against the best known, and in what time.

Every pair is solved by POT (its default; the best of 50 random starts; the best plan of
a grid of epsilons, as GWTune tunes them, and a conditional gradient from there), by
OTT-JAX where it is installed, and by gwtools (a single conditional gradient, Sinkhorn,
and what ``solve`` does by default). All run in one process and take turns. Plans are
rounded onto their marginals, then compared by their objectives.

    python -m simulations.hard_pairs --out DIR [--quick]

writes trials.csv (one row a pair and method, as soon as the pair is finished: an
interrupted run resumes), summary.csv, meta.json, hard_pairs.md and hard_pairs.png. The
pairs are those of ``hard_families`` and ``search_families`` with the seeds of the
references.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import hard_families, search_families, search_peers, search_reference
from simulations._report import Row
from simulations.hard_families import Numbers, Pair

Method = Callable[[], Numbers]

REPEATS, QUICK_REPEATS = 5, 1
# Convex, so that every start ends at the same objective, each after seconds: these
# pairs are solved once by every fast method, and by no other.
SLOW_FAMILIES = ("Gaussian kernel against distances",)
QUICK_STARTS = 3
SINGLE, DEFAULT = "ConditionalGradient", "solve"
SETS = ("given", "seeds from 200", "own families")
# An objective is far from the best known above the first multiple of it, and above this
# share of the product coupling's, below which it counts as 0.
LEVELS = {"above_1": (1.01, 1e-4), "above_2": (2.0, 1e-3)}
FACTORS = np.logspace(0, 2, 201)
UNITS = {
    "objective, best, product": "GW_2^2 in squared units of C, of the rounded plan",
    "seconds": "of the processor, from matrices to the plan, our certificate included; "
    "of fast methods the median of the repeats",
    "ratio": "seconds over those of a single ConditionalGradient() measured beside",
    "above_1": "1 where objective > max(1.01 best, 1e-4 product)",
    "above_2": "1 where objective > max(2 best, 1e-3 product)",
}
NOTES = f"""\
- above 1 %: the share of pairs on which the objective is above max(1.01 best, 1e-4 \
product coupling's); above 2: above
  max(2 best, 1e-3 product coupling's). Best is the least objective known, of \
`simulations/reference`.
- time: seconds over those of a single `{SINGLE}()` measured beside it in the same \
process; the median over the pairs of
  a family, then the median over families and the largest of them.
- POT, {search_peers.STARTS} starts: the best of so many random couplings. epsilon \
tuned: the best plan of POT's entropic solver over {search_peers.EPSILONS} \
epsilons with
  {search_peers.INITS} starts each; then CG: POT's conditional gradient from that \
plan; both on the first pair of a family only, as
  they take far longer than all others together. {SLOW_FAMILIES[0]}, where the problem \
is convex: the fast methods once,
  the others not. {DEFAULT}: \
`gwtools.solve(x, y)`."""


@dataclass(frozen=True)
class Known:
    """A pair by its names, and what is known of it."""

    group: str
    family: str
    seed: int
    best: float
    product: float
    is_first: bool = False  # of its family in its set


def known_pairs(quick: bool) -> list[Known]:
    """Return the pairs of both references; the quick ones are one seed a family.

    Which of them are given, which are the same families with later seeds, and which are
    families of our own is the first of the names.
    """
    pairs = []
    for path in (hard_families.REFERENCE, search_reference.REFERENCE):
        for row in report.read_rows(path):
            group = SETS[path == search_reference.REFERENCE]
            if row["family"] in search_families.FAMILIES:
                group = SETS[2]
            names = (group, row["family"], row["seed"])
            first = names[:2] not in {(pair.group, pair.family) for pair in pairs}
            pairs.append(Known(*names, row["best"], row["product"], first))
    if not quick:
        return pairs
    firsts: dict[str, Known] = {}
    for pair in pairs:
        if pair.group != SETS[0]:
            firsts.setdefault(pair.family, pair)
    return list(firsts.values())


def ours(pair: Pair) -> dict[str, Method]:
    """Return our methods, each from matrices to a plan."""

    def run(solver: gw.Solver | None) -> Numbers:
        # A space keeps what was computed from it: each run gets new ones.
        x, y = search_families.spaces(pair)
        if solver is None:
            return np.asarray(gw.solve(x, y).plan.dense())
        return np.asarray(gw.solve(x, y, solver).plan.dense())

    return {
        SINGLE: lambda: run(gw.ConditionalGradient()),
        "Sinkhorn": lambda: run(gw.Sinkhorn()),
        DEFAULT: lambda: run(None),
    }


def rounded_objective(pair: Pair, plan: Numbers) -> float:
    """Return GW_2² of a plan that is rounded onto the weights."""
    problem = gw.GWProblem(*search_families.spaces(pair))
    return float(problem.objective(gw.DensePlan(search_families.rounded(pair, plan))))


def _timed(method: Method) -> tuple[Numbers, float]:
    start = time.process_time()  # other work of the machine does not count
    plan = method()
    return plan, time.process_time() - start


def measure(known: Known, quick: bool) -> list[Row]:
    """Solve one pair by every method."""
    pair = search_families.draw(known.family, known.seed)
    fast = ours(pair) | {"POT": search_peers.pot(pair)}
    plans: dict[str, Numbers] = {}
    seconds: dict[str, list[float]] = {name: [] for name in fast}
    is_slow = known.family in SLOW_FAMILIES
    # 1. The fast methods take turns.
    for _ in range(QUICK_REPEATS if quick or is_slow else REPEATS):
        for name, method in fast.items():
            plans[name], once = _timed(method)
            seconds[name].append(once)
    # 2. The others run once.
    starts = QUICK_STARTS if quick else search_peers.STARTS
    slow: dict[str, Method] = {}
    if not is_slow:
        random = search_peers.pot_best_of(pair, starts, known.seed)
        slow[f"POT, {starts} starts"] = random
    if find_spec("ott") and not is_slow:
        slow["OTT"] = search_peers.ott(pair)
    for name, method in slow.items():
        plans[name], once = _timed(method)
        seconds[name] = [once]
    # 3. A conditional gradient goes on from the plan of the best epsilon. The tuning
    # takes far longer than all others together.
    if known.is_first and not is_slow:
        tuned = search_peers.tuned(pair, known.seed, quick)
        plans["epsilon tuned"], first = _timed(tuned)
        refined = search_peers.pot(pair, plans["epsilon tuned"])
        plans["epsilon tuned, then CG"], second = _timed(refined)
        seconds["epsilon tuned"] = [first]
        seconds["epsilon tuned, then CG"] = [first + second]
    single = median(seconds[SINGLE])
    rows = [
        _row(known, name, rounded_objective(pair, plan), median(seconds[name]), single)
        for name, plan in plans.items()
    ]
    for row in rows:
        row["last"] = int(row is rows[-1])
    return rows


def _row(
    known: Known, method: str, objective: float, seconds: float, single: float
) -> Row:
    row: Row = {"set": known.group, "family": known.family, "seed": known.seed}
    row |= {"method": method, "objective": objective}
    row |= {"best": known.best, "product": known.product}
    for name, (multiple, share) in LEVELS.items():
        limit = max(multiple * known.best, share * known.product)
        row[name] = int(objective > limit)
    return row | {"seconds": seconds, "ratio": seconds / single}


def run(folder: Path, quick: bool) -> None:
    """Measure the pairs that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {(row["family"], row["seed"]) for row in _whole_pairs(path)}
    wanted = known_pairs(quick)
    pending = [pair for pair in wanted if (pair.family, pair.seed) not in done]
    facts: dict[str, Any] = {
        "seed": "those of the references",
        "OTT": "run" if find_spec("ott") else "not installed",
        "units": UNITS,
    }
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} pairs are in {folder} already; "
            "delete that folder to run them again."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that do not converge
        if pending:
            measure(pending[0], True)  # the first solve loads libraries
        with tqdm(pending, unit="pair", disable=not pending) as progress:
            for known in progress:
                progress.set_description(f"{known.family} {known.seed}")
                for row in measure(known, quick):
                    report.append_row(path, row)


def _whole_pairs(path: Path) -> list[Row]:
    """Read the rows; those of a last pair that may have been cut short are removed.

    A pair is known to be whole where another one follows it, or the last method is
    there.
    """
    rows = report.resume_rows(path)
    if not rows or rows[-1]["last"]:
        return rows
    cut = (rows[-1]["family"], rows[-1]["seed"])
    whole = [row for row in rows if (row["family"], row["seed"]) != cut]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 + len(whole)]))
    return whole


def groups(trials: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield the rows of every set of pairs and method."""
    names = dict.fromkeys((row["set"], row["method"]) for row in trials)
    for name, method in sorted(names, key=lambda key: SETS.index(key[0])):
        chosen = [
            row for row in trials if (row["set"], row["method"]) == (name, method)
        ]
        yield name, method, chosen


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each set of pairs and method."""
    summary = []
    for name, method, rows in groups(trials):
        ratios = family_ratios(rows)
        summary.append(
            {
                "set": name,
                "method": method,
                "pairs": len(rows),
                **{level: sum(row[level] for row in rows) for level in LEVELS},
                "lower": sum(lower(row) for row in rows),
                "ratio": float(np.median(list(ratios.values()))),
                "largest_ratio": max(ratios.values()),
                "slowest_family": max(ratios, key=lambda family: ratios[family]),
            }
        )
    return summary


def family_ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median ratio of every family."""
    families = dict.fromkeys(row["family"] for row in rows)
    return {
        family: median(row["ratio"] for row in rows if row["family"] == family)
        for family in families
    }


def lower(row: Row) -> bool:
    """Whether an objective is below the best known by more than rounding."""
    return bool(row["objective"] < row["best"] * (1 - 1e-6))


def factor(row: Row) -> float:
    """Return objective over best known; 1 where both count as 0."""
    floor = LEVELS["above_1"][1] * row["product"]
    return max(row["objective"], floor) / max(row["best"], floor)


def table(summary: Sequence[Row]) -> str:
    """Lay the sets and methods out."""
    header = ["set", "method", "pairs", "above 1 %", "above 2", "below best"]
    header += ["time", "slowest family", "its time"]
    rows = [
        [
            *(row[name] for name in ("set", "method", "pairs")),
            *(f"{row[level]} ({row[level] / row['pairs']:.0%})" for level in LEVELS),
            row["lower"],
            f"{row['ratio']:.3g}",
            row["slowest_family"],
            f"{row['largest_ratio']:.3g}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def family_table(trials: Sequence[Row]) -> str:
    """Lay out every family: pairs above both levels and the time of every method."""
    methods = list(dict.fromkeys(row["method"] for row in trials))
    keys = dict.fromkeys((row["set"], row["family"]) for row in trials)
    lines = []
    for key in sorted(keys, key=lambda key: SETS.index(key[0])):
        chosen = [row for row in trials if (row["set"], row["family"]) == key]
        seeds = {row["seed"] for row in chosen}
        cells = []
        for method in methods:
            rows = [row for row in chosen if row["method"] == method]
            if not rows:
                cells.append("")
                continue
            above = "/".join(str(sum(row[level] for row in rows)) for level in LEVELS)
            ratio = median(row["ratio"] for row in rows)
            pairs = f" of {len(rows)}" if len(rows) < len(seeds) else ""
            cells.append(f"{above}{pairs}, {ratio:.3g}")
        lines.append([*key, len(seeds), *cells])
    return report.markdown_table(["set", "family", "pairs", *methods], lines)


def draw(trials: Sequence[Row], path: Path) -> None:
    """Draw the performance profile: one line a method, over all pairs."""
    methods = list(dict.fromkeys(row["method"] for row in trials))
    with report.figure_style():
        figure = Figure(figsize=(7.5, 4))
        axes = figure.subplots()
        for k, method in enumerate(methods):
            rows = [row for row in trials if row["method"] == method]
            factors = np.array([factor(row) for row in rows])
            # A last digit is no factor.
            shares = [np.mean(factors <= most * (1 + 1e-6)) for most in FACTORS]
            style = "-" if method in (SINGLE, "Sinkhorn", DEFAULT) else "--"
            axes.plot(FACTORS, shares, style, color=f"C{k}", label=method)
        axes.set(xscale="log", xlabel="objective over the best known", ylim=(0, 1.02))
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.set_ylabel("share of pairs within the factor")
        figure.legend(loc="outside right upper", title="dashed: with POT")
        figure.savefig(path)


def publish(folder: Path) -> None:
    """Write the summary, the Markdown and the figure, and print the tables."""
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    ott = "" if find_spec("ott") else "\n- OTT-JAX is not installed and was not run."
    cells = "Pairs above 1 % / above 2, then the median time."
    text = "\n\n".join(
        [NOTES + ott, table(summary), "## Families", cells, family_table(trials)]
    )
    (folder / "hard_pairs.md").write_text(f"# Search on hard pairs\n\n{text}\n")
    draw(trials, folder / "hard_pairs.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, partial(run, folder, arguments.quick), publish
    )


if __name__ == "__main__":
    sys.exit(main())
