"""Fused problems: objective, gradient, solutions and certificates with features."""

import copy
import dataclasses
import json
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.fused_problems import SHARES, fused_problems
from tests.libraries import EAGER, to_numpy
from tests.solvers.test_base import QUIET
from tests.strategies import couplings, normalised, pairs
from tests.test_plans import FORMS

SOLVERS = [gw.ConditionalGradient(), gw.Sinkhorn(), gw.MultiStart(starts=4)]
FEW = settings(max_examples=40)


def clouds(n=6, m=5, seed=0):
    """Clouds of unlike sizes and weights, with costs between them."""
    rng = np.random.default_rng(seed)
    a = normalised(rng.integers(1, 5, n))
    b = normalised(rng.integers(1, 5, m))
    points, others = rng.standard_normal((n, 2)), rng.standard_normal((m, 3))
    return points, a, others, b, rng.random((n, m))


@pytest.mark.parametrize("form", FORMS)
@given(fused_problems(null=True))
def test_objective_is_the_mean_of_both_terms(form, known):
    found = float(known.problem.objective(FORMS[form](known.plan)))
    expected = known.objective(known.plan)
    assert abs(found - expected) <= 1e-13 * known.scale


@given(fused_problems(null=True))
def test_variation_bounds_what_couplings_change(known):
    plan = gw.DensePlan(known.plan)
    problem = known.problem
    relative = problem.relative_objective(plan, problem.cross(plan))
    product = known.objective(np.outer(known.x.weights, known.y.weights))
    slack = 1e-12 * known.scale
    assert abs(relative - (known.objective(known.plan) - product)) <= slack
    assert abs(problem.product_objective - product) <= slack
    assert abs(relative) <= problem.variation + slack


@given(fused_problems(null=True))
def test_linearize_is_the_gradient_along_couplings(known):
    found = known.problem.linearize(gw.DensePlan(known.plan))
    structure = checkers.gradient(known.x.matrix, known.y.matrix, known.plan)
    expected = known.alpha * structure + (1 - known.alpha) * known.features
    difference = found - expected
    centred = difference - difference @ known.y.weights[:, None]
    centred = centred - known.x.weights[None, :] @ centred
    assert np.abs(centred).max() <= 1e-12 * known.scale


@pytest.mark.parametrize("solver", [None, gw.ConditionalGradient()], ids=str)
@given(fused_problems(shares=(0.0,), null=True))
@FEW
def test_at_share_0_the_optimum_of_linear_transport_is_proved(solver, known):
    result = gw.solve(*known.spaces, solver, **known.given)
    kept_x, kept_y = known.x.weights > 0, known.y.weights > 0
    least = checkers.linear_program(
        known.features[np.ix_(kept_x, kept_y)],
        known.x.weights[kept_x],
        known.y.weights[kept_y],
    )
    assert abs(float(result.objective) - least) <= 1e-9 * known.scale
    certificate = result.certificate
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.bound == "transport"
    assert certificate.gap <= 1e-11 * known.scale
    assert result.status is gw.Status.GLOBAL


def test_at_share_0_it_is_the_optimum_of_pot():
    import ot

    points, a, others, b, features = clouds(30, 20)
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    found = float(gw.solve(x, y, features=features, alpha=0).objective)
    assert found == pytest.approx(ot.emd2(a, b, features), rel=1e-12)


@pytest.mark.parametrize("alpha", [1, 1.0])
def test_at_share_1_nothing_differs_from_the_plain_problem(alpha):
    points, a, others, b, features = clouds()
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    plain = gw.solve(x, y)
    fused = gw.solve(x, y, features=features, alpha=alpha)
    assert float(fused.distance) == float(plain.distance)
    assert fused.certificate == plain.certificate
    assert np.array_equal(fused.plan.dense(), plain.plan.dense())
    assert repr(fused) == repr(plain)


