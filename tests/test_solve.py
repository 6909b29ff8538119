"""The entry point: status, warnings, callbacks, precision and the result.

Also weights of zero.
"""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.solvers.test_conditional_gradient import random_problem, scale
from tests.strategies import Drawn, pairs

SOLVERS = [
    gw.ConditionalGradient(max_iterations=50),
    gw.Sinkhorn(),
    gw.Sinkhorn(proximal=False),
    gw.Sorted(),
    gw.Sorted(kind="norm"),
    gw.Sorted(kind="spectral"),
]
ITERATIVE = SOLVERS[:3]
QUIET = pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")


@pytest.fixture
def instance():
    x, y = random_problem("dense", 9, 7, 1)
    return x.space(), y.space()


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_one_point_against_one_point(solver):
    result = gw.solve(np.array([[2.0]]), np.array([[5.0]]), solver)
    assert float(result.objective) == 9.0
    assert float(result.distance) == 3.0
    assert np.array_equal(result.plan.dense(), [[1.0]])
    assert result.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("n", [1, 5])
def test_spaces_of_zeros(solver, n):
    result = gw.solve(np.zeros((n, n)), np.zeros((3, 3)), solver)
    assert (
        float(result.objective)
        == float(result.distance)
        == float(result.estimate)
        == 0.0
    )
    assert result.status.success
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert (result.certificate.lower, result.certificate.upper) == (0.0, 0.0)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(most=5))
@QUIET
def test_null_atoms_are_dropped_and_come_back_without_mass(solver, pair):
    """The same answer as without them, bit for bit.

    In a plan with zeros in their rows and columns.
    """
    padded = []
    for drawn in pair:
        order = np.r_[0, drawn.size, 1 : drawn.size]
        bigger = np.pad(drawn.matrix, (0, 1), constant_values=123.0)
        padded.append(
            gw.DenseSpace(
                bigger[np.ix_(order, order)], np.append(drawn.weights, 0.0)[order]
            )
        )
    small = gw.solve(*(gw.DenseSpace(s.matrix, s.weights) for s in pair), solver)
    full = gw.solve(*padded, solver)
    plan = full.plan.dense()
    assert full.plan.shape == plan.shape == (pair[0].size + 1, pair[1].size + 1)
    assert not plan[1].any()
    assert not plan[:, 1].any()
    assert np.array_equal(np.delete(np.delete(plan, 1, 0), 1, 1), small.plan.dense())
    assert float(full.objective) == float(small.objective)
    assert full.certificate.bounds == small.certificate.bounds


@pytest.mark.parametrize("solver", ITERATIVE, ids=str)
def test_running_out_of_steps_warns(solver, instance):
    few = type(solver)(**{**vars(solver), "max_iterations": 1, "tolerance": 0.0})
    with pytest.warns(
        gw.ConvergenceWarning,
        match="The iterations ran out before the tolerance was met",
    ):
        result = gw.solve(*instance, few)
    assert result.status is gw.Status.MAX_ITERATIONS
    assert not result.status.success
    assert result.iterations == 1
    assert (
        checkers.coupling_error(
            result.plan.dense(), instance[0].weights, instance[1].weights
        )
        <= 1e-12
    )


@pytest.mark.parametrize("solver", ITERATIVE, ids=str)
def test_running_out_of_steps_throws_on_request(solver, instance):
    few = type(solver)(**{**vars(solver), "max_iterations": 1, "tolerance": 0.0})
    with pytest.raises(gw.ConvergenceError, match="The iterations ran out") as caught:
        gw.solve(*instance, few, throw=True)
    assert caught.value.result.status is gw.Status.MAX_ITERATIONS
    assert np.isfinite(caught.value.result.objective)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_success_neither_warns_nor_throws(solver, instance):
    clouds = [
        gw.PointCloud(np.random.default_rng(n).standard_normal((n, 2))) for n in (9, 7)
    ]
    result = gw.solve(*clouds, solver, throw=True)
    assert result.status.success
    assert str(result.solver) == str(solver)


@pytest.mark.parametrize("solver", ITERATIVE, ids=str)
@pytest.mark.parametrize("throw", [False, True])
def test_callback_stops_without_a_warning_or_an_error(solver, throw, instance):
    few = type(solver)(**{**vars(solver), "tolerance": 0.0})
    seen = []
    answer = np.True_ if throw else True
    result = gw.solve(
        *instance,
        few,
        throw=throw,
        callback=lambda step: seen.append(step) or (step.iteration == 1 and answer),
    )
    assert result.status is gw.Status.STOPPED
    assert not result.status.success
    assert not result.status.failure
    assert [step.iteration for step in seen] == [1]
    assert result.iterations == 1
    assert seen[0].objective == pytest.approx(float(result.objective), rel=1e-9)


