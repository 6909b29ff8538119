"""The least objectives known on the instances on which bounds are compared.

Three searches: what ``solve`` does by default; 50 starts; and for three seconds, or
until 300 in a row gained nothing, conditional gradients from random couplings and from
such near the best, which are between equal weights made permutations and improved by
swaps of two images. The objective of an instance is the least of these: an upper bound
of the minimum.

    python -m simulations.bounds_reference --out DIR [--quick] [--seed S] [--seeds K]
        [--sizes N ...]

appends to reference.csv, one row an instance: an interrupted run resumes. It then
writes best.csv, instances in their order, of which ``reference/bounds_best.csv`` is a
copy. Instances are those of ``bounds`` and the clouds of ``gw_table``.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import gw_table
from simulations._report import Row
from simulations.families import CLASSIC_SEEDS, FAMILIES, WEIGHTS
from simulations.hard_families import Numbers, Pair
from simulations.search_reference import Search

REFERENCE = Path(__file__).parent / "reference" / "bounds_best.csv"
# The first size is the one by which bounds are judged.
SIZES, SEEDS = (60, 20, 30, 14), 5
QUICK_SIZES, QUICK_SEEDS = (8,), 1
TABLE, TABLE_SIZES = "table_clouds", (50, 100)
STARTS = 50
SECONDS, QUICK_SECONDS = 3.0, 0.05  # of the processor
PATIENCE = 300  # starts without a gain, after which swaps are made no more
SEARCHES = ("auto", "starts", "exchange")
KEY = ("family", "n", "weights", "seed")
COLUMNS = (*KEY, "objective", "found_by", *SEARCHES)
# Of the product coupling's objective: searches that differ by less agree.
EQUAL = 1e-10


@dataclass(frozen=True)
class Instance:
    """Two spaces by their names, and how they are drawn.

    ``convex`` tells that one start finds the minimum.
    """

    family: str
    n: int
    weights: str
    seed: int
    draw: Callable[[], tuple[gw.Space, gw.Space]]
    convex: bool = False

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What identifies its row."""
        return self.family, self.n, self.weights, self.seed


def instances(sizes: Sequence[int], seeds: int, first: int) -> Iterator[Instance]:
    """Yield all instances: size by size, graphs of one size after the first of them.

    The clouds of the table are last.
    """
    for n in sizes:
        sized = [family for family in FAMILIES if not family.size]
        classic = [family for family in FAMILIES if family.size and n == sizes[0]]
        for family in (*sized, *classic):
            size = family.size or n
            count = min(seeds, CLASSIC_SEEDS) if family.size else seeds
            for weights in WEIGHTS:
                for seed in range(first, first + count):
                    draw = partial(family.draw, size, weights, seed)
                    yield Instance(
                        family.name, size, weights, seed, draw, family.convex
                    )
    for n in TABLE_SIZES:
        for trial in range(seeds):
            draw = partial(table_clouds, first, n, trial)
            yield Instance(TABLE, n, "uniform", trial, draw)


def table_clouds(seed: int, n: int, trial: int) -> tuple[gw.Space, gw.Space]:
    x, y = (gw.PointCloud(points) for points in gw_table.clouds(seed, n, trial))
    return x, y


@cache
def known(path: Path = REFERENCE) -> dict[tuple[str, int, str, int], float]:
    """Return the least objective known of every instance, in squared units of C."""
    rows = report.read_rows(path)
    return {
        (row["family"], row["n"], row["weights"], row["seed"]): row["objective"]
        for row in rows
    }


def swapped(C: Numbers, D: Numbers, images: Numbers) -> Numbers:
    """Swap two images of a permutation as long as that raises Σ C_ik D_p(i)p(k).

    Of all swaps the one that raises it most is made. With the symmetric matrix
    E_ik = D_p(i)p(k) and d = e_r − e_s, swapping the images of r and s makes E into
    (I − d dᵀ) E (I − d dᵀ), and ⟨C, E⟩ rises by (dᵀC d)(dᵀE d) − 2 dᵀC E d.
    """
    images = images.copy()
    least_gain = 1e-12 * np.abs(C).sum() * np.abs(D).max()
    while True:
        E = D[np.ix_(images, images)]
        product = C @ E
        gain = _over_pairs(C) * _over_pairs(E) - 2 * _over_pairs(product)
        r, s = divmod(int(gain.argmax()), len(images))
        if gain[r, s] <= least_gain:
            return images
        images[[r, s]] = images[[s, r]]