@given(fused_problems(), st.data())
def test_no_coupling_is_below_a_certificate(known, data):
    effort = data.draw(st.sampled_from(["linear", "quadratic", "cubic"]))
    plan = data.draw(couplings(known.x.weights, known.y.weights))
    certificate = gw.certify(*known.spaces, plan, effort, **known.given)
    reached = known.objective(plan)
    float_error = 1e-13 * known.scale
    assert certificate.lower <= reached + float_error
    assert certificate.upper >= reached - float_error
    assert certificate.lower == max(certificate.bounds.values())
    other = known.objective(known.plan)
    assert certificate.lower <= other + float_error
    # Without a plan some coupling's objective is the upper end.
    alone = gw.certify(*known.spaces, effort=effort, **known.given)
    assert certificate.lower - float_error <= alone.upper
    assert alone.upper >= alone.lower


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(fused_problems(null=True))
@FEW
@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
def test_results_are_held_by_their_plans(solver, known):
    result = gw.solve(*known.spaces, solver, **known.given)
    plan = result.plan.dense()
    assert checkers.coupling_error(plan, known.x.weights, known.y.weights) <= 1e-12
    reached = known.objective(plan)
    assert abs(float(result.objective) - reached) <= 1e-10 * known.scale
    certificate = result.certificate
    assert certificate.lower <= float(result.objective) <= certificate.upper
    if result.status is gw.Status.STATIONARY:
        slope = known.problem.linearize(result.plan)
        kept = np.ix_(known.x.weights > 0, known.y.weights > 0)
        least = checkers.linear_program(
            slope[kept],
            known.x.weights[known.x.weights > 0],
            known.y.weights[known.y.weights > 0],
        )
        gap = float((slope * plan)[kept].sum()) - least
        assert gap <= 1e-4 * known.scale


@given(fused_problems(), st.integers(-40, 40))
@FEW
def test_units_of_c_and_their_squares_change_nothing_else(known, power):
    """C in other units, M in their squares: the same plan."""
    solver = gw.ConditionalGradient()
    x, y = known.spaces
    unit = 4.0**power
    here = gw.solve(x, y, solver, **known.given)
    there = gw.solve(
        x.scaled(unit),
        y.scaled(unit),
        solver,
        features=known.features * unit * unit,
        alpha=known.alpha,
    )
    expected = float(here.objective) * unit * unit
    slack = 1e-9 * known.scale * unit * unit
    assert float(there.objective) == pytest.approx(expected, abs=slack)


@pytest.mark.parametrize("unit", [1e-150, 1e150, 1e-60])
def test_values_of_any_size_are_solved(unit):
    points, a, others, b, features = clouds()
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    here = gw.solve(x, y, features=features, alpha=0.5)
    there = gw.solve(
        gw.PointCloud(points * unit, a),
        gw.PointCloud(others * unit, b),
        features=features * unit * unit,
        alpha=0.5,
    )
    expected = float(here.objective) * unit * unit
    assert float(there.objective) == pytest.approx(expected, rel=1e-10)
    assert there.certificate.lower <= float(there.objective)


def test_either_term_may_be_far_smaller_than_the_other():
    points, a, others, b, features = clouds()
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    least = gw.solve(x, y, features=features, alpha=0.0).objective
    tiny = (gw.PointCloud(p * 1e-120, w) for p, w in ((points, a), (others, b)))
    result = gw.solve(*tiny, features=features, alpha=0.5)
    assert float(result.objective) == pytest.approx(float(least) / 2, rel=1e-12)
    assert result.certificate.kind is gw.Kind.GLOBAL
    plain = gw.solve(x, y, gw.ConditionalGradient()).objective
    small = gw.solve(
        x, y, gw.ConditionalGradient(), features=1e-200 * features, alpha=0.5
    )
    assert float(small.objective) == pytest.approx(float(plain) / 2, rel=1e-12)


@given(fused_problems(shares=(0.1, 0.5)))
@FEW
def test_costs_of_one_atom_are_added_to_every_plan(known):
    rng = np.random.default_rng(known.x.size)
    rows, cols = rng.random(known.x.size), rng.random(known.y.size)
    solver = gw.ConditionalGradient()
    here = gw.solve(*known.spaces, solver, **known.given)
    shifted = known.features + rows[:, None] + cols
    there = gw.solve(*known.spaces, solver, features=shifted, alpha=known.alpha)
    added = (1 - known.alpha) * (rows @ known.x.weights + cols @ known.y.weights)
    reached = known._replace(features=shifted).objective(here.plan.dense())
    assert reached == pytest.approx(
        float(here.objective) + added, abs=1e-11 * known.scale
    )
    assert there.certificate.lower <= reached + 1e-11 * known.scale


