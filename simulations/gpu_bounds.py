"""The reformulation bound on a CUDA device: what it proves, and how long a step takes.

Pairs of Euclidean clouds of 3-D Gaussians of n points, and squared ones. The search for
multipliers runs on the device, and the bound is proved on the CPU, in both cases.

    python -m simulations.gpu_bounds --out DIR [--quick] [--seed S] [--sizes N ...]

writes bounds.csv, meta.json and bounds.md. Without CUDA it says so and stops.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

import gwtools as gw
from gwtools import _compiled
from simulations import _report as report
from simulations._report import Row

SIZES, QUICK_SIZES = (60, 100, 150), (20,)
STEPS, QUICK_STEPS = (100, 400, 1600), (50,)
METRICS = ("euclidean", "sqeuclidean")


def measure(n: int, metric: str, seed: int, steps: int, device: str) -> Row:
    """Search for multipliers on one device, prove their bound and time both."""
    import torch

    rng = np.random.default_rng((seed, n))
    clouds = [rng.standard_normal((n, 3)) for _ in range(2)]
    arrays = [torch.as_tensor(points, device=device) for points in clouds]
    x, y = (gw.PointCloud(points, metric=metric) for points in arrays)
    start = time.perf_counter()
    found = gw.bounds.find_multipliers(x, y, iterations=steps)
    searched = time.perf_counter() - start
    start = time.perf_counter()
    bound = float(gw.bounds.reformulation(x, y, multipliers=found))
    proved = time.perf_counter() - start
    best = gw.solve(*(gw.PointCloud(points, metric=metric) for points in clouds))
    return {
        "n": n,
        "metric": metric,
        "steps": steps,
        "device": device,
        "search_s": searched,
        "bound_s": proved,
        "bound": bound,
        "objective": float(best.objective),
        "share": bound / float(best.objective),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table."""
    parser = report.command_line(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of atoms")
    settings = parser.parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: nothing was run.")
        return 0
    import torch

    if not torch.cuda.is_available():
        print("There is no CUDA device: nothing was run.")
        return 0
    sizes = settings.sizes or (QUICK_SIZES if settings.quick else SIZES)
    all_steps = QUICK_STEPS if settings.quick else STEPS
    cases = [(n, m, steps) for n in sizes for m in METRICS for steps in all_steps]
    measure(10, METRICS[0], settings.seed, 10, "cuda")  # what is loaded is not timed
    rows = []
    folder = report.results_folder(settings)
    for n, metric, steps in tqdm(cases, unit="case"):
        rows.append(measure(n, metric, settings.seed, steps, "cuda"))
        report.write_rows(folder / "bounds.csv", rows)
    names = ["n", "metric", "steps", "search_s", "bound_s", "share"]
    cells = [
        [row[name] if name != "share" else f"{row[name]:.1%}" for name in names]
        for row in rows
    ]
    text = "\n\n".join(
        [
            f"# The reformulation bound on {torch.cuda.get_device_name()}",
            f"Multipliers on the device, the bound on the CPU (extra fast: "
            f"{_compiled.available()}); seed {settings.seed}.",
            report.markdown_table(names, cells),
        ]
    )
    (folder / "bounds.md").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
