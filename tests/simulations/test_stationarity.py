"""The pairs on which solvers get stuck, and the independent judges of their plans."""

import json
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import gwtools as gw
from simulations import _report as report
from simulations import hard_families, stationarity
from tests import checkers

KNOWN = report.read_rows(hard_families.REFERENCE)


def symmetric(rng, n):
    values = rng.standard_normal((n, n))
    return values + values.T


def permutation_plan(image):
    plan = np.zeros((len(image), len(image)))
    plan[np.arange(len(image)), image] = 1 / len(image)
    return plan


def objective(C, D, image):
    return np.mean((C - D[np.ix_(image, image)]) ** 2)


def test_reference_has_twelve_seeds_of_every_family():
    found = {(row["family"], row["seed"]) for row in KNOWN}
    seeds = range(stationarity.FIRST_SEED, stationarity.FIRST_SEED + stationarity.SEEDS)
    assert found == {
        (family, seed) for family in hard_families.FAMILIES for seed in seeds
    }
    assert len(hard_families.FAMILIES) == 17
    assert len(KNOWN) == 204


@pytest.mark.parametrize("known", KNOWN[::12], ids=lambda known: known["family"])
def test_pairs_depend_on_their_seed_alone(known):
    family, seed = known["family"], known["seed"]
    pair, again, other = (hard_families.draw(family, s) for s in (seed, seed, seed + 1))
    C, D, planted = pair[:3]
    assert np.array_equal(C, again.C)
    assert np.array_equal(D, again.D)
    assert not np.array_equal(D, other.D)
    for matrix in (C, D):
        assert np.array_equal(matrix, matrix.T)
        assert np.all(np.isfinite(matrix))
        assert not np.any(np.diag(matrix))
        assert matrix.min() == 0.0
    assert np.array_equal(np.sort(planted), np.arange(len(C)))
    image = np.argsort(planted)
    assert objective(C, D, image) >= known["best"] * (1 - 1e-9)
    assert (
        ("relabelled" in family)
        == (known["best"] == 0.0)
        == (objective(C, D, image) == 0.0)
    )
    product = np.mean(C**2) + np.mean(D**2) - 2 * np.mean(C) * np.mean(D)
    assert product == pytest.approx(known["product"], rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (7, 7), (5, 9)])
def test_gap_is_that_of_the_derivative_and_the_best_vertex(rng, shape):
    n, m = shape
    C, D = symmetric(rng, n), 1e3 * symmetric(rng, m)
    plan = np.full(shape, 1 / (n * m))
    if n == m:
        plan = (plan + permutation_plan(rng.permutation(n))) / 2
    gap = stationarity.frank_wolfe_gap(C, D, plan)
    repeated = np.repeat(
        np.repeat(stationarity.gradient(C, D, plan), m, axis=0), n, axis=1
    )
    rows, cols = linear_sum_assignment(repeated)
    vertex = np.zeros(shape)
    np.add.at(vertex, (rows // m, cols // n), 1 / (n * m))
    assert gap == pytest.approx(
        np.vdot(stationarity.gradient(C, D, plan), plan - vertex), rel=1e-9
    )
    ahead, behind = (
        checkers.objective(C, D, plan + s * (vertex - plan)) for s in (1, -1)
    )
    assert gap == pytest.approx(
        (behind - ahead) / 2, rel=1e-9
    )  # exact, as the objective is quadratic


def test_gap_is_zero_at_an_isometry(rng):
    C = symmetric(rng, 6)
    image = rng.permutation(6)
    D = C[np.ix_(np.argsort(image), np.argsort(image))]
    assert stationarity.frank_wolfe_gap(C, D, permutation_plan(image)) <= 1e-12


@pytest.mark.parametrize("n", [2, 3, 8])
def test_swap_gain_is_that_of_all_exchanges(rng, n):
    C, D, image = symmetric(rng, n), symmetric(rng, n), rng.permutation(n)
    before, gains = objective(C, D, image), []
    for i, j in combinations(range(n), 2):
        swapped = image.copy()
        swapped[[i, j]] = swapped[[j, i]]
        gains.append(before - objective(C, D, swapped))
    assert stationarity.swap_gain(C, D, image) == pytest.approx(
        max(gains), rel=1e-9, abs=1e-12
    )
    assert max(gains) <= stationarity.scale(C, D) * 2


def test_images_are_those_of_permutations_alone(rng):
    image = rng.permutation(5)
    plan = permutation_plan(image)
    assert np.array_equal(stationarity.images(plan), image)
    assert stationarity.images(0.999 * plan + 0.001 / 25) is None
    assert stationarity.images(np.full((5, 5), 0.04)) is None
    assert stationarity.images(np.full((2, 3), 1 / 6)) is None


def test_saddle_gain_leaves_the_product_coupling_where_no_vertex_does():
    """Two disjoint edges against four isolated loops, by theorem 8 (d).

    3/8 at the product coupling, 1/4 at the minimum.
    """
    C, D = np.kron(np.eye(2), [[0.0, 1.0], [1.0, 0.0]]), np.eye(4)
    product = np.full((4, 4), 1 / 16)
    assert stationarity.frank_wolfe_gap(C, D, product) <= 1e-15
    gain = stationarity.saddle_gain(C, D)
    assert 0.01 < gain <= 3 / 8 - 1 / 4 + 1e-15
    judged = stationarity.judge(C, D, product, 1e-9)
    assert judged["saddle"] == pytest.approx(gain / 1e-9)
    assert judged["swap"] == ""
    assert stationarity.saddle_gain(np.eye(4), np.full((4, 4), 2.0)) <= 1e-15


def test_scale_is_the_most_that_a_plan_gains_on_the_product_coupling(rng):
    """An equality for proportional spaces under the norm bound (theorem 3, iv)."""
    C, other = symmetric(rng, 6), symmetric(rng, 8)
    for D, exact in ((7 * C + 3, True), (other, False)):
        product = float(
            gw.GWProblem(gw.DenseSpace(C), gw.DenseSpace(D)).product_objective
        )
        gain, most = product - float(gw.bounds.norm(C, D)), stationarity.scale(C, D)
        assert gain == pytest.approx(most, rel=1e-9) if exact else 0 < gain < most


def test_everything_is_written_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stationarity, "known_pairs", lambda first, count: KNOWN[:count])
    arguments = ["--out", str(tmp_path / "pairs"), "--quick"]
    assert stationarity.main(arguments) == 0
    folder = tmp_path / "pairs-quick"
    assert {path.name for path in folder.iterdir()} == {
        "trials.csv",
        "summary.csv",
        "meta.json",
        "stationarity.md",
    }
    trials = report.read_rows(folder / "trials.csv")
    assert [row["solver"] for row in trials] == list(stationarity.SOLVERS)
    for row in trials:
        assert 0 <= row["gap"] * row["success"] <= 1 + stationarity.ROUNDING
        assert row["over_best"] >= 1 - 1e-9
    assert (
        json.loads((folder / "meta.json").read_text())["seed"]
        == stationarity.FIRST_SEED
    )
    monkeypatch.setattr(stationarity, "measure", None)
    assert stationarity.main(arguments) == 0
    assert "2 solves are in" in capsys.readouterr().out


def test_seeds_without_a_reference_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        stationarity.main(["--out", str(tmp_path), "--seed", "0"])
    assert "100 to 111" in capsys.readouterr().err
