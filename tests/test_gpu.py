"""What must hold on a CUDA device: results stay there and agree with the CPU's."""

import numpy as np
import pytest

import gwtools as gw

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("solver", [gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()], ids=str)
def test_results_stay_on_the_device_and_agree(solver):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((50, 2))
    here = gw.solve(gw.PointCloud(x), gw.PointCloud(y), solver)
    there = gw.solve(*(gw.PointCloud(torch.tensor(points, device="cuda")) for points in (x, y)), solver)
    assert there.plan.dense().device.type == "cuda"
    assert float(there.objective) == pytest.approx(float(here.objective), rel=1e-8)
