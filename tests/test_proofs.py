"""Proofs that are kept: both ends again from them, and proofs tampered with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import proofs
from tests import checkers
from tests.strategies import coupled, pairs

NAMES = sorted(set(proofs.CLOSED_FORMS) - {"rank_one"})


def size(x, y):
    return max(np.abs(x.matrix).max(), np.abs(y.matrix).max(), 1e-300) ** 2


@pytest.mark.parametrize("name", NAMES)
@given(pairs(null=True))
def test_closed_forms_are_those_of_the_bounds(name, pair):
    x, y = pair
    C, a, _ = proofs._matrix(x.space())
    D, b, _ = proofs._matrix(y.space())
    found = proofs.CLOSED_FORMS[name](proofs.Values(C, a, D, b))
    expected = float(getattr(gw.bounds, name)(x.space(), y.space()))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-10 * size(x, y))


@given(st.data())
def test_rank_one_is_that_of_the_bounds(data):
    def factor():
        entries = st.integers(-8, 8).map(float)
        row = data.draw(st.lists(entries, min_size=1, max_size=4))
        return np.array([row])

    x = gw.GramSpace(factor())
    y = gw.GramSpace(factor())
    certificate = gw.certify(x, y, keep_proof=True)
    assert "rank_one" in certificate.bounds
    assert certificate.verify(x, y).agrees
    values = proofs.Values(*proofs._matrix(x)[:2], *proofs._matrix(y)[:2])
    expected = float(gw.bounds.rank_one(x, y))
    assert proofs.CLOSED_FORMS["rank_one"](values) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


@settings(max_examples=60)
@given(coupled(null=True))
def test_theorem_15_proofs_are_computed_again(instance):
    x, y, plan = instance
    certificate = gw.certify(
        x.space(), y.space(), plan, effort="quartic", keep_proof=True
    )
    again = certificate.verify(x.space(), y.space())
    slack = 1e-9 * size(x, y)
    assert again.agrees
    assert again.lower == pytest.approx(certificate.bounds[again.bound], abs=slack)
    objective = checkers.objective(x.matrix, y.matrix, plan)
    assert again.upper == pytest.approx(objective, rel=1e-9, abs=slack)


@pytest.fixture
def instance():
    rng = np.random.default_rng(0)
    x = gw.PointCloud(rng.standard_normal((7, 2)), rng.dirichlet(np.ones(7)))
    y = gw.PointCloud(rng.standard_normal((6, 3)), rng.dirichlet(np.ones(6)))
    plan = gw.solve(x, y).plan
    certificate = gw.certify(x, y, plan, effort="quartic", keep_proof=True)
    assert certificate.bound == "reformulation"
    assert certificate.verify(x, y).agrees
    return x, y, certificate


@pytest.mark.parametrize("name", ["first", "second", "inner", "outer"])
def test_tampered_multipliers_prove_less(instance, name):
    x, y, certificate = instance
    arrays = dict(certificate.proof.arrays["reformulation"])
    rng = np.random.default_rng(1)
    arrays[name] = arrays[name] + 0.1 * rng.standard_normal(arrays[name].shape)
    proof = replace(certificate.proof, arrays={"reformulation": arrays})
    again = replace(certificate, proof=proof).verify(x, y)
    assert not again.agrees
    # What they prove is a bound in any case.
    assert again.lower <= certificate.upper


@pytest.mark.parametrize("end", ["bound", "lower", "upper"])
def test_ends_that_claim_more_do_not_agree(instance, end):
    x, y, certificate = instance
    if end == "lower":
        claimed = replace(certificate, lower=1.001 * certificate.lower)
    elif end == "bound":
        bounds = certificate.bounds | {"reformulation": 1.001 * certificate.lower}
        claimed = replace(certificate, bounds=bounds)
    else:
        claimed = replace(certificate, upper=0.999 * certificate.upper)
    assert not claimed.verify(x, y).agrees
    assert str(claimed.verify(x, y)).endswith("does not agree")


@pytest.mark.parametrize("name", ["reformulation", "semidefinite"])
def test_tensors_are_charged_whatever_they_are(instance, name):
    x, y, certificate = instance
    n, m = x.size, y.size
    arrays = certificate.proof.arrays["reformulation"]
    below = np.triu(-np.ones((n * m, n * m)), 1)
    for tensor in (-np.ones((n * m, n * m)), below, below.T):
        kept = arrays | {"tensor": tensor.reshape(n, m, n, m)}
        bounds = {"norm": 0.0, name: 0.0}
        proof = replace(certificate.proof, arrays={name: kept})
        again = replace(certificate, bounds=bounds, lower=0.0, proof=proof)
        assert again.verify(x, y).lower <= certificate.upper


def test_bounds_that_are_not_computed_again_are_below_the_plan(instance):
    x, y, certificate = instance
    claimed = 1.001 * certificate.upper
    bounds = certificate.bounds | {"third": claimed}
    false = replace(certificate, bounds=bounds, lower=claimed, bound="third")
    assert not false.verify(x, y).agrees


def test_proofs_of_other_spaces_are_refused_or_do_not_agree(instance):
    x, y, certificate = instance
    with pytest.raises(ValueError, match="x and y must be the spaces"):
        certificate.verify(y, x)
    other = gw.PointCloud(1.1 * x.points, x.weights)
    assert not certificate.verify(other, y).agrees


def test_certificates_without_proof_are_not_verified():
    one = np.ones((2, 2))
    with pytest.raises(ValueError, match="must keep its proof to be verified"):
        gw.certify(one, one).verify(one, one)


def test_proofs_survive_a_file(instance, tmp_path):
    x, y, certificate = instance
    path = tmp_path / "certificate.npz"
    certificate.save(path)
    loaded = gw.Certificate.load(path)
    assert loaded == certificate
    assert loaded.seconds == certificate.seconds
    assert loaded.verify(x, y) == certificate.verify(x, y)
    result = replace(gw.solve(x, y), certificate=certificate)
    result.save(path)
    assert gw.GWResult.load(path).certificate.verify(x, y).agrees
    with pytest.raises(ValueError, match="must hold a Certificate"):
        gw.Certificate.load(path)


def test_proofs_stay_as_they_are_where_results_are_read_in_other_arrays(tmp_path):
    rng = np.random.default_rng(6)
    x, y = (gw.PointCloud(p, metric="sqeuclidean") for p in rng.random((2, 6, 2)))
    result = gw.solve(x, y, gw.BranchAndBound(keep_proof=True))
    path = tmp_path / "result.npz"
    result.save(path)
    loaded = gw.GWResult.load(path, like=torch.zeros(1, dtype=torch.float32))
    proof = loaded.certificate.proof
    assert proof.plan.masses.dtype == torch.float32
    assert proof.branches.slopes.dtype == np.float64
    assert loaded.certificate.verify(x, y).agrees


def test_proofs_of_other_libraries_are_read(instance):
    x, y, certificate = instance
    of_torch = [
        gw.PointCloud(torch.as_tensor(s.points), torch.as_tensor(s.weights))
        for s in (x, y)
    ]
    assert certificate.verify(*of_torch).agrees


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [(np.float32, 1.0), (np.float32, 1e-9), (np.float32, 1e9), (np.float16, 1.0)],
)
def test_proofs_of_narrow_dtypes_are_of_the_stored_values(dtype, unit):
    rng = np.random.default_rng(3)

    def cloud(n):
        points = (unit**0.5 * rng.standard_normal((n, 2))).astype(dtype)
        weights = rng.dirichlet(np.ones(n)).astype(dtype)
        return gw.PointCloud(points, weights, metric="sqeuclidean")

    x, y = cloud(6), cloud(5)
    solver = gw.BranchAndBound(keep_proof=True)
    solved = gw.solve(x, y, solver).certificate
    plan = gw.solve(x, y, gw.ConditionalGradient()).plan
    certified = gw.certify(x, y, plan, effort="quartic", keep_proof=True)
    for certificate in (solved, certified):
        again = certificate.verify(x, y)
        assert again.agrees
        # Half precision is converted, and a tree of the converted values not believed.
        if certificate is certified or dtype is np.float32:
            assert again.bound == "branch_and_bound"
        # 1e-9 of the value would not be reached from values in single precision.
        claimed = certificate.bounds[again.bound]
        assert again.lower == pytest.approx(claimed, rel=1e-9)


def test_proofs_of_features_with_an_offset_agree():
    rng = np.random.default_rng(1)
    x = gw.GramSpace(1e2 + rng.standard_normal((2, 3)))
    y = gw.GramSpace(1e2 + rng.standard_normal((2, 3)))
    solver = gw.BranchAndBound(keep_proof=True)
    certificate = gw.solve(x, y, solver).certificate
    again = certificate.verify(x, y)
    assert again.bound == "branch_and_bound"
    assert again.agrees
    claimed = replace(certificate, bounds={again.bound: again.lower + 1e-2})
    assert not claimed.verify(x, y).agrees


def test_the_upper_end_of_a_copy_is_that_of_the_matching():
    rng = np.random.default_rng(4)
    points = rng.standard_normal((4, 3)).astype(np.float32)
    weights = rng.dirichlet(np.ones(4)).astype(np.float32)
    order = rng.permutation(4)
    x = gw.PointCloud(points, weights)
    y = gw.PointCloud(points[order], weights[order])
    # Masses off by a float error are that matching's, whose objective is exactly 0.
    mass = weights[order] * np.float32(1 + 3e-7)
    plan = gw.SparsePlan(order, np.arange(4), mass, (4, 4))
    certificate = gw.certify(x, y, plan, keep_proof=True)
    assert certificate.upper == 0.0
    again = certificate.verify(x, y)
    assert again.agrees
    assert again.upper == 0.0


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("size", [1e-162, 1e-157, 1e-80, 1e70])
def test_proofs_of_any_unit_agree(size, metric):
    rng = np.random.default_rng(2)
    # Squares of the smaller cloud may be none of float64.
    x = gw.PointCloud(size * 1e-4 * rng.random((4, 2)), rng.dirichlet(np.ones(4)))
    y = gw.PointCloud(size * rng.random((3, 3)), metric=metric)
    plan = np.outer(x.weights, y.weights)
    for effort in ("cubic", "quartic"):
        certificate = gw.certify(x, y, plan, effort=effort, keep_proof=True)
        again = certificate.verify(x, y)
        assert again.agrees
        assert again.lower == pytest.approx(certificate.lower, rel=1e-3, abs=1e-318)
        assert again.upper == pytest.approx(certificate.upper, rel=1e-9, abs=1e-318)


def test_the_upper_end_is_that_of_the_nearest_coupling():
    rng = np.random.default_rng(5)
    x = gw.DenseSpace(1 - np.eye(3), rng.dirichlet(np.ones(3)))
    y = gw.DenseSpace(1 - np.eye(4), rng.dirichlet(np.ones(4)))
    plan = np.outer(x.weights, y.weights)
    # What is missing is charged, and added where the end is computed again.
    lighter = plan * (1 - 4e-4 * rng.random(plan.shape))
    certificate = gw.certify(x, y, lighter, keep_proof=True)
    again = certificate.verify(x, y)
    assert again.agrees
    nearest = gw.round_plan(gw.DensePlan(lighter / lighter.sum()), x.weights, y.weights)
    objective = checkers.objective(x.dense(), y.dense(), nearest.dense())
    assert again.upper == pytest.approx(objective, rel=1e-12)
    assert again.upper < certificate.upper
