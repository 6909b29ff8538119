"""Perturbed couplings: some atoms of a coupling exchange their partners at random."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from gwtools.plans import Plan, SparsePlan, make_unchecked
from gwtools.problems import GWProblem
from gwtools.solvers.vertices import vertex_like

_FEWEST = 2  # exchanges
_SHARE = 0.5  # of the atoms: exchanges at most


def perturbed_plan(
    plan: Plan,
    problem: GWProblem,
    rng: np.random.Generator,
) -> SparsePlan:
    """Let random pairs of atoms of a coupling exchange their partners.

    Atoms s at (i, k) and t at (j, l) send the lesser of their masses to (i, l) and
    (j, k) instead; between permutations, two images are swapped.

    Parameters
    ----------
    plan : Plan
        The coupling, of any kind.
    problem : GWProblem
        Its problem: the result is of its library, dtype and device.
    rng : numpy.random.Generator
        Draws the number of exchanges, up to half that of the atoms, and the atoms.

    Returns
    -------
    SparsePlan
        A coupling of the same marginals.
    """
    entries = plan.sparse()
    rows = list(entries.row)
    cols = list(entries.col)
    mass = [float(value) for value in entries.data]
    most = max(_FEWEST + 1, int(_SHARE * len(mass)))
    number = _FEWEST * (most / _FEWEST) ** rng.random()
    for _ in range(round(number)):
        s, t = (int(atom) for atom in rng.integers(len(mass), size=2))
        moved = min(mass[s], mass[t])
        # The heavier atom keeps the mass that the lighter one lacks.
        if mass[s] < mass[t]:
            s, t = t, s
        left = mass[s] - moved
        if left > 0.0:
            rows.append(rows[s])
            cols.append(cols[s])
            mass.append(left)
            mass[s] = moved
        cols[s], cols[t] = cols[t], cols[s]
    arcs = (np.asarray(rows), np.asarray(cols))
    # Compressed rows add the masses of one position.
    total = scipy.sparse.csr_array((np.asarray(mass), arcs), shape=plan.shape).tocoo()
    total_rows, total_cols = total.coords
    perturbed = make_unchecked(
        SparsePlan,
        rows=total_rows.astype(np.int64),
        cols=total_cols.astype(np.int64),
        mass=total.data,
        size=plan.shape,
    )
    return vertex_like(perturbed, problem.x.weights)
