"""The entry point ``solve_batch``: lists of spaces in, a list of results out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gwtools import _array, _check, _check_fused, _check_spaces, _memory
from gwtools.batch import closed_form, gather, sinkhorn, threads
from gwtools.batch.gather import Pairs
from gwtools.certify import EFFORTS
from gwtools.fused import Fused, given_features
from gwtools.potentials import with_c_transforms
from gwtools.results import ConvergenceError, ConvergenceWarning, GWResult
from gwtools.solve import require_memory, solve
from gwtools.solvers import ConditionalGradient, Sinkhorn, Solver, Sorted
from gwtools.spaces import Space


def solve_batch(
    xs: Sequence[Any],
    ys: Sequence[Any],
    solver: Solver | None = None,
    *,
    effort: str = "linear",
    throw: bool = False,
    memory_limit: float | None = None,
    features: Any = None,
    alpha: Any = None,
) -> list[GWResult]:
    """Solve many problems at once; each result is that of :func:`gwtools.solve`.

    They are equal up to rounding. Rounding counts for more where a stopping criterion
    is just met, or where an entropic solver starts at a small ε. Problems are grouped
    by size, padded with atoms without weight and computed together; each stops by
    itself. This is fast where spaces are small and many. A padded group holds the
    matrices of its spaces, whatever form they are stored in: a pair whose matrices are
    large, and larger than what the solver needs, is solved by itself. In NumPy,
    eigenvalues and the iterations of Sinkhorn run on as many threads as the process may
    use processors, or as the environment variable GWTOOLS_NUM_THREADS says; the number
    of threads changes no digit.

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes, all of one array library, dtype and device.
    solver : Solver, optional
        :class:`gwtools.Sorted` and :class:`gwtools.Sinkhorn` run together; any other
        one, as by default :class:`gwtools.ConditionalGradient`, problem by problem. So
        does Sinkhorn in JAX, which compiles for every new shape, where row means are
        constant, and where gradients with respect to weights are asked for.
    effort : {"linear", "quadratic", "cubic", "quartic"}
        What each certificate may spend. Those of linear effort are computed together,
        except where that of a pair by itself can be sharper, as between spaces of low
        rank.
    throw : bool
        Raise :class:`gwtools.ConvergenceError` for the first problem whose criterion is
        not met, instead of warning once.
    memory_limit : float, optional
        Bytes that one problem may use; by default what is free, as in
        :func:`gwtools.solve`.
    features : list of B arrays, "sqeuclidean" or "euclidean", optional
        For each pair, costs M of shape (n, m) between its atoms; or which distance
        between the features of its spaces they are, by default "sqeuclidean" where
        these have features. Objectives are then fused, (1 − α) ⟨M, π⟩ + α F(π), and
        all as in :func:`gwtools.solve`.
    alpha : float or 0-d array, optional
        The share α of F in all problems, from 0 to 1; it comes with the features.

    Returns
    -------
    list of B GWResult
        In the order of the problems. Objectives, distances and estimates keep library,
        dtype, device and gradient graph.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work; so where the lists differ in length, or where
        features and α do not fit, as in :func:`gwtools.solve`.
    MemoryError
        If what a problem needs does not fit, before any work.
    ConvergenceError
        With ``throw=True``, where a criterion is not met.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of problems whose criterion is not met.

    Examples
    --------
    One call instead of a loop over pairs of any sizes.

    >>> import numpy as np, gwtools as gw
    >>> xs = [
    ...     gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25])),
    ...     gw.as_space(1 - np.eye(2)),
    ... ]
    >>> ys = [gw.as_space(1 - np.eye(4)), gw.as_space(1 - np.eye(5))]
    >>> [
    ...     round(float(result.distance), 4)
    ...     for result in gw.solve_batch(xs, ys, gw.Sinkhorn())
    ... ]
    [0.3536, 0.5831]
    >>> [
    ...     round(float(gw.solve(x, y, gw.Sinkhorn()).distance), 4)
    ...     for x, y in zip(xs, ys)
    ... ]
    [0.3536, 0.5831]

    With costs between the atoms of each pair, all of them fused with one share.

    >>> costs = [np.ones((3, 4)), np.zeros((2, 5))]
    >>> fused = gw.solve_batch(xs, ys, gw.Sinkhorn(), features=costs, alpha=0.5)
    >>> [round(float(result.objective), 4) for result in fused]
    [0.5625, 0.17]
    """
    # 1. Whatever is refused is refused before any work.
    pairs = gather.pairs(xs, ys)
    solver = ConditionalGradient() if solver is None else solver
    _check.instance(
        solver,
        "solver",
        Solver,
        "pass an instance such as gwtools.Sinkhorn()",
    )
    _check.choice(effort, "effort", EFFORTS)
    _check.flag(throw, "throw")
    _check.memory_limit(memory_limit)
    threads.processors()  # raises where the environment variable is no count
    costs = _listed(features, len(pairs.left))
    pairs = _with_features(pairs, costs, alpha)
    if pairs.fused:
        _check_fused.carried(solver.carries_features, str(solver))
    _require_all(pairs, solver, effort, memory_limit)
    # 2. Small problems are solved together, the others one by one.
    solved_together = dict(_together(pairs, solver, effort, memory_limit))
    results = []
    for i, (x, y) in enumerate(pairs.each()):
        result = solved_together.get(i)
        if result is None:
            given = {"features": costs[i], "alpha": alpha}
            result = _alone(i, x, y, solver, effort, given)
        # A space whose atoms of weight zero were copied over has other names.
        names = (x.names, y.names)
        if result.names != names:
            result = _changed(result, names=names)
        results.append(result)
    _report(results, throw)
    return results


def _changed(result: GWResult, **fields: Any) -> GWResult:
    """Return a result with other values of some fields."""
    # The distance of a fused objective, which has none, cannot be read.
    if result.alpha is not None and result.alpha < 1.0:
        fields["distance"] = None
    return replace(result, **fields)


def _listed(features: Any, count: int) -> list[Any]:
    """Return what was passed as features of each of ``count`` pairs."""
    if features is None or isinstance(features, str):
        return [features] * count
    _check_fused.listed(features, count)
    return list(features)


def _with_features(pairs: Pairs, features: Sequence[Any], alpha: Any) -> Pairs:
    """Return pairs with their features and α; as they are where there are none."""
    found: list[Fused] = []
    for i, (x, y) in enumerate(pairs.each()):
        try:
            fused = given_features(features[i], alpha, x, y)
        except (TypeError, ValueError) as error:
            # The message says which pair's.
            raise type(error)(f"xs[{i}] and ys[{i}]: {error}") from None
        if fused is not None:
            found.append(fused)
    # α is that of all pairs: where it is 1, features count in none.
    if len(found) < len(features):
        return pairs
    return Pairs(pairs.left, pairs.right, found)


def _require_all(
    pairs: Pairs,
    solver: Solver,
    effort: str,
    limit: float | None,
) -> None:
    """Refuse pairs that do not fit in memory, and arrays within torch.func.grad."""
    if not pairs.left:
        return
    # Only PyTorch has arrays that cannot be read, and to ask each one takes time.
    is_torch = _array.library(pairs.like) == "torch"
    for i, (x, y) in enumerate(pairs.each()):
        names = f"xs[{i}] and ys[{i}]"
        require_memory(x, y, solver, effort, limit, names, bool(pairs.fused))
        if is_torch:
            arrays = (x.data, x.weights, y.data, y.weights)
            _check_spaces.readable(arrays, names)


def _together(
    pairs: Pairs,
    solver: Solver,
    effort: str,
    limit: float | None,
) -> Iterator[tuple[int, GWResult]]:
    """Yield positions and results of the problems that are solved together."""
    if not isinstance(solver, Sorted | Sinkhorn):
        return
    # Plans of this kind do not sort the row means.
    if isinstance(solver, Sorted) and solver.kind == "rank_one":
        return
    # A given start has the shape of one pair, and is checked with that pair.
    if isinstance(solver, Sinkhorn) and not isinstance(solver.init, str):
        return
    padded: list[int] = []
    for i, (x, y) in enumerate(pairs.each()):
        if _may_be_padded(x, y, solver, limit):
            padded.append(i)
    if not padded:
        return
    chosen = pairs.at(padded)
    left = [_with_null_atoms_replaced(x) for x in chosen.left]
    right = [_with_null_atoms_replaced(y) for y in chosen.right]
    if isinstance(solver, Sorted):
        found = closed_form.solve(Pairs(left, right), solver, effort)
    else:
        found = sinkhorn.solve(Pairs(left, right, chosen.fused), solver, effort)
    for k, result in found:
        was_replaced = left[k] is not chosen.left[k] or right[k] is not chosen.right[k]
        if was_replaced and result.potentials is not None:
            # Potentials of the atoms that were copied over are those of other atoms.
            x = chosen.left[k]
            y = chosen.right[k]
            fused = chosen.fused[k] if chosen.fused else None
            potentials = with_c_transforms(
                x, y, result.plan, result.potentials, fused=fused
            )
            result = _changed(result, potentials=potentials)
        yield padded[k], result


def _may_be_padded(
    x: Space,
    y: Space,
    solver: Solver,
    limit: float | None,
) -> bool:
    """Tell whether a padded group may hold the matrices of both spaces.

    They are small, or no larger than what the solver needs of this problem alone.
    """
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return True
    # Numbers that are held: C, D, R and S with their copies, and for Sinkhorn kernels,
    # plans and gradients (n, m) besides.
    squares = float(x.size**2 + y.size**2)
    held = 6 * squares
    if isinstance(solver, Sinkhorn):
        entries = float(x.size * y.size)
        held = 4 * squares + 8 * entries
    if _memory.numbers_surely_fit(held, limit):
        return True
    return held <= solver.numbers_held(x, y)


def _with_null_atoms_replaced(space: Space) -> Space:
    """Replace atoms of weight zero by copies of the heaviest atom, of weight zero.

    Their own values would count in the range of C, and could overflow.
    """
    weights = _array.detached(space.weights)
    xp = _array.namespace(space.weights)
    if bool(xp.all(weights > 0)):
        return space
    atoms = xp.arange(weights.shape[0], device=_array.device(weights))
    heaviest = xp.full_like(atoms, int(xp.argmax(weights)))
    # An atom may occur several times: its copies have no weight.
    copied = space.restrict(xp.where(weights > 0, atoms, heaviest))
    return copied.with_data(copied.data, space.weights)


def _alone(
    position: int,
    x: Space,
    y: Space,
    solver: Solver,
    effort: str,
    given: dict[str, Any],
) -> GWResult:
    """Solve one problem by itself, without its warning."""
    # The batch warns once, of all of its problems.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return solve(x, y, solver, effort=effort, **given)
        except ValueError as error:
            # Values out of range: the message says which pair's.
            raise ValueError(f"xs[{position}] and ys[{position}]: {error}") from None


def _report(results: Sequence[GWResult], throw: bool) -> None:
    """Raise, or warn once, where criteria are not met."""
    missed = [result for result in results if result.status.failure]
    if not missed:
        return
    if throw:
        raise ConvergenceError(missed[0])
    text = f"{len(missed)} of {len(results)} problems: {missed[0].status.value}"
    # Level 3 is the line that calls solve_batch.
    warnings.warn(text, ConvergenceWarning, stacklevel=3)
