"""Results: status, certificate, plan and numbers that a solver returns, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from gwtools import _array, _check, _html
from gwtools._array import Array, NumpyArray
from gwtools.plans import Plan


class Status(Enum):
    """Why a solver stopped; the value is the sentence a user reads.

    Examples
    --------
    A status is a sentence, and it tells whether the solver met its own criterion.

    >>> import numpy as np, gwtools as gw
    >>> status = gw.solve(1 - np.eye(2), 1 - np.eye(4)).status
    >>> status.value
    'The plan is stationary: the Frank-Wolfe gap fell below the tolerance.'
    >>> status.success
    True
    >>> print(gw.Status.MAX_ITERATIONS.value)  # doctest: +NORMALIZE_WHITESPACE
    The iterations ran out before the tolerance was met: raise max_iterations or the
    tolerance.
    """

    # 1. The solver met its own criterion.
    CLOSED_FORM = "The value is a closed form: nothing was iterated."
    STATIONARY = "The plan is stationary: the Frank-Wolfe gap fell below the tolerance."
    FIXED_POINT = (
        "The plan is stationary at the fixed epsilon: the gap of the objective plus "
        "entropy fell below the tolerance, or below what the dtype resolves."
    )
    GLOBAL = (
        "The plan is globally optimal: no coupling's objective is lower by more than "
        "rounding or the tolerance."
    )
    # 2. It ended before that, by itself but for STOPPED.
    MAX_ITERATIONS = (
        "The iterations ran out before the tolerance was met: raise max_iterations or "
        "the tolerance."
    )
    NOT_STATIONARY = (
        "Steps hardly lower the objective any more, but the Frank-Wolfe gap is above "
        "the tolerance: raise the tolerance, compute in float64, or, after a proximal "
        "Sinkhorn, go on with ConditionalGradient(init=result.plan)."
    )
    SCALING_UNFINISHED = (
        "The last kernel was not scaled to its marginals, and the gap is above the "
        "tolerance: raise epsilon or the tolerance, or, after a proximal Sinkhorn, go "
        "on with ConditionalGradient(init=result.plan)."
    )
    STOPPED = "The callback asked to stop: the plan is that of the last step."
    NON_FINITE = "A step gave NaN or infinite values: the plan is the last finite one."

    @property
    def success(self) -> bool:
        """Whether the solver met its own criterion."""
        return self in (
            Status.CLOSED_FORM,
            Status.STATIONARY,
            Status.FIXED_POINT,
            Status.GLOBAL,
        )

    @property
    def failure(self) -> bool:
        """Whether the solver ended by itself without meeting its criterion.

        ``solve`` then warns, or raises where asked to. STOPPED is neither success nor
        failure: the criterion was not met, and the caller asked to stop.
        """
        stopped = self is Status.STOPPED
        return not (self.success or stopped)


class Kind(Enum):
    """What a certificate proves.

    GLOBAL: the interval is closed, ``upper − lower ≤ tolerance``. BRACKET: both ends
    are proved, the upper one by a plan that was given, and they are farther apart.
    LOWER: the same without a plan.

    Examples
    --------
    Without a plan, with one, and where both ends meet: a segment against a regular
    tetrahedron.

    >>> import numpy as np, gwtools as gw
    >>> x, y = gw.as_space(1 - np.eye(2)), gw.as_space(1 - np.eye(4))
    >>> plan = gw.solve(x, y).plan
    >>> [
    ...     gw.certify(*arguments).kind.value
    ...     for arguments in ((x, y), (x, y, plan), (x, y, plan, "quadratic"))
    ... ]
    ['lower', 'bracket', 'global']
    """

    GLOBAL = "global"
    BRACKET = "bracket"
    LOWER = "lower"


@dataclass(frozen=True)
class Certificate:
    """A proved interval for GW_2² of the stored values.

    Their weights are normalised exactly.

    Attributes
    ----------
    lower : float
        No coupling's objective is below this, in squared units of C; rounded down.
    upper : float
        Some coupling's objective is at most this, in squared units of C; rounded up.
        With a plan that coupling is the plan or, where it misses the weights, the one
        nearest to it: what it misses is added. A plan that pairs atoms of equal weights
        stands for the coupling with just these weights as its masses.
    kind : Kind
        GLOBAL where ``upper − lower ≤ tolerance``, else BRACKET where a plan was given
        and LOWER where none was (``upper`` is then the product coupling's or another
        cheap coupling's).
    bound : str
        Name of the theorem in THEORY.md that gave ``lower``.
    bounds : dict
        Every lower bound that was computed, by name, rounded down.
    a_priori : float or None
        How far GW_2² can at most lie above the ``norm`` bound, known before any solver
        runs (theorem 3); rounded up.
    tolerance : float
        Width of an interval that counts as closed, in squared units of C: ``rounding``,
        or a larger one that the caller, or the solver by its own tolerance, accepts;
        ``str`` then shows it, as in "global to 1e-06".
    rounding : float
        The float error: the width that float64 errors of the values account for, δ (2
        √lower + δ) with δ = 256 (n + m + r + 64) u (Ω + Λ). Ω is max |C_ik − D_jl|, Λ
        adds the largest values of spaces whose entries are computed from others, r is
        the larger number of float operations behind an entry and u = 2⁻⁵³ (theorem 13
        h).

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x, y = gw.as_space(1 - np.eye(2)), gw.as_space(1 - np.eye(4))
    >>> certificate = gw.certify(x, y, gw.solve(x, y).plan)
    >>> print(certificate)
    [0.0669873, 0.25] (bracket, lower bound by norm)
    >>> round(certificate.gap, 4)
    0.183
    >>> {theorem: round(lower, 4) for theorem, lower in certificate.bounds.items()}
    {'row_means': 0.0625, 'norm': 0.067}
    """

    # Numbers are in squared units of C.
    lower: float
    upper: float
    kind: Kind
    bound: str  # which of ``bounds`` gave ``lower``
    bounds: dict[str, float] = field(default_factory=dict)
    a_priori: float | None = None  # GW_2² is above the norm bound by at most this
    tolerance: float = 0.0  # width that counts as closed, at least ``rounding``
    rounding: float = 0.0  # width that float errors account for

    @property
    def gap(self) -> float:
        """``upper − lower``, in squared units of C."""
        return self.upper - self.lower

    def __str__(self) -> str:
        """Say the interval, its kind and the theorem."""
        interval = f"[{self.lower:.6g}, {self.upper:.6g}]"
        kind = self.kind.value
        # An interval that is closed up to more than float error says up to what.
        if self.kind is Kind.GLOBAL and self.tolerance > self.rounding:
            kind = f"{kind} to {_one_digit(self.tolerance)}"
        return f"{interval} ({kind}, lower bound by {self.bound})"

    def __repr__(self) -> str:
        """Return both ends with all digits, the kind and the theorem."""
        ends = f"lower={self.lower!r}, upper={self.upper!r}"
        return f"Certificate({ends}, kind={self.kind.name}, bound={self.bound!r})"

    def _repr_html_(self) -> str:
        """Return the same as ``str`` for notebooks, with the interval as a bar."""
        rows = [("certificate", str(self)), self._share()]
        drawing = _html.bar(self.lower, self.upper)
        return _html.table("GW_2^2 lies in", rows, drawing)

    def _share(self) -> tuple[str, str]:
        """Return a row that says which part of the upper end is proved."""
        share = _html.share(self.lower, self.upper)  # in [0, 1]
        return "lower / upper", f"{100 * share:.1f} %"


def _one_digit(value: float) -> str:
    """Write a positive number with one digit, rounded up."""
    text = f"{value:.1g}"
    nearest = float(text)
    if nearest >= value:
        return text
    # One more in the last digit, which is the only one.
    exponent = math.floor(math.log10(nearest))
    return f"{nearest + 10.0**exponent:.1g}"


@dataclass(frozen=True, eq=False)
class GWResult:
    """A Gromov-Wasserstein number with its coupling and its proof.

    Attributes
    ----------
    objective : 0-d array
        Objective of the plan, in squared units of C; an array of the spaces' library
        and dtype. Never outside the certificate's interval: it is computed in float64,
        raised to ``lower`` where a plan that misses the weights by float error is below
        every coupling, and rounded up where the dtype is narrower.
    distance : 0-d array
        Root of the objective, in units of C. Mémoli's distance is half of it.
    estimate : 0-d array
        The solver's own value: for :class:`gwtools.Sorted` its closed form (units of C
        to the power p), for all others the objective.
    plan : Plan
        A coupling of the two weights.
    status : Status
        Why the solver stopped.
    certificate : Certificate
        A proved interval for GW_2².
    iterations : int
        Steps made.
    frank_wolfe_gap : float or None
        Upper bound of the decrease that the linearisation at the plan still promises,
        in squared units of C; of the objective F, but for :class:`gwtools.Sinkhorn` at
        a fixed ε, which minimises F + ε KL: there of ⟨∇F(π), ·⟩ + ε KL, in which only F
        is linearised (theorem 8 h). None where it was not computed at this plan, as
        after a solver that ran out of iterations.
    solver : str
        The solver, as it was set.
    regularized : 0-d array or None
        What :class:`gwtools.Sinkhorn` at a fixed ε minimises, the objective plus ε KL(π
        | a ⊗ b), in squared units of C; None of all other solvers. Gradients at a fixed
        ε are those of this value, with ε held.
    names : pair of sequences
        What the atoms of x and of y are called: the nodes of a
        :class:`gwtools.GraphSpace`, else their positions from 0.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y)
    >>> result
    GWResult(distance=0.858896, objective=0.737702,
             certificate=[0.215718, 0.737702] (bracket, lower bound by norm),
             status=STATIONARY, iterations=2, solver=ConditionalGradient(),
             plan=SparsePlan of shape (3, 3))
    >>> round(float(result.distance), 4), result.status.success
    (0.8589, True)
    """

    objective: Array  # in squared units of C
    distance: Array  # in units of C
    estimate: Array  # a closed form in units of C to its power, else the objective
    plan: Plan  # (n, m)
    status: Status
    certificate: Certificate
    iterations: int
    frank_wolfe_gap: float | None  # in squared units of C
    solver: str
    regularized: Array | None = None  # in squared units of C
    names: Any = None

    def __post_init__(self) -> None:
        if self.names is None:
            n, m = self.plan.shape
            # The class is frozen: its own constructor alone may complete a field.
            object.__setattr__(self, "names", (range(n), range(m)))

    def matching(self, kind: str = "argmax") -> list[tuple[Any, Any, float]]:
        """Read the plan as pairs of atoms.

        Parameters
        ----------
        kind : {"argmax", "assignment"}
            ``"argmax"``: for every atom of x that has mass, the atom of y that gets
            most of it, the first of equal ones. ``"assignment"``: min(n, m) pairs in
            which no atom is named twice, of the largest total mass.

        Returns
        -------
        list of (name of the atom of x, name of the atom of y, share)
            In the order of x. The share, in [0, 1], is the part of the atom's mass that
            goes to its partner; 0 without mass.

        Raises
        ------
        ValueError
            If the kind is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> import gwtools as gw
        >>> points = np.array([[0.0], [1.0], [3.0]])
        >>> result = gw.solve(gw.PointCloud(points), gw.PointCloud(points[::-1].copy()))
        >>> [(x, y) for x, y, share in result.matching()]
        [(0, 2), (1, 1), (2, 0)]
        """
        _check.choice(kind, "kind", ("argmax", "assignment"))
        plan = self.plan.sparse()  # SciPy's list of atoms (row, col, data)
        weights = plan.data.astype(np.float64)
        n, _ = self.plan.shape
        row_sums = np.bincount(plan.row, weights, n)  # (n,)
        if kind == "argmax":
            rows, cols, masses = _largest_of_rows(plan, weights)
        else:
            rows, cols, masses = _assignment(plan)
        totals = row_sums[rows]
        # Rows without mass have the share 0.
        zeros = np.zeros(len(rows))
        shares = np.divide(masses, totals, out=zeros, where=totals > 0)
        x, y = self.names
        pairs = zip(rows.tolist(), cols.tolist(), shares.tolist(), strict=True)
        return [(x[i], y[j], share) for i, j, share in pairs]

    def __str__(self) -> str:
        """Lay the number, its certificate and the status out for a reader."""
        lines = [self._title()]
        for name, text in self._rows():
            lines.append(f"  {name:<13}{text}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the numbers on a few lines: of the plan its kind and shape alone."""
        distance = _array.number(self.distance)
        objective = _array.number(self.objective)
        status = self.status.name
        plan = type(self.plan).__name__
        # Large plans are not written out.
        return (
            f"GWResult(distance={distance:.6g}, objective={objective:.6g},\n"
            f"         certificate={self.certificate},\n"
            f"         status={status}, iterations={self.iterations}, "
            f"solver={self.solver},\n"
            f"         plan={plan} of shape {self.plan.shape})"
        )

    def _repr_html_(self) -> str:
        """Return the same as ``str`` for notebooks.

        A bar shows the interval and marks the objective.
        """
        lower = self.certificate.lower
        upper = self.certificate.upper
        objective = _array.number(self.objective)
        drawing = _html.bar(lower, upper, objective)
        rows = [*self._rows(), self.certificate._share()]
        return _html.table(self._title(), rows, drawing)

    def _title(self) -> str:
        n, m = self.plan.shape
        return f"Gromov-Wasserstein between {n} and {m} atoms by {self.solver}"

    def _rows(self) -> list[tuple[str, str]]:
        """Return what a reader is told, as names and texts."""
        distance = _array.number(self.distance)
        objective = _array.number(self.objective)
        estimate = _array.number(self.estimate)
        rows = [
            ("distance", f"{distance:.6g}"),
            ("objective", f"{objective:.6g}  (GW_2^2 of the plan)"),
        ]
        # Iterative solvers have no value of their own.
        if estimate != objective:
            rows.append(("estimate", f"{estimate:.6g}  (the solver's closed form)"))
        if self.regularized is not None:
            regularized = _array.number(self.regularized)
            rows.append(("regularized", f"{regularized:.6g}  (objective + ε KL)"))
        rows.append(("certificate", str(self.certificate)))
        rows.append(("status", f"{self.status.value} ({self.iterations} iterations)"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain Python values, for JSON.

        Returns
        -------
        dict
            Numbers and words, or None where there is none, by name.
        """
        certificate = self.certificate
        regularized = self.regularized
        if regularized is not None:
            regularized = _array.number(regularized)
        return {
            # 1. The numbers.
            "distance": _array.number(self.distance),
            "objective": _array.number(self.objective),
            "estimate": _array.number(self.estimate),
            "regularized": regularized,
            # 2. The certificate.
            "lower": certificate.lower,
            "upper": certificate.upper,
            "gap": certificate.gap,
            "kind": certificate.kind.value,
            "tolerance": certificate.tolerance,
            "bound": certificate.bound,
            # 3. The solver.
            "status": self.status.name,
            "message": self.status.value,
            "iterations": self.iterations,
            "frank_wolfe_gap": self.frank_wolfe_gap,
            "solver": self.solver,
        }


def _largest_of_rows(
    plan: Any,
    masses: NumpyArray,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return the largest mass of each row that has any, with its position.

    Of equal masses the first.
    """
    # By row, in each by falling mass, then by column.
    order = np.lexsort((plan.col, -masses, plan.row))
    _, first = np.unique(plan.row[order], return_index=True)
    best = order[first]
    return plan.row[best], plan.col[best], masses[best]


def _assignment(plan: Any) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return min(n, m) positions, one a row and column at most, of the largest mass."""
    from scipy.optimize import linear_sum_assignment  # takes long to import

    matrix = plan.toarray()  # (n, m)
    rows, cols = linear_sum_assignment(matrix, maximize=True)
    masses = matrix[rows, cols].astype(np.float64)
    return rows, cols, masses


class ConvergenceWarning(UserWarning):
    """A solver stopped before its criterion was met; the result's status says why.

    Examples
    --------
    It is silenced, or made an error, as all warnings are; the result is there in any
    case.

    >>> import warnings, numpy as np, gwtools as gw
    >>> x, y, once = (
    ...     1 - np.eye(2),
    ...     1 - np.eye(4),
    ...     gw.ConditionalGradient(max_iterations=1),
    ... )
    >>> with warnings.catch_warnings(action="ignore", category=gw.ConvergenceWarning):
    ...     result = gw.solve(x, y, once)
    >>> print(result.status.value)  # doctest: +NORMALIZE_WHITESPACE
    The iterations ran out before the tolerance was met: raise max_iterations or the
    tolerance.
    """


class ConvergenceError(RuntimeError):
    """Raised instead of the warning with ``throw=True``.

    Attributes
    ----------
    result : GWResult
        The result with the best plan found.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> try:
    ...     result = gw.solve(
    ...         1 - np.eye(2),
    ...         1 - np.eye(4),
    ...         gw.ConditionalGradient(max_iterations=1),
    ...         throw=True,
    ...     )
    ... except gw.ConvergenceError as error:
    ...     result = error.result
    >>> result.status.name, result.plan.shape
    ('MAX_ITERATIONS', (2, 4))
    """

    def __init__(self, result: GWResult) -> None:
        super().__init__(result.status.value)
        self.result = result
