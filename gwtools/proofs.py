"""Proofs that can be repeated: a certificate's ends, computed again by plain sums.

Nothing here searches or solves, and nothing is shared with what found the proof but the
spaces and the plan. Numbers are plain float64, without outward rounding, but for trees
of a branch and bound, whose check rounds down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gwtools import _array, _check_proofs
from gwtools._array import Array, NumpyArray
from gwtools.branch_proofs import BranchProof, check_branches
from gwtools.plans import Plan
from gwtools.preparation import prepare
from gwtools.spaces import Space, converted, detached

# By how much an end may claim more than the one that is computed again: a share of the
# largest square of a difference of values,
_FLOAT_ERROR = 1e-10
# one of that difference times the largest value, as differences of parts have,
_FLOAT_ERROR_OF_VALUES = 1e-12
# in a tree one of the largest value squared, of which its cuts are made,
_FLOAT_ERROR_OF_TREES = 1e-11
# and what each term of a sum may underflow by.
_LEAST = 2.0**-1072
_BRANCHES = "branch_and_bound"


@dataclass(frozen=True, eq=False)
class Proof:
    """What a certificate was proved by, kept by ``gw.certify(…, keep_proof=True)``.

    Attributes
    ----------
    arrays : dict
        For each bound that has any, the NumPy arrays of its multipliers and potentials
        by name, in squared units of C and over the atoms that have mass: "first" (G¹)
        and "second" (G²) as in :class:`gwtools.bounds.Multipliers`, "tensor" where the
        bound has one, the potentials "inner" (n, m, m) of y in the programs of all
        pairs (i, j), and "outer" (m,) of y in the outer program.
    plan : Plan or None
        The plan whose objective is the upper end; None where none was given.
    branches : BranchProof or None
        The tree of a branch and bound with its cuts, of spaces whose C is that given
        divided by ``unit``.
    unit : float
        A power of four; 1 where there is no such tree.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x, y = 1 - np.eye(2), 1 - np.eye(4)
    >>> plan = gw.solve(x, y).plan
    >>> certificate = gw.certify(x, y, plan, effort="quartic", keep_proof=True)
    >>> proof = certificate.proof
    >>> isinstance(proof, gw.Proof), proof.plan is plan
    (True, True)
    """

    arrays: dict[str, dict[str, NumpyArray]] = field(default_factory=dict)
    plan: Plan | None = None
    branches: BranchProof | None = None
    unit: float = 1.0


@dataclass(frozen=True)
class Verification:
    """Both ends of a certificate, computed again.

    Attributes
    ----------
    lower : float
        The lower bound, in squared units of C.
    upper : float or None
        The objective of the coupling nearest to the plan, in squared units of C; None
        without a plan.
    bound : str
        Which bound that is: the certificate's, or the best of those that can be
        computed again.
    agrees : bool
        Whether no end of the certificate claims more than these, up to float error.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x, y = 1 - np.eye(2), 1 - np.eye(4)
    >>> plan = gw.solve(x, y).plan
    >>> certificate = gw.certify(x, y, plan, effort="quadratic", keep_proof=True)
    >>> print(certificate.verify(x, y))
    [0.25, 0.25] by second: agrees
    """

    lower: float
    upper: float | None
    bound: str
    agrees: bool

    def __str__(self) -> str:
        """Say both ends and whether they agree."""
        upper = "no plan" if self.upper is None else f"{self.upper:.6g}"
        verdict = "agrees" if self.agrees else "does not agree"
        return f"[{self.lower:.6g}, {upper}] by {self.bound}: {verdict}"


class Values(NamedTuple):
    """Two spaces as matrices and weights of sum 1, of the atoms that have mass."""

    C: NumpyArray  # (n, n)
    a: NumpyArray  # (n,)
    D: NumpyArray  # (m, m)
    b: NumpyArray  # (m,)


def verify(
    x: Space,
    y: Space,
    bounds: dict[str, float],
    ends: tuple[float, float],
    proof: Proof,
) -> Verification:
    """Compute both ends again, and compare them with those of a certificate.

    Parameters
    ----------
    x, y : Space
        The spaces.
    bounds : dict
        The certificate's lower bounds by name.
    ends : pair of float
        Its ends, in squared units of C.
    proof : Proof
        What was kept of its proof.

    Returns
    -------
    Verification
        Of the largest lower bound that can be computed again.
    """
    # Certificates are of the values as stored, however few digits their dtype has.
    x = converted(detached(x), _array.widen)
    y = converted(detached(y), _array.widen)
    # In a unit in which squares of values are numbers of float64.
    unit = prepare(x, y).unit
    C, a, kept_x = _matrix(x.scaled(1 / unit))
    D, b, kept_y = _matrix(y.scaled(1 / unit))
    values = Values(C, a, D, b)
    _require_sizes(proof, (x.size, y.size), (len(a), len(b)))
    # 1. The largest lower bound that can be computed again.
    known = {name for name in bounds if name in CLOSED_FORMS or name in proof.arrays}
    if proof.branches is not None:
        known |= {_BRANCHES} & bounds.keys()
    best = max(sorted(known), key=bounds.__getitem__)
    if best == _BRANCHES and proof.branches is not None:
        lower = _by_branches(x, y, proof.branches, proof.unit)
    elif best in proof.arrays:
        arrays = {
            name: array / unit / unit for name, array in proof.arrays[best].items()
        }
        lower = FROM_ARRAYS[best](values, arrays) * unit * unit
    else:
        lower = CLOSED_FORMS[best](values) * unit * unit
    # 2. The objective of the plan, less what it misses of the weights.
    recomputed = None
    if proof.plan is not None:
        plan = _in_float64(proof.plan.dense())
        nearest = _nearest(plan[np.ix_(kept_x, kept_y)], a, b)
        recomputed = objective(values, nearest) * unit * unit
    # 3. The certificate may claim less, but no more.
    error = _float_error(C, D, best == _BRANCHES) * unit * unit
    error += C.size * D.size * _LEAST
    claimed, upper = ends
    agrees = bounds[best] <= lower + error and claimed <= max(bounds.values())
    if recomputed is not None:
        agrees = agrees and recomputed <= upper + error
        # Lower bounds that cannot be computed again are below the plan, too.
        agrees = agrees and max(claimed, lower) <= recomputed + error
    return Verification(lower, recomputed, best, bool(agrees))


def _float_error(C: NumpyArray, D: NumpyArray, of_tree: bool) -> float:
    """Return how far off float errors may be in plain sums over both matrices."""
    largest = float(max(abs(C.max() - D.min()), abs(D.max() - C.min())))
    size = float(max(abs(C).max(), abs(D).max()))
    of_values = _FLOAT_ERROR_OF_VALUES * size
    error = _FLOAT_ERROR * largest**2 + of_values * largest + of_values**2
    if of_tree:
        error += _FLOAT_ERROR_OF_TREES * size**2
    return error


def _nearest(plan: NumpyArray, a: NumpyArray, b: NumpyArray) -> NumpyArray:
    """Return the coupling nearest to a plan: its masses may be rounded."""
    # 1. Where it pairs off atoms of equal weights, it stands for that matching.
    places = plan > 0
    pairs_off = plan.shape[0] == plan.shape[1] == places.sum()
    if pairs_off and places.any(axis=0).all() and places.any(axis=1).all():
        cols = places.argmax(axis=1)
        if np.allclose(a, b[cols], rtol=1e-14, atol=0.0):
            return np.asarray(places * a[:, None])
    # 2. Else rows and columns are cut to their weights, and what is missing is added.
    plan = plan / plan.sum()
    for axis, weights in enumerate((a, b)):
        sums = plan.sum(axis=1 - axis)
        factors = weights / np.maximum(sums, weights)
        plan = plan * np.expand_dims(factors, 1 - axis)
    missing_a = np.maximum(a - plan.sum(axis=1), 0.0)
    missing_b = np.maximum(b - plan.sum(axis=0), 0.0)
    missing = float(missing_a.sum())
    if missing > 0.0:
        plan = plan + np.outer(missing_a, missing_b / missing)
    return plan


def _by_branches(x: Space, y: Space, branches: BranchProof, unit: float) -> float:
    """Return what a tree proves, of spaces in float64."""
    ready = prepare(x, y)
    x = ready.x
    y = ready.y
    # Solvers choose units by the dtype that they search in.
    if ready.unit != unit:
        x = x.scaled(ready.unit / unit)
        y = y.scaled(ready.unit / unit)
    return check_branches(x, y, branches) * unit * unit


def _require_sizes(
    proof: Proof,
    sizes: tuple[int, int],
    with_mass: tuple[int, int],
) -> None:
    """Refuse the proof of spaces of other sizes."""
    if proof.plan is not None:
        _check_proofs.same_sizes(proof.plan.shape, sizes, "atoms")
    for arrays in proof.arrays.values():
        n, m, _ = arrays["inner"].shape
        _check_proofs.same_sizes((n, m), with_mass, "atoms with mass")


def _matrix(space: Space) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return C, the normalised weights and the positions of the atoms with mass."""
    matrix = _array.to_numpy(space.dense())
    weights = _array.to_numpy(space.weights)
    kept = np.flatnonzero(weights > 0)
    matrix = matrix[np.ix_(kept, kept)]
    return (matrix + matrix.T) / 2, weights[kept] / weights.sum(), kept


