"""Given starts: what is refused, and how they follow units and atoms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.preparation import prepare
from gwtools.solvers import given_starts
from tests.solvers.test_conditional_gradient import random_problem
from tests.strategies import couplings, pairs
from tests.test_check import refused

N, M = 5, 3
RNG = np.random.default_rng(0)
C = np.abs(np.subtract.outer(np.arange(N), np.arange(N))) ** 1.5
D = np.abs(np.subtract.outer(np.arange(M), np.arange(M))) ** 1.5
A, B = np.array([0.1, 0.2, 0.3, 0.3, 0.1]), np.array([0.5, 0.2, 0.3])
X, Y = gw.DenseSpace(C, A), gw.DenseSpace(D, B)
PLAN = np.outer(A, B)
F, G = RNG.standard_normal(N), RNG.standard_normal(M)


def start(init, **options):
    return gw.solve(X, Y, gw.Sinkhorn(init=init, proximal=False, epsilon=1.0))


BAD_STARTS = {
    "too few": ((F,), TypeError, "init must hold two potentials", "a tuple of 1"),
    "too many": ((PLAN, F, G), TypeError, "init must hold", "a tuple of 3"),
    "list": ([F, G], TypeError, "init must be an array", "of type list"),
    "lists": ((F.tolist(), G), TypeError, "init[0] must be an array", "of type list"),
    "none": (None, TypeError, "init must be an array", "None"),
    "word": ("random", ValueError, "init must be one of 'product'", "'random'"),
    "words": (("random", (F, G)), ValueError, "init[0] must be one of", "'random'"),
    "integers": (
        (np.arange(N), G),
        TypeError,
        "init[0] must hold floating-point numbers",
        "int64",
    ),
    "NaN": ((F, G * np.nan), ValueError, "init[1] must be finite"),
    "inf": ((PLAN, (F * np.inf, G)), ValueError, "init[1][0] must be finite"),
    "matrix": ((PLAN, G), ValueError, "init[0] must have 1 axis", "(5, 3)"),
    "plan of half a pair": (
        (gw.DensePlan(PLAN), F),
        TypeError,
        "init[1] must hold two potentials",
        "of type ndarray",
    ),
    "swapped": ((G, F), ValueError, "init[0] must have one potential", "5 atoms of x"),
    "short": (
        (PLAN, (F, G[1:])),
        ValueError,
        "init[1][1] must have one potential",
        "3 atoms of y",
        "has 2",
    ),
    "dtype": (
        (F.astype(np.float32), G),
        TypeError,
        "init[0] must have the same array dtype as the spaces",
    ),
    "dtype of a plan": (
        (PLAN.astype(np.float32), (F, G)),
        TypeError,
        "init must have the same array dtype as the spaces",
    ),
    "huge": ((F * 1e300, G), ValueError, "init must have potentials", "overflow"),
}


@pytest.mark.parametrize("case", BAD_STARTS)
def test_bad_starts(case):
    init, error, *words = BAD_STARTS[case]
    epsilon = 1e-10 if case == "huge" else 1.0

    def call():
        gw.solve(X, Y, gw.Sinkhorn(init=init, proximal=False, epsilon=epsilon))

    refused(call, error, *words)


@pytest.mark.parametrize("case", ["swapped", "short", "dtype"])
def test_bad_starts_between_spaces_with_atoms_of_no_weight(case):
    init, error, *words = BAD_STARTS[case]
    # Two atoms of x become one.
    x = gw.DenseSpace(C, np.array([0.3, 0.0, 0.3, 0.3, 0.1]))
    if isinstance(init[1], tuple):
        init = (np.outer(x.weights, B), init[1])
    refused(lambda: gw.solve(x, Y, gw.Sinkhorn(init=init)), error, *words)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_starts_of_another_library(library):
    xp = pytest.importorskip(library)
    for init, name in (
        (xp.asarray(PLAN), "init must"),
        ((xp.asarray(F), xp.asarray(G)), "init[0] must"),
        ((F, xp.asarray(G)), "init[1] must"),
        ((PLAN, (F, xp.asarray(G))), "init[1][1] must"),
    ):
        refused(lambda init=init: start(init), TypeError, name, "same array library")


def test_starts_of_another_device():
    strict = pytest.importorskip("array_api_strict")
    x, y = (
        gw.DenseSpace(strict.asarray(c), strict.asarray(a)) for c, a in ((C, A), (D, B))
    )
    there = strict.asarray(F, device=strict.Device("device1"))
    solver = gw.Sinkhorn(init=(there, strict.asarray(G)))
    refused(lambda: gw.solve(x, y, solver), TypeError, "same array device", "device1")


def test_bad_starts_are_refused_before_any_work(monkeypatch):
    problem = gw.GWProblem(X, Y)

    def worked(*_):
        raise AssertionError("a product with R and S was formed")

    monkeypatch.setattr(type(problem.left), "__matmul__", worked, raising=False)
    monkeypatch.setattr(gw.GWProblem, "cross", worked)
    with pytest.raises(ValueError, match="must have shape"):
        gw.Sinkhorn(init=PLAN.T).run(problem)
    with pytest.raises(ValueError, match="one potential"):
        gw.Sinkhorn(init=(G, F)).run(problem)


STARTS = {
    "product": "product",
    "plan": PLAN,
    "plan object": gw.DensePlan(PLAN),
    "potentials": (F, G),
    "both": (PLAN, (F, G)),
    "product with potentials": ("product", (F, G)),
}


@pytest.mark.parametrize("name", STARTS)
def test_every_form_is_read(name):
    init = given_starts.checked_start(STARTS[name])
    plan = given_starts.plan_of_start(init)
    pair, _ = given_starts.potentials_of_start(init)
    assert (plan is not None) == ("plan" in name or name == "both")
    assert (pair is not None) == ("potentials" in name or name == "both")
    if pair is not None:
        assert np.array_equal(pair[0], F)
        assert np.array_equal(pair[1], G)
    result = start(init)
    assert "init=…" in result.solver or name == "product"


@pytest.mark.parametrize("name", STARTS)
def test_potentials_follow_units(name):
    unit = 4.0**260  # its square overflows
    init = given_starts.checked_start(STARTS[name])
    large = given_starts.in_units(init, 2.0**-500)
    there = given_starts.in_units(large, unit)
    pair, _ = given_starts.potentials_of_start(there)
    if pair is None:
        assert there is init
        return
    assert np.array_equal(pair[0] * 2.0**40, F)
    assert np.array_equal(pair[1] * 2.0**40, G)
    assert given_starts.plan_of_start(there) is given_starts.plan_of_start(init)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("null_x", [True, False])
@pytest.mark.parametrize("null_y", [True, False])
def test_starts_are_cut_to_the_atoms_with_weight(name, null_x, null_y):
    a, b = A.copy(), B.copy()
    if null_x:
        a[:2] = 0.3, 0.0
    if null_y:
        b[1:] = 0.0, 0.5
    prepared = prepare(gw.DenseSpace(C, a), gw.DenseSpace(D, b))
    init = given_starts.checked_start(STARTS[name])
    cut = given_starts.on_atoms(init, prepared, (N, M))
    if not null_x and not null_y:
        assert cut is init
        return
    rows, cols = np.flatnonzero(a), np.flatnonzero(b)
    plan = given_starts.plan_of_start(cut)
    pair, _ = given_starts.potentials_of_start(cut)
    if given_starts.plan_of_start(init) is not None:
        assert np.array_equal(plan.dense(), PLAN[np.ix_(rows, cols)])
    else:
        assert plan is None
    if given_starts.potentials_of_start(init)[0] is not None:
        assert np.array_equal(pair[0], F[rows])
        assert np.array_equal(pair[1], G[cols])
    else:
        assert pair is None


@given(pairs(generic=True), st.data())
def test_given_plans_are_couplings(pair, data):
    """One whose marginals are right is taken as it is, others are rounded."""
    x, y = pair
    problem = gw.GWProblem(x.space(), y.space())
    coupling = data.draw(couplings(x.weights, y.weights))
    assert np.array_equal(given_starts.given_plan(coupling, problem).dense(), coupling)
    off = coupling * (1 + 1e-4)
    rounded = given_starts.given_plan(off, problem).dense()
    assert np.abs(rounded.sum(1) - x.weights).sum() <= 1e-13
    assert np.abs(rounded.sum(0) - y.weights).sum() <= 1e-13
    assert np.abs(rounded - off).sum() <= 4.1e-4


def test_starts_leave_the_gradient_graph():
    torch = pytest.importorskip("torch")
    pair = random_problem("dense", 6, 5, 2)
    x, y = (s.space(torch.asarray) for s in pair)
    problem = gw.GWProblem(x, y)
    f, g = (
        torch.ones(n, dtype=torch.float64, requires_grad=True) for n in (x.size, y.size)
    )
    found = given_starts.given_potentials((f, g), problem)
    assert not any(part.requires_grad for part in found)
    product = torch.outer(x.weights, y.weights).requires_grad_()
    assert not given_starts.given_plan(product, problem).masses.requires_grad