def test_known_pairs_match_and_forbidden_ones_do_not():
    """A square has eight symmetries; costs choose one of them."""
    square = gw.PointCloud(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    known = np.ones((4, 4))
    known[0, 2] = known[1, 1] = 0.0
    result = gw.solve(square, square, features=known, alpha=0.5)
    assert [(i, j) for i, j, _ in result.matching()] == [(0, 2), (1, 1), (2, 0), (3, 3)]
    forbidden = np.zeros((4, 4))
    forbidden[:, 0] = [1e3, 1e3, 0.0, 1e3]
    forbidden[1, 1] = 1e3
    result = gw.solve(square, square, features=forbidden, alpha=0.5)
    assert [(i, j) for i, j, _ in result.matching()] == [(0, 2), (1, 3), (2, 0), (3, 1)]
    assert float(result.objective) == pytest.approx(0.0, abs=1e-12)


def test_costs_of_atoms_without_weight_do_not_count():
    points, a, others, b, features = clouds()
    a[2], b[1] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    here = gw.solve(x, y, features=features, alpha=0.3)
    huge = features.copy()
    huge[2], huge[:, 1] = 1e300, -1e300
    there = gw.solve(x, y, features=huge, alpha=0.3)
    assert float(there.objective) == float(here.objective)
    assert there.certificate == here.certificate
    # Their potentials are feasible where the costs are numbers.
    f, g = here.potentials
    costs = gw.GWProblem(x, y, features, 0.3).linearize(here.plan)
    assert (f[:, None] + g <= costs + 1e-12)[2].all()


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("library", EAGER, ids=str)
def test_array_libraries_agree(library, solver):
    points, a, others, b, features = clouds()
    expected = gw.solve(
        gw.PointCloud(points, a),
        gw.PointCloud(others, b),
        solver,
        features=features,
        alpha=0.5,
    )
    result = gw.solve(
        gw.PointCloud(library.array(points), library.array(a)),
        gw.PointCloud(library.array(others), library.array(b)),
        solver,
        features=library.array(features),
        alpha=0.5,
    )
    assert library.owns(result.objective)
    assert library.owns(result.plan.dense())
    assert float(result.objective) == pytest.approx(
        float(expected.objective), rel=100 * library.rtol
    )
    certificate = result.certificate
    assert certificate.lower <= float(result.objective) <= certificate.upper
    assert to_numpy(result.potentials[0]).shape == (6,)


@pytest.mark.parametrize("solver", SOLVERS[:2], ids=str)
def test_half_precision_is_computed_in_single(solver):
    points, _, others, _, features = (v.astype(np.float16) for v in clouds())
    x, y = gw.PointCloud(points), gw.PointCloud(others)
    result = gw.solve(x, y, solver, features=features, alpha=np.float16(0.5))
    assert result.objective.dtype == np.float32
    assert result.certificate.lower <= float(result.objective)


@given(fused_problems(shares=(0.5,), least=2), st.sampled_from([0.3, 3.0]))
@FEW
@QUIET
def test_at_a_fixed_epsilon_the_interval_holds_the_least_value(known, epsilon):
    solver = gw.Sinkhorn(epsilon=epsilon, proximal=False)
    result = gw.solve(*known.spaces, solver, **known.given)
    if result.regularized_interval is None:
        return
    lower, upper = result.regularized_interval
    product = np.outer(known.x.weights, known.y.weights)
    ratio = np.where(known.plan > 0, known.plan / product, 1.0)
    other = known.objective(known.plan) + epsilon * float(
        (known.plan * np.log(ratio)).sum()
    )
    assert lower <= other + 1e-10 * known.scale
    assert lower <= upper == float(result.regularized)


def test_a_result_says_that_it_is_fused(tmp_path):
    points, a, others, b, features = clouds()
    result = gw.solve(
        gw.PointCloud(points, a), gw.PointCloud(others, b), features=features, alpha=0.5
    )
    assert repr(result).startswith("GWResult(alpha=0.5, objective=")
    assert str(result).startswith("Fused Gromov-Wasserstein between 6 and 5 atoms")
    assert "distance" not in str(result)
    assert "the share of GW_2^2" in result._repr_html_()
    numbers = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert (numbers["alpha"], numbers["distance"]) == (0.5, None)
    with pytest.raises(ValueError, match=r"distance must be.*read result\.objective"):
        _ = result.distance
    path = tmp_path / "result.npz"
    result.save(path)
    loaded = gw.GWResult.load(path)
    assert loaded.as_dict() == result.as_dict()
    assert loaded.certificate == result.certificate
    named = dataclasses.replace(result, names=("abcdef", "vwxyz"), distance=None)
    assert named.matching()[0][0] == "a"


def test_negative_costs_have_negative_objectives_and_intervals():
    points, a, others, b, features = clouds()
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    objectives = []
    result = gw.solve(
        x,
        y,
        gw.ConditionalGradient(),
        features=features - 100.0,
        alpha=0.5,
        callback=lambda step: objectives.append(step.objective),
    )
    shifted = gw.solve(x, y, gw.ConditionalGradient(), features=features, alpha=0.5)
    assert float(result.objective) == pytest.approx(
        float(shifted.objective) - 50, abs=1e-10
    )
    assert objectives[-1] == pytest.approx(float(result.objective), abs=1e-10)
    assert result.certificate.lower == pytest.approx(
        shifted.certificate.lower - 50, abs=1e-10
    )
    assert "no bound" in str(result.certificate.excess)
    assert "nan" not in result._repr_html_()


@pytest.mark.parametrize("alpha", SHARES)
def test_a_search_is_no_worse_than_one_start(alpha):
    points, a, others, b, features = clouds(9, 12, seed=3)
    x, y = gw.PointCloud(points, a), gw.PointCloud(others, b)
    one = gw.solve(x, y, gw.ConditionalGradient(), features=features, alpha=alpha)
    best = gw.solve(x, y, features=features, alpha=alpha)
    assert float(best.objective) <= float(one.objective) + 1e-12
    if best.starts is not None:
        assert "linear transport" in [start.name for start in best.starts]


def test_coarse_starts_carry_features():
    size = 260
    rng = np.random.default_rng(1)
    points = rng.standard_normal((size, 2))
    x = gw.PointCloud(points)
    turned = gw.PointCloud(points[::-1] @ np.array([[0.0, 1.0], [-1.0, 0.0]]))
    features = np.abs(points[:, :1] - points[::-1, :1].T) + rng.random((size, size))
    solver = gw.MultiStart(starts=2)
    result = gw.solve(x, turned, solver, features=features, alpha=0.5)
    assert "coarse to fine" in [start.name for start in result.starts]
    turned_back = gw.SparsePlan(
        np.arange(size), np.arange(size)[::-1], x.weights, (size, size)
    )
    known = gw.GWProblem(x, turned, features, 0.5).objective(turned_back)
    assert float(result.objective) <= float(known)


@given(pairs(least=2, most=4))
@FEW
def test_the_least_of_all_bijections_is_found(pair):
    """Between few atoms of equal weights, with costs that decide."""
    x, y = pair
    n = min(x.size, y.size)
    first = gw.DenseSpace(x.matrix[:n, :n])
    second = gw.DenseSpace(y.matrix[:n, :n])
    rng = np.random.default_rng(n)
    order = rng.permutation(n)
    features = np.full((n, n), 1e6)
    features[np.arange(n), order] = 0.0
    result = gw.solve(first, second, features=features, alpha=0.5)
    assert np.array_equal(result.plan.dense() > 1e-9, features == 0.0)


def featured(kind, features_x, features_y, a, b, n=6, m=5):
    """Two spaces of one kind, each with features of its atoms."""
    rng = np.random.default_rng(11)
    first, second = rng.standard_normal((n, 2)), rng.standard_normal((m, 2))
    if kind == "dense":
        C, D = (checkers.euclidean(points) for points in (first, second))
        make, data = gw.DenseSpace, (C, D)
    elif kind == "gram":
        make, data = gw.GramSpace, (first.T.copy(), second.T.copy())
    elif kind == "graph":
        make, data = gw.GraphSpace, (nx.path_graph(n), nx.star_graph(m - 1))
    else:
        make, data = gw.PointCloud, (first, second)
    x = make(data[0], a, features=features_x)
    return x, make(data[1], b, features=features_y), make(data[0], a), make(data[1], b)


@pytest.mark.parametrize("metric", [None, "sqeuclidean", "euclidean"])
@pytest.mark.parametrize("kind", ["dense", "gram", "graph", "cloud"])
def test_features_of_spaces_are_costs_between_them(kind, metric):
    _, a, _, b, _ = clouds()
    rng = np.random.default_rng(3)
    of_x, of_y = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    x, y, plain_x, plain_y = featured(kind, of_x, of_y, a, b)
    distances = np.linalg.norm(of_x[:, None] - of_y, axis=-1)
    costs = distances if metric == "euclidean" else distances**2
    solver = gw.ConditionalGradient()
    found = gw.solve(x, y, solver, features=metric, alpha=0.4)
    expected = gw.solve(plain_x, plain_y, solver, features=costs, alpha=0.4)
    assert float(found.objective) == pytest.approx(float(expected.objective), rel=1e-12)
    certificate = gw.certify(x, y, found.plan, features=metric, alpha=0.4)
    assert certificate.lower == pytest.approx(expected.certificate.lower, rel=1e-12)


@pytest.mark.parametrize("kind", ["dense", "gram", "graph", "cloud"])
def test_restricted_copied_and_rescaled_spaces_keep_their_features(kind):
    _, a, _, b, _ = clouds()
    of_x = np.arange(12.0).reshape(6, 2)
    x, _, plain, _ = featured(kind, of_x, np.zeros((5, 2)), a, b)
    index = np.array([4, 0, 2])
    assert np.array_equal(x.restrict(index).features, of_x[index])
    assert plain.restrict(index).features is None
    assert np.array_equal(x.scaled(4.0).features, of_x)
    assert np.array_equal(pickle.loads(pickle.dumps(x)).features, of_x)
    assert np.array_equal(copy.copy(x).features, of_x)


def test_features_do_not_change_what_is_asked_of_spaces_alone():
    _, a, _, b, _ = clouds()
    rng = np.random.default_rng(3)
    of_x, of_y = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    x, y, plain_x, plain_y = featured("cloud", of_x, of_y, a, b)
    solver = gw.ConditionalGradient()
    found = gw.solve(x, y, solver, alpha=1)
    assert float(found.distance) == float(gw.solve(plain_x, plain_y, solver).distance)
    assert float(gw.bounds.norm(x, y)) == float(gw.bounds.norm(plain_x, plain_y))


def test_gradients_pass_through_features():
    torch = pytest.importorskip("torch")
    points, _, others, _, _ = (torch.asarray(v) for v in clouds())
    rng = np.random.default_rng(3)
    of_y = torch.asarray(rng.standard_normal((5, 3)))

    def value(of_x):
        x = gw.PointCloud(points, features=of_x)
        y = gw.PointCloud(others, features=of_y)
        return gw.solve(x, y, alpha=0.3).objective

    of_x = torch.asarray(rng.standard_normal((6, 3))).requires_grad_()
    assert torch.autograd.gradcheck(value, (of_x,), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_features_of_narrow_spaces(dtype):
    points, _, others, _, _ = (v.astype(dtype) for v in clouds())
    x = gw.PointCloud(points, features=300 * points)
    y = gw.PointCloud(others, features=300 * others[:, :2])
    result = gw.solve(x, y, alpha=0.5)
    assert result.objective.dtype == np.float32
    assert np.isfinite(float(result.objective))