@QUIET
@pytest.mark.parametrize("solver", ITERATIVE, ids=str)
@pytest.mark.parametrize("answer", [None, False, 1, "yes"])
def test_callback_stops_only_by_returning_true(solver, answer, instance):
    silent = gw.solve(*instance, solver)
    watched = gw.solve(*instance, solver, callback=lambda step: answer)
    assert watched.as_dict() == silent.as_dict()


@pytest.mark.parametrize("solver", [gw.ConditionalGradient(), gw.Sinkhorn()], ids=str)
def test_callback_is_told_the_callers_units(solver, instance):
    unit = 2.0**300
    seen, scaled = [], []
    x, y = (
        gw.PointCloud(np.random.default_rng(n).standard_normal((n, 2))) for n in (9, 7)
    )
    gw.solve(x, y, solver, callback=seen.append)
    gw.solve(x.scaled(unit), y.scaled(unit), solver, callback=scaled.append)
    assert len(seen) == len(scaled)
    for here, there in zip(seen, scaled, strict=True):
        assert there.objective / unit / unit == pytest.approx(here.objective, rel=1e-9)
        if here.frank_wolfe_gap is not None:
            assert there.frank_wolfe_gap / unit / unit == pytest.approx(
                here.frank_wolfe_gap, abs=1e-9
            )


def test_a_step_that_is_not_finite_ends_with_the_last_finite_plan(
    instance, monkeypatch
):
    solver = gw.Sinkhorn()
    honest, calls = type(solver).step, []

    def broken(self, problem, state):
        calls.append(state)
        new = honest(self, problem, state)
        return new if len(calls) < 3 else new._replace(relative_objective=float("nan"))

    monkeypatch.setattr(type(solver), "step", broken)
    with pytest.warns(
        gw.ConvergenceWarning, match="A step gave NaN or infinite values"
    ):
        result = gw.solve(*instance, solver)
    assert result.status is gw.Status.NON_FINITE
    assert result.iterations == 3
    assert np.isfinite(result.objective)


@QUIET
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(generic=True))
def test_float32_results(solver, pair):
    x, y = pair
    narrow = [s.space(lambda v: v.astype(np.float32)) for s in (x, y)]
    result = gw.solve(*narrow, solver)
    stored = [
        Drawn(s.kind, t.data.astype(float), t.weights.astype(float))
        for s, t in zip((x, y), narrow, strict=True)
    ]
    for value in (
        result.objective,
        result.distance,
        result.estimate,
        result.plan.dense(),
        *result.plan.marginals(),
    ):
        assert value.dtype == np.float32
    plan = np.asarray(result.plan.dense(), dtype=float)
    assert checkers.coupling_error(plan, stored[0].weights, stored[1].weights) <= 1e-6
    found = checkers.objective(stored[0].matrix, stored[1].matrix, plan)
    assert abs(float(result.objective) - found) <= 1e-4 * scale(x, y)
    assert result.certificate.lower <= found + 1e-5 * scale(x, y)
    assert result.certificate.upper >= found


@QUIET
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("factor", [1e15, 1e-15])
@given(pair=pairs(generic=True, kinds=("dense", "euclidean")))
def test_float32_scales(solver, factor, pair):
    x, y = pair
    here, there = (
        gw.solve(
            *(s.scaled(f).space(lambda v: v.astype(np.float32)) for s in (x, y)),
            gw.Sorted(),
        )
        for f in (1.0, factor)
    )
    assert np.isfinite(there.objective)
    assert float(there.objective) / factor**2 == pytest.approx(
        float(here.objective), rel=1e-3, abs=1e-5 * scale(x, y)
    )
    result = gw.solve(
        *(s.scaled(factor).space(lambda v: v.astype(np.float32)) for s in (x, y)),
        solver,
    )
    plan = np.asarray(result.plan.dense(), dtype=float)
    assert checkers.coupling_error(plan, x.weights, y.weights) <= 1e-6
    found = checkers.objective(x.matrix, y.matrix, plan)
    assert float(result.objective) / factor**2 == pytest.approx(
        found, abs=1e-4 * scale(x, y)
    )
    assert result.certificate.lower / factor**2 <= found + 1e-5 * scale(x, y)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.5])
