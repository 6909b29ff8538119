"""What plans with free marginals must be, recomputed in plain NumPy and by HiGHS."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

import gwtools as gw
from tests import checkers


def drawn(seed, metric=True, zero_diagonal=True, least=5, most=9):
    """Two matrices of unlike sizes with weights that are not uniform."""
    rng = np.random.default_rng(seed)
    n, m = rng.choice(np.arange(least, most), 2, replace=False)
    if metric:
        C = checkers.euclidean(rng.standard_normal((n, 2)))
        D = checkers.euclidean(rng.standard_normal((m, 3)))
    else:
        g, h = rng.random((n, n)), rng.random((m, m))
        C, D = g + g.T, h + h.T
        if zero_diagonal:
            np.fill_diagonal(C, 0.0)
            np.fill_diagonal(D, 0.0)
    return C, rng.dirichlet(np.full(n, 3.0)), D, rng.dirichlet(np.full(m, 3.0)), rng


def plan_error(plan, a, b, marginals):
    """By how much a plan misses what its marginals are to be."""
    assert np.all(np.isfinite(plan))
    negative = max(0.0, -plan.min())
    rows, cols = plan.sum(1), plan.sum(0)
    if marginals == "semi_relaxed":
        return max(negative, np.abs(rows - a).max())
    above = max((rows - a).max(), (cols - b).max(), 0.0)
    return max(negative, above, abs(plan.sum() - marginals.mass))


def least_cost(cost, a, b, marginals):
    """Least Σ cost_ij π_ij over the plans, by HiGHS without any dummy atom."""
    n, m = cost.shape
    rows, cols = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    if marginals == "semi_relaxed":
        solution = linprog(cost.ravel(), A_eq=rows, b_eq=a)
    else:
        solution = linprog(
            cost.ravel(),
            A_ub=np.vstack([rows, cols]),
            b_ub=np.concatenate([a, b]),
            A_eq=np.ones((1, n * m)),
            b_eq=[marginals.mass],
        )
    assert solution.success, solution.message
    return float(solution.fun)


def random_plan(a, b, marginals, rng):
    """A plan of the marginals that no solver made."""
    shares = rng.dirichlet(np.full(len(b), 0.4), len(a))
    if marginals == "semi_relaxed":
        return a[:, None] * shares
    plan = gw.round_plan(a[:, None] * shares, a, b).dense()
    scaled = plan * rng.random(plan.shape)
    mass = marginals.mass
    if scaled.sum() >= mass:
        return scaled * mass / scaled.sum()
    # Between it and the coupling itself there is one of the mass.
    t = (mass - scaled.sum()) / (1 - scaled.sum())
    return (1 - t) * scaled + t * plan


def check_free(result, C, a, D, b, marginals, tolerance=1e-12):
    """Hold a result against its own plan; return the plan's objective."""
    plan = np.asarray(result.plan, dtype=float)
    assert plan_error(plan, a, b, marginals) <= tolerance
    found = checkers.objective(C, D, plan)
    largest = max(np.abs(C).max(), np.abs(D).max()) ** 2
    assert abs(float(result.objective) - found) <= 1e2 * tolerance * largest
    certificate = result.certificate
    assert 0 <= certificate.lower <= certificate.upper < np.inf
    assert certificate.lower == certificate.bounds[certificate.bound]
    assert certificate.lower == max(certificate.bounds.values())
    assert certificate.lower <= found + tolerance * largest
    assert certificate.upper >= found
    assert certificate.lower <= float(result.objective) <= certificate.upper
    assert result.potentials is None
    return found
