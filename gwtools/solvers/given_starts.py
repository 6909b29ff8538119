"""Given starts: couplings and potentials that solvers are told to begin with."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _check_plans
from gwtools._array import Array
from gwtools.marginals import has_marginals, rounded_plan
from gwtools.plans import DensePlan, Plan, as_plan, detached_plan, make_unchecked
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem, Quadratic

PRODUCT = "product"

Pair = tuple[Array, Array]  # potentials (n,) and (m,), in squared units of C


def checked_plan(init: Any, name: str = "init") -> Any:
    """Require "product", a plan or an array (n, m), and return it."""
    if isinstance(init, str):
        _check.choice(init, name, (PRODUCT,))
        return init
    if isinstance(init, Plan):
        return init
    return _check.floating(init, name, 2)


def checked_start(init: Any) -> Any:
    """Require a start that may have potentials, and return it.

    "product", a plan, potentials (f, g), or a plan and its potentials.
    """
    if not isinstance(init, tuple):
        return checked_plan(init)
    _check_plans.start(init, "init")
    if not _has_both(init):
        return _checked_potentials(init, "init")
    plan, pair = init
    plan = checked_plan(plan, "init[0]")
    _check_plans.start(pair, "init[1]")
    return plan, _checked_potentials(pair, "init[1]")


def _has_both(init: tuple[Any, Any]) -> bool:
    """Tell whether a pair is a plan with potentials, rather than potentials alone."""
    first, second = init
    return isinstance(first, str | Plan) or isinstance(second, tuple)


def _checked_potentials(pair: tuple[Any, Any], name: str) -> Pair:
    """Require two vectors of finite numbers."""
    f, g = pair
    f = _check.array(f, f"{name}[0]", 1)
    g = _check.array(g, f"{name}[1]", 1)
    return f, g


def plan_of_start(init: Any) -> Any:
    """Return the plan or the array (n, m) of a start; None for the product coupling."""
    if isinstance(init, tuple):
        init = init[0] if _has_both(init) else PRODUCT
    return None if isinstance(init, str) else init


def potentials_of_start(init: Any) -> tuple[Pair | None, str]:
    """Return the potentials of a start, None where it has none, and their name."""
    if not isinstance(init, tuple):
        return None, "init"
    if _has_both(init):
        return init[1], "init[1]"
    return init, "init"


def in_units(init: Any, unit: float) -> Any:
    """Return a start whose potentials are divided by ``unit`` squared."""
    pair, _ = potentials_of_start(init)
    if pair is None or unit == 1.0:
        return init
    f, g = pair
    # Factor by factor: the square alone may overflow.
    return _with_potentials(init, (f / unit / unit, g / unit / unit))


def _with_potentials(init: tuple[Any, Any], pair: Pair) -> tuple[Any, Any]:
    """Return a start with other potentials."""
    return (init[0], pair) if _has_both(init) else pair


def on_atoms(init: Any, prepared: Prepared, shape: tuple[int, int]) -> Any:
    """Return a start cut to the atoms that carry weight.

    Parameters
    ----------
    init : start
        As :func:`checked_start` returns it.
    prepared : Prepared
        The spaces without the other atoms, and the positions of those kept.
    shape : pair of int
        Numbers of atoms of both spaces before any were dropped.

    Returns
    -------
    start
        The same one where all atoms are kept.
    """
    # None where a space keeps all its atoms.
    kept_x, kept_y = prepared.atoms
    if kept_x is None and kept_y is None:
        return init
    given = plan_of_start(init)
    pair, name = potentials_of_start(init)
    if given is not None:
        given = _plan_on_atoms(given, prepared, shape)
    if pair is None:
        return PRODUCT if given is None else given
    _of_spaces(pair, name, shape, prepared.x.weights)
    f, g = pair
    pair = (_taken(f, kept_x, 0), _taken(g, kept_y, 0))
    return pair if given is None else (given, pair)


def _plan_on_atoms(given: Any, prepared: Prepared, shape: tuple[int, int]) -> Plan:
    """Return the rows and columns of a plan at the atoms that are kept."""
    plan = as_plan(given, shape, "init")
    _check.same_kind(plan.masses, prepared.x.weights, "init", "the spaces")
    kept_x, kept_y = prepared.atoms
    matrix = _taken(plan.dense(), kept_x, 0)
    matrix = _taken(matrix, kept_y, 1)
    return make_unchecked(DensePlan, matrix=matrix)


def _taken(values: Array, positions: Array | None, axis: int) -> Array:
    """Return the entries at positions along an axis; all where these are None."""
    if positions is None:
        return values
    xp = _array.namespace(values)
    return xp.take(values, positions, axis=axis)


def given_plan(given: Any, problem: Quadratic) -> Plan:
    """Return a given coupling, rounded where it misses the weights a little.

    Parameters
    ----------
    given : Plan or array of shape (n, m)
        The coupling; called ``init`` in errors.
    problem : Quadratic
        The problem.

    Returns
    -------
    Plan
        Outside any gradient graph.
    """
    a = problem.x.weights
    b = problem.y.weights
    plan = near_coupling(given, problem)
    if has_marginals(plan, a, b):
        return plan
    return rounded_plan(plan.dense(), a, b)


def near_coupling(given: Any, problem: Quadratic) -> Plan:
    """Return a given coupling as a plan, which may miss the weights a little."""
    a = problem.x.weights
    b = problem.y.weights
    plan = as_plan(given, problem.shape, "init")
    plan = detached_plan(plan)
    rows, cols = plan.marginals()
    _check.same_kind(rows, a, "init", "the spaces")
    _check_plans.marginal(rows, a, "x", name="init")
    _check.same_kind(cols, b, "init", "the spaces")
    _check_plans.marginal(cols, b, "y", name="init")
    return plan


def given_potentials(init: Any, problem: GWProblem) -> Pair | None:
    """Return the potentials of a start, outside any gradient graph.

    None where it has none.
    """
    pair, name = potentials_of_start(init)
    if pair is None:
        return None
    _of_spaces(pair, name, problem.shape, problem.x.weights)
    f, g = pair
    return _array.detached(f), _array.detached(g)


def require_fit(init: Any, problem: GWProblem) -> None:
    """Require that a start fits the spaces, before any work on them."""
    if isinstance(init, str):
        return
    detached = problem.detached()
    given = plan_of_start(init)
    if given is not None:
        given_plan(given, detached)
    given_potentials(init, detached)


def _of_spaces(pair: Pair, name: str, shape: tuple[int, int], like: Array) -> None:
    """Require one potential for each atom, of the library and dtype of the spaces."""
    for position, side in enumerate("xy"):
        potentials = pair[position]
        of_side = f"{name}[{position}]"
        _check.same_kind(potentials, like, of_side, "the spaces")
        _check_plans.potentials_shape(potentials, shape[position], side, of_side)
