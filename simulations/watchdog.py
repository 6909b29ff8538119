"""Whether the solvers answer: random pairs of every kind, each solved in a process that is killed where it takes too long.

Kinds of spaces, weights, units, dtypes, sizes and solvers are drawn independently of
each other, among them all that makes ties, saddles and overflow: 0/1 matrices, shortest
paths over unit edges, relabelled and repeated atoms, weights of 0 and of 1e-6, values
of 1e±150, and sides in units of 1e±8 of each other. What must not happen: hang
(killed), crash (an exception that is no sentence, or a process that ended), nan (a
number that is not finite), infeasible (a plan that misses its marginals), crossed (a
lower bound above the upper one). A pair that is refused in a sentence is counted apart.

    python -m simulations.watchdog --out DIR [--quick] [--seed S] [--pairs N] [--jobs J] [--limit SECONDS]
    python -m simulations.watchdog --only INDEX [--seed S]

The first writes trials.csv (one row a pair, as soon as it is finished: an interrupted
run resumes), summary.csv, meta.json and watchdog.md. The second solves one pair in its
own process, with its traceback.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

PAIRS, QUICK_PAIRS = 10_000, 200
JOBS = 2
LIMIT = 120.0  # seconds for programs of up to 350 x 350; more in proportion
LARGE_EVERY = (
    16  # one pair in so many has a program that is solved on growing sets of arcs
)
BROKEN = ("hang", "crash", "nan", "infeasible", "crossed")
SMALL_SIZES = {
    1: 0.04,
    2: 0.06,
    3: 0.06,
    8: 0.12,
    9: 0.12,
    64: 0.28,
    65: 0.28,
    299: 0.02,
    301: 0.01,
    350: 0.01,
}
LARGE_SIZES = {301: 0.6, 350: 0.37, 1000: 0.03}
WEIGHTS = {
    "uniform": 0.5,
    "dirichlet": 0.2,
    "dominant": 0.1,
    "zeros": 0.1,
    "duplicates": 0.1,
}
# Factors of C and D. Values of float32 reach less far: the squares of its extreme units
# are finite as well.
UNITS = {
    "1": (1.0, 1.0),
    "large": (1e150, 1e150),
    "small": (1e-150, 1e-150),
    "up": (1.0, 1e8),
    "down": (1.0, 1e-8),
}
SINGLE_UNITS = UNITS | {"large": (1e15, 1e15), "small": (1e-15, 1e-15)}
UNIT_SHARES = {"1": 0.6, "large": 0.08, "small": 0.08, "up": 0.12, "down": 0.12}
DTYPES = {"float64": 0.75, "float32": 0.25}
RELATIONS = {"other": 0.4, "same kind": 0.25, "copy": 0.35}
SOLVERS = {
    "default": 0.25,
    "ConditionalGradient": 0.2,
    "Sinkhorn": 0.25,
    "Sinkhorn at epsilon": 0.2,
    "Sorted": 0.1,
}
NOTES = """\
- hang: killed; crash: an exception that is no sentence, or a process that ended; nan: a number that is not finite;
  infeasible: a plan that misses its marginals; crossed: a lower bound above the upper one. Others are answers, by status.
- refused: a ValueError or MemoryError that says in a sentence what is wrong. All pairs are valid: it should be rare.
- One pair again, with its traceback: `python -m simulations.watchdog --only INDEX --seed SEED`."""


@dataclass(frozen=True)
class Raw:
    """A space before its units, weights and dtype: a matrix, points (Euclidean or squared), a factor or a graph's adjacency."""

    form: str
    values: Numbers

    def take(self, index: Numbers) -> Raw:
        """Return the raw space over some atoms in some order, which may repeat."""
        if self.form == "graph" and len(set(index.tolist())) < len(index):
            return Raw("matrix", _paths(self.values)).take(index)
        if self.form in ("matrix", "graph"):
            return Raw(self.form, self.values[np.ix_(index, index)])
        return Raw(
            self.form,
            self.values[:, index] if self.form == "factor" else self.values[index],
        )

    def space(self, unit: float, weights: Numbers | None, dtype: str) -> gw.Space:
        """Return the space with C in a unit."""
        a = None if weights is None else weights.astype(dtype)
        if self.form == "graph" and dtype == "float64":
            return gw.GraphSpace(scipy.sparse.csr_array(self.values) * unit, a)
        if self.form == "factor":
            uniform = np.full(self.values.shape[1], 1 / self.values.shape[1]).astype(
                dtype
            )
            return gw.GramSpace(
                (self.values * unit**0.5).astype(dtype), uniform if a is None else a
            )
        if self.form in ("euclidean", "sqeuclidean"):
            points = self.values * (unit if self.form == "euclidean" else unit**0.5)
            return gw.PointCloud(points.astype(dtype), a, metric=self.form)
        matrix = _paths(self.values) if self.form == "graph" else self.values
        return gw.DenseSpace((matrix * unit).astype(dtype), a)