def _over_pairs(M: Numbers) -> Numbers:
    """Return dᵀM d of d = e_r − e_s, for all pairs (r, s)."""
    own = np.diag(M)
    return np.asarray(own[:, None] + own - M - M.T)


class ExchangeSearch(Search):
    """Conditional gradients from couplings, which swaps improve between equal weights.

    Swaps are of images of a permutation, so that both spaces must be of one size.
    """

    def __init__(self, x: gw.Space, y: gw.Space) -> None:
        matrices = [np.asarray(space.dense()) for space in (x, y)]
        weights = [np.asarray(space.weights) for space in (x, y)]
        super().__init__(Pair(*matrices, None, *weights), Path())
        self.can_swap = x.size == y.size and all(np.ptp(w) == 0 for w in weights)

    def try_from(self, coupling: Numbers, name: str) -> None:
        """Run a conditional gradient, swap, and run another one."""
        outcome = gw.ConditionalGradient(init=coupling).run(self.problem)
        self.offer(outcome.plan, name)
        if not self.can_swap:
            return
        # 1. The permutation that shares most mass with the plan.
        plan = np.asarray(outcome.plan.dense())
        _, images = linear_sum_assignment(-plan)
        # 2. No swap of two images lowers its objective.
        images = swapped(self.pair.C, self.pair.D, images)
        # 3. From a coupling where a swap helped, the descent goes on.
        n = len(images)
        permutation = np.eye(n)[images] / n
        outcome = gw.ConditionalGradient(init=permutation).run(self.problem)
        self.offer(outcome.plan, name)

    def run_for(self, seconds: float) -> float:
        """Search so long at most, and return the least objective."""
        begin = time.process_time()
        a, b = (np.asarray(s.weights) for s in (self.problem.x, self.problem.y))
        self.try_from(np.outer(a, b), "product")
        k = last_gain = 0
        while k < last_gain + PATIENCE and not self.is_zero():
            if time.process_time() - begin > seconds:
                break
            before = self.best
            self.try_from(*self.coupling(k))
            k += 1
            if self.best < before:
                last_gain = k
        return self.best


def measure(instance: Instance, seconds: float) -> Row:
    """Return the row of one instance."""
    x, y = instance.draw()
    values = {"auto": float(gw.solve(x, y).objective)}
    if not instance.convex:
        many = gw.solve(x, y, gw.MultiStart(starts=STARTS, seed=1))
        values["starts"] = float(many.objective)
        values["exchange"] = ExchangeSearch(x, y).run_for(seconds)
    least = min(values.values())
    negligible = EQUAL * float(gw.GWProblem(x, y).product_objective)
    found_by = [name for name in values if values[name] <= least + negligible]
    row: Row = dict(zip(KEY, instance.key, strict=True))
    row |= {"objective": least, "found_by": found_by[0]}
    return row | {name: values.get(name, "") for name in SEARCHES}


def run(folder: Path, wanted: Sequence[Instance], seconds: float) -> None:
    """Search the instances that the folder does not hold yet."""
    path = folder / "reference.csv"
    done = {tuple(row[name] for name in KEY) for row in report.resume_rows(path)}
    pending = [instance for instance in wanted if instance.key not in done]
    with tqdm(pending, unit="instance", disable=not pending) as progress:
        for instance in progress:
            progress.set_description(f"{instance.family} {instance.n}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of starts that do not converge
                row = measure(instance, seconds)
            report.append_row(path, row)


def publish(folder: Path) -> None:
    """Write the rows, families in their order, then sizes, weights and seeds."""
    rows = report.resume_rows(folder / "reference.csv")
    names = [*(family.name for family in FAMILIES), TABLE]

    def place(row: Row) -> tuple[int, ...]:
        family = names.index(row["family"])
        weights = list(WEIGHTS).index(row["weights"])
        return family, row["n"], weights, row["seed"]

    path = folder / "best.csv"
    path.unlink(missing_ok=True)
    for row in sorted(rows, key=place):
        report.append_row(path, {name: row[name] for name in COLUMNS})
    print(f"{len(rows)} instances, written to {path}.")


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds a family")
    parser.add_argument("--sizes", type=int, nargs="+", help="atoms of a space")
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    count = arguments.seeds or (QUICK_SEEDS if quick else SEEDS)
    sizes = arguments.sizes or (QUICK_SIZES if quick else SIZES)
    seconds = QUICK_SECONDS if quick else SECONDS
    folder = report.results_folder(arguments)
    wanted = list(instances(sizes, count, arguments.seed))
    return report.run_and_publish(
        folder, partial(run, folder, wanted, seconds), publish
    )


if __name__ == "__main__":
    sys.exit(main())
