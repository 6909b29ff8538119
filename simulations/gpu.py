"""Timing tables on a CUDA device: batches, and Sinkhorn on large clouds.

The tables are throughput of batches, and Sinkhorn against POT and OTT-JAX.

All arrays are PyTorch's, float64, on the device; times are wall clock with the device's
queue empty at both ends. Sinkhorn runs at a fixed number of points on squared Euclidean
clouds of 3-D Gaussians, POT's entropic solver on its torch backend and OTT-JAX where
installed; each at its own defaults, with the objective that its plan has.

    python -m simulations.gpu --out DIR [--quick] [--seed S] [--repeats R] [--pairs B]

writes what simulations.batch writes, and large.csv. Without CUDA it says so and stops.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gwtools as gw
from simulations import _report as report
from simulations import batch
from simulations._report import Row

SIZES, QUICK_SIZES = (1000, 2000, 5000, 10_000, 20_000), (200,)
DENSE_LIMIT = 5000  # POT and OTT store n x n costs and many plans


def clock() -> float:
    """Return the time once the device has finished."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def clouds(n: int, seed: int) -> tuple[Any, Any]:
    """Draw two clouds on the device."""
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    both = torch.randn(
        (2, n, 3), generator=generator, dtype=torch.float64, device="cuda"
    )
    return both[0], both[1]


def ours(x: Any, y: Any) -> float:
    """Solve by :class:`gwtools.Sinkhorn`, with the certificate."""
    return float(
        gw.solve(
            *(gw.PointCloud(p, metric="sqeuclidean") for p in (x, y)), gw.Sinkhorn()
        ).objective
    )


def pot(x: Any, y: Any) -> float:
    """Solve by POT's proximal solver."""
    import ot
    import torch

    costs = [torch.cdist(p, p) ** 2 for p in (x, y)]
    _, log = ot.gromov.entropic_gromov_wasserstein(
        *costs, epsilon=0.5, solver="PPA", max_iter=100, log=True
    )
    return float(log["gw_dist"])


def ott(x: Any, y: Any) -> float:
    """Solve by OTT-JAX."""
    import jax
    import jax.numpy as jnp
    from ott.geometry.pointcloud import PointCloud
    from ott.problems.quadratic.quadratic_problem import QuadraticProblem
    from ott.solvers.linear import sinkhorn
    from ott.solvers.quadratic.gromov_wasserstein import GromovWasserstein

    problem = QuadraticProblem(
        *(PointCloud(jnp.asarray(p.cpu().numpy())) for p in (x, y))
    )
    result = jax.block_until_ready(
        GromovWasserstein(sinkhorn.Sinkhorn(), epsilon=0.5)(problem)
    )
    return float(result.primal_cost)


def large(
    sizes: Sequence[int], seed: int, machine: batch.Machine, path: Path
) -> list[Row]:
    """Time the solvers that are there on growing clouds.

    Each row is written as soon as it is known.
    """
    solvers: dict[str, Callable[[Any, Any], float]] = {
        "gw.Sinkhorn()": ours,
        "POT, torch": pot,
    }
    if importlib.util.find_spec("ott"):
        solvers["OTT-JAX"] = ott
    rows: list[Row] = []
    for n in sizes:
        for name, solve in solvers.items():
            if n <= DENSE_LIMIT or solve is ours:
                x, y = clouds(n, seed)
                try:
                    objective, seconds = machine.timed(partial(solve, x, y))
                except MemoryError as error:
                    print(f"n = {n}, {name}: {error}")
                    continue
                rows.append(
                    {"n": n, "solver": name, "seconds": seconds, "objective": objective}
                )
                report.write_rows(path, rows)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    batch.add_options(parser)
    arguments = parser.parse_args(argv)
    if not importlib.util.find_spec("torch"):
        print("Skipped: PyTorch is not installed.")
        return 0
    import torch

    if not torch.cuda.is_available():
        print("Skipped: PyTorch finds no CUDA device.")
        return 0

    def convert(values: batch.Numbers) -> Any:
        return torch.as_tensor(values, device="cuda")

    machine = batch.Machine(convert, clock, torch.cuda.get_device_name())
    folder = report.results_folder(arguments)
    sizes = QUICK_SIZES if arguments.quick else SIZES
    rows = large(sizes, arguments.seed, machine, folder / "large.csv")
    title = "Throughput of batches on a GPU"
    code = batch.run(folder, arguments, machine, title)
    header = ["n", "solver", "seconds", "objective"]
    table = report.markdown_table(
        header, [[row[name] for name in header] for row in rows]
    )
    with (folder / "gpu.md").open("a") as file:
        file.write(f"\n## Sinkhorn on squared Euclidean clouds\n\n{table}\n")
    print(table)
    return code


if __name__ == "__main__":
    sys.exit(main())
