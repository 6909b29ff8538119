"""Barycenters: known ones, what no round may do, and every array library."""

import math
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import block_descent
from tests import checkers
from tests.libraries import EAGER, Library, to_numpy
from tests.strategies import permuted_copies, spaces, weights

QUICK = gw.ConditionalGradient()


def clouds(seed, count, least=3, most=9):
    """Euclidean clouds of unlike sizes with unequal weights, and weights of these."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        n = int(rng.integers(least, most + 1))
        points = rng.standard_normal((n, 2))
        a = rng.random(n) + 0.2
        found.append(gw.DenseSpace(checkers.euclidean(points), a / a.sum()))
    shares = rng.random(count) + 0.1
    return found, list(shares / shares.sum())


def mean_objective(middle, inputs):
    """Σ λ_s F_s of the plans, term by term."""
    B = to_numpy(middle.space.dense())
    return math.fsum(
        share * checkers.objective(B, space.matrix, to_numpy(plan.dense()))
        for share, space, plan in zip(middle.weights, inputs, middle.plans, strict=True)
    )


def check(middle, inputs, tolerance=1e-12):
    """Hold a barycenter against its own plans, weights and certificates."""
    B = to_numpy(middle.space.dense())
    p = to_numpy(middle.space.weights)
    assert np.array_equal(B, B.T)
    largest = max(np.abs(space.matrix).max() for space in inputs)
    slack = 1e2 * tolerance * largest**2
    assert np.abs(B).max() <= largest * (1 + 1e2 * tolerance)
    assert abs(middle.objective - mean_objective(middle, inputs)) <= slack
    for space, plan, certificate in zip(
        inputs, middle.plans, middle.certificates, strict=True
    ):
        matrix = to_numpy(plan.dense())
        assert checkers.coupling_error(matrix, p, space.weights) <= tolerance
        checkers.check_certificate(certificate, B, p, space.matrix, space.weights)
    objectives = [step.objective for step in middle.history]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] == pytest.approx(middle.objective, abs=slack)
    lower, upper = middle.interval
    assert 0 <= lower <= upper == middle.objective


@settings(max_examples=40)
@given(st.data())
def test_any_spaces_have_a_barycenter_that_adds_up_and_no_round_raises_it(data):
    inputs = data.draw(st.lists(spaces(most=5, null=True), min_size=1, max_size=3))
    shares = data.draw(weights(len(inputs), null=True))
    p = data.draw(weights(data.draw(st.integers(1, 5))))
    middle = gw.barycenter(
        [space.space() for space in inputs],
        list(shares),
        barycenter_weights=p,
        solver=QUICK,
        starts=2,
    )
    check(middle, inputs)
    assert middle.status.success
    assert np.allclose(middle.space.weights, p, rtol=0, atol=1e-15)


@settings(max_examples=30)
@given(st.data())
def test_at_a_barycenter_neither_the_matrix_nor_a_plan_can_be_improved(data):
    inputs = data.draw(st.lists(spaces(most=4), min_size=1, max_size=3))
    shares = data.draw(weights(len(inputs)))
    middle = gw.barycenter(
        [space.space() for space in inputs], shares, size=3, solver=QUICK, starts=1
    )
    B, p = middle.space.dense(), middle.space.weights
    # 1. The plans: their Frank-Wolfe gaps, by linear programs of another library.
    gaps = [
        checkers.frank_wolfe_gap(
            B, p, space.matrix, space.weights, np.asarray(plan.dense())
        )
        for space, plan in zip(inputs, middle.plans, strict=True)
    ]
    scale = max(np.abs(space.matrix).max() for space in inputs) ** 2
    found = float(shares @ gaps)
    assert found <= middle.frank_wolfe_gap + 1e-8 * scale
    assert middle.frank_wolfe_gap <= 1e-5 * scale
    # 2. The matrix: the derivative 2 p_i p_k Σ λ_s (B − π C πᵀ / p pᵀ)_ik vanishes.
    plans = [np.asarray(plan.dense()) for plan in middle.plans]
    means = [
        plan @ space.matrix @ plan.T / np.outer(p, p)
        for plan, space in zip(plans, inputs, strict=True)
    ]
    mean = sum(share * matrix for share, matrix in zip(shares, means, strict=True))
    assert np.abs(mean - B).max() <= 1e-12 * math.sqrt(scale)


@settings(max_examples=25)
@given(st.data())
def test_copies_of_one_space_have_that_space_as_their_barycenter(data):
    known = data.draw(permuted_copies(generic=True))
    # It begins at the first of the spaces, or at the copy that is given.
    first = {"barycenter_weights": known.x.weights}
    start = data.draw(st.sampled_from([first, {"init": known.y.space()}]))
    inputs = [known.x.space(), known.y.space(), known.x.space()]
    middle = gw.barycenter(inputs, **start, starts=1)
    scale = np.abs(known.x.matrix).max() ** 2
    assert middle.objective <= 1e-9 * scale
    assert float(gw.solve(middle.space, known.x.space()).objective) <= 1e-8 * scale


def test_one_space_is_its_own_barycenter_at_its_own_size():
    (space,), _ = clouds(0, 1, least=7)
    middle = gw.barycenter([space], barycenter_weights=space.weights)
    assert middle.objective <= 1e-12
    assert np.allclose(middle.space.dense(), space.dense(), atol=1e-9)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.data())
def test_between_segments_lies_the_segment_of_their_mean_length(lengths, data):
    shares = data.draw(weights(len(lengths)))
    segments = [s * (1 - np.eye(2)) for s in lengths]
    middle = gw.barycenter(segments, shares, solver=QUICK, starts=1)
    mean = float(shares @ lengths)
    assert middle.space.dense() == pytest.approx(mean * (1 - np.eye(2)), abs=1e-12)
    # (s − t)² / 2 between segments of two equal weights.
    variance = float(shares @ (np.array(lengths) - mean) ** 2) / 2
    assert middle.objective == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_barycenter_of_two_spaces_halves_the_geodesic_between_them(seed):
    """λ (1 − λ) GW_2² is the least value, and the middle of an optimal plan has it."""
    x, y = (gw.PointCloud(s.distances[:, :2]) for s in clouds(seed, 2, 3, 4)[0])
    best = gw.solve(x, y)
    atoms = best.plan.sparse()
    rows, cols, mass = atoms.row, atoms.col, atoms.data
    share = 0.3
    start = share * x.dense()[np.ix_(rows, rows)]
    start += (1 - share) * y.dense()[np.ix_(cols, cols)]
    middle = gw.barycenter(
        [x, y], [share, 1 - share], barycenter_weights=mass / mass.sum(), init=start
    )
    least = share * (1 - share) * float(best.objective)
    assert middle.objective == pytest.approx(least, rel=1e-9)
    # No barycenter of any size is below what the lower bound of GW_2 allows.
    for size in (1, 2, 5):
        other = gw.barycenter([x, y], [share, 1 - share], size, solver=QUICK)
        least = share * (1 - share) * best.certificate.lower
        assert other.objective >= least * (1 - 1e-12)


def test_it_is_not_above_the_barycenters_of_pot_from_the_same_start():
    ratios = []
    for seed in range(20):
        inputs, shares = clouds(seed, 2 + seed % 3)
        rng = np.random.default_rng(100 + seed)
        k = 3 + seed % 5
        p = rng.random(k) + 0.3
        p /= p.sum()
        start = checkers.euclidean(rng.standard_normal((k, 2)))
        B, log = ot.gromov.gromov_barycenters(
            k,
            [space.distances for space in inputs],
            ps=[space.weights for space in inputs],
            p=p,
            lambdas=shares,
            loss_fun="square_loss",
            init_C=start,
            log=True,
        )
        theirs = math.fsum(
            share * checkers.objective(B, space.distances, plan)
            for share, space, plan in zip(shares, inputs, log["T"], strict=True)
        )
        middle = gw.barycenter(
            inputs, shares, barycenter_weights=p, init=start, solver=QUICK, starts=4
        )
        ratios.append(middle.objective / theirs)
    not_higher = sum(ratio <= 1 + 1e-6 for ratio in ratios)
    assert not_higher >= 0.95 * len(ratios), ratios
    assert np.mean(ratios) < 0.9, ratios


@pytest.mark.parametrize("solver", [gw.Sinkhorn(), gw.Sorted(), gw.MultiStart()])
def test_every_solver_of_matrices_finds_its_first_plans(solver):
    inputs, shares = clouds(5, 3)
    middle = gw.barycenter(inputs, shares, 5, solver=solver)
    assert middle.status is gw.Status.STATIONARY
    objectives = [step.objective for step in middle.history]
    assert objectives == sorted(objectives, reverse=True)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_arrays_keep_their_library_and_dtype(library):
    inputs, shares = clouds(3, 3)
    p = np.array([0.5, 0.25, 0.125, 0.125])

    def solved(of):
        made = [
            gw.DenseSpace(of.array(s.distances), of.array(s.weights)) for s in inputs
        ]
        return gw.barycenter(
            made, shares, barycenter_weights=of.array(p), solver=QUICK, seed=2, starts=2
        )

    middle = solved(library)
    expected = solved(Library("numpy", "float64"))
    assert library.owns(middle.space.distances)
    assert library.owns(middle.space.weights)
    assert all(library.owns(plan.masses) for plan in middle.plans)
    assert middle.objective == pytest.approx(expected.objective, rel=library.rtol)
    matrix = to_numpy(middle.space.dense())
    assert np.abs(matrix - expected.space.dense()).max() <= 10 * library.rtol


def test_tensors_within_a_gradient_graph_give_a_barycenter_outside_of_it():
    torch = pytest.importorskip("torch")
    points = torch.asarray(np.random.default_rng(0).standard_normal((4, 2)))
    cloud = gw.PointCloud(points.requires_grad_())
    middle = gw.barycenter([cloud, cloud], solver=QUICK)
    assert not middle.space.distances.requires_grad
    assert middle.objective <= 1e-12


def test_half_precision_is_computed_in_single_and_stays_half():
    inputs, shares = clouds(1, 2)
    narrow = [
        gw.DenseSpace(s.distances.astype(np.float16), s.weights.astype(np.float16))
        for s in inputs
    ]
    middle = gw.barycenter(narrow, shares, 4, solver=QUICK)
    wide = gw.barycenter(inputs, shares, 4, solver=QUICK)
    assert middle.space.distances.dtype == np.float16
    assert middle.objective == pytest.approx(wide.objective, rel=0.05)


@pytest.mark.parametrize("unit", [1e-150, 1e150])
def test_units_scale_the_barycenter(unit):
    inputs, shares = clouds(2, 2)
    usual = gw.barycenter(inputs, shares, 4, solver=QUICK)
    scaled = [gw.DenseSpace(unit * s.distances, s.weights) for s in inputs]
    found = gw.barycenter(scaled, shares, 4, solver=QUICK)
    assert found.space.distances / unit == pytest.approx(usual.space.distances)
    assert found.objective / unit / unit == pytest.approx(usual.objective)
    assert found.history[0].objective / unit / unit == pytest.approx(
        usual.history[0].objective
    )


def test_a_search_for_a_start_depends_on_the_seed_alone():
    inputs, shares = clouds(4, 3, least=6)

    def matrix(seed):
        return gw.barycenter(inputs, shares, 4, solver=QUICK, seed=seed).space.dense()

    assert np.array_equal(matrix(1), matrix(1))
    assert any(not np.array_equal(matrix(0), matrix(seed)) for seed in range(1, 6))


def test_a_start_gives_its_size_and_weights():
    inputs, shares = clouds(6, 2)
    start, _ = clouds(7, 1)
    middle = gw.barycenter(inputs, shares, init=start[0], solver=QUICK)
    assert np.array_equal(middle.space.weights, start[0].weights)
    largest = gw.barycenter(inputs, shares, solver=QUICK).space.size
    assert largest == max(space.size for space in inputs)


def test_spaces_of_one_atom_have_the_barycenter_of_their_numbers():
    middle = gw.barycenter([np.array([[2.0]]), np.array([[5.0]])], [0.75, 0.25], 2)
    assert middle.space.dense() == pytest.approx(np.full((2, 2), 2.75))
    assert middle.objective == pytest.approx(0.75 * 0.25 * 9)


def test_rounds_that_run_out_are_warned_of():
    inputs, shares = clouds(8, 3, least=6)
    with pytest.warns(gw.ConvergenceWarning, match="iterations ran out"):
        middle = gw.barycenter(inputs, shares, 6, max_iterations=1, solver=QUICK)
    assert middle.status is gw.Status.MAX_ITERATIONS
    assert len(middle.history) == 1
    assert middle.frank_wolfe_gap > 0


def test_an_interrupt_returns_the_best_so_far(monkeypatch):
    inputs, shares = clouds(8, 3, least=6)
    best_matrix = block_descent.best_matrix
    rounds = []

    def interrupting(*arguments):
        rounds.append(None)
        if len(rounds) > 2:
            raise KeyboardInterrupt
        return best_matrix(*arguments)

    monkeypatch.setattr(block_descent, "best_matrix", interrupting)
    with warnings.catch_warnings(action="error"):
        middle = gw.barycenter(inputs, shares, 6, solver=QUICK, starts=0)
    assert middle.status is gw.Status.STOPPED
    assert len(middle.history) == 2
    rounds.extend([None] * 3)
    with pytest.raises(KeyboardInterrupt):
        gw.barycenter(inputs, shares, 6, solver=QUICK, starts=0)


def test_it_prints_its_numbers():
    middle = gw.barycenter([1 - np.eye(2), 4 * (1 - np.eye(2))], [2 / 3, 1 / 3])
    assert "objective=1, status=STATIONARY" in repr(middle)
    text = str(middle)
    assert "Barycenter of 2 spaces, 2 atoms" in text
    assert "1  (mean GW_2^2 of the plans)" in text
    assert middle.status.value in text
