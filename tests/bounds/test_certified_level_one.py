"""The bound of theorem 15 is rounded down as theorem 13 says, and true."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from gwtools.bounds import certified_level_one, level_one, nested_programs
from gwtools.bounds.certified import EnclosedParts, enclosed_parts, third
from gwtools.bounds.float_error import gamma
from gwtools.bounds.nested_programs import Multipliers, NestedProgram
from gwtools.preparation import prepare
from gwtools.spaces import converted
from tests.bounds.formulas import NAMES, close, pair, rooted, sides, whole
from tests.bounds.test_nested_programs import random_multipliers
from tests.exact_couplings import Pair
from tests.exact_search import best
from tests.exact_spaces import exact
from tests.instances import FAMILIES, instance


@pytest.mark.parametrize("larger", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_reformulation(coarse, name, larger):
    x, y = sides(name)
    # Whichever of the spaces has the larger ω.
    radii = [replace(x.radii, weights=3.1), replace(y.radii, weights=4.3)]
    if larger == 0:
        radii = [replace(x.radii, weights=6.7), replace(y.radii, weights=4.3)]
    x, y = EnclosedParts(x.parts, radii[0]), EnclosedParts(y.parts, radii[1])
    omega = max(radii[0].weights, radii[1].weights)
    found = level_one.best_multipliers(x.parts, y.parts, omega, 50)
    program = NestedProgram(x.parts, y.parts, omega, found)
    nested = nested_programs.solve(program)
    offset = (x.parts.mean - y.parts.mean) ** 2
    proved = offset * (1 - gamma(8)) + nested.lower
    proved -= gamma(2) * (offset + abs(nested.lower))
    lower = rooted(proved, whole(x.radii) + whole(y.radii))
    assert 0 < lower < offset + nested.value
    bound, programs = certified_level_one.reformulation(x, y, found)
    close(bound, offset + nested.value, lower)
    assert programs.lower == nested.lower
    assert np.array_equal(programs.potentials, nested.potentials)


def test_negative_values_are_charged_by_their_size(coarse):
    """Where the sum of a large offset and a negative value is proved."""
    x, y = sides("dense")
    n, m = len(x.parts.weights), len(y.parts.weights)
    first = np.zeros((m, n, m))
    first[0] = 3.0  # for some atoms of y alone: transport is cheaper at once
    found = Multipliers(first, np.zeros((n, n, m)), np.zeros((n, m, m)))
    omega = max(x.radii.weights, y.radii.weights)
    nested = nested_programs.solve(NestedProgram(x.parts, y.parts, omega, found))
    far = EnclosedParts(x.parts._replace(mean=x.parts.mean - 9.0), x.radii)
    offset = (far.parts.mean - y.parts.mean) ** 2
    shifted = nested.lower - 2 * offset / 3
    negative = replace(nested, lower=shifted)
    proved = offset * (1 - gamma(8)) + shifted - gamma(2) * (offset - shifted)
    lower = rooted(proved, whole(x.radii) + whole(y.radii))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified_level_one, "bound_of", lambda *_, **__: negative)
        bound, _ = certified_level_one.reformulation(far, y, found)
    assert shifted < 0 < lower
    assert bound.lower == pytest.approx(lower, rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e305])
@pytest.mark.parametrize("field", ["first", "second", "potentials"])
def test_multipliers_out_of_range_prove_nothing(field, value, rng):
    x, y = sides("dense")
    usual = random_multipliers(rng, len(x.parts.weights), len(y.parts.weights))
    array = np.copy(getattr(usual, field))
    array[1, 1, 1] = value
    bound, nested = certified_level_one.reformulation(
        x, y, usual._replace(**{field: array})
    )
    assert (bound.value, bound.lower, bound.upper) == (-np.inf, -np.inf, np.inf)
    assert nested is None


def enclosed(x, y):
    """Both spaces made ready as certificates do, with their parts."""
    ready = prepare(*(converted(s, lambda v: v.astype(np.float64)) for s in (x, y)))
    return ready, enclosed_parts(ready.x), enclosed_parts(ready.y)


def multipliers_of(kind, x, y, rng):
    n, m = len(x.parts.weights), len(y.parts.weights)
    if kind == "third":
        return level_one.residual_third_multipliers(x.parts, y.parts)
    largest = max(abs(x.parts.residual).max(), abs(y.parts.residual).max()) ** 2
    noise = random_multipliers(rng, n, m, size=largest)
    if kind == "random":
        factor = 10.0 ** rng.uniform(-3, 3)
        return Multipliers(*(factor * array for array in noise[:3]))
    found = level_one.best_multipliers(x.parts, y.parts, 8.0, 50)
    if kind == "found":
        return found
    pairs = zip(found[:3], noise[:3], strict=True)
    return Multipliers(*(array + 1e-9 * other for array, other in pairs))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_theorem_15_is_proved_for_exact_values_and_weights(family, dtype):
    """No coupling of the exact search is below, whatever multipliers are taken."""
    rng = np.random.default_rng(3)
    compared = 0
    for seed in range(100, 106):
        try:
            one = instance(f"{family} {dtype}", seed)
            ready, x, y = enclosed(one.x, one.y)
        except ValueError:  # refused as out of range
            continue
        exactly = Pair(exact(ready.x), exact(ready.y))
        upper = best(exactly, rounds=1).high
        for kind in ("third", "random", "found", "disturbed"):
            found = multipliers_of(kind, x, y, rng)
            bound, _ = certified_level_one.reformulation(x, y, found)
            assert bound.lower == -np.inf or Fraction(bound.lower) <= upper
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_of_the_third_bound_prove_as_much(name):
    _, x, y = enclosed(*pair(name))
    found = level_one.residual_third_multipliers(x.parts, y.parts)
    bound, _ = certified_level_one.reformulation(x, y, found)
    wanted = third(x, y, residual=True)
    assert bound.value == pytest.approx(wanted.value, rel=1e-12)
    assert bound.lower == pytest.approx(wanted.lower, rel=1e-9)