@pytest.mark.parametrize("exponent", [-140, 140])
def test_estimates_are_in_units_to_their_power(p, exponent, instance):
    """Squares of these units still have a number."""
    here, there = (
        gw.solve(*(s.scaled(f) for s in instance), gw.Sorted(p=p))
        for f in (1.0, 4.0**exponent)
    )
    assert float(there.estimate) * 2.0 ** (-2 * exponent * p) == pytest.approx(
        float(here.estimate), rel=1e-12
    )


@pytest.mark.parametrize("factor", [2.0**510, 4.0**505])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_whose_squares_are_no_numbers_are_refused(dtype, factor):
    largest = np.array(
        [[0.0, factor if dtype == "float64" else 1e19], [0.0, 0.0]]
    ).astype(dtype)
    space, one = (
        gw.DenseSpace(largest + largest.T),
        gw.DenseSpace(np.zeros((1, 1), dtype)),
    )
    for solver in SOLVERS:
        with pytest.raises(
            ValueError,
            match="values of C must be at most .* "
            f"the range in which .* {dtype}, but reach",
        ):
            gw.solve(one, space, solver)
    if dtype == "float64":
        with pytest.raises(ValueError, match="values of C must be at most"):
            gw.certify(space, one)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_as_dict_is_json_and_agrees_with_the_result(solver):
    clouds = [
        gw.PointCloud(np.random.default_rng(n).standard_normal((n, 2))) for n in (9, 7)
    ]
    result = gw.solve(*clouds, solver)
    told = json.loads(json.dumps(result.as_dict()))
    assert told["objective"] == float(result.objective)
    assert told["distance"] == float(result.distance)
    assert (told["lower"], told["upper"]) == (
        result.certificate.lower,
        result.certificate.upper,
    )
    assert told["gap"] == result.certificate.gap
    assert told["status"] == result.status.name
    assert told["message"] == result.status.value


def test_str_lays_out_number_certificate_and_status():
    lines = str(gw.solve(np.array([[1.0]]), np.array([[3.0]]))).splitlines()
    assert lines[0] == (
        "Gromov-Wasserstein between 1 and 1 atoms by "
        "auto: ConditionalGradient(), as one atom leaves one coupling"
    )
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["distance", "2"],
        ["objective", "4"],
        ["certificate", "[4,"],
    ]
    assert lines[-1].split()[0] == "status"
    assert not any(line.split()[0] == "estimate" for line in lines)
    with_estimate = str(
        gw.solve(np.array([[1.0]]), np.array([[3.0]]), gw.Sorted())
    ).splitlines()
    assert any(line.split()[:2] == ["estimate", "2"] for line in with_estimate)


@given(st.sampled_from(list(gw.Status)))
def test_statuses_are_sentences(status):
    assert status.value.endswith(".")
    assert status.value[0].isupper()
    assert status.success == (
        status.name in ("CLOSED_FORM", "STATIONARY", "FIXED_POINT", "GLOBAL")
    )


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(generic=True, most=4))
@QUIET
def test_results_are_the_same_for_raw_arrays_and_dense_spaces(solver, pair):
    C, D = (s.matrix for s in pair)
    raw, wrapped = (
        gw.solve(C, D, solver),
        gw.solve(gw.DenseSpace(C), gw.DenseSpace(D), solver),
    )
    assert raw.as_dict() == wrapped.as_dict()


@given(pairs(null=True))
def test_solving_leaves_the_input_alone(pair):
    before = [(s.data.copy(), s.weights.copy()) for s in pair]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        gw.solve(*(s.space() for s in pair), gw.ConditionalGradient(max_iterations=3))
    for drawn, (data, weights) in zip(pair, before, strict=True):
        assert np.array_equal(drawn.data, data)
        assert np.array_equal(drawn.weights, weights)


def test_default_solver_is_auto(instance):
    """By default, and by the word, the solver is chosen; here a search."""
    default = gw.solve(*instance)
    search = gw.solve(*instance, gw.MultiStart())
    assert default.solver == "auto: MultiStart()"
    assert default.as_dict() == gw.solve(*instance, "auto").as_dict()
    assert default.as_dict() == search.as_dict() | {"solver": default.solver}
    assert np.array_equal(default.plan.dense(), search.plan.dense())
    # It ends no higher than one start.
    single = gw.solve(*instance, gw.ConditionalGradient())
    assert float(default.objective) <= float(single.objective)