def _points(rng: np.random.Generator, n: int) -> Numbers:
    return rng.standard_normal((n, int(rng.integers(1, 5))))


def _distances(rng: np.random.Generator, n: int) -> Raw:
    points = _points(rng, n)
    return Raw("matrix", cdist(points, points))


def _cloud(rng: np.random.Generator, n: int) -> Raw:
    return Raw("euclidean", _points(rng, n))


def _squared_cloud(rng: np.random.Generator, n: int) -> Raw:
    return Raw("sqeuclidean", _points(rng, n))


def _gram(rng: np.random.Generator, n: int) -> Raw:
    return Raw("factor", _points(rng, n).T)


def _kernel(rng: np.random.Generator, n: int) -> Raw:
    points = _points(rng, n)
    return Raw("matrix", np.exp(-cdist(points, points, "sqeuclidean")))


def _gaussian(rng: np.random.Generator, n: int) -> Raw:
    values = rng.standard_normal((n, n))
    return Raw("matrix", values + values.T)


def _levels(rng: np.random.Generator, n: int) -> Raw:
    values = np.triu(rng.integers(0, int(rng.integers(2, 5)), (n, n))).astype(float)
    return Raw("matrix", np.maximum(values, values.T))


def _constant(rng: np.random.Generator, n: int) -> Raw:
    """One value everywhere, or everywhere but on the diagonal."""
    return Raw(
        "matrix",
        np.full((n, n), 1.5) - (1.5 * np.eye(n) if rng.random() < 0.5 else 0.0),
    )


def _adjacency(probability: Any, rng: np.random.Generator, n: int) -> Numbers:
    edges = np.triu(rng.random((n, n)) < probability, 1)
    return (edges | edges.T).astype(float)


def _erdos_renyi(rng: np.random.Generator, n: int) -> Raw:
    return Raw("matrix", _adjacency(2 * np.log(n) / n, rng, n))


def _block_model(rng: np.random.Generator, n: int) -> Raw:
    block = rng.integers(0, 3, n)
    return Raw(
        "matrix", _adjacency(np.where(block[:, None] == block, 0.1, 0.01), rng, n)
    )


def _barabasi_albert(rng: np.random.Generator, n: int) -> Raw:
    if n == 1:
        return Raw("matrix", np.zeros((1, 1)))
    return Raw(
        "matrix",
        nx.to_numpy_array(
            nx.barabasi_albert_graph(n, min(3, n - 1), seed=int(rng.integers(2**31)))
        ),
    )


def _nearest_neighbours(rng: np.random.Generator, n: int) -> Raw:
    near = cdist(*[rng.random((n, 2))] * 2).argsort(axis=1)[:, 1:6]
    edges = np.zeros((n, n))
    edges[np.arange(n)[:, None], near] = 1
    return Raw("matrix", np.maximum(edges, edges.T))


def _tree(rng: np.random.Generator, n: int) -> Raw:
    return Raw("graph", _linked(n, [(i, int(rng.integers(i))) for i in range(1, n)]))


def _star(_: np.random.Generator, n: int) -> Raw:
    return Raw("graph", _linked(n, [(0, i) for i in range(1, n)]))


def _grid(_: np.random.Generator, n: int) -> Raw:
    width = int(n**0.5)
    right = [(i, i + 1) for i in range(n - 1) if (i + 1) % width]
    return Raw(
        "matrix", _paths(_linked(n, right + [(i, i + width) for i in range(n - width)]))
    )


