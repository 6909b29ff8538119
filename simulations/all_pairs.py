"""All pairs and nearest neighbours: times, interruptions, clusters, and what is proved.

- The matrix of all distances between graphs of 10 to 40 nodes of four kinds, timed.
- A smaller matrix, killed at random moments and gone on with, against the undisturbed
  one, bit for bit; and the same by loky, Dask and Ray, where they are installed.
- Nearest neighbours in three sets: clustered shapes, the alkanes of 5 to 9 carbon atoms
  (queries have 10), and handwritten digits as clouds of their pixels. Counted are the
  pairs that bounds spare, the neighbours that are certified, and certified ones that
  full solves of all pairs contradict.

    python -m simulations.all_pairs --out DIR [--quick] [--seed S] [--jobs N]

writes matrix.csv, same.csv, nearest.csv (a row as soon as it is finished: an
interrupted run resumes, and the matrix itself after its last finished batch), meta.json
and all_pairs.md.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import networkx as nx
import numpy as np
from sklearn.datasets import load_digits

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

GRAPHS, QUICK_GRAPHS = 200, 6
KILLED, QUICK_KILLED = 60, 5  # graphs of the matrix that is killed
KILLS, QUICK_KILLS = 5, 1
# Backends of joblib, and what each needs.
PACKAGES = {"loky": "joblib", "dask": "distributed", "ray": "ray"}
QUERIES, QUICK_QUERIES = 8, 1
KINDS = 8  # of shapes
NOTES = """\
- same bits: whether distances and intervals are those of the undisturbed matrix, bit \
for bit: 1 or 0.
- batches known before: finished batches that an earlier run had left; seconds are of \
what was missing.
- solved: pairs that the solver was run on; bounds spared the others.
- wrong: certified neighbours that are not among the k nearest by full solves of all \
pairs."""
UNITS = {
    "seconds": "of all pairs of the matrix, from the start to the end",
    "solved": "pairs that the solver was run on",
    "certified": "neighbours that are proved to be among the k nearest",
    "wrong": "certified neighbours that are not so by full solves of all pairs",
}


def graphs(count: int, seed: int) -> list[Any]:
    """Draw graphs of 10 to 40 nodes: rings with chords, trees, blocks, random ones."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        n = int(rng.integers(10, 41))
        own = int(rng.integers(2**31))
        kind = i % 4
        if kind == 0:
            graph = nx.connected_watts_strogatz_graph(n, 4, 0.2, seed=own)
        elif kind == 1:
            graph = nx.random_labeled_tree(n, seed=own)
        elif kind == 2:
            graph = _connected(
                nx.stochastic_block_model(
                    [n // 2, n - n // 2], [[0.6, 0.05], [0.05, 0.6]], seed=own
                )
            )
        else:
            graph = _connected(nx.gnp_random_graph(n, 0.2, seed=own))
        found.append(gw.GraphSpace(graph))
    return found


def _connected(graph: Any) -> Any:
    """Join the components of a graph by a path between their first nodes."""
    first = [min(nodes) for nodes in nx.connected_components(graph)]
    joined = nx.Graph(graph)
    joined.add_edges_from(pairwise(first))
    return joined


def shapes(kind: int, count: int, rng: np.random.Generator) -> list[Any]:
    """Draw clouds of one kind: three clusters, turned, of 20 to 30 points."""
    own = np.random.default_rng(1000 + kind)
    centers = 1.5 * (1 + 0.4 * kind) * own.standard_normal((3, 2))
    found = []
    for _ in range(count):
        labels = rng.integers(0, 3, int(rng.integers(20, 31)))
        points = centers[labels] + 0.15 * rng.standard_normal((len(labels), 2))
        angle = rng.uniform(0, 2 * np.pi)
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        found.append(gw.PointCloud(points @ np.array(turn)))
    return found


def alkanes(carbons: int) -> list[Any]:
    """All alkanes of so many carbon atoms, as graphs of these: trees of degree 4."""
    trees = nx.nonisomorphic_trees(carbons)
    return [gw.GraphSpace(t) for t in trees if max(dict(t.degree).values()) <= 4]


def digits(images: Sequence[int]) -> list[Any]:
    """Images of handwritten digits as clouds of their pixels, weighted by ink."""
    found = []
    for image in load_digits().images[list(images)]:
        rows, cols = np.nonzero(image > 4)
        ink = image[rows, cols]
        points = np.stack([rows, cols], axis=1).astype(float)
        found.append(gw.PointCloud(points, ink / ink.sum()))
    return found


def data_set(name: str, queries: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Return queries and the spaces in which neighbours are looked for."""
    rng = np.random.default_rng(seed)
    if name == "clustered shapes":
        spaces = [space for kind in range(KINDS) for space in shapes(kind, 6, rng)]
        asked = [shapes(kind, 1, rng)[0] for kind in range(KINDS)]
        return asked[:queries], spaces
    if name == "alkanes":
        of_ten = alkanes(10)
        chosen = rng.choice(len(of_ten), queries, replace=False)
        spaces = [space for n in range(5, 10) for space in alkanes(n)]
        return [of_ten[i] for i in chosen], spaces
    order = rng.permutation(len(load_digits().target))
    return digits(order[:queries]), digits(order[queries : queries + 50])


# Data set, and neighbours asked for.
ASKED = (
    ("clustered shapes", 1),
    ("clustered shapes", 6),
    ("alkanes", 1),
    ("digits", 1),
)


def nearest_row(name: str, k: int, queries: int, seed: int, jobs: int) -> Row:
    """Ask for neighbours, and check those that are certified against all solves."""
    asked, spaces = data_set(name, queries, seed)
    began = time.perf_counter()
    found = gw.nearest(asked, spaces, k, n_jobs=jobs)
    seconds = time.perf_counter() - began
    everything = gw.pairwise(asked, spaces, n_jobs=jobs)
    farthest = np.sort(everything.distances, axis=1)[:, k - 1 : k]  # (Q, 1)
    of_found = np.take_along_axis(everything.distances, found.indices, axis=1)
    wrong = found.certified & (of_found > farthest * (1 + 1e-9))
    return {
        "set": name,
        "k": k,
        "queries": len(asked),
        "spaces": len(spaces),
        "pairs": found.pairs,
        "solved": found.solved,
        "neighbours": found.certified.size,
        "certified": int(found.certified.sum()),
        "wrong": int(wrong.sum()),
        "seconds": seconds,
    }


def matrix_row(store: Path, count: int, seed: int, jobs: int) -> Row:
    """Compute the large matrix; finished batches are kept."""
    spaces = graphs(count, seed)
    known = len(list(store.glob("batch-*.npy")))
    began = time.perf_counter()
    result = gw.pairwise(spaces, n_jobs=jobs, store=store)
    return {
        "graphs": count,
        "pairs": count * (count - 1) // 2,
        "workers": jobs,
        "seconds": time.perf_counter() - began,
        "batches known before": known,
        "failures": int(sum(s.failure for s in result.status.ravel()) // 2),
    }


def solve_kept(store: str, count: int, seed: int) -> None:
    """Compute the small matrix in a process of its own, which may be killed."""
    gw.pairwise(graphs(count, seed), store=store)


def killed(count: int, kills: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield the undisturbed matrix, and the one that was killed and gone on with."""
    rng = np.random.default_rng(seed)
    began = time.perf_counter()
    yield "undisturbed", gw.pairwise(graphs(count, seed))
    whole = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as store:
        code = (
            "from simulations.all_pairs import solve_kept; "
            f"solve_kept({store!r}, {count}, {seed})"
        )
        for _ in range(kills):
            running = subprocess.Popen([sys.executable, "-c", code])
            try:
                running.wait(timeout=rng.uniform(0.2, 1.0) * whole / kills + 2)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGKILL)
                running.wait()
        yield f"killed {kills} times", gw.pairwise(graphs(count, seed), store=store)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Two workers of a backend of joblib, in a local cluster where it has one."""
    if name == "dask":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as c,
            Client(c),
            joblib.parallel_config("dask"),
        ):
            yield
    elif name == "ray":
        import ray
        from ray.util.joblib import register_ray

        ray.init(num_cpus=2, include_dashboard=False)
        register_ray()
        try:
            with joblib.parallel_config("ray"):
                yield
        finally:
            ray.shutdown()
    else:
        with joblib.parallel_config(name, n_jobs=2):
            yield


def distributed(count: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield the small matrix by each backend that is installed."""
    for name in PACKAGES:
        if find_spec(PACKAGES[name]):
            with backend(name):
                yield name, gw.pairwise(graphs(count, seed))
        else:
            yield f"{name}, not installed", None


def same_rows(count: int, kills: int, seed: int) -> list[Row]:
    """Compare each matrix with the undisturbed one, bit for bit."""
    found = [*killed(count, kills, seed), *distributed(count, seed)]
    expected = found[0][1]
    return [
        {
            "matrix": name,
            "graphs": count,
            "same bits": "" if result is None else _same(result, expected),
        }
        for name, result in found
    ]


def _same(found: Any, expected: Any) -> int:
    """Whether distances and intervals are equal bit for bit: 1 or 0."""
    return int(
        all(
            getattr(found, name).tobytes() == getattr(expected, name).tobytes()
            for name in ("distances", "lower", "upper")
        )
    )


def run(folder: Path, arguments: Namespace) -> None:
    """Run what the folder does not hold yet."""
    quick, seed, jobs = arguments.quick, arguments.seed, arguments.jobs
    report.claim(folder, {"seed": seed, "units": UNITS, "versions": report.versions()})
    # 1. Interruptions and clusters.
    if not (folder / "same.csv").exists():
        count, kills = (QUICK_KILLED, QUICK_KILLS) if quick else (KILLED, KILLS)
        report.write_rows(folder / "same.csv", same_rows(count, kills, seed))
    # 2. Nearest neighbours.
    queries = QUICK_QUERIES if quick else QUERIES
    done = len(report.resume_rows(folder / "nearest.csv"))
    for name, k in ASKED[done:]:
        row = nearest_row(name, k, queries, seed, jobs)
        report.append_row(folder / "nearest.csv", row)
    # 3. The large matrix.
    if not (folder / "matrix.csv").exists():
        count = QUICK_GRAPHS if quick else GRAPHS
        row = matrix_row(folder / "store", count, seed, jobs)
        report.append_row(folder / "matrix.csv", row)
        shutil.rmtree(folder / "store")


def publish(folder: Path) -> None:
    """Write the tables."""
    sections = {
        "The matrix": "matrix.csv",
        "The same matrix, otherwise": "same.csv",
        "Nearest neighbours": "nearest.csv",
    }
    parts = []
    for title, name in sections.items():
        rows = report.read_rows(folder / name)
        cells = [[_shown(value) for value in row.values()] for row in rows]
        parts += [f"## {title}", report.markdown_table(list(rows[0]), cells)]
    text = "\n\n".join(["# All pairs", *parts, NOTES])
    (folder / "all_pairs.md").write_text(f"{text}\n", encoding="utf-8")
    print(text)


def _shown(value: Any) -> Any:
    """Write a number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    parser = report.command_line(__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="workers")
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    return report.run_and_publish(folder, lambda: run(folder, arguments), publish)


if __name__ == "__main__":
    sys.exit(main())
