"""Report of what teachers know in each domain, and where they agree or conflict.

It helps to choose and weigh teachers. Everything is read from the stores; no model or
tokenizer is needed. Likelihoods are in nats a *byte*, as tokens of different
vocabularies are not of one length. Two teachers are compared at the positions where
both predict the same next byte:

- hit: the teacher's likeliest token is the one that follows;
- agreement: the share of compared positions at which both hit or both miss;
- conflict: the share at which one hits and the other, with a probability above 1/2,
  predicts another token. Weighing or leaving out a teacher pays where this is large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion._extras import needed_by
from fusion.teachers.store import TeacherRows
from fusion.text.align import align
from fusion.text.conversations import Example

# Rows of one teacher by ``Example.key``.
Held = Mapping[str, TeacherRows]

# Relative spacing of float16: the precision of the stored logits and likelihoods.
_HALF_PRECISION = 2.0**-10


class Store(Protocol):
    """What a report or a batch asks of a `fusion.TeacherStore`."""

    def __contains__(self, key: str, /) -> bool:
        """Tell whether there are rows for this key."""

    def __getitem__(self, key: str, /) -> TeacherRows:
        """Return the rows for this key."""


@dataclass(frozen=True)
class Knowledge:
    """One teacher in one domain.

    Attributes
    ----------
    domain, teacher : str
        Names of both.
    examples, tokens : int
        How many of the domain the teacher's store holds.
    nll : float
        Negative log-likelihood of the completions, in nats a byte. A completion that
        the capture cut counts as far as its tokens reach.
    hits : float
        Share of tokens that the teacher ranks first.
    """

    domain: str
    teacher: str
    examples: int
    tokens: int
    nll: float
    hits: float


@dataclass(frozen=True)
class Relation:
    """Two teachers in one domain, where both predict the same next byte.

    Attributes
    ----------
    domain, first, second : str
        Names of the domain and of the teachers.
    positions : int
        How many were compared.
    agreement, conflict : float
        Shares of them; NaN where there is none.
    """

    domain: str
    first: str
    second: str
    positions: int
    agreement: float
    conflict: float


@dataclass(frozen=True)
class Report:
    """All teachers in all domains.

    Attributes
    ----------
    knowledge : tuple of Knowledge
        One for each domain and teacher whose store holds examples of it.
    relations : tuple of Relation
        One for each pair of teachers and each domain.
    """

    knowledge: tuple[Knowledge, ...]
    relations: tuple[Relation, ...]

    def __str__(self) -> str:
        """Lay both tables out in Markdown."""
        lines = [
            "| domain | teacher | examples | tokens | NLL, nats a byte | hits |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for k in self.knowledge:
            lines.append(
                f"| {k.domain} | {k.teacher} | {k.examples} | {k.tokens} "
                f"| {k.nll:.3f} | {_percent(k.hits)} |"
            )
        # A single teacher has no relations: the header of their table is left out, too.
        if self.relations:
            lines += [
                "",
                "| domain | teachers | positions | agreement | conflict |",
                "|---|---|---:|---:|---:|",
            ]
        for r in self.relations:
            lines.append(
                f"| {r.domain} | {r.first}, {r.second} | {r.positions} "
                f"| {_percent(r.agreement)} | {_percent(r.conflict)} |"
            )
        return "\n".join(lines)


def _percent(share: float) -> str:
    """Write a share; a dash where there is none, since nothing was compared."""
    return "–" if np.isnan(share) else f"{share:.1%}"


def report(stores: Mapping[str, Store], examples: Iterable[Example]) -> Report:
    """Compare teachers on the examples that their stores hold.

    Parameters
    ----------
    stores : mapping of str to TeacherStore
        Teachers by name; the student may be one of them.
    examples : iterable of Example
        Their ``domain`` says where they are counted.

    Returns
    -------
    Report
        In the order of the stores and of the domains' first examples.

    Raises
    ------
    ValueError
        If no store holds any of the examples.
    """
    domains: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        domains[example.domain].append(example)

    # All rows are read once, before anything is compared: a teacher enters one line of
    # the first table, and a line of the second for each other teacher.
    held: dict[tuple[str, str], Held] = {}  # by domain and teacher
    for domain, members in domains.items():
        for teacher, store in stores.items():
            held[domain, teacher] = _held(store, members)
    if not any(held.values()):
        names = ", ".join(stores) or "no store"
        raise ValueError(
            f"Some store must hold some of the examples, but {names} holds none: "
            "capture this data set first."
        )

    knowledge = []
    for (domain, teacher), rows in held.items():
        # The likelihood of no text at all is undefined: such a teacher has no line.
        if rows:
            line = _knowledge(domain, teacher, rows)
            knowledge.append(line)
    relations = []
    for domain in domains:
        for first, second in combinations(stores, 2):
            relation = _relation(
                domain,
                first,
                second,
                held[domain, first],
                held[domain, second],
            )
            relations.append(relation)
    return Report(tuple(knowledge), tuple(relations))


def _held(store: Store, examples: Iterable[Example]) -> Held:
    """Read what a store holds of some examples; repeated ones count once."""
    held = {}
    for example in examples:
        key = example.key
        if key in store:
            held[key] = store[key]
    return held


def _knowledge(domain: str, teacher: str, held: Held) -> Knowledge:
    """Count one line of the first table."""
    nll_of_examples = []  # in nats
    sizes = []  # in bytes
    hits_of_examples = []
    for rows in held.values():
        # Sums of float16 numbers are made in float64: a long completion has more nats
        # than float16 can tell apart.
        nll_of_tokens = _wide(rows.nll)  # (n,)
        nll = float(nll_of_tokens.sum())
        nll_of_examples.append(nll)
        # A capture with ``max_length`` may cover the beginning of the text alone: bytes
        # without likelihood would make such a teacher look too good.
        covered = rows.ends.max(initial=0)
        sizes.append(int(covered))
        hits_of_examples.append(_hits(rows))
    hits = np.concatenate(hits_of_examples)  # (tokens,)
    # End tokens cover no byte, and there may be no other token.
    size = max(1, sum(sizes))
    return Knowledge(
        domain=domain,
        teacher=teacher,
        examples=len(held),
        tokens=len(hits),
        nll=sum(nll_of_examples) / size,
        hits=_share(hits),
    )


def _relation(
    domain: str,
    first: str,
    second: str,
    held_first: Held,
    held_second: Held,
) -> Relation:
    """Count one line of the second table, over the examples that both teachers saw."""
    # The empty arrays make teachers without a common example concatenable, too.
    agreement_of_examples = [np.zeros(0, bool)]
    conflict_of_examples = [np.zeros(0, bool)]
    for key in held_first.keys() & held_second.keys():
        x = held_first[key]
        y = held_second[key]
        # Tokens of both that start at the same byte predict the same next byte.
        at_x, at_y = align(
            x.ends,
            y.ends,
            student_start=x.start,
            teacher_start=y.start,
        )  # (p,) each

        hits_x = _hits(x)[at_x]
        hits_y = _hits(y)[at_y]
        agreement_of_examples.append(hits_x == hits_y)

        surely_wrong_x = ~hits_x & _confident(x)[at_x]
        surely_wrong_y = ~hits_y & _confident(y)[at_y]
        x_against_y = hits_x & surely_wrong_y
        y_against_x = hits_y & surely_wrong_x
        conflict_of_examples.append(x_against_y | y_against_x)
    agreement = np.concatenate(agreement_of_examples)  # (positions,)
    conflict = np.concatenate(conflict_of_examples)
    return Relation(
        domain=domain,
        first=first,
        second=second,
        positions=len(agreement),
        agreement=_share(agreement),
        conflict=_share(conflict),
    )


def _share(marks: NDArray[np.bool_]) -> float:
    """Share of marked positions; NaN where there is no position at all."""
    # NumPy's mean of nothing is NaN, too, but comes with a warning.
    if len(marks) == 0:
        return np.nan
    return float(marks.mean())


def _hits(rows: TeacherRows) -> NDArray[np.bool_]:
    """Tell where the target is the likeliest token, up to the rounding of float16."""
    # Stores keep no ids of targets. So the target's likelihood is compared with the
    # likeliest token's: where both are one token, they are one number, rounded twice.
    nll = _wide(rows.nll)  # (n,), in nats
    magnitude = np.abs(nll) + np.abs(_top_logit(rows))
    if rows.format == 1:
        # Logits were rounded with the number that is added to all of their row.
        magnitude += np.abs(_wide(rows.shift))
    rounding = _HALF_PRECISION * magnitude
    return nll <= _top_nll(rows) + rounding


def _confident(rows: TeacherRows) -> NDArray[np.bool_]:
    """Tell where the likeliest token has a probability above 1/2."""
    confident = _top_nll(rows) < np.log(2.0)
    return np.asarray(confident)


def _top_nll(rows: TeacherRows) -> NDArray[np.float64]:
    """Negative log-probability of the likeliest token."""
    return _wide(rows.logsumexp) - _top_logit(rows)


def _top_logit(rows: TeacherRows) -> NDArray[np.float64]:
    """Logit of the likeliest token, less the shift: values are in descending order."""
    return _wide(rows.values[:, 0])


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    """Convert stored numbers to the precision that the report computes in."""
    return values.astype(np.float64)


class _Panel(NamedTuple):
    """One table of the heatmap, as cells (domain, column, number)."""

    title: str
    colours: str  # name of a colour map of Matplotlib
    cells: list[tuple[str, str, float]]

    def columns(self) -> list[str]:
        """Names of the columns, from left to right."""
        columns = [column for _, column, _ in self.cells]
        return _distinct(columns)

    def table(self, domains: list[str]) -> NDArray[np.float64]:
        """Numbers by domain and column; NaN where there is none."""
        columns = self.columns()
        shape = (len(domains), len(columns))
        table = np.full(shape, np.nan)
        for domain, column, number in self.cells:
            # Pairs are listed for every domain, also where no store holds its examples.
            if domain not in domains:
                continue
            i = domains.index(domain)
            j = columns.index(column)
            table[i, j] = number
        return table


def heatmap(found: Report, path: str | Path) -> None:
    """Draw the tables of a report, domains by teachers and by pairs of teachers.

    The panels are the negative log-likelihood and, for several teachers, agreement and
    conflict.

    Parameters
    ----------
    found : Report
        What to draw.
    path : path
        Image file to write; the suffix says the format.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    with needed_by("fusion.teachers.report.heatmap"):
        from matplotlib.figure import Figure

    panels = _panels(found)
    domains_of_cells = [k.domain for k in found.knowledge]
    domains = _distinct(domains_of_cells)
    widths = [len(panel.columns()) for panel in panels]  # in cells

    # Sizes are in inches: margins, and a fixed size for each cell and colour bar.
    width = 2.0 + 0.9 * sum(widths) + 1.2 * len(panels)
    height = 1.6 + 0.35 * len(domains)
    figure = Figure(
        figsize=(width, height),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(
        1,
        len(panels),
        squeeze=False,
        width_ratios=widths,
    )
    for ax, panel in zip(axes[0], panels, strict=True):
        _draw(figure, ax, panel, domains)
    figure.savefig(path)


def _panels(found: Report) -> list[_Panel]:
    """List the panels of a heatmap from left to right."""
    likelihoods = []
    for k in found.knowledge:
        cell = (k.domain, k.teacher, k.nll)
        likelihoods.append(cell)
    panels = [_Panel("NLL, nats a byte", "viridis_r", likelihoods)]
    # A single teacher has no relations, and a panel without columns cannot be drawn.
    if not found.relations:
        return panels

    agreements = []
    conflicts = []
    for r in found.relations:
        pair = f"{r.first}, {r.second}"
        agreement = (r.domain, pair, r.agreement)
        conflict = (r.domain, pair, r.conflict)
        agreements.append(agreement)
        conflicts.append(conflict)
    panels.append(_Panel("agreement", "Blues", agreements))
    panels.append(_Panel("conflict", "Reds", conflicts))
    return panels


def _distinct(names: Iterable[str]) -> list[str]:
    """Drop repetitions; names stay in the order of their first occurrence."""
    return list(dict.fromkeys(names))


def _draw(figure: Any, ax: Any, panel: _Panel, domains: list[str]) -> None:
    """Draw a panel as coloured cells that show their numbers."""
    columns = panel.columns()
    table = panel.table(domains)
    known = np.isfinite(table)
    # NaN is masked: a teacher that did not see a domain has an empty cell.
    image = ax.imshow(
        np.ma.masked_invalid(table),
        cmap=panel.colours,
        aspect="auto",
        vmin=0.0,
    )
    ax.set_title(panel.title, fontsize=9)
    ax.set_xticks(
        range(len(columns)),
        columns,
        rotation=30,
        ha="right",
        fontsize=8,
    )
    rows = [domain or "(no domain)" for domain in domains]
    ax.set_yticks(
        range(len(rows)),
        rows,
        fontsize=8,
    )

    # Colours run from light at 0 to dark at the largest number: text is white on the
    # darker half.
    middle = 0.0
    if known.any():
        middle = np.nanmax(table) / 2.0
    for (i, j), number in np.ndenumerate(table):
        if not known[i, j]:
            continue
        ax.text(
            j,
            i,
            f"{number:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if number > middle else "black",
        )
    figure.colorbar(image, ax=ax, shrink=0.9)