def _watts_strogatz(rng: np.random.Generator, n: int) -> Raw:
    ring = [(i, (i + k) % n) for i in range(n) for k in (1, 2, 3)]
    links = [(i, int(rng.integers(n)) if rng.random() < 0.1 else j) for i, j in ring]
    return Raw("matrix", _paths(_linked(n, [(i, j) for i, j in links if i != j])))


def _linked(n: int, links: Sequence[tuple[int, int]]) -> Numbers:
    """The 0/1 adjacency of some edges."""
    adjacency = np.zeros((n, n))
    for i, j in links:
        adjacency[i, j] = adjacency[j, i] = 1
    return adjacency


def _paths(adjacency: Numbers) -> Numbers:
    """Numbers of edges on shortest paths; n where there is none."""
    lengths = csgraph.shortest_path(adjacency, directed=False, unweighted=True)
    return np.where(np.isinf(lengths), len(lengths), lengths)


KINDS: dict[str, Callable[[np.random.Generator, int], Raw]] = {
    "distances": _distances,
    "cloud": _cloud,
    "squared cloud": _squared_cloud,
    "gram": _gram,
    "kernel": _kernel,
    "gaussian": _gaussian,
    "levels": _levels,
    "constant": _constant,
    "erdos_renyi": _erdos_renyi,
    "block_model": _block_model,
    "barabasi_albert": _barabasi_albert,
    "nearest_neighbours": _nearest_neighbours,
    "tree": _tree,
    "star": _star,
    "grid": _grid,
    "watts_strogatz": _watts_strogatz,
}

TIES = (
    "levels",
    "erdos_renyi",
    "block_model",
    "barabasi_albert",
    "nearest_neighbours",
    "grid",
    "watts_strogatz",
)


@dataclass(frozen=True)
class Case:
    """A pair, in words."""

    seed: int
    index: int
    kinds: tuple[str, str]
    sizes: tuple[int, int]
    weights: tuple[str, str]
    relation: str
    units: str
    dtype: str
    solver: str

    def row(self) -> Row:
        """Return the words as the first columns of a row."""
        row: Row = {"index": self.index}
        for name in ("kinds", "sizes", "weights"):
            row |= {
                f"{name[:-1]}_{side}": value
                for side, value in zip("xy", getattr(self, name), strict=True)
            }
        return row | {
            name: getattr(self, name)
            for name in ("relation", "units", "dtype", "solver")
        }


