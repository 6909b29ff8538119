"""Results of problems that were computed together, cut from arrays over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Pairs
from gwtools.certify import CertifiedObjective, certified_objective
from gwtools.plans import relative_entropy
from gwtools.results import GWResult
from gwtools.solve import final_status, within_certificate
from gwtools.solvers import Outcome, Solver


class Group(NamedTuple):
    """Pairs that were solved together, and what is known of them."""

    positions: Sequence[int]  # of the pairs among all
    pairs: Pairs
    outcomes: Sequence[Outcome]  # with plans over all atoms
    objective: Array  # (b,), within the spaces' gradient graph
    proofs: Sequence[
        CertifiedObjective | None
    ]  # None for plans that are certified by themselves
    accepted_gaps: NumpyArray  # (b,): how far above the minimum a solver may stop, in squared units of C
    epsilons: NumpyArray | None = (
        None  # (b,): weights of the entropy, where it is part of what is minimised
    )


def results(
    group: Group, solver: Solver, effort: str
) -> Iterator[tuple[int, GWResult]]:
    """Yield the position and the result of each pair of a group."""
    roots, name = _array.root(group.objective), str(solver)
    for k, position in enumerate(group.positions):
        x, y = group.pairs.left[k], group.pairs.right[k]
        outcome, proof, accepted_gap = (
            group.outcomes[k],
            group.proofs[k],
            float(group.accepted_gaps[k]),
        )
        # An objective of 0 may be that of copies, which is without rounding.
        if proof is None or proof.objective == 0.0:
            proof = certified_objective(x, y, outcome.plan, effort, accepted_gap)
        objective, distance, certificate = within_certificate(
            group.objective[k], roots[k], proof, accepted_gap
        )
        regularized = None
        if group.epsilons is not None:
            entropy = relative_entropy(outcome.plan, x.weights, y.weights)
            regularized = objective + float(group.epsilons[k]) * entropy
        result = GWResult(
            objective=objective,
            distance=distance,
            estimate=objective if outcome.estimate is None else outcome.estimate,
            plan=outcome.plan,
            status=final_status(outcome.status, certificate),
            certificate=certificate,
            iterations=outcome.iterations,
            frank_wolfe_gap=outcome.frank_wolfe_gap,
            solver=name,
            regularized=regularized,
        )
        yield position, result
