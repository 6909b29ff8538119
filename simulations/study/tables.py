"""Tables of the study, as Markdown.

Accuracies are in %, differences of accuracies in percentage points. What is planned is
a list of cells, each with its family, arm, seed and teacher: it gives the order of
families and arms, and how many cells there should be. "–" stands where cells are
missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from simulations._report import Row, markdown_table
from simulations.study import statistics
from simulations.study.statistics import Differences

MISSING = "–"
LABELS, SEQUENCE = "labels", "sequence"
AGAINST = (LABELS, SEQUENCE)
PRIMARY_FAMILIES = ("multistep_arithmetic", "causal_judgement", "dyck_languages")
COMPARISONS = (
    ("uld_gld", "uld"),
    ("uld", LABELS),
    ("uld_gld", LABELS),
    ("uld", SEQUENCE),
    ("uld_gld", SEQUENCE),
)
POOLED = "mean of the families"
INTERVAL_NOTE = (
    "Intervals are 95 % t-intervals over seeds, of the mean of the families' means; p "
    "is of a paired sign-flip permutation test."
)
Words = Mapping[str, str]


def accuracy_table(
    rows: Sequence[Row],
    teachers: Sequence[Row],
    planned: Sequence[Row],
    words: Words | None = None,
) -> str:
    """Lay out mean ± standard error over seeds of each arm, a column a family.

    Above them what guessing and the best teacher give.
    """
    families, arms = _names(planned, "family"), _names(planned, "arm")
    lines = [
        ["majority", *(_percent(_of_family(rows, f, "majority")) for f in families)],
        ["chance", *(_percent(_of_family(rows, f, "chance")) for f in families)],
        ["best teacher", *(_percent(_best(teachers, f)) for f in families)],
    ]
    for arm in arms:
        scores = statistics.accuracies(rows, arm)
        line = [_worded(words, arm)]
        for family in families:
            line.append(
                _mean_and_error([a for (f, _), a in scores.items() if f == family])
            )
        lines.append(line)
    header = ["accuracy, %", *(family.replace("_", " ") for family in families)]
    return _with_count(markdown_table(header, lines), rows, planned)


def gain_rows(
    rows: Sequence[Row],
    planned: Sequence[Row],
    families: Sequence[str] | None = None,
) -> list[Row]:
    """Return what every arm gains over labels, and over sequence-level distillation.

    A row for each arm and each of the two, those of one after the other: gain, low and
    high as shares, p-values, those adjusted by Holm within one of the two, and a
    verdict by the interval; empty where no pair is recorded.
    """
    found = []
    for against in AGAINST:
        arms = [arm for arm in _names(planned, "arm") if arm != against]
        of_arms = [statistics.paired(rows, arm, against, families) for arm in arms]
        gains = [_gain(arm, against, d) for arm, d in zip(arms, of_arms, strict=True)]
        adjusted = statistics.holm([gain["p"] for gain in gains])
        for gain, p in zip(gains, adjusted, strict=True):
            found.append(gain | {"adjusted_p": float(p)})
    return found


def _gain(arm: str, against: str, differences: Differences) -> Row:
    """Gain of an arm over another: interval, p-value and verdict."""
    found = statistics.interval(differences)
    return {
        "arm": arm,
        "against": against,
        "families": found.families,
        "pairs": found.pairs,
        "gain": found.mean,
        "low": found.low,
        "high": found.high,
        "error": found.error,
        "degrees": found.degrees,
        "verdict": statistics.verdict(found) if found.pairs else "",
        "p": statistics.permutation_p(differences),
    }


def gain_table(
    gains: Sequence[Row],
    rows: Sequence[Row],
    planned: Sequence[Row],
    words: Words | None = None,
) -> str:
    """Lay out `gain_rows`: a table against labels, one against sequence-level."""
    header = ["arm", "families", "pairs", "gain, points", "95 % interval"]
    header += ["p", "adjusted p", "verdict"]
    parts = []
    for against in AGAINST:
        lines = []
        for gain in gains:
            if gain["against"] == against:
                start = [_worded(words, gain["arm"]), gain["families"], gain["pairs"]]
                end = [_p(gain["p"]), _p(gain["adjusted_p"])]
                end.append(gain["verdict"] or MISSING)
                lines.append(start + _interval(gain) + end)
        title = f"Gain over {_worded(words, against)}:"
        parts.append(f"{title}\n\n{markdown_table(header, lines)}")
    note = (
        f"{INTERVAL_NOTE} The verdict is that of the interval alone; adjusted p are "
        "Holm's over the arms of a table."
    )
    return _with_count("\n\n".join([*parts, note]), rows, planned)


def primary_rows(
    rows: Sequence[Row], families: Sequence[str] = PRIMARY_FAMILIES
) -> list[Row]:
    """Return the primary comparisons: a row a family, and one of their mean.

    `resolved` is the smallest true difference that a t-test with this standard error
    and these degrees of freedom finds with probability 0.8. Holm's correction is over
    the comparisons of the means.
    """
    found = []
    for arm, against in COMPARISONS:
        differences = statistics.paired(rows, arm, against, families)
        parts = {f: {f: differences[f]} for f in families if f in differences}
        for family in (*families, POOLED):
            of_family = differences if family == POOLED else parts.get(family, {})
            gain = _gain(arm, against, of_family)
            resolved = math.nan
            if math.isfinite(gain["error"]):
                n = gain["degrees"] + 1
                resolved = statistics.power(gain["error"] * math.sqrt(n), n)
            found.append(gain | {"family": family, "resolved": resolved})
    # The tests of the study are those of the means: one for each comparison.
    pooled = [row for row in found if row["family"] == POOLED]
    adjusted = statistics.holm([row["p"] for row in pooled])
    for row, p in zip(pooled, adjusted, strict=True):
        row["adjusted_p"] = float(p)
    return found


def primary_table(
    rows: Sequence[Row],
    planned: Sequence[Row],
    words: Words | None = None,
    families: Sequence[str] = PRIMARY_FAMILIES,
) -> str:
    """Lay out the primary comparisons, by family and over all of them."""
    header = ["comparison", "family", "pairs", "gain, points", "95 % interval", "p"]
    header += ["adjusted p", "verdict", "standard error", "found with power 0.8 from"]
    lines = []
    for row in primary_rows(rows, families):
        name = f"{_worded(words, row['arm'])} against {_worded(words, row['against'])}"
        family = row["family"].replace("_", " ")
        if row["family"] == POOLED and 0 < row["families"] < len(families):
            family = f"mean of {row['families']} of {len(families)} families"
        start = [name, family, row["pairs"]]
        end = [_p(row["p"]), _p(row.get("adjusted_p", math.nan))]
        end.append(row["verdict"] or MISSING)
        spread = [_number(100 * row[key], ".1f") for key in ("error", "resolved")]
        lines.append(start + _interval(row) + end + spread)
    arms = {arm for pair in COMPARISONS for arm in pair}
    asked = [r for r in planned if r["family"] in families and r["arm"] in arms]
    return _with_count(
        f"{markdown_table(header, lines)}\n\n{INTERVAL_NOTE}", rows, asked
    )


def tuning_table(rows: Sequence[Row], words: Words | None = None) -> str:
    """Lay out the values that were tried of each arm, and their validation accuracy.

    Chosen is the best; of equally good ones, the smallest.
    """
    lines = []
    for arm in _names(rows, "arm"):
        tried = sorted(
            (row for row in rows if row["arm"] == arm), key=lambda row: row["value"]
        )
        scored = [row for row in tried if statistics.is_scored(row)]
        chosen = MISSING
        if scored:
            best = max(scored, key=lambda row: (row["accuracy"], -row["value"]))
            chosen = f"{best['value']:g}"
        values = " / ".join(f"{row['value']:g}" for row in tried)
        scores = " / ".join(_percent(_number_of(row)) for row in tried)
        family = ", ".join(_names(tried, "family")).replace("_", " ")
        lines.append([_worded(words, arm), family, values, scores, chosen])
    header = ["arm", "family", "values", "validation accuracy, %", "chosen"]
    return markdown_table(header, lines)


def teachers_table(rows: Sequence[Row], teachers: Sequence[Row]) -> str:
    """Lay out what every teacher, guessing and the student before give, by family."""
    names = _names(teachers, "teacher")
    of = {(row["teacher"], row["family"]): row for row in teachers}
    before = statistics.accuracies(rows, "before")
    lines = []
    for family in _names(teachers, "family"):
        scores = [a for (f, _), a in before.items() if f == family]
        some = next(row for row in teachers if row["family"] == family)
        lines.append(
            [
                family.replace("_", " "),
                *(_percent(_number_of(of.get((name, family), {}))) for name in names),
                _mean_and_error(scores),
                _percent(some["majority"]),
                _percent(some["chance"]),
            ]
        )
    header = ["accuracy, %", *(f"teacher {name}" for name in names)]
    header += ["student before", "majority", "chance"]
    return markdown_table(header, lines)


def choices_table(rows: Sequence[Row]) -> str:
    """Lay out the teachers' likelihoods of right answers, and who is chosen by them."""
    names = _names(rows, "teacher")
    lines = []
    for family in _names(rows, "family"):
        own = [row for row in rows if row["family"] == family]
        of = {row["teacher"]: row for row in own}
        lines.append(
            [
                family.replace("_", " "),
                *(_number(of[name]["nll"], ".2f") for name in names),
                ", ".join(row["teacher"] for row in own if row["knows"]),
                ", ".join(row["teacher"] for row in own if row["chosen"]) or MISSING,
            ]
        )
    header = ["family", *(f"{name}, nats a byte" for name in names)]
    return markdown_table([*header, "taught it", "chosen"], lines)