def case(seed: int, index: int) -> Case:
    """Draw what a pair is; it depends on nothing but the arguments."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, 0)))
    large = index % LARGE_EVERY == 0
    sizes = LARGE_SIZES if large else SMALL_SIZES
    relation = _choice(rng, RELATIONS)
    names = TIES if large and rng.random() < 0.5 else tuple(KINDS)
    first, second, n = _uniform(rng, names), _uniform(rng, names), _choice(rng, sizes)
    second = second if relation == "other" else first
    m = n if relation == "copy" or rng.random() < 0.4 else _choice(rng, sizes)
    m = min(n, m) if large else m  # so that few are of 1000 atoms
    weights = _choice(rng, WEIGHTS)
    other = (
        weights if relation == "copy" or rng.random() < 0.5 else _choice(rng, WEIGHTS)
    )
    units, dtype, solver = (
        _choice(rng, UNIT_SHARES),
        _choice(rng, DTYPES),
        _choice(rng, SOLVERS),
    )
    return Case(
        seed,
        index,
        (first, second),
        (n, m),
        (weights, other),
        relation,
        units,
        dtype,
        solver,
    )


def _choice(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def _uniform(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def build(case: Case) -> tuple[gw.Space, gw.Space, gw.Solver | None]:
    """Draw the spaces and the solver of a case."""
    rng = np.random.default_rng(np.random.SeedSequence((case.seed, case.index, 1)))
    units = (UNITS if case.dtype == "float64" else SINGLE_UNITS)[case.units]
    x, a = _weighted(
        rng, KINDS[case.kinds[0]](rng, case.sizes[0]), case.weights[0], case.sizes[0]
    )
    if case.relation == "copy":
        order = rng.permutation(case.sizes[0])
        y, b = x.take(order), None if a is None else a[order]
    else:
        y, b = _weighted(
            rng,
            KINDS[case.kinds[1]](rng, case.sizes[1]),
            case.weights[1],
            case.sizes[1],
        )
    solver = _solver(rng, case.solver, units)
    return x.space(units[0], a, case.dtype), y.space(units[1], b, case.dtype), solver


def _weighted(
    rng: np.random.Generator, raw: Raw, weights: str, n: int
) -> tuple[Raw, Numbers | None]:
    """Return a raw space with its weights; duplicates repeat the very same atoms."""
    if weights == "uniform":
        return raw, None
    if weights == "duplicates":
        return raw.take(rng.integers(0, n, n)), None
    values = rng.dirichlet(np.ones(n))
    if weights == "dominant":
        values = np.full(n, 1e-6)
        values[rng.integers(n)] = 1 - 1e-6 * (n - 1)
    elif weights == "zeros":
        values[rng.permutation(n)[: n // 3]] = 0.0
    return raw, values / values.sum()


def _solver(
    rng: np.random.Generator, name: str, units: tuple[float, float]
) -> gw.Solver | None:
    if (
        name == "Sinkhorn at epsilon"
    ):  # in squared units of C, or a share of the product coupling's objective
        epsilon = (
            float(10 ** rng.uniform(-4, 0) * units[0] * units[1])
            if rng.random() < 0.5
            else None
        )
        return gw.Sinkhorn(proximal=False, epsilon=epsilon)
    return None if name == "default" else getattr(gw, name)()


def outcome(case: Case) -> Row:
    """Solve a pair and say what came of it."""
    start = time.perf_counter()
    found: Row = {"status": "", "iterations": "", "objective": "", "message": ""}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            x, y, solver = build(case)
            result = gw.solve(x, y, solver)
        except Exception as error:
            refused = isinstance(error, ValueError | MemoryError) and str(
                error
            ).endswith(".")
            found |= {
                "status": type(error).__name__,
                "message": " ".join(str(error).split()),
            }
            name = "refused" if refused else "crash"
        else:
            name = judge(x, y, result)
            found |= {"status": result.status.name, "iterations": result.iterations}
            found |= {"objective": float(result.objective)}
    others = [w for w in caught if not issubclass(w.category, gw.ConvergenceWarning)]
    found["message"] = found["message"] or (
        f"{others[0].category.__name__}: {others[0].message}" if others else ""
    )
    return {"outcome": name, **found, "seconds": time.perf_counter() - start}


def judge(x: gw.Space, y: gw.Space, result: gw.GWResult) -> str:
    """Return which of the things that must not happen did, or "answer"."""
    certificate, plan = result.certificate, np.asarray(result.plan.dense())
    numbers = (
        result.objective,
        result.distance,
        result.estimate,
        certificate.lower,
        certificate.upper,
    )
    if not all(np.all(np.isfinite(values)) for values in (*numbers, plan)):
        return "nan"
    missed = sum(
        float(np.abs(plan.sum(axis=axis) - w).sum())
        for axis, w in ((1, x.weights), (0, y.weights))
    )
    if plan.min() < 0.0 or missed > (1e-9 if plan.dtype == np.float64 else 1e-4):
        return "infeasible"
    return "answer" if certificate.lower <= certificate.upper else "crossed"


def limit(case: Case, seconds: float) -> float:
    """Return after how many seconds a pair is killed: in proportion to n · m above 350²."""
    return seconds * max(1.0, case.sizes[0] * case.sizes[1] / 350**2)


def _serve(pipe: Connection, seed: int) -> None:
    """Solve one pair after the other, until there are none."""
    gw.solve(
        np.eye(2), np.eye(2)
    )  # the first solve loads libraries, which no time should include
    while (index := pipe.recv()) is not None:
        pipe.send(outcome(case(seed, index)))


class Worker:
    """A process that solves a pair at a time, and can be killed."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed, self.seconds = seed, seconds
        self.case: Case | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.seed), daemon=True
        )
        self.process.start()
        theirs.close()
        self.fresh = True

    def give(self, index: int) -> None:
        """Start on a pair; a new process has a minute more, as it loads its libraries first."""
        self.case = case(self.seed, index)
        self.pipe.send(index)
        self.deadline = (
            time.monotonic() + limit(self.case, self.seconds) + 60.0 * self.fresh
        )

    def finished(self) -> Row | None:
        """Return the row of the pair where there is an answer, or there will be none."""
        assert self.case is not None
        row: Row = {
            "outcome": "hang",
            "status": "",
            "iterations": "",
            "objective": "",
            "message": "",
        }
        if self.pipe.poll():
            try:
                row, self.fresh = self.pipe.recv(), False
            except (EOFError, ConnectionResetError):
                self.process.join()
                row |= {
                    "outcome": "crash",
                    "message": f"the process ended with exit code {self.process.exitcode}",
                }
                self._start()
        elif time.monotonic() >= self.deadline:
            self.process.kill()
            self.process.join()
            self._start()
        else:
            return None
        row, self.case = (
            self.case.row() | {"seconds": limit(self.case, self.seconds)} | row,
            None,
        )
        return row

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()


