"""Tables of the random pairs that the watchdog solved: by solver, kind and outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from simulations import _report as report
from simulations._report import Row
from simulations.random_pairs import SOLVERS
from simulations.random_spaces import KINDS

# Outcomes that must not happen.
BROKEN = ("hang", "crash", "nan", "infeasible", "crossed")
# Solving a program of more entries than this grows a set of arcs.
LARGE = 90_000
MOST_BROKEN, MOST_REFUSED, MOST_SLOW = 100, 20, 20  # pairs that are listed
NOTES = (
    "- hang: killed; crash: an exception that is no sentence, or a process that ended; "
    "nan: a number that is not finite;\n"
    "  infeasible: a plan that misses its marginals; "
    "crossed: a lower bound above the upper one. Others are answers, by status.\n"
    "- refused: a ValueError or MemoryError that says in a sentence what is wrong. "
    "All pairs are valid: it should be rare.\n"
    "- One pair again, with its traceback: "
    "`python -m simulations.watchdog --only INDEX --seed SEED`."
)


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return, for each solver, how many pairs had which outcome, and what they took."""
    statuses = sorted({row["status"] for row in _with_outcome("answer", trials)})
    rows = []
    for solver in SOLVERS:
        group = [row for row in trials if row["solver"] == solver]
        outcomes = Counter([row["outcome"] for row in group])
        answered = Counter([row["status"] for row in _with_outcome("answer", group)])
        seconds = [row["seconds"] for row in group] or [float("nan")]
        row: Row = {"solver": solver, "pairs": len(group)}
        for name in ("answer", "refused", *BROKEN):
            row[name] = outcomes[name]
        for name in statuses:
            row[name] = answered[name]
        row["median_s"] = float(np.median(seconds))
        row["largest_s"] = float(max(seconds))
        rows.append(row)
    return rows


def _with_outcome(name: str, trials: Iterable[Row]) -> list[Row]:
    return [row for row in trials if row["outcome"] == name]


def by_solver(summary: Sequence[Row]) -> str:
    """Lay out the summary."""
    rows = []
    for row in summary:
        shown = [f"{v:.3g}" if isinstance(v, float) else v for v in row.values()]
        rows.append(shown)
    return report.markdown_table(list(summary[0]), rows)


def by_kind(trials: Sequence[Row]) -> str:
    """Lay out how many sides there are of each kind and size."""
    count: Counter[tuple[str, int]] = Counter()
    for row in trials:
        count[row["kind_x"], row["size_x"]] += 1
        count[row["kind_y"], row["size_y"]] += 1
    sizes = sorted({size for _, size in count})
    rows = []
    for kind in KINDS:
        numbers = [count[kind, size] for size in sizes]
        rows.append([kind, *numbers, sum(numbers)])
    names = [str(size) for size in sizes]
    return report.markdown_table(["kind", *names, "all"], rows)


def listed(trials: Sequence[Row]) -> str:
    """Lay out single pairs."""
    if not trials:
        return "none"
    before = ("index", "outcome", "status")
    after = ("solver", "dtype", "units", "relation")
    rows = []
    for row in trials:
        x = f"{row['kind_x']} {row['size_x']} {row['weight_x']}"
        y = f"{row['kind_y']} {row['size_y']} {row['weight_y']}"
        message = str(row["message"])[:100].replace("|", "/")
        shown = [row[name] for name in before]
        shown.append(f"{row['seconds']:.1f}")
        shown += [row[name] for name in after]
        rows.append([*shown, f"{x} x {y}", message])
    names = [*before, "seconds", *after, "pair", "message"]
    return report.markdown_table(names, rows)


def shares(trials: Sequence[Row]) -> str:
    """Say how many pairs there are of what."""
    large = [row for row in trials if row["size_x"] * row["size_y"] > LARGE]
    lines = [f"- n · m above {LARGE:,}: {len(large)} of {len(trials)} pairs."]
    for name in ("relation", "units", "dtype", "weight_x", "outcome"):
        counts = Counter([row[name] for row in trials]).most_common()
        lines.append(f"- {name}: {_counted(counts)}.")
    messages = [str(row["message"]) for row in _with_outcome("answer", trials)]
    categories = [message.split(":")[0] for message in messages if message]
    warned = _counted(Counter(categories).items()) or "none"
    lines.append(f"- warnings other than ConvergenceWarning: {warned}")
    return "\n".join(lines)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join([f"{count} {name}" for name, count in counts])


def publish(folder: Path) -> int:
    """Write and print the summary and the Markdown of all pairs in the folder.

    Returns
    -------
    int
        How many pairs are broken.
    """
    trials = report.resume_rows(folder / "trials.csv")
    trials = sorted(trials, key=lambda row: int(row["index"]))
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    broken = [row for row in trials if row["outcome"] in BROKEN]
    refused = _with_outcome("refused", trials)
    slowest = sorted(trials, key=lambda row: -row["seconds"])
    parts = [
        NOTES,
        "## Pairs",
        shares(trials),
        "## Solvers",
        by_solver(summary),
        "## Sides by kind and size",
        by_kind(trials),
        f"## Broken: {len(broken)}",
        listed(broken[:MOST_BROKEN]),
        "## Refused",
        listed(refused[:MOST_REFUSED]),
        "## Slowest",
        listed(slowest[:MOST_SLOW]),
    ]
    text = "\n\n".join(parts)
    markdown = f"# Random pairs under a time limit\n\n{text}\n"
    (folder / "watchdog.md").write_text(markdown)
    print(text, f"Written to {folder}.", sep="\n\n")
    return len(broken)
