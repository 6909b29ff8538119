"""What a result claims, recomputed in plain NumPy with nothing of gwtools."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
from scipy.optimize import linprog

from tests.libraries import to_numpy


def euclidean(points: np.ndarray) -> np.ndarray:
    wide = points.astype(np.longdouble)
    return np.sqrt(((wide[:, None, :] - wide[None, :, :]) ** 2).sum(-1)).astype(float)


def costs(C: np.ndarray, D: np.ndarray, p: float = 2.0) -> np.ndarray:
    """|C_ik − D_jl|^p in extended precision, of shape (n, m, n, m)."""
    wide_C, wide_D = C.astype(np.longdouble), D.astype(np.longdouble)
    return np.abs(wide_C[:, None, :, None] - wide_D[None, :, None, :]) ** p


def objective(C: np.ndarray, D: np.ndarray, plan: np.ndarray, p: float = 2.0) -> float:
    """Σ |C_ik − D_jl|^p π_ij π_kl, term by term."""
    wide = plan.astype(np.longdouble)
    return float(
        (wide[:, :, None, None] * costs(C, D, p) * wide[None, None, :, :]).sum()
    )


def exact_objective(C: np.ndarray, D: np.ndarray, plan: np.ndarray) -> Fraction:
    """Σ (C_ik − D_jl)² π_ij π_kl in rational arithmetic."""
    atoms = [(i, j, Fraction(float(plan[i, j]))) for i, j in np.argwhere(plan > 0)]
    C, D = ([[Fraction(float(v)) for v in row] for row in matrix] for matrix in (C, D))
    return sum(
        ((C[i][k] - D[j][m]) ** 2 * s * t for i, j, s in atoms for k, m, t in atoms),
        Fraction(0),
    )


def line(x: Any, a: Any, y: Any, b: Any, p: float) -> float:
    """W_p^p between weighted lists of numbers, walking both in order."""
    return float(sum(mass * abs(x[i] - y[j]) ** p for i, j, mass in walk(x, a, y, b)))


def walk(x: Any, a: Any, y: Any, b: Any) -> list[tuple[int, int, Any]]:
    """The atoms of the north-west corner rule on both sorted lists."""
    rest_a, rest_b = list(a), list(b)
    left, right = list(np.argsort(x, kind="stable")), list(np.argsort(y, kind="stable"))
    atoms, zero = [], 0 * rest_a[0]
    while left and right:
        i, j = left[0], right[0]
        mass = min(rest_a[i], rest_b[j])
        rest_a[i], rest_b[j] = rest_a[i] - mass, rest_b[j] - mass
        atoms.append((i, j, mass))
        if rest_a[i] <= zero and (len(left) > 1 or len(right) == 1 or rest_b[j] > zero):
            left.pop(0)
        else:
            right.pop(0)
    return atoms


def parts(C: np.ndarray, a: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """m_C, α and R."""
    f = C @ a
    mean = float(a @ f)
    alpha = f - mean
    return mean, alpha, C - mean - alpha[:, None] - alpha[None, :]


def norm(R: np.ndarray, a: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("i,k,ik->", a, a, R**2)))


def additive_part(C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray) -> float:
    (m_C, alpha, _), (m_D, beta, _) = parts(C, a), parts(D, b)
    return (m_C - m_D) ** 2 + 2 * line(alpha, a, beta, b, 2)


def row_means(
    C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray, p: float = 2.0
) -> float:
    return line(C @ a, a, D @ b, b, p)


def first(
    C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray, p: float = 2.0
) -> float:
    return line(
        (np.abs(C) ** p @ a) ** (1 / p), a, (np.abs(D) ** p @ b) ** (1 / p), b, p
    )


def norm_bound(C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray) -> float:
    R, S = parts(C, a)[2], parts(D, b)[2]
    return additive_part(C, a, D, b) + (norm(R, a) - norm(S, b)) ** 2


def spectrum(C: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Eigenvalues of diag(√a) R diag(√a), ascending."""
    return np.linalg.eigvalsh(np.sqrt(np.outer(a, a)) * parts(C, a)[2])


def spectral(C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray) -> float:
    first_values, second_values = spectrum(C, a), spectrum(D, b)
    matched = 0.0
    for sign in (1, -1):
        lists = [
            np.sort(np.maximum(sign * v, 0))[::-1]
            for v in (first_values, second_values)
        ]
        shorter = min(map(len, lists))
        matched += float(lists[0][:shorter] @ lists[1][:shorter])
    return (
        additive_part(C, a, D, b)
        + float(first_values @ first_values + second_values @ second_values)
        - 2 * matched
    )


