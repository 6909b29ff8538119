"""Gradients with respect to matrices: symmetric, and fit for a descent.

They are those of the function of symmetric matrices.
"""

import numpy as np
import pytest

import gwtools as gw
from tests.test_check import refused

torch = pytest.importorskip("torch")

BOUNDS = ("row_means", "first", "norm", "spectral", "second")
FIXED = gw.Sinkhorn(epsilon=0.5, proximal=False)
SOLVERS = (
    gw.ConditionalGradient(),
    gw.Sinkhorn(),
    FIXED,
    *(gw.Sorted(kind=k) for k in ("row_means", "norm", "spectral")),
)


def in_batch(bound):
    return lambda x, y: bound([y, x], [x, y])[1]


VALUES = {f"bounds.{name}": getattr(gw.bounds, name) for name in BOUNDS}
VALUES |= {f"batch.{name}": in_batch(getattr(gw.batch, name)) for name in BOUNDS}
for _solver in SOLVERS:
    VALUES[f"objective {_solver}"] = lambda x, y, s=_solver: gw.solve(x, y, s).objective
    VALUES[f"batch objective {_solver}"] = lambda x, y, s=_solver: (
        gw.solve_batch([x], [y], s)[0].objective
    )
    if isinstance(_solver, gw.Sorted):
        VALUES[f"estimate {_solver}"] = lambda x, y, s=_solver: (
            gw.solve(x, y, s).estimate
        )
        VALUES[f"batch estimate {_solver}"] = lambda x, y, s=_solver: (
            gw.solve_batch([x], [y], s)[0].estimate
        )
    else:
        VALUES[f"distance {_solver}"] = lambda x, y, s=_solver: (
            gw.solve(x, y, s).distance
        )
VALUES["regularized"] = lambda x, y: gw.solve(x, y, FIXED).regularized
VALUES["batch regularized"] = lambda x, y: (
    gw.solve_batch([x], [y], FIXED)[0].regularized
)


def matrix(n, seed):
    drawn = np.random.default_rng(seed).standard_normal((n, n))
    return torch.asarray(drawn + drawn.T)


def weights(n, seed):
    drawn = np.random.default_rng(seed).uniform(1, 2, n)
    return torch.asarray(drawn / drawn.sum())


@pytest.mark.parametrize("name", VALUES)
def test_gradients_in_a_matrix_are_symmetric(name):
    C, D = matrix(5, 1).requires_grad_(), matrix(6, 2).requires_grad_()
    VALUES[name](
        gw.DenseSpace(C, weights(5, 3)), gw.DenseSpace(D, weights(6, 4))
    ).backward()
    for found in (C.grad, D.grad):
        assert torch.equal(found, found.T)
        assert float(abs(found).max()) > 0.0


