"""Nested programs: their values by plain loops, rounded down term by term."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwtools.bounds import float_error, nested_programs, transport_error
from gwtools.bounds.float_error import gamma
from gwtools.bounds.nested_programs import Multipliers, NestedProgram
from gwtools.transport.local_distributions import Centred, centred
from tests import checkers
from tests.bounds.formulas import NAMES, pair
from tests.rational import exact_weights, fraction, rational
from tests.strategies import coupled

UNIT = 2.0**-20  # of the fixture ``coarse``
UNDERFLOW = 2.0**-22
OMEGA = 4.7
REFINED = [True, False]


def random_multipliers(rng, n, m, tensor=False, size=1.0):
    """Multipliers that centre nothing and come from nowhere."""
    shapes = [(m, n, m), (n, n, m), (n, m, m)]
    if tensor:
        shapes.append((n, m, n, m))
    return Multipliers(*(size * rng.standard_normal(shape) for shape in shapes))


@cache
def program(name, tensor=False):
    """A program of two spaces with multipliers of the size of their costs."""
    x, y = (centred(space) for space in pair(name))
    rng = np.random.default_rng(5)
    n, m = len(x.weights), len(y.weights)
    return NestedProgram(x, y, OMEGA, random_multipliers(rng, n, m, tensor))


def every_pair(one):
    n, m = one.h.shape
    return [(i, j) for i in range(n) for j in range(m)]


def cost(one, i, j):
    """c_ijkl of one pair (i, j), entry by entry."""
    first, second, _, tensor = one.multipliers
    n, m = one.h.shape
    values = np.zeros((n, m))
    for k in range(n):
        for ell in range(m):
            value = (one.x.residual[i, k] - one.y.residual[j, ell]) ** 2
            value += (one.x.deviations[k] - one.y.deviations[ell]) ** 2
            value -= first[j, k, ell] + second[i, k, ell]
            values[k, ell] = value - (0 if tensor is None else tensor[i, j, k, ell])
    return values


def all_costs(one):
    n, m = one.h.shape
    values = [cost(one, i, j) for i, j in every_pair(one)]
    return np.reshape(values, (n, m, n, m))


def size(one, i, j, k):
    """No term of c_ijkl over the atoms l is larger."""
    first, second, _, tensor = one.multipliers
    value = (abs(one.x.residual[i, k]) + max(abs(one.y.residual[j]).tolist())) ** 2
    value += max((one.x.deviations[k] - beta) ** 2 for beta in one.y.deviations)
    value += max(abs(first[j, k]).tolist()) + max(abs(second[i, k]).tolist())
    return value + (0 if tensor is None else max(abs(tensor[i, j, k]).tolist()))


def missed(one):
    """e_kl, and the sum of the sizes of its terms."""
    first, second, _, _ = one.multipliers
    values = np.zeros(one.h.shape)
    sizes = np.zeros(one.h.shape)
    for weights, arrays in ((one.y.weights, first), (one.x.weights, second)):
        for weight, array in zip(weights, arrays, strict=True):
            values += weight * array
            sizes += weight * abs(array)
    return values, sizes


def proved(one, i, j, prices):
    """What potentials prove of one inner program, term by term."""
    a, b = one.x.weights, one.y.weights
    n, m = one.h.shape
    top = max(abs(prices).tolist())
    dual = []
    for k, row in enumerate(cost(one, i, j)):
        loss = gamma(12) * (size(one, i, j, k) + top)
        dual.append(min(row - prices) - loss - UNDERFLOW)
    sums = abs(np.array(dual)) @ a + abs(prices) @ b
    loss = 2 * gamma(max(n, m) + OMEGA + 4) * sums + UNDERFLOW
    return float(a @ np.array(dual) + b @ prices) - loss


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_costs_and_their_sizes(name, tensor):
    one = program(name, tensor)
    n, m = one.h.shape
    atoms = np.arange(m)[::-2]
    for i in range(n):
        costs = one.costs_of(i, atoms)
        sizes = one.sizes_of(i, atoms)
        for place, j in enumerate(atoms):
            assert costs[place] == pytest.approx(cost(one, i, j), rel=1e-12, abs=1e-12)
            wanted = [size(one, i, j, k) for k in range(n)]
            assert sizes[place] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_centred_is_charged(coarse, name):
    one = program(name)
    n, m = one.h.shape
    value, error = one.missed_centring()
    wanted, sizes = missed(one)
    assert value == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert error == pytest.approx(
        2 * gamma(n + m + OMEGA + 4) * sizes + UNDERFLOW, rel=1e-12
    )


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_values_of_inner_potentials(coarse, name, tensor):
    one = program(name, tensor)
    n, m = one.h.shape
    atoms = np.arange(m)[::-2]
    for i in range(n):
        prices = one.multipliers.potentials[i, atoms]
        found = nested_programs.inner_values(one, i, atoms, prices)
        wanted = [proved(one, i, j, one.multipliers.potentials[i, j]) for j in atoms]
        assert found == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("refine", REFINED)
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_outer_program_is_rounded_down(coarse, name, tensor, refine):
    one = program(name, tensor)
    n, m = one.h.shape
    before = [np.copy(array) for array in one.multipliers[:3]]
    bound = nested_programs.solve(one, refine)
    for array, wanted in zip(one.multipliers[:3], before, strict=True):
        assert np.array_equal(array, wanted)
    # 1. What the potentials that are returned prove of the inner programs.
    values = np.reshape(
        [proved(one, i, j, bound.potentials[i, j]) for i, j in every_pair(one)], (n, m)
    )
    # 2. The outer program of these.
    additive, sizes = missed(one)
    error = gamma(8) * (abs(values) + one.h + abs(additive))
    error += 2 * gamma(n + m + OMEGA + 4) * sizes + UNDERFLOW
    costs = values + one.h + additive
    potential = bound.outer.potentials[1]
    wanted = transport_error.dual_value(
        costs, potential, one.x.weights, one.y.weights, OMEGA, error
    )
    assert bound.lower == pytest.approx(wanted, rel=1e-10)
    assert bound.value == pytest.approx(
        checkers.linear_program(costs, one.x.weights, one.y.weights), rel=1e-9
    )
    # 3. What the plan couples is solved, if anything is.
    coupled_pairs = set(
        zip(bound.outer.plan.rows.tolist(), bound.outer.plan.cols.tolist(), strict=True)
    )
    assert coupled_pairs <= set(bound.inner) if refine else bound.inner == {}


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_transport_within_transport(name, tensor):
    one = program(name, tensor)
    a, b = one.x.weights, one.y.weights
    n, m = one.h.shape
    inner = [checkers.linear_program(cost(one, i, j), a, b) for i, j in every_pair(one)]
    wanted = checkers.linear_program(
        np.reshape(inner, (n, m)) + one.h + missed(one)[0], a, b
    )
    bound = nested_programs.solve(one)
    assert bound.value == pytest.approx(wanted, rel=1e-9)
    assert wanted - 1e-9 < bound.lower < bound.value
    assert nested_programs.solve(one, refine=False).lower < bound.lower


def test_potentials_are_kept_where_exact_programs_prove_less(monkeypatch):
    one = program("dense")
    solved = nested_programs.solve(one)
    best = one.multipliers._replace(potentials=solved.potentials)
    again = NestedProgram(one.x, one.y, OMEGA, best)
    exact = nested_programs.exact

    def worse(costs, a, b):
        found = exact(costs, a, b)
        u, v = found.potentials
        return type(found)(found.plan, (u, v + np.arange(len(v))), found.lower)

    monkeypatch.setattr(nested_programs, "exact", worse)
    bound = nested_programs.solve(again)
    assert np.array_equal(bound.potentials, solved.potentials)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_one_atom(shape, rng):
    spaces = []
    for size_of in shape:
        C = rng.standard_normal((size_of, size_of))
        spaces.append(C + C.T)
    weights = [rng.dirichlet(np.ones(size_of)) for size_of in shape]
    x, y = (parts(C, a) for C, a in zip(spaces, weights, strict=True))
    one = NestedProgram(x, y, 4.0, random_multipliers(rng, *shape))
    bound = nested_programs.solve(one)
    plan = np.outer(*weights)
    wanted = checkers.objective(*spaces, plan) - (x.mean - y.mean) ** 2
    assert bound.value == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert bound.lower == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert bound.lower <= min(wanted, bound.value)


def parts(C, a):
    mean, alpha, R = checkers.parts(C, a)
    return Centred(a, C, mean, alpha, R)


@settings(max_examples=100)
@given(coupled(), st.integers(0, 2**20), st.booleans(), st.sampled_from([1e-3, 1, 1e6]))
def test_theorem_15_multipliers_leave_objectives_as_they_are(
    instance, seed, tensor, factor
):
    x, y, plan = instance
    rng = np.random.default_rng(seed)
    given_them = random_multipliers(rng, x.size, y.size, tensor, factor)
    one = NestedProgram(
        parts(x.matrix, x.weights), parts(y.matrix, y.weights), 4.0, given_them
    )
    costs = all_costs(one)
    if tensor:
        costs = costs + given_them.tensor
    inner = np.einsum("ijkl,kl->ij", costs, plan)
    moved = float((plan * (one.h + missed(one)[0] + inner)).sum())
    moved += (one.x.mean - one.y.mean) ** 2
    found = checkers.objective(x.matrix, y.matrix, plan)
    largest = max(abs(x.matrix).max(), abs(y.matrix).max()) ** 2 + factor
    assert moved == pytest.approx(found, rel=0, abs=1e-12 * largest)


@settings(max_examples=60)
@given(coupled(), st.integers(0, 2**20), st.sampled_from([1e-3, 1, 1e6]))
def test_theorem_15_any_multipliers_are_below_every_coupling(instance, seed, factor):
    x, y, plan = instance
    rng = np.random.default_rng(seed)
    given_them = random_multipliers(rng, x.size, y.size, False, factor)
    one = NestedProgram(
        parts(x.matrix, x.weights), parts(y.matrix, y.weights), 4.0, given_them
    )
    found = checkers.objective(x.matrix, y.matrix, plan)
    largest = max(abs(x.matrix).max(), abs(y.matrix).max()) ** 2 + factor
    bound = nested_programs.solve(one)
    assert bound.lower + (one.x.mean - one.y.mean) ** 2 <= found + 1e-12 * largest


def test_range_of_multipliers(rng):
    usual = random_multipliers(rng, 3, 2, tensor=True)
    assert nested_programs.in_range(usual)
    assert nested_programs.in_range(usual._replace(tensor=None))
    for field in Multipliers._fields:
        for value in (np.nan, np.inf, -np.inf, -(2.0**1000)):
            array = np.copy(getattr(usual, field))
            array.flat[-1] = value
            assert not nested_programs.in_range(usual._replace(**{field: array}))
            array.flat[-1] = 2.0**999
            assert nested_programs.in_range(usual._replace(**{field: array}))


def test_costs_of_the_largest_multipliers_are_numbers(rng):
    usual = random_multipliers(rng, 3, 2, size=2.0**998)
    x, y = (
        parts(C + C.T, rng.dirichlet(np.ones(len(C))))
        for C in (rng.standard_normal((3, 3)), rng.standard_normal((2, 2)))
    )
    assert nested_programs.in_range(usual)
    bound = nested_programs.solve(NestedProgram(x, y, 4.0, usual))
    assert np.isfinite(bound.lower)
    assert np.isfinite(bound.value)


# In rational arithmetic, at the true unit.


def exact_cost(one, i, j):
    """c_ijkl of the stored parts, as fractions."""
    first, second, _, tensor = map(exactly, one.multipliers)
    R, alpha = rational(one.x.residual), rational(one.x.deviations)
    S, beta = rational(one.y.residual), rational(one.y.deviations)
    values = (R[i][:, None] - S[j]) ** 2 + (alpha[:, None] - beta) ** 2
    values = values - first[j] - second[i]
    return values if tensor is None else values - tensor[i, j]


def exactly(array):
    return None if array is None else rational(array)


def exact_missed(one):
    """e_kl as fractions, for exactly normalised weights."""
    first, second, _, _ = map(exactly, one.multipliers)
    b = exact_weights(one.y.weights)
    a = exact_weights(one.x.weights)
    return np.tensordot(b, first, 1) + np.tensordot(a, second, 1)


def exact_dual(costs, prices, a, b):
    """Σ a_i min_j (costs_ij − ψ_j) + Σ b_j ψ_j as a fraction."""
    least = [min(row) for row in costs - prices]
    return (exact_weights(a) * least).sum() + (exact_weights(b) * prices).sum()


SCALES = [(1.0, 1.0), (1e-3, 1e8), (1e8, 1e-3), (1e-120, 1.0), (1e-170, 1e-330)]


def exact_programs(count):
    """Programs of all sizes up to 4, between parts that are not even centred."""
    rng = np.random.default_rng(7)
    for draw in range(count):
        n, m = (int(number) for number in rng.integers(1, 5, 2))
        of_parts, of_multipliers = SCALES[draw % len(SCALES)]
        both = []
        for atoms in (n, m):
            R = of_parts * rng.standard_normal((atoms, atoms))
            alpha = of_parts * rng.standard_normal(atoms)
            # Weights that miss the sum 1, and tiny ones.
            a = (1 + 2.0**-50) * rng.dirichlet(np.ones(atoms))
            if draw % 3 == 0 and atoms > 1:
                a[0] = 1e-300
                a = a / a.sum()
            both.append(Centred(a, R, 0.3, alpha, R + R.T))
        omega = max(float_error.weight_terms(part.weights) for part in both)
        found = random_multipliers(rng, n, m, draw % 2 == 0, of_multipliers)
        yield NestedProgram(*both, omega, found), max(of_parts**2, of_multipliers)


def test_proofs_are_below_exact_ones():
    for one, largest in exact_programs(60):
        a, b = one.x.weights, one.y.weights
        n, m = one.h.shape
        least = 100 * (one.omega + 20) * 2.0**-53 * largest + 2.0**-890
        # 1. What is not centred.
        value, error = one.missed_centring()
        off = abs(rational(value) - exact_missed(one))
        assert np.all(off <= rational(error))
        # 2. Inner programs, by potentials of any origin.
        for i in range(n):
            prices = one.multipliers.potentials[i]
            found = nested_programs.inner_values(one, i, np.arange(m), prices)
            for j in range(m):
                costs = exact_cost(one, i, j)
                wanted = exact_dual(costs, rational(prices[j]), a, b)
                assert fraction(found[j]) <= wanted
                assert float(wanted) - found[j] <= least
        # 3. The outer program.
        for refine in REFINED:
            bound = nested_programs.solve(one, refine)
            values = [
                exact_dual(
                    exact_cost(one, i, j), rational(bound.potentials[i, j]), a, b
                )
                for i, j in every_pair(one)
            ]
            costs = np.reshape(values, (n, m)) + exact_missed(one)
            alpha, beta = rational(one.x.deviations), rational(one.y.deviations)
            costs = costs + (alpha[:, None] - beta) ** 2
            prices = rational(bound.outer.potentials[1])
            wanted = exact_dual(costs, prices, a, b)
            assert Fraction(bound.lower) <= wanted
            assert float(wanted) - bound.lower <= 4 * least
