"""The proof of theorem 16, against rational arithmetic and term by term."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import certified, certified_moments, moment_matrix, nested_programs
from gwtools.bounds.certified_moments import near_basis, proved, tensor_fall
from gwtools.bounds.float_error import gamma
from gwtools.bounds.nested_programs import Multipliers
from tests.bounds.formulas import matrix, rooted, sides, some_weights
from tests.rational import exact_weights, rational

OMEGA = 8.0


def exact_couplings(rng, a, b, count):
    """Couplings of exactly normalised weights in rational numbers.

    North-west corners along random orders, and their means with the product.
    """
    n = len(a)
    m = len(b)
    product = np.outer(a, b)
    yield product
    for _ in range(count):
        rows = list(rng.permutation(n))
        cols = list(rng.permutation(m))
        plan = np.full((n, m), Fraction(0), dtype=object)
        left_a = a.copy()
        left_b = b.copy()
        while rows and cols:
            i, j = rows[0], cols[0]
            mass = min(left_a[i], left_b[j])
            plan[i, j] += mass
            left_a[i] -= mass
            left_b[j] -= mass
            if left_a[i] == 0:
                rows.pop(0)
            if left_b[j] == 0:
                cols.pop(0)
        yield plan
        yield (plan + product) / 2


def quadratic(tensor, plan):
    """Σ tensor_ijkl π_ij π_kl."""
    flat = plan.ravel()
    return flat @ (tensor.reshape(len(flat), len(flat)) @ flat)


def random_multipliers(rng, n, m, size):
    """Multipliers that no search would return: nothing is centred or positive."""

    def numbers(*shape):
        return size * rng.standard_normal(shape)

    return Multipliers(
        first=numbers(m, n, m),
        second=numbers(n, n, m),
        potentials=numbers(n, m, m),
        tensor=numbers(n, m, n, m),
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["random", "negative", "positive"]),
    st.sampled_from([1e-3, 1.0, 1e4]),
)
@settings(max_examples=40)
def test_theorem_16_no_coupling_falls_further(seed, n, m, kind, size):
    rng = np.random.default_rng(seed)
    a = some_weights(rng, n)
    b = some_weights(rng, m)
    tensor = size * rng.standard_normal((n, m, n, m))
    if kind != "random":
        # One direction, so that a vertex may come close to the bound.
        vector = rng.standard_normal((n, m))
        sign = 1 if kind == "positive" else -1
        tensor = sign * size * vector[:, :, None, None] * vector
    fall = tensor_fall(tensor, a, b, OMEGA)
    exact = rational(tensor)
    plans = exact_couplings(rng, exact_weights(a), exact_weights(b), 4)
    for plan in plans:
        assert -quadratic(exact, plan) <= Fraction(fall)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([0.0, 1e-2, 1.0]),
)
@settings(max_examples=25)
def test_theorem_16_any_multipliers_prove_a_bound(seed, n, m, size):
    rng = np.random.default_rng(seed)
    x = gw.DenseSpace(matrix(rng, n, 1.0, 0.0), some_weights(rng, n))
    y = gw.DenseSpace(matrix(rng, m, 1.0, 2.0), some_weights(rng, m))
    parts = [certified.enclosed_parts(space) for space in (x, y)]
    bound = proved(*parts, random_multipliers(rng, n, m, size))
    C = rational(x.dense())
    D = rational(y.dense())
    differences = C[:, None, :, None] - D[None, :, None, :]
    a, b = exact_weights(x.weights), exact_weights(y.weights)
    for plan in exact_couplings(rng, a, b, 4):
        assert Fraction(bound.lower) <= quadratic(differences**2, plan)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 4))
@settings(max_examples=6)
def test_theorem_16_found_multipliers_prove_a_bound(seed, n, m):
    rng = np.random.default_rng(seed)
    x = gw.DenseSpace(matrix(rng, n, 1.0, 0.0), some_weights(rng, n))
    y = gw.DenseSpace(matrix(rng, m, 1.0, 0.0), some_weights(rng, m))
    parts = [certified.enclosed_parts(space) for space in (x, y)]
    centred = [side.parts for side in parts]
    found = moment_matrix.best_multipliers(*centred, OMEGA, 100)
    bound = proved(*parts, found)
    C = rational(x.dense())
    D = rational(y.dense())
    differences = C[:, None, :, None] - D[None, :, None, :]
    a, b = exact_weights(x.weights), exact_weights(y.weights)
    exact = [quadratic(differences**2, plan) for plan in exact_couplings(rng, a, b, 6)]
    assert Fraction(bound.lower) <= min(exact)
    # Float errors take little of it.
    assert bound.lower >= bound.value - 1e-9 * float(max(exact))


def test_positive_tensors_cost_next_to_nothing(rng):
    a = some_weights(rng, 4)
    b = some_weights(rng, 5)
    factor = rng.standard_normal((20, 20))
    tensor = (factor @ factor.T).reshape(4, 5, 4, 5)
    assert 0 <= tensor_fall(tensor, a, b, OMEGA) <= 1e-10 * np.linalg.norm(tensor)
    # No coupling sees what changes its sign where both pairs are exchanged.
    skew = (factor - factor.T).reshape(4, 5, 4, 5)
    assert tensor_fall(tensor + skew, a, b, OMEGA) <= 1e-10 * np.linalg.norm(tensor)


def test_tensors_off_the_couplings_cost_next_to_nothing(rng):
    a = some_weights(rng, 4)
    b = some_weights(rng, 5)
    # Potentials of centred numbers: Σ a_i g_ikl = 0, and the pairs exchanged.
    g = rng.standard_normal((4, 4, 5))
    g -= np.tensordot(a, g, 1)
    tensor = np.broadcast_to(g[:, None], (4, 5, 4, 5))
    assert tensor_fall(tensor, a, b, OMEGA) <= 1e-10 * np.linalg.norm(tensor)
    swapped = tensor.transpose(2, 3, 0, 1)
    assert tensor_fall(swapped, a, b, OMEGA) <= 1e-10 * np.linalg.norm(tensor)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 6)])
def test_what_a_negative_tensor_costs(n, m):
    # −|Q|², of which a permutation takes all, and min(n, m) in general.
    a = np.full(n, 1 / n)
    b = np.full(m, 1 / m)
    tensor = -np.eye(n * m).reshape(n, m, n, m) * n * m
    fall = tensor_fall(tensor, a, b, OMEGA)
    assert fall == pytest.approx(min(n, m), rel=1e-9)
    assert fall >= min(n, m)


@pytest.mark.parametrize("weight", [1e-290, 1e-300])
def test_tiny_weights_prove_nothing(weight):
    a = np.array([1 - weight, weight])
    b = np.array([1.0])
    tensor = np.ones((2, 1, 2, 1))
    assert tensor_fall(tensor, a, b, OMEGA) == math.inf
    x = gw.DenseSpace(1 - np.eye(2), a)
    y = gw.DenseSpace(np.zeros((1, 1)), b)
    parts = [certified.enclosed_parts(space) for space in (x, y)]
    zeros = [np.zeros(shape) for shape in ((1, 2, 1), (2, 2, 1), (2, 1, 1))]
    assert proved(*parts, Multipliers(*zeros, tensor)) == (0.0, 0.0, math.inf)


def test_infinite_tensors_prove_nothing(rng):
    x, y = sides("dense")
    n, m = 6, 9
    for number in (np.inf, np.nan):
        random = random_multipliers(rng, n, m, 1.0)
        random.tensor[0, 0, 0, 0] = number
        assert proved(x, y, random) == (0.0, 0.0, math.inf)
    for name in Multipliers._fields:
        finite = random_multipliers(rng, n, m, 1.0)
        huge = finite._replace(**{name: 1e140 * getattr(finite, name)})
        assert proved(x, y, huge) == (0.0, 0.0, math.inf)


def gram_error(vectors):
    n = len(vectors)
    left = np.linalg.norm(vectors.T @ vectors - np.eye(n))
    return 1.01 * left + 2 * n * gamma(n + 1)


@pytest.mark.usefixtures("coarse")
def test_bases_are_off_by_their_products(rng):
    a = some_weights(rng, 5)
    found = near_basis(np.sqrt(a), 7.0)
    off = gram_error(found.vectors)
    assert found.off == pytest.approx(off, rel=1e-12)
    missed = off + (1 + off) * gamma(15)
    assert found.missed == pytest.approx(missed, rel=1e-12)
    # What is missed of the exactly normalised weights.
    for factor in (1.0, 1 + 7 * 2.0**-20):
        off_exact = found.vectors[:, 1:].T @ (a * factor / np.sqrt(a))
        assert np.linalg.norm(off_exact) <= found.missed


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("sign", [1, -1])
def test_falls_term_by_term(rng, sign):
    n, m, omega = 3, 4, 5.0
    a = some_weights(rng, n)
    b = some_weights(rng, m)
    factor = rng.standard_normal((n * m, n * m))
    tensor = (sign * factor @ factor.T).reshape(n, m, n, m)
    # 1. Ξ and its norm.
    q = np.sqrt(np.outer(a, b)).ravel()
    xi = q[:, None] * tensor.reshape(n * m, n * m) * q
    norm = 1.01 * np.linalg.norm(xi) * (1 + gamma(n * m)) + n * m * 2.0**-22
    # 2. Bases.
    U = near_basis(np.sqrt(a), omega)
    V = near_basis(np.sqrt(b), omega)
    off = U.off + V.off + U.off * V.off
    # 3. What is outside of B.
    largest = math.sqrt(3 * (1 + gamma(4 * omega + 24)))
    outside = off * largest + (1 + off) * (U.missed + V.missed)
    crossed = norm * (2 * (1 + off) * largest * outside + outside**2)
    # 4. The least eigenvalue.
    kept = [p * m + q for p in range(n) for q in range(m) if (p == 0) == (q == 0)]
    B = np.kron(U.vectors, V.vectors)[:, kept]
    values, vectors = np.linalg.eigh(B.T @ xi @ B)
    error, _ = certified_moments.float_error.eigenpair_error(
        B.T @ xi @ B, values, vectors
    )
    squares = n * m * (1 + U.off) * (1 + V.off)
    least = values.min() - error - gamma(2 * (n + m) + 16) * squares * norm
    assert (least < 0) == (sign < 0)
    wanted = crossed + max(0.0, -least) * (1 + off) * largest**2
    found = tensor_fall(tensor, a, b, omega)
    assert found == pytest.approx(wanted * (1 + gamma(40)), rel=1e-9)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("name", ["dense", "uniform"])
def test_proofs_term_by_term(name, rng):
    x, y = sides(name)
    n, m = len(x.parts.weights), len(y.parts.weights)
    random = random_multipliers(rng, n, m, 1e-3)
    omega = max(x.radii.weights, y.radii.weights)
    fall = tensor_fall(random.tensor, x.parts.weights, y.parts.weights, omega)
    program = nested_programs.NestedProgram(x.parts, y.parts, omega, random)
    nested = nested_programs.solve(program)
    offset = (x.parts.mean - y.parts.mean) ** 2
    sizes = offset + abs(nested.lower) + fall
    lowered = offset + nested.lower - fall - gamma(10) * sizes
    radius = x.radii.root_radius() + y.radii.root_radius()
    bound = proved(x, y, random)
    assert bound.lower == pytest.approx(rooted(lowered, radius), rel=1e-12)
    assert bound.value == pytest.approx(offset + nested.value - fall, rel=1e-12)
    assert 0 < bound.lower < bound.value
    # Without a tensor nothing falls.
    plain = random._replace(tensor=None)
    program = nested_programs.NestedProgram(x.parts, y.parts, omega, plain)
    value = nested_programs.solve(program).value
    assert proved(x, y, plain).value == pytest.approx(offset + value, rel=1e-12)


def test_bases_that_are_not_orthonormal_are_charged(rng, monkeypatch):
    a = some_weights(rng, 4)
    skewed = moment_matrix.completed(np.sqrt(a))
    skewed[:, 2] += 0.2 * skewed[:, 1]
    monkeypatch.setattr(certified_moments, "completed", lambda root: skewed)
    found = near_basis(np.sqrt(a), 7.0)
    off = np.linalg.norm(skewed.T @ skewed - np.eye(4))
    assert 0.2 < off <= found.off <= found.missed


@pytest.mark.parametrize("offs", [(0.6, 0.0), (0.0, 0.6)])
def test_bases_far_from_orthonormal_prove_nothing(rng, monkeypatch, offs):
    a = some_weights(rng, 3)
    b = some_weights(rng, 4)
    off = dict(zip((3, 4), offs, strict=True))

    def far(root, omega):
        found = near_basis(root, omega)
        return found._replace(off=max(found.off, off[len(root)]))

    monkeypatch.setattr(certified_moments, "near_basis", far)
    tensor = rng.standard_normal((3, 4, 3, 4))
    assert tensor_fall(tensor, a, b, OMEGA) == math.inf
