"""Lower bounds by the effort allowed: which ones, for how long, and what each cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from gwtools import _array, _memory
from gwtools._array import Array, NumpyArray
from gwtools.bounds import (
    certified,
    certified_level_one,
    certified_moments,
    certified_quadratic,
    level_one,
    moment_matrix,
)
from gwtools.bounds.branching import LEAST_SHARE, Search, kept_proof
from gwtools.bounds.certified import EnclosedParts
from gwtools.bounds.float_error import Bound
from gwtools.bounds.level_one_values import numbers_held
from gwtools.bounds.moment_matrix_values import HELD_BY_MOMENTS
from gwtools.bounds.nested_programs import Multipliers, NestedBound
from gwtools.bounds.node_bounds import (
    coordinates,
    few_coordinates_decide,
)
from gwtools.branch_proofs import BranchProof
from gwtools.history import now
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem

EFFORTS = ("linear", "quadratic", "cubic", "quartic")
# Entries n² m² times steps of a search for multipliers without a budget: 400 steps
# between 60 and 60 atoms, about four seconds.
_WORK = 400 * 60**4
_FEWEST_STEPS = 40
_MOST_STEPS = 3000
_MOST_PAIRS = 150**2  # pairs of atoms n m: above, the search needs a budget
_MOST_COORDINATES = 4  # d d', of a tree that is searched
_MOST_NODES = 3000  # of a tree without a budget
_CLOSED_TO = 1e-6  # of the objective: a tree is searched no further
_BRANCHING_SHARE = 0.5  # of a budget
_MOST_MOMENT_PAIRS = 35**2  # pairs of atoms of a moment matrix
_WITHOUT_END = 10**9  # steps of a search that ends by its budget
_PATIENCE_OF_A_BUDGET = 20  # checkpoints of 100 steps
_LEAST_GAIN_OF_A_BUDGET = 1e-7  # of a value, between two of a search that has time
# Part of a budget that may go by before the last multipliers are proved.
_SEARCH_SHARE = 0.85


@dataclass
class Collected:
    """Lower bounds, what each cost and left behind, and what was left out.

    All by the names of the bounds.
    """

    bounds: dict[str, Bound] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # and why
    proofs: dict[str, dict[str, NumpyArray]] = field(default_factory=dict)
    branches: BranchProof | None = None
    # The objective of the best coupling that a search has found.
    coupling: Bound | None = None

    def add(self, name: str, compute: Callable[[], Bound]) -> None:
        """Compute a bound and note the time."""
        started = now()
        self.bounds[name] = compute()
        self.seconds[name] = now() - started

    @property
    def best(self) -> float:
        """The largest lower end so far."""
        return max((float(bound.lower) for bound in self.bounds.values()), default=0.0)


@dataclass(frozen=True, eq=False)
class Work:
    """What the bounds from matrices need of a problem and of the caller.

    Parameters
    ----------
    x, y : EnclosedParts
        The spaces.
    ready : Prepared
        The spaces that these are the parts of.
    plan : numpy array of shape (n, m) or None
        A coupling that was given.
    effort : str
        "quadratic", "cubic" or "quartic".
    deadline : float
        When to end, by the clock of :func:`gwtools.history.now`; infinite without a
        budget.
    closed : float
        A lower end that needs no more work.
    memory_limit : float or None
        Bytes that may be used; None for what is free.
    """

    x: EnclosedParts
    y: EnclosedParts
    ready: Prepared
    plan: NumpyArray | None
    effort: str
    deadline: float
    closed: float
    memory_limit: float | None

    @property
    def omega(self) -> float:
        """ω of the weights."""
        return float(max(self.x.radii.weights, self.y.radii.weights))

    @property
    def pairs(self) -> int:
        """How many pairs of atoms there are, n m."""
        return len(self.x.parts.weights) * len(self.y.parts.weights)

    @property
    def like(self) -> Array | None:
        """An array on the device of the spaces, where searches run; None on the CPU."""
        weights = self.ready.x.weights
        return None if _array.on_cpu(weights) else weights

    @property
    def enough(self) -> float:
        """A value of a nested program that closes the interval."""
        mean_gap = self.x.parts.mean - self.y.parts.mean
        return self.closed - mean_gap**2


def from_matrices(work: Work, collected: Collected) -> float:
    """Add the lower bounds that need the matrices C and D.

    Return the largest product of eigenvalues of R and S, as far as it is known.
    """
    x = work.x
    y = work.y
    collected.add("first", lambda: certified.first(x, y))
    collected.add("second", lambda: certified.second(x, y))
    # The largest product of eigenvalues of R and S, as far as kinds of spaces tell it:
    # what the objective may curve below a tangent (theorem 11).
    curvature = certified_quadratic.eigenvalue_product_of_kinds(
        x,
        y,
        work.ready.x.sign,
        work.ready.y.sign,
    )
    if work.effort != "quadratic":
        by_spectra = _cubic(x, y, collected)
        # Spectra may tell more than kinds.
        curvature = min(curvature, by_spectra)
    # The tangent at a plan; there is none where nothing is known of the curvature.
    plan = work.plan
    if plan is not None and math.isfinite(curvature):
        collected.add(
            "convexity",
            lambda: certified_quadratic.convexity(x, y, plan, curvature),
        )
    if work.effort == "quartic":
        _quartic(work, collected)
    return curvature


def _cubic(x: EnclosedParts, y: EnclosedParts, collected: Collected) -> float:
    """Add the bounds from spectra and rows; return the largest eigenvalue product."""
    modes_x = certified.modes(x)
    modes_y = certified.modes(y)
    collected.add("third", lambda: certified.third(x, y, residual=False))
    collected.add("residual_third", lambda: certified.third(x, y, residual=True))
    collected.add("spectral", lambda: certified.spectral(x, y, modes_x, modes_y))
    collected.add("convex", lambda: certified_quadratic.convex(x, y, modes_x, modes_y))
    return certified_quadratic.largest_eigenvalue_product(modes_x, modes_y)


def _quartic(work: Work, collected: Collected) -> None:
    """Add what makes costs dearer than rows and spectra do, until the deadline."""
    for name, reason, bound in (
        ("branch_and_bound", _without_tree, _branches),
        ("reformulation", _without_multipliers, _reformulation),
        ("semidefinite", _without_moments, _semidefinite),
    ):
        if collected.best >= work.closed:
            return
        if name in collected.left_out:
            continue
        left_out = reason(work)
        if left_out is None and now() > work.deadline:
            left_out = "the budget was spent"
        if left_out is None:
            collected.add(name, partial(bound, work, collected))
        elif left_out:
            collected.left_out[name] = left_out


def _without_tree(work: Work) -> str | None:
    """Say why no tree is searched; empty where theorem 17 does not hold."""
    x = work.ready.x
    y = work.ready.y
    if not few_coordinates_decide(x, y):
        return ""
    if coordinates(x, y).number > _MOST_COORDINATES:
        return f"the dimensions have a product above {_MOST_COORDINATES}"
    return _without_budget(work)


def _without_budget(work: Work) -> str | None:
    """Say why a search that could take minutes needs a budget."""
    if work.pairs > _MOST_PAIRS and math.isinf(work.deadline):
        return f"more than {_MOST_PAIRS} pairs of atoms: pass a budget in seconds"
    return None


def _without_multipliers(work: Work) -> str | None:
    """Say why no multipliers are searched for; None where they are."""
    n = len(work.x.parts.weights)
    m = len(work.y.parts.weights)
    return _without_budget(work) or _does_not_fit(work, numbers_held(n, m))


def _without_moments(work: Work) -> str | None:
    """Say why no moment matrix is searched; empty without a budget."""
    if math.isinf(work.deadline):
        return ""
    if work.pairs > _MOST_MOMENT_PAIRS:
        return f"more than {_MOST_MOMENT_PAIRS} pairs of atoms"
    entries = float(work.pairs) ** 2
    return _does_not_fit(work, HELD_BY_MOMENTS * entries)


def _does_not_fit(work: Work, numbers: float) -> str | None:
    """Say that so many numbers do not fit; None where they do."""
    if _memory.numbers_surely_fit(numbers, work.memory_limit):
        return None
    needed = _memory.NUMBER * numbers
    limit = work.memory_limit
    if limit is None:
        limit = _memory.free(work.ready.x.weights)
    if needed <= limit:
        return None
    return f"{needed / 1e9:.3g} GB do not fit memory"


def _branches(work: Work, collected: Collected) -> Bound:
    """Theorem 17, for as many nodes of a tree as there is time for."""
    pair = coordinates(work.ready.x, work.ready.y)
    halfway = _part_until(work.deadline, _BRANCHING_SHARE)

    def is_over() -> bool:
        return now() > halfway

    # Objectives that are smaller are closed to within the same width.
    variation = float(GWProblem(work.ready.x, work.ready.y).variation)
    search = Search(pair, LEAST_SHARE * variation, _CLOSED_TO, is_over)
    most = _MOST_NODES if math.isinf(work.deadline) else _WITHOUT_END
    closed = False
    try:
        for slope in search.starts():
            search.ascend(slope)
        search.begin()
        while not (search.is_closed or is_over() or search.nodes >= most):
            search.step()
        closed = search.is_closed
    except KeyboardInterrupt:
        # The tree proves a bound at every time.
        pass
    collected.branches = kept_proof(search)
    if search.plan is not None:
        objective = search.objective
        collected.coupling = Bound(objective, 0.0, pair.upper(search.plan))
    if closed:
        reason = f"branch_and_bound proves the minimum to {_CLOSED_TO:g} of it"
        collected.left_out |= {"reformulation": reason, "semidefinite": reason}
    lower = pair.lower(search.bound())
    return Bound(lower, lower)


def _reformulation(work: Work, collected: Collected) -> Bound:
    """Theorem 15, for the multipliers that a search finds in the time."""
    by_work = _WORK // work.pairs**2
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, by_work))
    least_gain = level_one.LEAST_GAIN
    if math.isfinite(work.deadline):
        least_gain = _LEAST_GAIN_OF_A_BUDGET
        if work.pairs > _MOST_MOMENT_PAIRS:
            # Else the semidefinite bound has the rest of the time.
            steps = _WITHOUT_END
    multipliers = level_one.best_multipliers(
        work.x.parts,
        work.y.parts,
        work.omega,
        steps,
        _part_until(work.deadline, _SEARCH_SHARE),
        enough=work.enough,
        like=work.like,
        least_gain=least_gain,
    )
    proved = certified_level_one.reformulation(
        work.x,
        work.y,
        multipliers,
        work.deadline,
    )
    return _kept("reformulation", collected, multipliers, proved)


def _semidefinite(work: Work, collected: Collected) -> Bound:
    """Theorem 16, for the multipliers that a search finds in the time."""
    multipliers = moment_matrix.best_multipliers(
        work.x.parts,
        work.y.parts,
        work.omega,
        _WITHOUT_END,
        _part_until(work.deadline, _SEARCH_SHARE),
        enough=work.enough,
        like=work.like,
        least_gain=_LEAST_GAIN_OF_A_BUDGET,
        patience=_PATIENCE_OF_A_BUDGET,
    )
    proved = certified_moments.semidefinite(
        work.x,
        work.y,
        multipliers,
        work.deadline,
    )
    return _kept("semidefinite", collected, multipliers, proved)


def _part_until(deadline: float, share: float) -> float:
    """Return when a share of the time that is left until a deadline will be over.

    Never where the deadline is infinite.
    """
    started = now()
    return started + share * max(deadline - started, 0.0)


def _kept(
    name: str,
    collected: Collected,
    multipliers: Multipliers,
    proved: tuple[Bound, NestedBound | None],
) -> Bound:
    """Keep what the proof by a nested program can be repeated from."""
    bound, nested = proved
    if nested is not None:
        collected.proofs[name] = proof_of_nested(multipliers, nested)
    return bound


def proof_of_nested(
    multipliers: Multipliers,
    nested: NestedBound,
) -> dict[str, NumpyArray]:
    """Return what the proof by a nested program can be repeated from."""
    kept = {
        "first": multipliers.first,
        "second": multipliers.second,
        "inner": nested.potentials,
        "outer": nested.outer.potentials[1],
    }
    if multipliers.tensor is not None:
        kept["tensor"] = multipliers.tensor
    return kept
