"""What teachers know in each domain, and where they agree or contradict each other: to choose and weigh sources by.

Everything is read from the stores; no model or tokenizer is needed. Likelihoods are in
nats a *byte*, as tokens of different vocabularies are not of one length. Two teachers
are compared at the positions where both predict the same next byte:

- hit: the teacher's likeliest token is the one that follows;
- agreement: the share of compared positions at which both hit or both miss;
- conflict: the share at which one hits and the other, with a probability above 1/2,
  holds to another token. Weighing or leaving out a source pays where this is large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion._extras import needed_by
from fusion.teachers.store import TeacherRows
from fusion.text.align import align
from fusion.text.conversations import Example


class Store(Protocol):
    """What is read of a `fusion.TeacherStore`."""

    def __contains__(self, key: str, /) -> bool: ...
    def __getitem__(self, key: str, /) -> TeacherRows: ...


@dataclass(frozen=True)
class Knowledge:
    """One teacher in one domain.

    Attributes
    ----------
    domain, teacher : str
    examples, tokens : int
        How many of the domain the teacher's store holds.
    nll : float
        Negative log-likelihood of the completions, in nats a byte.
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
    """Two teachers in one domain, at the positions where both predict the same next byte.

    Attributes
    ----------
    domain, first, second : str
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
        lines += [
            f"| {k.domain} | {k.teacher} | {k.examples} | {k.tokens} | {k.nll:.3f} | {k.hits:.1%} |"
            for k in self.knowledge
        ]
        if self.relations:
            lines += [
                "",
                "| domain | teachers | positions | agreement | conflict |",
                "|---|---|---:|---:|---:|",
            ]
            lines += [
                f"| {r.domain} | {r.first}, {r.second} | {r.positions} | {r.agreement:.1%} | {r.conflict:.1%} |"
                for r in self.relations
            ]
        return "\n".join(lines)


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
    rows = {
        (domain, name): {e.key: (e, store[e.key]) for e in found if e.key in store}
        for domain, found in domains.items()
        for name, store in stores.items()
    }
    if not any(rows.values()):
        raise ValueError(
            f"Some store must hold some of the examples, but {', '.join(stores) or 'no store'} holds none: "
            "capture this data set first."
        )
    knowledge = [
        _knowledge(domain, name, list(held.values()))
        for (domain, name), held in rows.items()
        if held
    ]
    pairs = [(domain, *pair) for domain in domains for pair in combinations(stores, 2)]
    relations = [_relation(d, a, b, rows[d, a], rows[d, b]) for d, a, b in pairs]
    return Report(tuple(knowledge), tuple(relations))


Held = Mapping[str, tuple[Example, TeacherRows]]


def _knowledge(
    domain: str, teacher: str, held: Sequence[tuple[Example, TeacherRows]]
) -> Knowledge:
    nll = sum(float(rows.nll.astype(np.float64).sum()) for _, rows in held)
    size = sum(len(example.completion.encode()) for example, _ in held)
    hits = np.concatenate([_hits(rows) for _, rows in held])
    return Knowledge(
        domain, teacher, len(held), len(hits), nll / size, float(hits.mean())
    )


def _relation(domain: str, first: str, second: str, a: Held, b: Held) -> Relation:
    same, clash = [np.zeros(0, bool)], [np.zeros(0, bool)]
    for key in a.keys() & b.keys():
        rows = a[key][1], b[key][1]
        aligned = align(rows[0].ends, rows[1].ends)
        hits = [_hits(r)[at] for r, at in zip(rows, aligned, strict=True)]
        sure = [_confident(r)[at] for r, at in zip(rows, aligned, strict=True)]
        same.append(hits[0] == hits[1])
        clash.append((hits[0] & ~hits[1] & sure[1]) | (hits[1] & ~hits[0] & sure[0]))
    agreement, conflict = np.concatenate(same), np.concatenate(clash)
    if not len(agreement):
        return Relation(domain, first, second, 0, np.nan, np.nan)
    return Relation(
        domain,
        first,
        second,
        len(agreement),
        float(agreement.mean()),
        float(conflict.mean()),
    )


def _top_nll(rows: TeacherRows) -> NDArray[np.float64]:
    """Negative log-probability of the likeliest token."""
    return rows.logsumexp.astype(np.float64) - rows.values[:, 0].astype(np.float64)


def _hits(rows: TeacherRows) -> NDArray[np.bool_]:
    """Whether the target is the likeliest token: its likelihood is the largest, up to the rounding of float16."""
    rounding = 2.0**-10 * (
        np.abs(rows.values[:, 0].astype(np.float64))
        + np.abs(rows.nll.astype(np.float64))
    )
    return rows.nll.astype(np.float64) <= _top_nll(rows) + rounding


def _confident(rows: TeacherRows) -> NDArray[np.bool_]:
    return np.asarray(_top_nll(rows) < np.log(2.0))


def heatmap(found: Report, path: str | Path) -> None:
    """Draw the report: NLL by domain and teacher and, for several teachers, agreement and conflict by domain and pair.

    Parameters
    ----------
    found : Report
    path : path
        Image file to write; the suffix says the format.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    with needed_by("fusion.teachers.report.heatmap"):
        from matplotlib.figure import Figure

    panels: list[tuple[str, Sequence[Any], Callable[[Any], str], str, str]] = [
        (
            "NLL, nats a byte",
            found.knowledge,
            lambda k: str(k.teacher),
            "nll",
            "viridis_r",
        )
    ]
    if found.relations:
        panels += [
            (name, found.relations, lambda r: f"{r.first}, {r.second}", name, colours)
            for name, colours in (("agreement", "Blues"), ("conflict", "Reds"))
        ]
    domains = list(dict.fromkeys(k.domain for k in found.knowledge))
    columns = [
        list(dict.fromkeys(map(label, cells))) for _, cells, label, _, _ in panels
    ]
    width = 2.0 + 0.9 * sum(map(len, columns)) + 1.2 * len(panels)
    figure = Figure(
        figsize=(width, 1.6 + 0.35 * len(domains)), dpi=150, layout="constrained"
    )
    axes = figure.subplots(
        1, len(panels), squeeze=False, width_ratios=list(map(len, columns))
    )[0]
    for ax, names, (title, cells, label, value, colours) in zip(
        axes, columns, panels, strict=True
    ):
        table = np.full((len(domains), len(names)), np.nan)
        for cell in cells:
            if cell.domain in domains:
                table[domains.index(cell.domain), names.index(label(cell))] = getattr(
                    cell, value
                )
        _draw(figure, ax, table, title, names, domains, colours)
    figure.savefig(path)


def _draw(
    figure: Any,
    ax: Any,
    table: NDArray[np.float64],
    title: str,
    columns: list[str],
    rows: list[str],
    colours: str,
) -> None:
    image = ax.imshow(
        np.ma.masked_invalid(table), cmap=colours, aspect="auto", vmin=0.0
    )
    ax.set_title(title, fontsize=9)
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
    ax.set_yticks(range(len(rows)), [row or "(no domain)" for row in rows], fontsize=8)
    middle = np.nanmax(table) / 2.0 if np.isfinite(table).any() else 0.0
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = value > middle
            ax.text(
                j,
                i,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    figure.colorbar(image, ax=ax, shrink=0.9)