def _in_float64(array: Array) -> NumpyArray:
    """Return an array of any library in NumPy and float64."""
    values = _array.to_numpy(_array.detached(array))
    return values.astype(np.float64)


def objective(values: Values, plan: NumpyArray) -> float:
    """Return Σ (C_ik − D_jl)² π_ij π_kl, summed over the atoms j of y."""
    C, _, D, _ = values
    total = 0.0
    for j in range(len(D)):
        moved = plan[:, j]  # π_ij, (n,)
        differences = (C[:, :, None] - D[j]) ** 2  # (n, n, m)
        total += float(moved @ np.tensordot(differences, plan, 2))
    return total


class _Parts(NamedTuple):
    mean: float
    deviations: NumpyArray
    residual: NumpyArray


def _split(C: NumpyArray, a: NumpyArray) -> _Parts:
    """Split C = m + α1ᵀ + 1αᵀ + R."""
    row_means = C @ a
    mean = float(a @ row_means)
    alpha = row_means - mean
    return _Parts(mean, alpha, C - mean - alpha[:, None] - alpha)


def _transport(x: NumpyArray, a: NumpyArray, y: NumpyArray, b: NumpyArray) -> float:
    """Return W_2² on the line: both lists are walked through in ascending order."""
    order_x = np.argsort(x)
    order_y = np.argsort(y)
    x = x[order_x]
    y = y[order_y]
    ends_x = np.cumsum(a[order_x])
    ends_y = np.cumsum(b[order_y])
    ends = np.sort(np.concatenate([ends_x[:-1], ends_y[:-1], [1.0]]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = (starts + ends) / 2
    i = np.minimum(np.searchsorted(ends_x, middles), len(x) - 1)
    j = np.minimum(np.searchsorted(ends_y, middles), len(y) - 1)
    return float((ends - starts) @ (x[i] - y[j]) ** 2)


def _additive(values: Values, factor: float) -> float:
    """Return (m_C − m_D)² + factor · W_2²(α, β)."""
    C, a, D, b = values
    x = _split(C, a)
    y = _split(D, b)
    transport = _transport(x.deviations, a, y.deviations, b)
    return (x.mean - y.mean) ** 2 + factor * transport


def _row_means(values: Values) -> float:
    """Theorem 1."""
    return _additive(values, 1.0)


def _first(values: Values) -> float:
    """Theorem 1, for eccentricities."""
    C, a, D, b = values
    return _transport(np.sqrt(C**2 @ a), a, np.sqrt(D**2 @ b), b)


def _second(values: Values) -> float:
    """Theorem 7, for all values."""
    C, a, D, b = values
    weights_C = np.outer(a, a).ravel()
    weights_D = np.outer(b, b).ravel()
    return _transport(C.ravel(), weights_C, D.ravel(), weights_D)


def _spectrum(C: NumpyArray, a: NumpyArray) -> NumpyArray:
    """Return the eigenvalues of diag(√a) R diag(√a)."""
    root = np.sqrt(a)
    matrix = root[:, None] * _split(C, a).residual * root
    return np.linalg.eigvalsh(matrix)


def _norm(values: Values) -> float:
    """Theorem 3."""
    C, a, D, b = values
    gap = np.linalg.norm(_spectrum(C, a)) - np.linalg.norm(_spectrum(D, b))
    return _additive(values, 2.0) + float(gap) ** 2


def _spectral(values: Values) -> float:
    """Theorem 4: positive eigenvalues from the top, negative ones from the bottom."""
    C, a, D, b = values
    total = _additive(values, 2.0)
    count = max(len(a), len(b))
    for sign in (1.0, -1.0):
        sorted_parts = []
        for spectrum in (_spectrum(C, a), _spectrum(D, b)):
            part = np.sort(np.maximum(sign * spectrum, 0.0))[::-1]
            sorted_parts.append(np.pad(part, (0, count - len(part))))
        difference = sorted_parts[0] - sorted_parts[1]
        total += float(difference @ difference)
    return total


def _rank_one(values: Values) -> float:
    """Theorem 12 (f): C = h hᵀ and D = k kᵀ."""
    C, a, D, b = values
    h = _root_of(C)
    k = _root_of(D)
    p = float(a @ h**2)
    q = float(b @ k**2)
    W = min(_transport(h, a, k, b), _transport(h, a, -k, b))
    return (p - q) ** 2 / 2 + W * (p + q - W / 2)


def _root_of(C: NumpyArray) -> NumpyArray:
    """Return h of C = h hᵀ, up to its sign."""
    i = int(np.argmax(np.diagonal(C)))
    if C[i, i] == 0:
        return np.zeros(len(C))
    return np.asarray(C[i] / C[i, i] ** 0.5)


def _nested(values: Values, arrays: dict[str, NumpyArray]) -> float:
    """Theorems 15 and 16: any multipliers, and potentials of all programs."""
    C, a, D, b = values
    x = _split(C, a)
    y = _split(D, b)
    h = (x.deviations[:, None] - y.deviations) ** 2  # (n, m)
    first = arrays["first"]  # G¹_jkl
    second = arrays["second"]  # G²_ikl
    inner = arrays["inner"]  # ψ_ijl
    tensor = arrays.get("tensor")
    costs = h + np.tensordot(b, first, 1) + np.tensordot(a, second, 1)
    for i in range(len(a)):
        for j in range(len(b)):
            differences = x.residual[i][:, None] - y.residual[j]
            reduced = differences**2 + h - first[j] - second[i] - inner[i, j]
            if tensor is not None:
                reduced = reduced - tensor[i, j]
            costs[i, j] += a @ reduced.min(axis=1) + b @ inner[i, j]
    outer = arrays["outer"]
    least = (costs - outer).min(axis=1)
    return float((x.mean - y.mean) ** 2 + a @ least + b @ outer)


def _proved_by_arrays(values: Values, arrays: dict[str, NumpyArray]) -> float:
    """Theorems 15 and 16: the nested program less what any tensor may take off."""
    nested = _nested(values, arrays)
    if "tensor" not in arrays:
        return nested
    _, a, _, b = values
    n = len(a)
    m = len(b)
    # 1. Ξ in the coordinates Q = π / √(a bᵀ), (n m, n m).
    root = np.sqrt(np.outer(a, b)).ravel()
    tensor = arrays["tensor"].reshape(n * m, n * m)
    matrix = root[:, None] * tensor * root
    # Of a tensor that is not symmetric, the objective has the symmetric part alone.
    matrix = (matrix + matrix.T) / 2
    # 2. Its least eigenvalue on the span of all couplings: √a √bᵀ itself, and products
    #    of what is orthogonal to √a and to √b.
    U = _complement(np.sqrt(a))  # (n, n − 1)
    V = _complement(np.sqrt(b))
    span = np.column_stack([root, np.kron(U, V)])
    least = np.linalg.eigvalsh(span.T @ matrix @ span).min()
    # 3. ‖Q‖² ≤ min(n, m).
    return nested + min(float(least), 0.0) * min(n, m)


def _complement(unit: NumpyArray) -> NumpyArray:
    """Return an orthonormal basis of what is orthogonal to a unit vector."""
    others = np.eye(len(unit))[:, 1:]
    basis, _ = np.linalg.qr(np.column_stack([unit, others]))
    return np.asarray(basis[:, 1:])


CLOSED_FORMS: dict[str, Callable[[Values], float]] = {
    "row_means": _row_means,
    "first": _first,
    "norm": _norm,
    "rank_one": _rank_one,
    "second": _second,
    "spectral": _spectral,
}
FROM_ARRAYS: dict[str, Callable[[Values, dict[str, NumpyArray]], float]] = {
    "reformulation": _proved_by_arrays,
    "semidefinite": _proved_by_arrays,
}