BOUNDS: dict[str, Callable[..., float]] = {
    "row_means": row_means,
    "first": first,
    "norm": norm_bound,
    "spectral": spectral,
}


def linear_program(cost: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Minimum of Σ cost_ij π_ij over couplings, by HiGHS."""
    n, m = cost.shape
    rows, cols = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    solution = linprog(
        cost.ravel(),
        A_eq=np.vstack([rows, cols]),
        b_eq=np.concatenate([a, b * (a.sum() / b.sum())]),
    )
    assert solution.success, solution.message
    return float(solution.fun)


def gradient(C: np.ndarray, D: np.ndarray, plan: np.ndarray) -> np.ndarray:
    """2 Σ_kl (C_ik − D_jl)² π_kl, term by term."""
    return 2 * (costs(C, D) * plan[None, None, :, :]).sum((2, 3)).astype(float)


def frank_wolfe_gap(
    C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray, plan: np.ndarray
) -> float:
    """⟨∇F(π), π⟩ minus the least ⟨∇F(π), σ⟩ over couplings σ."""
    slope = gradient(C, D, plan)
    return float((slope * plan).sum()) - linear_program(slope, a, b)


def best_permutation(C: np.ndarray, D: np.ndarray) -> float:
    """Least objective of a permutation, uniform weights."""
    n = len(C)
    return min(
        float(((C - D[np.ix_(order, order)]) ** 2).mean())
        for order in permutations(range(n))
    )


def two_by_two(C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray) -> float:
    """GW_2² of two spaces of two atoms.

    The objective is a parabola in the one free mass.
    """
    low, high = max(0.0, a[0] + b[0] - 1), min(a[0], b[0])

    def value(t: float) -> float:
        plan = np.array([[t, a[0] - t], [b[0] - t, 1 - a[0] - b[0] + t]])
        return objective(C, D, np.maximum(plan, 0))

    ends = value(low), value((low + high) / 2), value(high)
    curvature, candidates = ends[0] - 2 * ends[1] + ends[2], [low, high]
    if curvature > 0 and high > low:
        bottom = (low + high) / 2 + (high - low) / 4 * (ends[0] - ends[2]) / curvature
        candidates.append(min(max(bottom, low), high))
    return min(value(t) for t in candidates)


def coupling_error(plan: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Largest error of a marginal; infinite where a mass is negative or not finite."""
    if not np.all(np.isfinite(plan)) or plan.min() < 0:
        return np.inf
    return max(np.abs(plan.sum(1) - a).max(), np.abs(plan.sum(0) - b).max())


def check_result(
    result: Any,
    C: np.ndarray,
    a: np.ndarray,
    D: np.ndarray,
    b: np.ndarray,
    tolerance: float = 1e-12,
) -> float:
    """Hold a result against its own plan; return the plan's objective.

    ``tolerance`` is that of the dtype.
    """
    plan = to_numpy(result.plan.dense())
    assert plan.shape == (len(a), len(b))
    assert coupling_error(plan, a, b) <= tolerance
    for found, wanted in zip(result.plan.marginals(), (a, b), strict=True):
        assert np.abs(to_numpy(found) - wanted).max() <= tolerance
    assert np.array_equal(result.plan.sparse().toarray(), plan)
    found = objective(C, D, plan)
    largest = max(np.abs(C).max(), np.abs(D).max()) ** 2
    assert abs(float(result.objective) - found) <= 1e2 * tolerance * largest
    assert float(result.distance) >= 0
    assert abs(
        float(result.distance) ** 2 - float(result.objective)
    ) <= 10 * tolerance * float(result.objective)
    check_certificate(result.certificate, C, a, D, b)
    # A plan of float32 masses misses the marginals, so that its own objective may
    # undercut every coupling's.
    assert result.certificate.lower <= found + (
        0 if tolerance <= 1e-12 else tolerance * largest
    )
    assert result.certificate.upper >= found
    return found


def check_certificate(
    certificate: Any, C: np.ndarray, a: np.ndarray, D: np.ndarray, b: np.ndarray
) -> None:
    """Hold a certificate's lower bounds against the independent ones.

    Its parts are held against each other.
    """
    assert 0 <= certificate.lower <= certificate.upper < np.inf
    assert certificate.gap == certificate.upper - certificate.lower
    assert (
        certificate.lower
        == certificate.bounds[certificate.bound]
        == max(certificate.bounds.values())
    )
    slack = 1e-10 * max(np.abs(C).max(), np.abs(D).max()) ** 2
    for name in certificate.bounds.keys() & BOUNDS.keys():
        assert abs(certificate.bounds[name] - BOUNDS[name](C, a, D, b)) <= slack, name
