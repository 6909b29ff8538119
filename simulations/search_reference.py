"""The least objectives that patience finds on the pairs by which search is judged.

Every pair is given conditional gradients from many couplings: the planted one, plans of
Sinkhorn at its default and at ten epsilons, then random vertices (half of the starts),
these mixed with the product coupling (a quarter), and couplings near the best so far (a
quarter). A pair is finished early where the objective is 0 but for rounding, or when
its time is over.

    python -m simulations.search_reference --out DIR [--quick] [--seed S] [--seeds K]
        [--given] [--starts N]

appends to reference.csv, one row a pair and number of starts, and keeps the plans: an
interrupted run resumes, and one with more starts goes on from fewer. It then writes
best.csv, the last row of every pair, of which ``reference/hard_pairs_200.csv`` is a
copy. ``--given``: the pairs of ``reference/hard_pairs.csv``.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import ot
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import hard_families, search_families
from simulations._report import Row
from simulations.hard_families import Numbers, Pair

REFERENCE = Path(__file__).parent / "reference" / "hard_pairs_200.csv"
FIRST_SEED, SEEDS, QUICK_SEEDS = 200, 6, 1
STARTS, QUICK_STARTS = 2000, 4
SECONDS = 60.0  # of the processor
# Of the product coupling's objective: what is below is 0 but for rounding.
ZERO = 1e-12
COLUMNS = ("family", "seed", "best", "product", "found_by", "starts")
EPSILONS = np.logspace(-3.5, -0.5, 10)  # in units of the product coupling's objective


class Search:
    """The best plan of a pair so far, and conditional gradients from more couplings."""

    def __init__(self, pair: Pair, kept: Path) -> None:
        self.pair = pair
        self.problem = gw.GWProblem(*search_families.spaces(pair))
        self.product = float(self.problem.product_objective)
        self.best, self.found_by = self.product, "product"
        self.kept = kept
        self.plan: Numbers | None = None

    def try_from(self, coupling: Numbers, name: str) -> None:
        """Run a conditional gradient from a coupling."""
        outcome = gw.ConditionalGradient(init=coupling).run(self.problem)
        self.offer(outcome.plan, name)

    def offer(self, plan: gw.DensePlan | gw.SparsePlan, name: str) -> None:
        """Keep a plan if it is the best, by more than rounding."""
        objective = float(self.problem.objective(plan))
        if objective < self.best * (1 - 1e-12):
            self.best, self.found_by = max(objective, 0.0), name
            self.plan = np.asarray(plan.dense())

    def first(self, earlier: Row) -> None:
        """Begin from the plan of an earlier row, or from the planted and Sinkhorn's."""
        if earlier and self.kept.exists():
            self.plan = np.load(self.kept)
            self.best, self.found_by = earlier["best"], earlier["found_by"]
            return
        if (planted := search_families.planted_coupling(self.pair)) is not None:
            self.offer(gw.DensePlan(planted), "planted")
            self.try_from(planted, "planted")
        if not self.is_zero():
            plans = [(gw.Sinkhorn(), "Sinkhorn")]
            for epsilon in EPSILONS * self.product:
                solver = gw.Sinkhorn(epsilon=float(epsilon), proximal=False)
                plans.append((solver, "Sinkhorn at an epsilon"))
            for solver, name in plans:
                plan = solver.run(self.problem).plan
                self.offer(plan, name)
                self.try_from(np.asarray(plan.dense()), name)

    def is_zero(self) -> bool:
        """Whether nothing is below the best plan but rounding."""
        return self.best <= ZERO * self.product

    def random_vertex(self, rng: np.random.Generator) -> Numbers:
        """Solve a linear program with random costs."""
        return self._vertex(rng.random((self.problem.x.size, self.problem.y.size)))

    def _vertex(self, cost: Numbers) -> Numbers:
        a, b = (np.asarray(s.weights) for s in (self.problem.x, self.problem.y))
        return np.asarray(ot.lp.emd(a, b, cost, numItermax=10**7))

    def coupling(self, k: int) -> tuple[Numbers, str]:
        """Return the k-th start."""
        rng = np.random.default_rng(np.random.SeedSequence((7, k)))
        vertex = self.random_vertex(rng)
        if k % 4 < 2:
            return vertex, "random vertex"
        if k % 4 == 2 or self.plan is None:
            share = rng.random()
            a, b = (np.asarray(s.weights) for s in (self.problem.x, self.problem.y))
            return share * vertex + (1 - share) * np.outer(a, b), "mixture"
        if k % 8 == 3:
            share = rng.uniform(0.1, 0.7)
            return share * vertex + (1 - share) * self.plan, "near the best"
        # A vertex that shares most of its mass with the best plan.
        noise = 10 ** rng.uniform(-1.5, 0.5) * rng.random(self.plan.shape)
        return self._vertex(noise - self.plan / self.plan.max()), "near the best"


