"""What must hold on a CUDA device: results stay there and agree with the CPU's."""

import numpy as np
import pytest

import gwtools as gw
from gwtools import _memory

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(
    "solver", [gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()], ids=str
)
def test_results_stay_on_the_device_and_agree(solver):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((50, 2))
    here = gw.solve(gw.PointCloud(x), gw.PointCloud(y), solver)
    there = gw.solve(
        *(gw.PointCloud(torch.tensor(points, device="cuda")) for points in (x, y)),
        solver,
    )
    assert there.plan.dense().device.type == "cuda"
    # On the device no program finishes what Sinkhorn leaves: both plans are stationary
    # to its tolerance.
    left = (
        solver.accepted_gap(gw.GWProblem(gw.PointCloud(x), gw.PointCloud(y)))
        if isinstance(solver, gw.Sinkhorn)
        else 0.0
    )
    assert float(there.objective) == pytest.approx(
        float(here.objective), rel=1e-8, abs=3 * left
    )


def test_a_search_stays_on_the_device():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((40, 2))
    a = rng.dirichlet(np.ones(30))
    there = [torch.tensor(values, device="cuda") for values in (x, a, y)]
    spaces = gw.PointCloud(there[0], there[1]), gw.PointCloud(there[2])
    found = gw.solve(*spaces)
    single = gw.solve(*spaces, gw.ConditionalGradient())
    assert found.plan.dense().device.type == found.objective.device.type == "cuda"
    least = min(start.objective for start in found.starts)
    assert found.starts.best.objective == pytest.approx(least, rel=1e-12)
    assert float(found.objective) <= float(single.objective) * (1 + 1e-12)
    # Starts that begin at the same coupling end at the same one as on the CPU.
    here = gw.solve(gw.PointCloud(x, a), gw.PointCloud(y))
    for one, other in zip(found.starts, here.starts, strict=False):
        if one.name in ("product coupling", "third bound", "first bound"):
            assert one.objective == pytest.approx(other.objective, rel=1e-8)


@pytest.mark.parametrize("solver", [gw.Sinkhorn(), gw.Sorted(kind="norm")], ids=str)
def test_batches_stay_on_the_device_and_agree(solver):
    rng = np.random.default_rng(1)
    pairs = [
        [rng.standard_normal((n, 3)) for n in pair]
        for pair in ((9, 12), (15, 10), (20, 31))
    ]
    sides = list(
        zip(
            *(
                [gw.PointCloud(torch.tensor(p, device="cuda")) for p in pair]
                for pair in pairs
            ),
            strict=True,
        )
    )
    for found, (x, y) in zip(gw.solve_batch(*sides, solver), pairs, strict=True):
        expected = gw.solve(gw.PointCloud(x), gw.PointCloud(y), solver)
        assert found.objective.device.type == found.plan.dense().device.type == "cuda"
        assert float(found.objective) == pytest.approx(
            float(expected.objective), rel=1e-8
        )


@pytest.mark.parametrize("name", ["row_means", "first", "norm", "spectral", "second"])
def test_bounds_of_batches_differentiate_on_the_device(name):
    rng = np.random.default_rng(2)
    factors = [
        torch.tensor(rng.standard_normal((t, 6)), device="cuda", requires_grad=True)
        for t in (4, 9)
    ]
    weights = torch.full((6,), 1 / 6, dtype=torch.float64, device="cuda")
    spaces = [gw.GramSpace(f, weights) for f in factors]
    values = getattr(gw.batch, name)(spaces, spaces[::-1])
    values.sum().backward()
    assert values.device.type == "cuda"
    assert all(bool(torch.all(torch.isfinite(f.grad))) for f in factors)


@pytest.mark.parametrize(
    "solver",
    [gw.ConditionalGradient(), gw.Sinkhorn(epsilon=0.5, proximal=False), gw.Sorted()],
    ids=str,
)
def test_gradients_of_matrices_are_symmetric_on_the_device(solver):
    rng = np.random.default_rng(3)
    values, other = (
        matrix + matrix.T for matrix in (rng.standard_normal((n, n)) for n in (7, 9))
    )
    found = []
    for device in ("cpu", "cuda"):
        matrix = torch.tensor(values, device=device, requires_grad=True)
        result = gw.solve(matrix, torch.tensor(other, device=device), solver)
        (
            result.objective if result.regularized is None else result.regularized
        ).backward()
        assert torch.equal(matrix.grad, matrix.grad.T)
        found.append(matrix.grad.cpu())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-8)


def test_the_memory_of_the_device_is_what_counts():
    x = gw.PointCloud(torch.rand((200_000, 3), device="cuda", dtype=torch.float64))
    taken = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    free = _memory.free(x.weights)
    assert free <= torch.cuda.get_device_properties(0).total_memory - taken.numel()
    with pytest.raises(MemoryError, match="subsamples of at most"):
        gw.solve(x, x, gw.Sinkhorn())
    del taken
    assert _memory.free(x.weights) >= free + 2**29  # kept by PyTorch, and free for it


@pytest.mark.parametrize("bound", [gw.bounds.reformulation, gw.bounds.semidefinite])
def test_multipliers_found_on_a_device_prove_as_much(bound):
    rng = np.random.default_rng(0)
    clouds = [rng.standard_normal((n, 3)) for n in (12, 10)]
    weights = [rng.dirichlet(np.ones(len(points))) for points in clouds]
    on_cpu = [gw.PointCloud(p, a) for p, a in zip(clouds, weights, strict=True)]
    on_device = [
        gw.PointCloud(torch.as_tensor(p).cuda(), torch.as_tensor(a).cuda())
        for p, a in zip(clouds, weights, strict=True)
    ]
    found = bound(*on_device)
    assert found.device.type == "cuda"
    assert float(found) == pytest.approx(float(bound(*on_cpu)), rel=1e-3)
    assert float(found) <= float(gw.solve(*on_cpu).objective)
