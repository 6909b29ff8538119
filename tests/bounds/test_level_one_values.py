"""The bound of the level-one reformulation: values, answers, refusals, gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import bounds
from gwtools._compiled import compilation
from gwtools.bounds import level_one, level_one_values
from gwtools.bounds.arguments import centred_pair
from gwtools.bounds.level_one import Search
from gwtools.preparation import prepare
from tests import checkers
from tests.libraries import EAGER, Library, to_numpy
from tests.strategies import Drawn, coupled, known, orders, pairs, simplices, two_points

torch = pytest.importorskip("torch")
strict = pytest.importorskip("array_api_strict")

KINDS = ("dense", "euclidean", "sqeuclidean", "gram")


def slack(*drawn):
    """What rounding may do to a value of these spaces."""
    return 1e-12 * max(1e-200, *(abs(s.matrix).max() for s in drawn)) ** 2


def drawn_space(kind, n, seed):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((n, n if kind == "dense" else 2))
    if kind == "dense":
        data = data + data.T
    elif kind == "gram":
        data = data.T.copy()
    return Drawn(kind, data, rng.dirichlet(np.full(n, 5.0)))


def drawn_pair(kind="euclidean", sizes=(5, 4)):
    return [drawn_space(kind, n, seed) for seed, n in enumerate(sizes, start=1)]


def spaces(pair, array=np.asarray):
    return [drawn.space(array) for drawn in pair]


def value(x, y, **options):
    return float(bounds.reformulation(x.space(), y.space(), **options))


# Values


@settings(max_examples=60)
@given(coupled(null=True))
def test_theorem_15_is_below_every_coupling(instance):
    x, y, plan = instance
    found = value(x, y, iterations=60)
    assert found <= checkers.objective(x.matrix, y.matrix, plan) + slack(x, y)
    assert found >= 0.0


@settings(max_examples=40)
@given(pairs(null=True))
def test_the_bound_is_never_below_the_residual_third_one(pair):
    x, y = pair
    found = value(x, y, iterations=1)
    least = float(bounds.third(x.space(), y.space(), residual=True))
    assert found >= least - slack(x, y)


@settings(max_examples=30)
@given(known())
def test_bounds_are_below_known_answers(known):
    assert value(known.x, known.y) <= known.value + slack(known.x, known.y)


@pytest.mark.parametrize("answers", [two_points(), simplices(uniform=True)], ids=str)
def test_answers_that_are_met(answers):
    @settings(max_examples=25)
    @given(answers)
    def is_met(known):
        found = value(known.x, known.y)
        largest = max(abs(known.x.matrix).max(), abs(known.y.matrix).max()) ** 2
        assert found == pytest.approx(known.value, abs=1e-3 * max(largest, 1e-6))

    is_met()


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_permutation_of_three_atoms_is_met(kind):
    uniform = np.full(3, 1 / 3)
    x, y = (Drawn(kind, drawn_space(kind, 3, seed).data, uniform) for seed in (11, 12))
    best = float(gw.solve(x.space(), y.space()).objective)
    assert value(x, y) == pytest.approx(best, rel=1e-3)


@settings(max_examples=20)
@given(pairs(most=5, null=True), st.data())
def test_labels_do_not_matter(pair, data):
    x, y = pair
    order = np.array(data.draw(orders(x.size)))
    # Iterates are of single precision.
    allowed = 1e-4 * max(abs(x.matrix).max(), abs(y.matrix).max()) ** 2
    found = value(x, y, iterations=20)
    assert value(x.take(order), y, iterations=20) == pytest.approx(found, abs=allowed)
    assert value(y, x, iterations=20) == pytest.approx(found, abs=allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_nested_programs_of_the_multipliers(kind):
    x, y = drawn_pair(kind)
    found = bounds.find_multipliers(*spaces((x, y)))
    a, b = x.weights, y.weights
    (m_C, alpha, R), (m_D, beta, S) = (
        checkers.parts(s.matrix, s.weights) for s in (x, y)
    )
    h = (alpha[:, None] - beta) ** 2
    inner = np.zeros(h.shape)
    for i in range(x.size):
        for j in range(y.size):
            costs = (R[i][:, None] - S[j]) ** 2 + h - found.first[j] - found.second[i]
            inner[i, j] = checkers.linear_program(costs, a, b)
    missed = np.tensordot(b, found.first, 1) + np.tensordot(a, found.second, 1)
    wanted = (m_C - m_D) ** 2 + checkers.linear_program(inner + h + missed, a, b)
    for options in ({}, {"multipliers": found}):
        assert value(x, y, **options) == pytest.approx(wanted, rel=1e-9)


def test_given_multipliers_need_no_search(monkeypatch):
    x, y = drawn_pair()
    found = bounds.find_multipliers(*spaces((x, y)))
    monkeypatch.delattr(Search, "step")
    assert value(x, y, multipliers=found) > 0


@pytest.mark.parametrize("power", [-150, -20, 20, 150])
@pytest.mark.parametrize("kind", ["dense", "euclidean"])
def test_units_do_not_matter(kind, power):
    x, y = drawn_pair(kind)
    wide = [s.scaled(10.0**power) for s in (x, y)]
    found = bounds.find_multipliers(*spaces(wide))
    usual = value(x, y)
    for options in ({}, {"multipliers": found}):
        # In units in which no square leaves the range.
        scaled = value(*wide, **options) / 10.0**power / 10.0**power
        assert scaled == pytest.approx(usual, rel=1e-3)


@pytest.mark.parametrize("factor", [1e-15, 1e15])
def test_units_do_not_matter_in_single_precision(factor):
    pair = drawn_pair()
    library = Library("torch", "float32")
    wide = [s.scaled(factor) for s in pair]
    found = bounds.reformulation(*spaces(wide, library.array))
    assert library.owns(found)
    assert float(found) / factor**2 == pytest.approx(value(*pair), rel=1e-3)


def bad_multipliers():
    """Some that prove nothing between 5 and 4 atoms."""
    shapes = (4, 5, 4), (5, 5, 4), (5, 4, 4)
    rng = np.random.default_rng(1)
    return bounds.Multipliers(*(9 * rng.standard_normal(shape) for shape in shapes))


def test_values_below_zero_are_zero():
    assert value(*drawn_pair(), multipliers=bad_multipliers()) == 0.0


@pytest.mark.parametrize("weight", [0.0, 1e-300, 1e-200, 1e-20])
def test_atoms_of_hardly_any_weight(weight):
    x, y = drawn_pair(sizes=(5, 6))
    a = x.weights.copy()
    a[[0, 3]] = weight
    light = Drawn(x.kind, x.data, a / a.sum())
    kept = light.take([1, 2, 4])
    found, wanted = value(light, y), value(kept, y)
    least = float(bounds.third(light.space(), y.space(), residual=True))
    assert least * (1 - 1e-9) <= found <= wanted * (1 + 1e-3)
    if weight == 0.0:
        assert found == wanted


@pytest.mark.parametrize("seed", range(3))
def test_ties_of_graphs(seed):
    rng = np.random.default_rng(seed)
    C, D = (np.triu(rng.integers(0, 2, (6, 6)), 1).astype(float) for _ in range(2))
    C, D = C + C.T, D + D.T
    found = float(bounds.reformulation(C, D))
    assert found <= checkers.best_permutation(C, D) + 1e-9
    assert found >= float(bounds.third(C, D, residual=True)) - 1e-12
    assert float(bounds.reformulation(C, C)) <= 1e-12
    order = rng.permutation(6)
    assert float(bounds.reformulation(C, C[np.ix_(order, order)])) <= 1e-12


# Array libraries


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_values_are_of_the_library(library):
    name, dtype = library.name, library.dtype
    pair = drawn_pair()
    with library.active():
        found = bounds.reformulation(*spaces(pair, library.array))
        assert library.owns(found) or (name == "numpy" and found.dtype == dtype)
        assert found.shape == ()
        assert float(found) == pytest.approx(value(*pair), rel=1e-3)
        multipliers = bounds.find_multipliers(*spaces(pair, library.array))
    for array, shape in zip(
        multipliers, ((4, 5, 4), (5, 5, 4), (5, 4, 4)), strict=False
    ):
        assert (type(array), array.dtype) == (np.ndarray, np.float64)
        assert array.shape == shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    halves = [torch.asarray(s.data).to(getattr(torch, dtype)) for s in drawn_pair()]
    found = bounds.reformulation(*(gw.PointCloud(data) for data in halves))
    assert found.dtype == getattr(torch, dtype)
    wide = (gw.PointCloud(data.to(torch.float64)) for data in halves)
    assert float(found) == pytest.approx(float(bounds.reformulation(*wide)), rel=2e-2)


def on_device(data, device):
    return strict.asarray(data, device=strict.Device(device))


def test_searches_run_on_the_device_of_the_spaces(monkeypatch):
    pair = drawn_pair()
    asked = []
    search = level_one_values.best_multipliers

    def watched(*arguments, like=None, **options):
        asked.append(like)
        return search(*arguments, like=like, **options)

    monkeypatch.setattr(level_one_values, "best_multipliers", watched)
    found = bounds.reformulation(*spaces(pair, lambda v: on_device(v, "device1")))
    assert found.device == strict.Device("device1")
    here = bounds.reformulation(*spaces(pair))
    assert float(to_numpy(found)) == pytest.approx(float(here), rel=1e-3)
    assert asked[0].device == strict.Device("device1")
    assert asked[1] is None


def test_spaces_on_two_devices_are_refused():
    x, y = drawn_pair()
    there = x.space(lambda v: on_device(v, "device1"))
    here = y.space(lambda v: on_device(v, "CPU_DEVICE"))
    for bound in (bounds.reformulation, bounds.find_multipliers):
        with pytest.raises(TypeError, match="device"):
            bound(there, here)


def test_without_numba_the_value_is_the_same(monkeypatch):
    pair = drawn_pair()
    usual = value(*pair)
    monkeypatch.setattr(compilation, "_numba", lambda: None)
    assert value(*pair) == pytest.approx(usual, rel=1e-4)


# Time, memory and interrupts


def test_a_time_limit_ends_the_search(monkeypatch):
    pair = spaces(drawn_pair())
    ticks = iter(range(1000))
    steps = []
    step = Search.step
    monkeypatch.setattr(Search, "step", lambda search: steps.append(step(search)))
    for module in (level_one, level_one_values):
        monkeypatch.setattr(module, "now", lambda: float(next(ticks)))
    for function in (bounds.reformulation, bounds.find_multipliers):
        del steps[:]
        function(*pair, time_limit=5.5)
        assert len(steps) == 6


def test_without_a_time_limit_values_are_the_same_to_the_bit():
    pair = spaces(drawn_pair())
    first, second = (bounds.reformulation(*pair) for _ in range(2))
    assert float(first) == float(second)


def test_an_interrupted_search_still_gives_a_bound(monkeypatch):
    pair = spaces(drawn_pair())
    least = float(bounds.third(*pair, residual=True))
    for after in (0, 75):
        steps = []
        step = Search.step

        def interrupted(search, steps=steps, step=step, after=after):
            if len(steps) == after:
                raise KeyboardInterrupt
            steps.append(step(search))

        with monkeypatch.context() as patch:
            patch.setattr(Search, "step", interrupted)
            found = float(bounds.reformulation(*pair))
        assert found >= least * (1 - 1e-12)
        assert after == 0 or found > 1.1 * least


def test_what_does_not_fit_is_refused_before_any_work(monkeypatch):
    points = np.zeros((2000, 1))
    monkeypatch.setattr(level_one_values, "prepare", None)
    x, y = gw.PointCloud(points), gw.PointCloud(points)
    for bound in (bounds.reformulation, bounds.find_multipliers):
        with pytest.raises(MemoryError, match="GB"):
            bound(x, y)


def test_what_is_held_is_estimated_from_above():
    x, y = (s.space() for s in drawn_pair(sizes=(20, 15)))
    import tracemalloc

    bounds.reformulation(x, y, iterations=2)  # kernels are compiled
    tracemalloc.start()
    bounds.reformulation(x, y, iterations=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * level_one_values.numbers_held(20, 15)


# Gradients


def changed(pair, place, values):
    """A pair with other data, places 0 and 2, or other weights."""
    x, y = pair
    sides = [[x.data, x.weights], [y.data, y.weights]]
    sides[place // 2][place % 2] = values
    return [Drawn(s.kind, *side) for s, side in zip(pair, sides, strict=True)]


def gradients(pair, found):
    """Those of torch in data and weights of both spaces."""
    tensors = [
        torch.tensor(v, requires_grad=True) for s in pair for v in (s.data, s.weights)
    ]
    made = [Drawn(s.kind, *tensors[2 * k : 2 * k + 2]) for k, s in enumerate(pair)]
    x, y = (s.space(lambda v: v) for s in made)
    result = bounds.reformulation(x, y, multipliers=found)
    plain = value(*pair, multipliers=found)
    assert float(result.detach()) == pytest.approx(plain, rel=1e-12)
    return [g.numpy() for g in torch.autograd.grad(result, tensors)]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_differences_at_the_same_multipliers(kind):
    pair = drawn_pair(kind)
    found = bounds.find_multipliers(*spaces(pair))
    rng = np.random.default_rng(8)
    for place, gradient in enumerate(gradients(pair, found)):
        if kind == "dense" and place % 2 == 0:
            assert np.array_equal(gradient, gradient.T)
        at = [v for s in pair for v in (s.data, s.weights)][place]
        direction = rng.standard_normal(at.shape)
        if place % 2:
            direction -= direction.mean()  # weights keep their mass
        elif kind == "dense":
            direction = direction + direction.T
        ends = [
            value(*changed(pair, place, at + step * direction), multipliers=found)
            for step in (1e-6, -1e-6)
        ]
        wanted = (ends[0] - ends[1]) / 2e-6
        assert abs(wanted) > 1e-3
        assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-5)


def test_gradients_of_a_search_are_those_at_its_multipliers():
    pair = drawn_pair("dense")
    found = bounds.find_multipliers(*spaces(pair))
    C = torch.tensor(pair[0].data, requires_grad=True)
    x = gw.DenseSpace(C, torch.asarray(pair[0].weights))
    bounds.reformulation(x, pair[1].space(torch.asarray)).backward()
    np.testing.assert_allclose(C.grad.numpy(), gradients(pair, found)[0], atol=1e-12)


def test_gradients_where_the_third_bound_is_left(monkeypatch):
    pair = drawn_pair("dense")
    parts = centred_pair(prepare(*spaces(pair)))
    third = level_one.residual_third_multipliers(*parts)
    C = torch.tensor(pair[0].data, requires_grad=True)
    x = gw.DenseSpace(C, torch.asarray(pair[0].weights))
    worse = bad_multipliers()
    monkeypatch.setattr(level_one_values, "best_multipliers", lambda *_, **__: worse)
    result = bounds.reformulation(x, pair[1].space(torch.asarray))
    result.backward()
    least = bounds.third(*spaces(pair), residual=True)
    assert float(result.detach()) == pytest.approx(float(least), rel=1e-12)
    np.testing.assert_allclose(C.grad.numpy(), gradients(pair, third)[0], atol=1e-12)


def test_gradients_of_jax_are_those_of_pytorch():
    """In the data and the weights of x: JAX compiles each operation anew."""
    jax = pytest.importorskip("jax")
    pair = drawn_pair("gram", sizes=(3, 2))
    found = bounds.find_multipliers(*spaces(pair))
    with jax.enable_x64(True):
        y = pair[1].space(jax.numpy.asarray)

        def of(data, weights):
            return bounds.reformulation(
                gw.GramSpace(data, weights), y, multipliers=found
            )

        arrays = [jax.numpy.asarray(v) for v in (pair[0].data, pair[0].weights)]
        result, given_by_jax = jax.value_and_grad(of, argnums=(0, 1))(*arrays)
        assert isinstance(result, jax.Array)
        for ours, wanted in zip(given_by_jax, gradients(pair, found), strict=False):
            np.testing.assert_allclose(
                np.asarray(ours), wanted, atol=1e-11 * abs(wanted).max()
            )


def test_gradients_in_the_units_and_the_dtype_that_were_given():
    pair = drawn_pair("dense")
    found = bounds.find_multipliers(*spaces(pair))
    wanted = gradients(pair, found)[0]
    large = [s.scaled(1e70) for s in pair]
    scaled = bounds.Multipliers(*(1e140 * array for array in found[:3]))
    assert gradients(large, scaled)[0] == pytest.approx(1e70 * wanted, rel=1e-9)
    C = torch.tensor(pair[0].data, dtype=torch.float32, requires_grad=True)
    narrow = (torch.asarray(s.weights).to(torch.float32) for s in pair)
    x = gw.DenseSpace(C, next(narrow))
    y = gw.DenseSpace(torch.asarray(pair[1].data).to(torch.float32), next(narrow))
    bounds.reformulation(x, y, multipliers=found).backward()
    assert C.grad.dtype == torch.float32
    np.testing.assert_allclose(C.grad.numpy(), wanted, atol=1e-4 * abs(wanted).max())


def test_no_gradient_is_kept_where_none_is_asked_for():
    found = bounds.reformulation(*spaces(drawn_pair(), torch.asarray))
    assert not found.requires_grad
    assert math.isfinite(float(found))