def watch(
    seed: int, indices: Sequence[int], jobs: int, seconds: float
) -> Iterator[Row]:
    """Solve pairs in processes under a time limit; yield their rows as they are finished."""
    waiting = iter(indices)
    workers = [Worker(seed, seconds) for _ in range(min(jobs, len(indices)))]
    try:
        for worker, index in zip(workers, waiting, strict=False):
            worker.give(index)
        while busy := [worker for worker in workers if worker.case is not None]:
            wait(
                [worker.pipe for worker in busy],
                timeout=max(0.0, min(w.deadline for w in busy) - time.monotonic()),
            )
            for worker in busy:
                if (row := worker.finished()) is not None:
                    yield row
                    if (index := next(waiting, None)) is not None:
                        worker.give(index)
    finally:
        for worker in workers:
            worker.stop()


def run(folder: Path, seed: int, pairs: int, jobs: int, seconds: float) -> None:
    """Solve the pairs that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {row["index"] for row in report.resume_rows(path)}
    pending = [index for index in range(pairs) if index not in done]
    facts: dict[str, Any] = {"seed": seed, "limit_s": seconds}
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} pairs are in {folder} already; delete that folder to run them again."
        )
    broken = 0
    with tqdm(
        watch(seed, pending, jobs, seconds),
        total=len(pending),
        unit="pair",
        disable=not pending,
    ) as progress:
        for row in progress:
            report.append_row(path, row)
            broken += row["outcome"] in BROKEN
            progress.set_postfix(broken=broken, refresh=False)


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return, for each solver, how many pairs had which outcome and status, and what they took."""
    rows = []
    for solver in SOLVERS:
        group = [row for row in trials if row["solver"] == solver]
        seconds = [row["seconds"] for row in group] or [float("nan")]
        outcomes = Counter(row["outcome"] for row in group)
        row: Row = {
            "solver": solver,
            "pairs": len(group),
            "answer": outcomes["answer"],
            "refused": outcomes["refused"],
        }
        row |= {name: outcomes[name] for name in BROKEN}
        statuses = Counter(row["status"] for row in group if row["outcome"] == "answer")
        row |= {
            name: statuses[name]
            for name in sorted(
                {r["status"] for r in trials if r["outcome"] == "answer"}
            )
        }
        rows.append(
            row
            | {"median_s": float(np.median(seconds)), "largest_s": float(max(seconds))}
        )
    return rows


def kinds(trials: Sequence[Row]) -> str:
    """Lay out how many sides there are of each kind and size."""
    count = Counter(
        (row[f"kind_{side}"], row[f"size_{side}"]) for row in trials for side in "xy"
    )
    sizes = sorted({size for _, size in count})
    rows = [
        [kind, *(count[kind, n] for n in sizes), sum(count[kind, n] for n in sizes)]
        for kind in KINDS
    ]
    return report.markdown_table(["kind", *map(str, sizes), "all"], rows)


