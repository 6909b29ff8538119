"""Results of problems that were solved together, cut from arrays over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Pairs
from gwtools.certified_results import final_status, within_certificate
from gwtools.certify import (
    CertifiedObjective,
    certified_objective,
    value_with_entropy,
)
from gwtools.results import GWResult
from gwtools.solvers import Outcome, Solver


class Group(NamedTuple):
    """Pairs that were solved together, and what is known of each.

    ``positions`` are those of the pairs among all. ``outcomes`` have plans over all
    atoms, those of weight zero included. ``proofs`` are None for plans that are still
    to be certified by themselves.
    """

    positions: Sequence[int]
    pairs: Pairs
    outcomes: Sequence[Outcome]
    objective: Array  # (b,), within the spaces' gradient graph, in squared units of C
    proofs: Sequence[CertifiedObjective | None]
    accepted_gaps: NumpyArray  # (b,), decreases neglected, in squared units of C
    epsilons: NumpyArray | None = None  # (b,), where the entropy is minimised as well


def results(
    group: Group,
    solver: Solver,
    effort: str,
) -> Iterator[tuple[int, GWResult]]:
    """Yield the position and the result of each pair of a group."""
    distances = _array.root(group.objective)  # (b,), in units of C
    name = str(solver)
    for k, position in enumerate(group.positions):
        x = group.pairs.left[k]
        y = group.pairs.right[k]
        outcome = group.outcomes[k]
        accepted_gap = float(group.accepted_gaps[k])
        # 1. Certify. An objective of 0 may be that of copies, which have no float
        # error: only the single certificate tells.
        certified = group.proofs[k]
        if certified is None or certified.objective == 0.0:
            certified = certified_objective(x, y, outcome.plan, effort, accepted_gap)
        objective, distance, certificate = within_certificate(
            group.objective[k],
            distances[k],
            certified,
            accepted_gap,
        )
        # 2. Complete the numbers of the solver.
        epsilon = None
        if group.epsilons is not None:
            epsilon = float(group.epsilons[k])
        potentials = outcome.potentials
        with_entropy = value_with_entropy(
            x, y, outcome.plan, epsilon, potentials, objective
        )
        estimate = objective if outcome.estimate is None else outcome.estimate
        result = GWResult(
            objective=objective,
            distance=distance,
            estimate=estimate,
            plan=outcome.plan,
            status=final_status(outcome.status, certificate),
            certificate=certificate,
            iterations=outcome.iterations,
            frank_wolfe_gap=outcome.frank_wolfe_gap,
            solver=name,
            regularized=with_entropy.value,
            regularized_interval=with_entropy.interval,
            history=outcome.history,
            potentials=outcome.potentials,
        )
        yield position, result