@pytest.mark.parametrize(
    "name", [n for n in VALUES if "Sinkhorn" not in n and "regularized" not in n]
)
def test_gradients_in_a_matrix_are_those_along_symmetric_changes(name):
    """At couplings that stay optimal nearby: distances, and a vertex."""
    points = [
        np.random.default_rng(seed).standard_normal((n, 2))
        for n, seed in ((5, 1), (6, 2))
    ]
    C, D = (torch.cdist(p, p).requires_grad_() for p in map(torch.asarray, points))
    VALUES[name](
        gw.DenseSpace(C, weights(5, 3)), gw.DenseSpace(D, weights(6, 4))
    ).backward()
    # Zero diagonals stay: there the values of `first` and `second` have kinks.
    change = matrix(5, 5) * (1 - torch.eye(5))
    ends = [
        float(
            VALUES[name](
                gw.DenseSpace(C.detach() + step * change, weights(5, 3)),
                gw.DenseSpace(D.detach(), weights(6, 4)),
            )
        )
        for step in (1e-6, -1e-6)
    ]
    assert float((C.grad * change).sum()) == pytest.approx(
        (ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8
    )


def test_values_of_matrices_within_a_graph_are_kept_to_the_bit():
    C = matrix(5, 1)
    C[0, 1] += 2.0**-50  # symmetric up to rounding only
    space = gw.DenseSpace(C.clone().requires_grad_())
    assert torch.equal(space.distances.detach(), C)
    assert float(gw.bounds.norm(space, matrix(4, 2)).detach()) == float(
        gw.bounds.norm(C, matrix(4, 2))
    )
    largest = torch.full(
        (2, 2), 1e308, dtype=torch.float64, requires_grad=True
    )  # whose sum with itself has no number
    assert torch.equal(gw.DenseSpace(largest).distances.detach(), largest.detach())


@pytest.mark.parametrize(
    "name", [n for n in VALUES if not n.startswith("batch objective")]
)
def test_descent_stays_among_symmetric_matrices(name):
    C, D = torch.eye(6, dtype=torch.float64).requires_grad_(), matrix(6, 2)
    first = None
    for _ in range(12):
        value = VALUES[name](C, D)
        first = float(value.detach()) if first is None else first
        value.backward()
        with torch.no_grad():
            C -= 0.02 * C.grad
            C.grad.zero_()
    assert torch.equal(C.detach(), C.detach().T)
    assert float(value.detach()) < first


@pytest.mark.parametrize("unit", [1.0, 1e-100, 1e100])
@pytest.mark.parametrize("epsilon", [None, 0.5])
def test_regularized_is_the_objective_plus_the_entropy(epsilon, unit):
    rng = np.random.default_rng(0)
    a = np.append(weights(7, 1).numpy(), 0.0)  # an atom without weight
    x, y = (
        gw.PointCloud(unit * rng.standard_normal((8, 2)), a),
        gw.PointCloud(unit * rng.standard_normal((6, 3))),
    )
    solver = gw.Sinkhorn(
        epsilon=None if epsilon is None else epsilon * unit * unit, proximal=False
    )
    alone, together = gw.solve(x, y, solver), gw.solve_batch([x, x], [y, y], solver)[1]
    plan, product = alone.plan.dense()[:7], np.outer(a[:7], y.weights)
    positive = plan > 0
    entropy = float(np.sum(plan[positive] * np.log(plan[positive] / product[positive])))
    weight = (
        1e-3 * gw.GWProblem(x, y).variation
        if epsilon is None
        else epsilon * unit * unit
    )
    assert alone.regularized - alone.objective == pytest.approx(
        weight * entropy, rel=1e-9, abs=0.0
    )
    assert together.regularized == pytest.approx(
        float(alone.regularized), rel=1e-12, abs=0.0
    )
    assert alone.as_dict()["regularized"] == alone.regularized
    assert "objective + ε KL" in str(alone)


def test_only_a_fixed_entropy_is_part_of_what_is_minimised():
    for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()):
        result = gw.solve(matrix(4, 1), matrix(5, 2), solver)
        assert result.regularized is None
        assert "regularized" not in str(result)


def test_a_coupling_that_must_be_the_product_has_no_entropy():
    point = gw.PointCloud(np.zeros((1, 2)))
    result = gw.solve(
        point, gw.PointCloud(np.random.default_rng(0).standard_normal((5, 2))), FIXED
    )
    assert result.regularized == pytest.approx(float(result.objective), abs=1e-15)


def test_what_torch_func_cannot_differentiate_is_refused():
    C, D = matrix(5, 1), matrix(6, 2)
    for name in BOUNDS:
        expected = C.clone().requires_grad_()
        getattr(gw.bounds, name)(expected, D).backward()
        found = torch.func.grad(lambda m, name=name: getattr(gw.bounds, name)(m, D))(C)
        torch.testing.assert_close(found, expected.grad, rtol=1e-10, atol=1e-12)
    calls = (
        lambda m: gw.solve(m, D, gw.Sorted()).estimate,
        lambda m: m.sum() * gw.certify(D, m).lower,
        lambda m: gw.solve_batch([D, D], [D, m], gw.Sorted())[1].estimate,
    )
    for call in calls:
        refused(
            lambda call=call: torch.func.grad(call)(C),
            TypeError,
            "must be outside of torch.func.grad",
            "backward",
        )