def cost_table(rows: Sequence[Row], teachers: Sequence[Row]) -> str:
    """Lay out core-hours: of the teachers, and of the cells of each stage."""
    # A teacher's time is written beside each family that it was asked about.
    of_teachers = {row["teacher"]: row["seconds"] for row in teachers}
    lines = [("teachers", len(of_teachers), sum(of_teachers.values()), math.nan)]
    for stage in _names(rows, "stage"):
        own = [row for row in rows if row["stage"] == stage]
        training = sum(row["seconds"] for row in own)
        answering = sum(row["evaluation_seconds"] for row in own)
        lines.append((stage, len(own), training, answering))
    counts, training, answering = ([line[i] for line in lines] for i in (1, 2, 3))
    lines.append(("all", sum(counts), sum(training), float(np.nansum(answering))))
    header = ["stage", "models", "training, core-hours", "answers, core-hours"]
    return markdown_table(
        header,
        (
            [stage, count, _number(a / 3600, ".2f"), _number(b / 3600, ".2f")]
            for stage, count, a, b in lines
        ),
    )


def recorded(rows: Iterable[Row], planned: Iterable[Row]) -> str:
    """Say how many of the planned cells are recorded."""
    done = {_key(r) for r in rows if r["stage"] != "tuning" and statistics.is_scored(r)}
    asked = {_key(row) for row in planned}
    return f"{len(asked & done)} of {len(asked)} cells are recorded."


