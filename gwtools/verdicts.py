"""Verdicts: why a solver stopped, and the interval that is proved (``Certificate``)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from os import PathLike
from typing import Any, Self, cast

from gwtools import _check_proofs, _html, saved_results
from gwtools.excess import Excess, excess_of_interval
from gwtools.proofs import Proof, Verification, verify
from gwtools.spaces import undirected_space


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
    The iterations ran out before the tolerance was met, or the nodes or seconds of a
    search: raise their limit or the tolerance.
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
        "The iterations ran out before the tolerance was met, or the nodes or seconds "
        "of a search: raise their limit or the tolerance."
    )
    NOT_STATIONARY = (
        "Steps hardly lower the objective any more, but the Frank-Wolfe gap is above "
        "the tolerance, or unknown: raise the tolerance, compute in float64, or, after "
        "a proximal Sinkhorn, go on with ConditionalGradient(init=result.plan)."
    )
    SCALING_UNFINISHED = (
        "The last kernel was not scaled to its marginals, and the gap is above the "
        "tolerance: raise epsilon or the tolerance, or, after a proximal Sinkhorn, go "
        "on with ConditionalGradient(init=result.plan)."
    )
    STOPPED = (
        "A callback or an interrupt asked to stop: the plan is that of the last step, "
        "or the best so far of a search."
    )
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
    seconds : dict
        What each lower bound took, in seconds by name; "linear" are those of that
        effort together. Not compared by ``==``.
    left_out : dict
        Why lower bounds that the effort has were left out, by name.
    proof : Proof or None
        What both ends can be computed from again, where it was kept.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x, y = gw.as_space(1 - np.eye(2)), gw.as_space(1 - np.eye(4))
    >>> certificate = gw.certify(x, y, gw.solve(x, y).plan)
    >>> print(certificate)
    [0.0669873, 0.25] (bracket, lower bound by norm)
    >>> round(certificate.gap, 4)
    0.183
    >>> print(certificate.excess)
    objective at most 3.8 times the minimum, distance at most 2 times
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
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    left_out: dict[str, str] = field(default_factory=dict)
    proof: Proof | None = field(default=None, compare=False, repr=False)

    @property
    def gap(self) -> float:
        """``upper − lower``, in squared units of C."""
        return self.upper - self.lower

    def verify(self, x: Any, y: Any) -> Verification:
        """Compute both ends again, by short code that knows no solver.

        Parameters
        ----------
        x, y : Space or square array
            The spaces of the certificate.

        Returns
        -------
        Verification
            Both ends in plain float64, and whether they agree with the certificate. Of
            the lower bounds it is the largest one that can be computed again: closed
            forms, and those whose multipliers and potentials are kept.

        Raises
        ------
        TypeError
            If x or y is neither a space nor an array of floating-point numbers.
        ValueError
            If no proof was kept, or the spaces are of other sizes.

        Examples
        --------
        >>> import numpy as np, gwtools as gw
        >>> x, y = 1 - np.eye(2), 1 - np.eye(3)
        >>> plan = gw.solve(x, y).plan
        >>> certificate = gw.certify(x, y, plan, effort="quartic", keep_proof=True)
        >>> certificate.verify(x, y).agrees
        True
        """
        _check_proofs.kept(self.proof)
        proof = cast(Proof, self.proof)
        space_x = undirected_space(x, "x")
        space_y = undirected_space(y, "y")
        ends = (self.lower, self.upper)
        return verify(space_x, space_y, self.bounds, ends, proof)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the certificate to one file, with its proof if it keeps one.

        Parameters
        ----------
        path : str or path
            The file, of the form that :meth:`gwtools.GWResult.save` describes.

        Raises
        ------
        TypeError
            If the path is none.
        ValueError
            If the file cannot be written, or is a directory.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import numpy as np, gwtools as gw
        >>> x, y = 1 - np.eye(2), 1 - np.eye(3)
        >>> certificate = gw.certify(x, y, effort="quartic", keep_proof=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "certificate.npz")
        ...     certificate.save(path)
        ...     loaded = gw.Certificate.load(path)
        >>> loaded == certificate, loaded.verify(x, y).agrees
        (True, True)
        """
        saved_results.write(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a certificate that :meth:`save` has written.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        Certificate
            Equal to the one that was saved, in all its fields.

        Raises
        ------
        TypeError
            If the path is none.
        ValueError
            If the file cannot be read, is no saved certificate, or was written by a
            newer gwtools in a form that this one does not know.

        Examples
        --------
        See :meth:`save`; what is no certificate is refused.

        >>> import pathlib, tempfile
        >>> import numpy as np, gwtools as gw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "result.npz")
        ...     gw.solve(1 - np.eye(2), 1 - np.eye(4)).save(path)
        ...     try:
        ...         gw.Certificate.load(path)
        ...     except ValueError as error:
        ...         print(str(error).endswith("read it by gwtools.GWResult.load."))
        True
        """
        return saved_results.read(path, cls)

    @property
    def excess(self) -> Excess:
        """How far the coupling behind ``upper`` can lie above the minimum.

        A share of the minimum, ``upper / lower − 1`` for the objective and the same of
        the roots for the distance, rounded up; ``str`` says it in a sentence.
        """
        closed = ""
        if self.kind is Kind.GLOBAL:
            closed = self._accepted() or "rounding"
        return excess_of_interval(self.lower, self.upper, closed)

    def _accepted(self) -> str:
        """Return the tolerance asked for; empty where it is the float error."""
        if self.tolerance > self.rounding:
            return one_digit(self.tolerance)
        return ""

    def __str__(self) -> str:
        """Say the interval, its kind and the theorem."""
        interval = f"[{self.lower:.6g}, {self.upper:.6g}]"
        kind = self.kind.value
        # An interval that is closed up to more than float error says up to what.
        accepted = self._accepted()
        if self.kind is Kind.GLOBAL and accepted:
            kind = f"{kind} to {accepted}"
        return f"{interval} ({kind}, lower bound by {self.bound})"

    def __repr__(self) -> str:
        """Return both ends with all digits, the kind and the theorem."""
        ends = f"lower={self.lower!r}, upper={self.upper!r}"
        return f"Certificate({ends}, kind={self.kind.name}, bound={self.bound!r})"

    def _repr_html_(self) -> str:
        """Return the same as ``str`` for notebooks, with the interval as a bar."""
        rows = [
            ("certificate", str(self)),
            ("excess", str(self.excess)),
            self._share(),
        ]
        drawing = _html.bar(self.lower, self.upper)
        return _html.table("GW_2^2 lies in", rows, drawing)

    def _share(self) -> tuple[str, str]:
        """Return a row that says which part of the upper end is proved."""
        share = _html.share(self.lower, self.upper)  # in [0, 1]
        return "lower / upper", f"{100 * share:.1f} %"


def one_digit(value: float) -> str:
    """Write a positive number with one digit, rounded up."""
    text = f"{value:.1g}"
    nearest = float(text)
    if nearest >= value:
        return text
    # One more in the last digit, which is the only one.
    exponent = math.floor(math.log10(nearest))
    return f"{nearest + 10.0**exponent:.1g}"


saved_results.register(Certificate, Kind, Status)


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
    The iterations ran out before the tolerance was met, or the nodes or seconds of a
    search: raise their limit or the tolerance.
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

    def __init__(self, result: Any) -> None:
        super().__init__(result.status.value)
        self.result = result
