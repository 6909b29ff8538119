"""Certificates of given plans with free marginals, checked before any work."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _check_free
from gwtools._check_free import TV
from gwtools.certify.free_intervals import free_interval
from gwtools.certify.plans import widened
from gwtools.free_marginals import (
    FreeMarginals,
    Unbalanced,
    require_marginals,
    with_read_weights,
)
from gwtools.fused import Fused
from gwtools.plans import as_plan
from gwtools.results import Certificate
from gwtools.spaces import Space, converted, detached


def free_certificate(
    x: Space,
    y: Space,
    plan: Any,
    marginals: FreeMarginals,
    effort: str,
    tolerance: float,
    fused: Fused | None,
) -> Certificate:
    """Prove an interval of the least objective over plans with free marginals.

    Parameters
    ----------
    x, y : Space
        The spaces.
    plan : Plan or array of shape (n, m)
        One of these plans, whose objective is the upper end.
    marginals : "semi_relaxed", Partial or Unbalanced
        Which plans compete.
    effort : str
        From "cubic" on the bound by minima over rows is computed.
    tolerance : float
        Width that counts as closed because it was asked for, in squared units of C.
    fused : Fused or None
        Features between the spaces and their share.

    Raises
    ------
    TypeError
        If the plan differs from the spaces in array library, dtype or device.
    ValueError
        If there is no plan, it has another shape or misses its constraints by more than
        a thousandth of the mass, or features are below 0 where nothing is proved.
    """
    _check_free.plan_is_given(plan is not None, repr(marginals))
    _check.same_kind(x.weights, y.weights, "x", "y")
    require_costs(marginals, fused)
    plan = as_plan(plan, (x.size, y.size))
    _check.same_library(plan.masses, x.weights, "plan", "the spaces")
    y = with_read_weights(y, marginals)
    wide_x = converted(detached(x), _array.widen)
    wide_y = converted(detached(y), _array.widen)
    require_marginals(widened(plan), wide_x, wide_y, marginals, "plan")
    found = free_interval(x, y, plan, marginals, effort, tolerance, fused)
    return found.certificate


def require_costs(marginals: FreeMarginals, fused: Fused | None) -> None:
    """Require features of at least 0 with penalties of total variation.

    The bounds are of plans whose marginals are nowhere above the weights: with costs
    below 0 more mass than that could pay.
    """
    by_variation = isinstance(marginals, Unbalanced) and marginals.penalty == TV
    if by_variation and fused is not None and fused.share < 1.0:
        features = _array.detached(fused.features)
        least = _array.number(_array.namespace(features).min(features))
        _check_free.costs_of_masses(least, repr(marginals))