def _key(row: Row) -> tuple[str, str, int, str]:
    return row["family"], row["arm"], row["seed"], row["teacher"]


def _with_count(text: str, rows: Sequence[Row], planned: Sequence[Row]) -> str:
    return f"{text}\n\n{recorded(rows, planned)}"


def _names(rows: Iterable[Row], key: str) -> list[str]:
    """Different values of a column, in their order."""
    return list(dict.fromkeys(row[key] for row in rows))


def _worded(words: Words | None, arm: str) -> str:
    return (words or {}).get(arm, arm)


def _of_family(rows: Iterable[Row], family: str, key: str) -> float:
    """A number that all cells of a family have in common."""
    found = (r[key] for r in rows if r["family"] == family and r["stage"] != "tuning")
    return next(found, math.nan)


def _best(teachers: Iterable[Row], family: str) -> float:
    scores = [row["accuracy"] for row in teachers if row["family"] == family]
    return max(scores, default=math.nan)


def _number_of(row: Row) -> float:
    return row["accuracy"] if row and statistics.is_scored(row) else math.nan


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else MISSING


def _percent(value: float) -> str:
    return _number(100 * value, ".1f")


def _p(value: float) -> str:
    return _number(value, ".2g")


def _mean_and_error(scores: Sequence[float]) -> str:
    """Mean ± standard error of accuracies over seeds, in %."""
    if not scores:
        return MISSING
    found = statistics.interval({"": np.array(scores)})
    return f"{_percent(found.mean)} ± {_percent(found.error)}"


def _interval(found: Row) -> list[str]:
    """Cells of a gain and its interval, in percentage points."""
    gain, low, high = (
        _number(100 * found[key], "+z.1f") for key in ("gain", "low", "high")
    )
    return [gain, MISSING if low == MISSING else f"{low} … {high}"]