def search(family: str, seed: int, folder: Path, done: Row, target: int) -> Row:
    """Return the row of a pair after so many starts, of which some are done."""
    name = f"{family} {seed}".replace(" ", "_").replace("/", "_")
    kept = folder / "plans" / f"{name}.npy"
    state = Search(search_families.draw(family, seed), kept)
    state.first(done)
    starts, begin = int(done.get("starts", 0)), time.process_time()
    limit = SECONDS * target / STARTS
    while starts < target and not state.is_zero():
        if time.process_time() - begin > limit:
            break
        state.try_from(*state.coupling(starts))
        starts += 1
    kept.parent.mkdir(exist_ok=True)
    if state.plan is not None:
        np.save(kept, state.plan)
    return {
        "family": family,
        "seed": seed,
        "best": state.best,
        "product": state.product,
        "found_by": state.found_by,
        "starts": starts,
        "target": target,
        "seconds": time.process_time() - begin,
    }


def pairs(given: bool, first: int, count: int) -> Iterator[tuple[str, int]]:
    """Yield family and seed: our own families first, seed by seed."""
    if given:
        rows = report.read_rows(hard_families.REFERENCE)
        yield from ((row["family"], row["seed"]) for row in rows)
        return
    for names in (search_families.FAMILIES, hard_families.FAMILIES):
        for seed in range(first, first + count):
            yield from ((family, seed) for family in names)


def run(folder: Path, wanted: Sequence[tuple[str, int]], target: int) -> None:
    """Search the pairs that the folder does not hold with so many starts."""
    path = folder / "reference.csv"
    done = {(row["family"], row["seed"]): row for row in report.resume_rows(path)}
    pending = [pair for pair in wanted if done.get(pair, {}).get("target", 0) < target]
    with tqdm(pending, unit="pair", disable=not pending) as progress:
        for family, seed in progress:
            progress.set_description(f"{family} {seed}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of starts that do not converge
                earlier = done.get((family, seed), {})
                row = search(family, seed, folder, earlier, target)
            report.append_row(path, row)


def publish(folder: Path) -> None:
    """Write the last row of every pair, families in their order, to every digit."""
    rows = report.resume_rows(folder / "reference.csv")
    last = {(row["family"], row["seed"]): row for row in rows}
    families = list(search_families.ALL)
    path = folder / "best.csv"
    path.unlink(missing_ok=True)
    for key in sorted(last, key=lambda key: (families.index(key[0]), key[1])):
        report.append_row(path, {name: last[key][name] for name in COLUMNS})


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.set_defaults(seed=FIRST_SEED)
    parser.add_argument("--seeds", type=int, help="seeds a family")
    parser.add_argument("--given", action="store_true", help="the pairs of the CSV")
    parser.add_argument("--starts", type=int, help="starts a pair")
    arguments = parser.parse_args(argv)
    count = arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS)
    target = arguments.starts or (QUICK_STARTS if arguments.quick else STARTS)
    folder = report.results_folder(arguments)
    wanted = list(pairs(arguments.given, arguments.seed, count))
    run(folder, wanted, target)
    publish(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
