"""Intervals: lower bounds and an objective brought together to a certificate.

They are computed in units in which no square over- or underflows, and given back in the
units of the spaces, rounded outward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from gwtools.bounds.float_error import Bound
from gwtools.branch_proofs import BranchProof
from gwtools.plans import Plan
from gwtools.proofs import Proof
from gwtools.results import Certificate, Kind


class CertifiedObjective(NamedTuple):
    """A certificate, with an objective and its root as computed, both inside it."""

    certificate: Certificate
    objective: float
    distance: float

    def noting(self, **fields: Any) -> CertifiedObjective:
        """Return the same, with other fields of the certificate."""
        return self._replace(certificate=replace(self.certificate, **fields))


class ProvedInterval(NamedTuple):
    """An interval of GW_2² that a solver has proved, rounded outward.

    Attributes
    ----------
    lower : float
        In squared units of the spaces that were solved.
    bound : str
        Name of what proves it.
    tolerance : float
        Width of an interval that the solver was asked for, in the same units.
    upper : float
        What it proved of the objective of its plan, or of the coupling nearest to it;
        infinite for nothing.
    """

    lower: float
    bound: str
    tolerance: float = 0.0
    upper: float = math.inf


def certified_interval(
    bounds: Mapping[str, float],
    upper: Bound,
    a_priori: float,
    error_width: float,
    tolerance: float,
    unit: float = 1.0,
    of_plan: bool = True,
) -> CertifiedObjective:
    """Return the certificate of lower bounds of GW_2² and an objective.

    Parameters
    ----------
    bounds : mapping from the name of a theorem to a number
        Lower bounds, rounded down, among them that of "norm".
    upper : Bound
        The objective of a plan as computed, and an upper end that the objective of some
        coupling is not above, whatever the float errors.
    a_priori : float
        How far GW_2² can lie above the bound "norm".
    error_width, tolerance, unit, of_plan
        As in :func:`interval_of_bounds`.

    Returns
    -------
    CertifiedObjective
        In the units that were given; its objective is at least the best lower bound.
    """
    found = interval_of_bounds(
        {name: finite_or_zero(bound) for name, bound in bounds.items()},
        upper,
        error_width,
        tolerance,
        unit,
        of_plan,
    )
    # ``a_priori`` counts from the bound "norm", which the units may have rounded down.
    shift = 2 * math.ulp(found.certificate.bounds["norm"])
    a_priori = in_given_units(a_priori, unit, math.inf) + shift
    return found.noting(a_priori=a_priori)


def interval_of_bounds(
    bounds: Mapping[str, float],
    upper: Bound,
    error_width: float,
    tolerance: float,
    unit: float,
    of_plan: bool,
) -> CertifiedObjective:
    """Return the certificate of the best of some bounds and an objective.

    Parameters
    ----------
    bounds : mapping from a name to a number
        Lower bounds of any sign, rounded down.
    upper : Bound
        The objective of a plan as computed, and an upper end that the objective of some
        plan that fulfils all constraints is not above, whatever the float errors.
    error_width : float
        Width of an interval that float errors of the values account for.
    tolerance : float
        Width that counts as closed because it was asked for, in the units that were
        given.
    unit : float
        What values of C were divided by: all but the tolerance are in such units
        squared.
    of_plan : bool
        Whether the upper end is that of a plan that was given.

    Returns
    -------
    CertifiedObjective
        In the units that were given; its objective is at least the best lower bound.
    """
    # 1. The ends.
    lower = {
        name: in_given_units(bound, unit, -math.inf) for name, bound in bounds.items()
    }
    best = max(lower, key=lower.__getitem__)
    high = in_given_units(upper.upper, unit, math.inf)
    if high == 0.0 and unit > 1:
        # Values that were scaled down may have underflowed to the same.
        high = math.ulp(0.0)
    # 2. What the width says.
    error_width = in_given_units(error_width, unit, math.inf)
    closed, tolerance = closed_up_to(high - lower[best], error_width, tolerance)
    certificate = Certificate(
        lower=lower[best],
        upper=high,
        kind=kind_of(closed, of_plan),
        bound=best,
        bounds=lower,
        tolerance=tolerance,
        rounding=error_width,
    )
    # 3. The objective itself: float error may have moved it below the lower end.
    value = max(upper.value, bounds[best])
    return CertifiedObjective(
        certificate,
        objective=value * unit * unit,
        distance=max(value, 0.0) ** 0.5 * unit,
    )


def with_proved(
    certified: CertifiedObjective,
    proved: ProvedInterval | None,
    unit: float,
    tolerance: float,
) -> tuple[CertifiedObjective, float]:
    """Add the interval of a solver to the certificate of its plan.

    Parameters
    ----------
    certified : CertifiedObjective
        The certificate, in the units that were given.
    proved : ProvedInterval or None
        What the solver proved, with C divided by ``unit``.
    unit : float
        What C was divided by.
    tolerance : float
        Width that counts as closed, in the units that were given.

    Returns
    -------
    (CertifiedObjective, float)
        With the better ends, and the width that counts as closed now.
    """
    if proved is None:
        return certified, tolerance
    certificate = certified.certificate
    tolerance = max(tolerance, in_given_units(proved.tolerance, unit, math.inf))
    lower = in_given_units(finite_or_zero(proved.lower), unit, -math.inf)
    bounds = certificate.bounds | {proved.bound: lower}
    best = max(bounds, key=bounds.__getitem__)
    low = bounds[best]
    # Float error may have moved the objective out of the new interval: it is raised to
    # the lower end, and the upper end to it.
    objective = max(certified.objective, low)
    upper = certificate.upper
    if math.isfinite(proved.upper):
        high = in_given_units(proved.upper, unit, math.inf)
        upper = min(upper, max(high, objective))
    closed, accepted = closed_up_to(upper - low, certificate.rounding, tolerance)
    certificate = replace(
        certificate,
        lower=low,
        upper=upper,
        kind=kind_of(closed, of_plan=True),
        bound=best,
        bounds=bounds,
        tolerance=accepted,
    )
    distance = max(certified.distance, low**0.5)
    return CertifiedObjective(certificate, objective, distance), tolerance


def with_branches(
    certificate: Certificate,
    plan: Plan,
    branches: BranchProof | None,
    unit: float,
) -> Certificate:
    """Keep the tree of a branch and bound and its plan as the certificate's proof.

    The tree is of spaces whose C was divided by ``unit``.
    """
    if branches is None:
        return certificate
    return replace(certificate, proof=Proof(plan=plan, branches=branches, unit=unit))


def with_upper(
    certificate: Certificate,
    objective: float,
    tolerance: float,
) -> Certificate:
    """Raise the upper end of a plan's certificate to at least an objective.

    An interval up to ``tolerance`` wide then counts as closed.
    """
    if objective <= certificate.upper:
        return certificate
    gap = objective - certificate.lower
    closed, tolerance = closed_up_to(gap, certificate.rounding, tolerance)
    return replace(
        certificate,
        upper=objective,
        kind=kind_of(closed, of_plan=True),
        tolerance=tolerance,
    )


def closed_up_to(
    gap: float,
    error_width: float,
    asked: float,
) -> tuple[bool, float]:
    """Tell whether an interval of width ``gap`` is closed, and up to which tolerance.

    The tolerance is the float error where the gap is no wider, else the larger one of
    the float error and what was asked for.
    """
    if gap <= error_width:
        return True, error_width
    tolerance = max(error_width, asked)
    return gap <= tolerance, tolerance


def kind_of(closed: bool, of_plan: bool) -> Kind:
    """Return what an interval proves; ``of_plan`` tells whether a plan was given."""
    if closed:
        return Kind.GLOBAL
    return Kind.BRACKET if of_plan else Kind.LOWER


def finite_or_zero(lower: float) -> float:
    """Return a lower bound, or 0 where it is negative or not finite.

    It is not finite where tiny weights leave the range of float64.
    """
    return float(lower) if 0 < lower < math.inf else 0.0


def in_given_units(
    value: float,
    unit: float,
    towards: float,
) -> float:
    """Return value · unit², rounded to the next float in the given direction.

    One that underflows is rounded no farther than to 0.
    """
    if value == 0.0:
        return 0.0
    given = math.nextafter(float(value) * unit * unit, towards)
    return max(0.0, given) if value > 0 else min(0.0, given)
