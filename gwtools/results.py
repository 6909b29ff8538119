"""Results: status, certificate, plan and numbers that a solver returns, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import numpy as np

from gwtools import _array, _check, _html, free_marginals, saved_results
from gwtools._array import Array
from gwtools._check_free import BALANCED
from gwtools.excess import Excess as Excess
from gwtools.free_marginals import FreeMarginals, Partial, Unbalanced
from gwtools.fused import Distance
from gwtools.history import Step
from gwtools.losses import SQUARE
from gwtools.pairings import assignment, largest_of_rows
from gwtools.plans import Plan
from gwtools.start_records import Starts
from gwtools.verdicts import Certificate as Certificate
from gwtools.verdicts import ConvergenceError as ConvergenceError
from gwtools.verdicts import ConvergenceWarning as ConvergenceWarning
from gwtools.verdicts import Kind as Kind
from gwtools.verdicts import Status as Status
from gwtools.verdicts import one_digit


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
        Root of the objective, in units of C. Mémoli's distance is half of it. With
        features, or where a marginal is free, there is none: reading it raises a
        ValueError for ``alpha`` below 1 and for ``marginals`` that are not "balanced".
    estimate : 0-d array
        The solver's own value: for :class:`gwtools.Sorted` its closed form (units of C
        to the power p), for all others the objective.
    plan : Plan
        A coupling of the two weights; with free ``marginals`` a plan of these.
    status : Status
        Why the solver stopped.
    certificate : Certificate
        A proved interval for GW_2².
    iterations : int
        Steps made; of a search, those of the start that won.
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
    regularized_interval : pair of float, or None
        An interval that holds the least such value of all couplings, in squared units
        of C: ``regularized``, and that less what duality leaves open. Where ε is so
        large that all stationary plans have one value, see THEORY.md, or any where the
        objective is convex; else None. Computed in float64, not rounded outward;
        ``certificate`` stays that of GW_2².
    names : pair of sequences
        What the atoms of x and of y are called: the nodes of a
        :class:`gwtools.GraphSpace`, else their positions from 0.
    history : tuple of Step
        What each step of an iterative solver led to; see :class:`gwtools.Step`. Empty
        where no step was taken, as for closed forms. In :func:`gwtools.solve_batch`,
        seconds are counted from the start of the problems that were solved together.
    potentials : pair of arrays of shape (n,) and (m,), or None
        Potentials f and g of the linear program over couplings with the costs
        ``GWProblem(x, y).linearize(plan)``, in squared units of C, without gradients;
        None of closed forms. See the notes.
    starts : Starts or None
        The starts of a search, where each of them ended, and which won; printed as
        "best of 23 starts; 9 reached it". None of solvers that make one start.
    alpha : float or None
        The share α of F in the objective (1 − α) ⟨M, π⟩ + α F(π) where features M were
        given; None for F alone. Objective, certificate and gaps are those of that sum.
    marginals : "balanced", "semi_relaxed", Partial or Unbalanced
        Which plans compete, and whose least objective the certificate is of. Where a
        marginal is free there are no potentials.
    loss : {"square", "kl", "absolute"}
        The loss between values of C and of D. Objective, certificate and gaps are of
        it; of another one than "square" they are in units of C, and there is no
        distance.

    Notes
    -----
    What the potentials are depends on the solver.

    Linear programs (:class:`gwtools.ConditionalGradient`, and a proximal
    :class:`gwtools.Sinkhorn` that goes on by them): where ``frank_wolfe_gap`` is a
    number, f_i + g_j ≤ cost_ij up to float error, and ⟨a, f⟩ + ⟨b, g⟩ is below ⟨π,
    cost⟩ by at most that gap. Where it is None, they are those of the last program
    solved, whose costs were those of the plan before the last step. Where no program
    was solved, as every coupling is as good as the product coupling, or this is a
    minimum at which no linearisation descends, or atoms are too many, they are zeros.

    Kernels: ε u and ε v of the last scalings, so that f_i + g_j is cost_ij where the
    plan of a proximal solver at rest has mass; it may be above cost_ij elsewhere. At a
    fixed ε they are ε (u − log a) and ε (v − log b), the potentials of ⟨cost, ·⟩ + ε
    KL(· | a ⊗ b): f_i + g_j = cost_ij + ε log(π_ij / a_i b_j), up to the tolerance.

    Atoms without weight get the c-transform, f_i = min_j (cost_ij − g_j) over the atoms
    j of y with weight and g_j = min_i (cost_ij − f_i) over all atoms i of x, so that
    their rows and columns meet f_i + g_j ≤ cost_ij for every solver; 0 where values of
    C there are too large for the costs to be numbers.

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
             status=STATIONARY, iterations=2, solver=auto: MultiStart(),
             plan=SparsePlan of shape (3, 3))
    >>> round(float(result.distance), 4), result.status.success
    (0.8589, True)
    """

    objective: Array  # in squared units of C
    distance: Array  # in units of C; None where there is none
    estimate: Array  # a closed form in units of C to its power, else the objective
    plan: Plan  # (n, m)
    status: Status
    certificate: Certificate
    iterations: int
    frank_wolfe_gap: float | None  # in squared units of C
    solver: str
    regularized: Array | None = None  # in squared units of C
    regularized_interval: tuple[float, float] | None = None  # in squared units of C
    names: Any = None
    history: tuple[Step, ...] = ()
    potentials: tuple[Array, Array] | None = None  # (n,), (m,), squared units of C
    starts: Starts | None = None
    alpha: float | None = None
    marginals: FreeMarginals = BALANCED
    loss: str = SQUARE.name

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
            rows, cols, masses = largest_of_rows(plan, weights)
        else:
            rows, cols, masses = assignment(plan)
        totals = row_sums[rows]
        # Rows without mass have the share 0.
        zeros = np.zeros(len(rows))
        shares = np.divide(masses, totals, out=zeros, where=totals > 0)
        x, y = self.names
        pairs = zip(rows.tolist(), cols.tolist(), shares.tolist(), strict=True)
        return [(x[i], y[j], share) for i, j, share in pairs]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result to one file, with all its digits.

        Parameters
        ----------
        path : str or path
            The file; any ending, usually ``.npz``. It is written beside first and then
            put in place, so that it is there as a whole or as it was before.

        Raises
        ------
        TypeError
            If the path is none, or a name of an atom is no number, text or tuple of
            these, which is all that the file can hold.
        ValueError
            If the file cannot be written, or is a directory.

        Notes
        -----
        The file is an archive of NumPy without pickled objects: an array for every
        array of the result, such as "plan.mass", and the entry "result.json" with all
        else. Arrays of every library are saved as NumPy's, without gradients.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import numpy as np, gwtools as gw
        >>> result = gw.solve(1 - np.eye(2), 1 - np.eye(4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "result.npz")
        ...     result.save(path)
        ...     loaded = gw.GWResult.load(path)
        >>> loaded
        GWResult(distance=0.5, objective=0.25,
                 certificate=[0.0669873, 0.25] (bracket, lower bound by norm),
                 status=STATIONARY, iterations=2, solver=auto: MultiStart(),
                 plan=SparsePlan of shape (2, 4))
        """
        saved_results.write(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str], like: Any = None) -> Self:
        """Read a result that :meth:`save` has written.

        Parameters
        ----------
        path : str or path
            The file.
        like : array, optional
            An array whose library, dtype and device the arrays of the result get; by
            default they are NumPy's, of the dtype that was saved.

        Returns
        -------
        GWResult
            Equal to the one that was saved, in all its fields.

        Raises
        ------
        TypeError
            If the path is none, or ``like`` no array of floating-point numbers.
        ValueError
            If the file cannot be read, is no saved result, or was written by a newer
            gwtools in a form that this one does not know.

        Examples
        --------
        See :meth:`save`; a result for computations in single precision:

        >>> import pathlib, tempfile
        >>> import numpy as np, gwtools as gw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "result.npz")
        ...     gw.solve(1 - np.eye(2), 1 - np.eye(4)).save(path)
        ...     loaded = gw.GWResult.load(path, like=np.zeros(1, dtype=np.float32))
        >>> loaded.plan.masses.dtype
        dtype('float32')
        """
        return saved_results.read(path, cls, like)

    def __str__(self) -> str:
        """Lay the number, its certificate and the status out for a reader."""
        lines = [self._title()]
        for name, text in self._rows():
            lines.append(f"  {name:<13}{text}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the numbers on a few lines: of the plan its kind and shape alone."""
        objective = _array.number(self.objective)
        status = self.status.name
        plan = type(self.plan).__name__
        # Large plans are not written out.
        if self._has_distance:
            first = f"distance={_array.number(self.distance):.6g}"
        elif self._has_free_marginals:
            first = f"marginals={self.marginals!r}"
        elif self.loss != SQUARE.name:
            first = f"loss={self.loss!r}"
        else:
            first = f"alpha={self.alpha:.6g}"
        return (
            f"GWResult({first}, objective={objective:.6g},\n"
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
        name = "Gromov-Wasserstein"
        if self._has_free_marginals:
            name = free_marginals.title_of(self.marginals)
        elif self.loss != SQUARE.name:
            name = f"Gromov-Wasserstein of the loss {self.loss!r}"
        if self._is_fused:
            # The first word of others, "Gromov" but for free marginals, is a name.
            name = name if name.startswith("Gromov") else name[0].lower() + name[1:]
            name = f"Fused {name}"
        return f"{name} between {n} and {m} atoms by {self.solver}"

    @property
    def _has_distance(self) -> bool:
        """Whether the root of the objective is a distance between the spaces."""
        is_of_squares = self.loss == SQUARE.name
        return is_of_squares and not self._is_fused and not self._has_free_marginals

    @property
    def _is_fused(self) -> bool:
        """Whether features have a share in the objective."""
        return self.alpha is not None and self.alpha != 1.0

    @property
    def _has_free_marginals(self) -> bool:
        """Whether other plans than couplings of both weights compete."""
        return self.marginals != BALANCED

    def _rows(self) -> list[tuple[str, str]]:
        """Return what a reader is told, as names and texts."""
        objective = _array.number(self.objective)
        estimate = _array.number(self.estimate)
        rows = []
        meaning = "GW_2^2 of the plan"
        if isinstance(self.marginals, Unbalanced):
            mass = free_marginals.moved_mass(self.plan, self.marginals)
            rows.append(("mass", f"{mass:.6g}  (moved by the plan)"))
        part = "GW_2^2"
        if self._has_free_marginals:
            meaning = free_marginals.meaning_of(self.marginals)
            part = "the distortion"
        elif self.loss != SQUARE.name:
            meaning = "mean loss of the plan"
            part = "the loss"
        elif self._has_distance:
            rows.append(("distance", f"{_array.number(self.distance):.6g}"))
        if self._is_fused:
            rows.append(("alpha", f"{self.alpha:.6g}  (the share of {part})"))
            penalised = isinstance(self.marginals, Unbalanced)
            penalties = " + penalties" if penalised else ""
            meaning = f"alpha {part} + (1 - alpha) features{penalties}, of the plan"
        rows.append(("objective", f"{objective:.6g}  ({meaning})"))
        # Iterative solvers have no value of their own.
        if estimate != objective:
            rows.append(("estimate", f"{estimate:.6g}  (the solver's closed form)"))
        if self.regularized is not None:
            regularized = _array.number(self.regularized)
            explained = f"objective + ε KL{self._above_least_regularized()}"
            rows.append(("regularized", f"{regularized:.6g}  ({explained})"))
        rows.append(("certificate", str(self.certificate)))
        rows.append(("excess", self._excess()))
        if self.starts is not None:
            rows.append(("starts", str(self.starts)))
        rows.append(("status", f"{self.status.value} ({self.iterations} iterations)"))
        return rows

    def _excess(self) -> str:
        """Say how far above the least the objective is, and the distance if any."""
        excess = str(self.certificate.excess)
        return excess if self._has_distance else excess.partition(", distance")[0]

    def _regularized_lower(self) -> float | None:
        """Return the lower end of the interval with entropy, if there is one."""
        interval = self.regularized_interval
        return None if interval is None else interval[0]

    def _above_least_regularized(self) -> str:
        """Say how far the objective plus entropy can be above the least such value."""
        if self.regularized_interval is None:
            return ""
        lower, upper = self.regularized_interval
        if upper <= lower:
            return ", the least"
        return f", within {one_digit(upper - lower)} of the least"

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain Python values, for JSON.

        Returns
        -------
        dict
            Numbers and words, or None where there is none, by name.
        """
        certificate = self.certificate
        excess = certificate.excess
        regularized = self.regularized
        if regularized is not None:
            regularized = _array.number(regularized)
        distance = distance_excess = None
        if self._has_distance:
            distance = _array.number(self.distance)
            distance_excess = _finite(excess.distance)
        return {
            # 1. The numbers.
            "distance": distance,
            "objective": _array.number(self.objective),
            "estimate": _array.number(self.estimate),
            "regularized": regularized,
            "regularized_lower": self._regularized_lower(),
            "alpha": self.alpha,
            "marginals": free_marginals.word_of(self.marginals),
            "mass": free_marginals.moved_mass(self.plan, self.marginals),
            "loss": self.loss,
            # 2. The certificate.
            "lower": certificate.lower,
            "upper": certificate.upper,
            "gap": certificate.gap,
            # JSON has no infinite numbers, which stand for "no bound".
            "objective_excess": _finite(excess.objective),
            "distance_excess": distance_excess,
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


# After the fields are made, none of which has it as a default.
GWResult.distance = Distance()
saved_results.register(Partial, Unbalanced)


def _finite(value: float) -> float | None:
    """Return a number, or None where it is infinite."""
    return value if math.isfinite(value) else None