def listed(trials: Sequence[Row]) -> str:
    """Lay out single pairs."""
    names = (
        "index",
        "outcome",
        "status",
        "seconds",
        "solver",
        "dtype",
        "units",
        "relation",
    )
    rows = []
    for row in trials:
        sides = " x ".join(
            f"{row[f'kind_{s}']} {row[f'size_{s}']} {row[f'weight_{s}']}" for s in "xy"
        )
        shown = [
            f"{row[name]:.1f}" if name == "seconds" else row[name] for name in names
        ]
        rows.append([*shown, sides, str(row["message"])[:100].replace("|", "/")])
    return report.markdown_table([*names, "pair", "message"], rows) if rows else "none"


def shares(trials: Sequence[Row]) -> str:
    """Say how many pairs there are of what."""
    large = sum(row["size_x"] * row["size_y"] > 90_000 for row in trials)
    lines = [f"- n · m above 90,000: {large} of {len(trials)} pairs."]
    for name in ("relation", "units", "dtype", "weight_x", "outcome"):
        lines.append(
            f"- {name}: "
            + ", ".join(
                f"{v} {k}" for k, v in Counter(r[name] for r in trials).most_common()
            )
            + "."
        )
    warned = Counter(
        str(row["message"]).split(":")[0]
        for row in trials
        if row["message"] and row["outcome"] == "answer"
    )
    lines.append(
        "- warnings other than ConvergenceWarning: "
        + (", ".join(f"{v} {k}" for k, v in warned.items()) or "none")
    )
    return "\n".join(lines)


def publish(folder: Path) -> int:
    """Write the summary and the Markdown of all pairs in the folder, print them, and return how many pairs are broken."""
    trials = sorted(
        report.resume_rows(folder / "trials.csv"), key=lambda row: int(row["index"])
    )
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    broken = [row for row in trials if row["outcome"] in BROKEN]
    table = report.markdown_table(
        list(summary[0]),
        [
            [f"{v:.3g}" if isinstance(v, float) else v for v in row.values()]
            for row in summary
        ],
    )
    parts = [
        NOTES,
        "## Pairs",
        shares(trials),
        "## Solvers",
        table,
        "## Sides by kind and size",
        kinds(trials),
    ]
    parts += [f"## Broken: {len(broken)}", listed(broken[:100])]
    parts += [
        "## Refused",
        listed([row for row in trials if row["outcome"] == "refused"][:20]),
    ]
    parts += [
        "## Slowest",
        listed(sorted(trials, key=lambda row: -row["seconds"])[:20]),
    ]
    text = "\n\n".join(parts)
    (folder / "watchdog.md").write_text(
        f"# Random pairs under a time limit\n\n{text}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")
    return len(broken)


def only(seed: int, index: int) -> int:
    """Solve one pair in this process; what it raises is not caught."""
    chosen = case(seed, index)
    print(
        *(f"{name}: {value}" for name, value in {"seed": seed, **chosen.row()}.items()),
        sep="\n",
        flush=True,
    )
    x, y, solver = build(chosen)
    start = time.perf_counter()
    result = gw.solve(x, y, solver)
    print(
        result,
        f"{judge(x, y, result)} in {time.perf_counter() - start:.1f} s",
        sep="\n",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    single = argparse.ArgumentParser(add_help=False)
    single.add_argument("--only", type=int)
    single.add_argument("--seed", type=int, default=0)
    chosen, _ = single.parse_known_args(argv)
    if chosen.only is not None:
        return only(chosen.seed, chosen.only)
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--pairs",
        type=int,
        help=f"number of pairs (default: {PAIRS}, quick {QUICK_PAIRS})",
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        help="seconds a pair, more if large (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        type=int,
        metavar="INDEX",
        help="solve this pair alone, in this process; no --out",
    )
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    try:
        pairs = arguments.pairs or (QUICK_PAIRS if arguments.quick else PAIRS)
        run(folder, arguments.seed, pairs, arguments.jobs, arguments.limit)
    except KeyboardInterrupt:
        print(
            f"Interrupted: what is finished is kept in {folder}; the same command resumes there.",
            file=sys.stderr,
        )
        return 130
    return min(1, publish(folder))


if __name__ == "__main__":
    sys.exit(main())
