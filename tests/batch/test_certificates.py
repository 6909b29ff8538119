"""Certificates of many problems: each is rounded as the formulas for one do.

At a large unit of float error, where every term shows.
"""

import math

import numpy as np
import pytest
import scipy.sparse

import gwtools as gw
from gwtools.batch import certificates
from gwtools.batch.certificates import Summary
from gwtools.bounds import float_error, outward, transport_error
from gwtools.bounds.enclosures import EnclosedPair, Enclosure
from gwtools.bounds.float_error import Bound, Extent, Radii, gamma
from gwtools.bounds.moments import Moments
from gwtools.certify import certified_interval
from gwtools.results import Kind
from gwtools.transport.one_dimensional import comonotone
from tests.radii import numbers, some_extent, some_radii, stacked

SIZES = (3, 5, 4)


def profiles(seed, sizes, uniform=False):
    """Random numbers at the atoms, and at padding what must have no say."""
    rng, widest = np.random.default_rng(seed), max(sizes) + 1
    deviations, row_means = 50 * rng.standard_normal((2, len(sizes), widest))
    weights = np.zeros((len(sizes), widest))
    for place, size in enumerate(sizes):
        weights[place, :size] = (
            np.full(size, 1 / size) if uniform else rng.dirichlet(np.full(size, 3.0))
        )
        deviations[place, :size] = rng.standard_normal(size) + (
            3.0 if place == 1 else 0.0
        )
    mean, norm = rng.standard_normal(len(sizes)), rng.uniform(0.5, 2, len(sizes))
    return Moments(weights, row_means, deviations, mean, norm)


def some_sides(seed, sizes, uniform=False):
    radii = stacked(
        [some_radii(seed + place, size) for place, size in enumerate(sizes)]
    )
    extent = stacked([some_extent(seed + place) for place in range(len(sizes))])
    return Enclosure(
        profiles(seed, sizes, uniform), radii, extent, np.array(sizes) + seed
    )  # and as many roundings


def alone(side, place):
    """Deviations and weights of one problem's atoms, its radii and sizes of parts."""
    here = side.moments.weights[place] > 0
    radii = Radii(*numbers(side.radii, place))
    extent = Extent(*numbers(side.extent, place))
    return (
        side.moments.deviations[place][here],
        side.moments.weights[place][here],
        radii,
        extent,
    )


@pytest.fixture
def both():
    return some_sides(20, SIZES), some_sides(40, (4, 2, 6))


def mixed_spaces(rng):
    edges = scipy.sparse.csr_array(np.array([[0, 0.1, 0], [0.1, 0, 0.3], [0, 0.3, 0]]))
    matrix = rng.standard_normal((5, 5))
    return [
        gw.GraphSpace(edges, np.array([0.2, 0.3, 0.5])),
        gw.DenseSpace(matrix + matrix.T, rng.dirichlet(np.ones(5))),
        gw.PointCloud(rng.standard_normal((4, 7)), rng.dirichlet(np.ones(4))),
    ]


def test_sides(coarse, rng):
    spaces, profile = mixed_spaces(rng), profiles(3, SIZES)
    low, high, skew = (
        np.array([-0.2, -2.7, 0.1]),
        np.array([1.3, 1.9, 2.2]),
        np.array([0.01, 0.002, 0.03]),
    )
    found = certificates.enclosures(spaces, Summary(profile, low, high, skew))
    assert found.moments is profile
    assert found.operations.tolist() == [
        3,
        0,
        11,
    ]  # of paths, of a stored matrix, of distances
    for place, (size, roundings) in enumerate([(3, 3), (5, 0), (4, 11)]):
        largest = max(high[place], -low[place]) * (1 + gamma(roundings + 2))
        omega = abs(sum(profile.weights[place].tolist()) - 1) / 2.0**-20 + 6 + 4
        radii = float_error.dense_radii(
            size, omega, roundings, largest, skew[place] if place == 1 else 0.0
        )
        assert numbers(found.radii, place) == pytest.approx(numbers(radii), rel=1e-13)
        mean, alpha = (
            float(profile.mean[place]),
            profile.deviations[place, :size].tolist(),
        )
        spread = max(high[place] - mean, mean - low[place])
        extent = float_error.dense_extent(max(abs(v) for v in alpha), spread, radii)
        assert numbers(found.extent, place) == pytest.approx(numbers(extent), rel=1e-13)


@pytest.mark.parametrize("steps", [0, 1, -3, 40])
def test_terms_of_weights_count_the_rounding_of_their_sum(steps):
    """Sums of stacks may be made in any order: a term more for each padded atom."""
    weights = np.array([[0.5, 0.25, 0.125, 0.125, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]]) * (
        1 + steps * 2.0**-52
    )
    off = abs(steps) * 2.0
    assert float_error.weight_terms(weights).tolist() == [off + 5 + 4] * 2


def test_fields_are_named_as_they_are_read(rng):
    fields = list(range(8))
    known = certificates.summary(fields)
    assert known == Summary(Moments(0, 1, 2, 3, 4), 5, 6, 7)


def test_means_apart_and_largest_values(both):
    x, y = both
    for place in range(3):
        apart = abs(float(x.moments.mean[place]) - float(y.moments.mean[place]))
        assert EnclosedPair(x, y).mean_gap[place] == pytest.approx(apart, rel=1e-15)
        (_, _, of_x, size_x), (_, _, of_y, size_y) = alone(x, place), alone(y, place)
        largest = float_error.max_difference(apart, of_x, of_y, size_x, size_y)
        assert EnclosedPair(x, y).largest[place] == pytest.approx(largest, rel=1e-13)


def line(x, y, place):
    (alpha, a, of_x, _), (beta, b, of_y, _) = alone(x, place), alone(y, place)
    return transport_error.transport_on_line(
        alpha, a, beta, b, 2.0, max(of_x.weights, of_y.weights)
    )


def test_ends_are_those_of_atoms(both):
    for side in both:
        low, high, number = float_error.extremes(
            side.moments.deviations, side.moments.weights
        )
        for place in range(3):
            alpha = alone(side, place)[0]
            assert (low[place], high[place], number[place]) == (
                alpha.min(),
                alpha.max(),
                len(alpha),
            )


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2, 4), SIZES])
@pytest.mark.parametrize("uniform", [False, True])
def test_transports_on_the_line(coarse, uniform, sizes, given):
    x, y = some_sides(20, SIZES, uniform), some_sides(40, sizes, uniform)
    lists = (
        x.moments.deviations,
        x.moments.weights,
        y.moments.deviations,
        y.moments.weights,
    )
    found = EnclosedPair(x, y).additive_transport(comonotone(*lists) if given else None)
    for place in range(3):
        assert numbers(found, place) == pytest.approx(
            numbers(line(x, y, place)), rel=1e-12
        )


@pytest.mark.parametrize("given", [False, True])
def test_certificates(coarse, both, given):
    x, y = both
    value, upper = np.array([30.7, 0.9, 50.3]), np.array([31.0, 40.0, 50.4])
    asked = np.array([100.0, 1e-9, 0.3])
    atoms = comonotone(
        x.moments.deviations, x.moments.weights, y.moments.deviations, y.moments.weights
    )
    found = certificates.certify(
        EnclosedPair(x, y), Bound(value, 0.0, upper), asked, atoms if given else None
    )
    kinds = []
    for place in range(3):
        (_, _, of_x, _), (_, _, of_y, _) = alone(x, place), alone(y, place)
        apart, largest = (
            EnclosedPair(x, y).mean_gap[place],
            EnclosedPair(x, y).largest[place],
        )
        norms = [math.sqrt(s.moments.residual_norm_squared[place]) for s in (x, y)]
        row_means, norm, a_priori = outward.additive_bounds(
            apart, line(x, y, place), norms, of_x, of_y
        )
        roundings = max(float(x.operations[place]), float(y.operations[place]))
        wanted = outward.interval_width(
            max(row_means.lower, norm.lower), largest, roundings, of_x, of_y
        )
        certificate = found[place].certificate
        assert list(certificate.bounds) == ["row_means", "norm"]
        assert certificate.bounds["row_means"] == pytest.approx(
            row_means.lower, rel=1e-12
        )
        assert certificate.bounds["norm"] == pytest.approx(norm.lower, rel=1e-12)
        assert (
            certificate.lower
            == max(certificate.bounds.values())
            == certificate.bounds[certificate.bound]
        )
        assert certificate.a_priori == pytest.approx(a_priori, rel=1e-12)
        assert certificate.rounding == pytest.approx(wanted, rel=1e-12)
        assert certificate.upper == math.nextafter(upper[place], math.inf)
        closed = certificate.gap <= max(certificate.rounding, asked[place])
        assert certificate.kind is (Kind.GLOBAL if closed else Kind.BRACKET)
        assert certificate.tolerance == (
            certificate.rounding
            if certificate.gap <= wanted
            else max(certificate.rounding, asked[place])
        )
        assert found[place].objective == pytest.approx(
            max(value[place], norm.lower, row_means.lower), rel=1e-12
        )
        assert found[place].distance == pytest.approx(
            found[place].objective ** 0.5, rel=1e-13
        )
        kinds.append(certificate.kind)
    assert set(kinds) == {Kind.GLOBAL, Kind.BRACKET}


@pytest.mark.parametrize("of_plan", [True, False])
def test_ends_of_intervals_are_rounded_outward(of_plan):
    """To the next float each, nothing below 0, and a 0 of copies stays one."""
    row_means, norm = (0.7, 1.3, -0.2, 0.0), (0.6, 1.4, 0.0, 0.0)
    upper = [
        Bound(value, 0.0, high)
        for value, high in ((1.0, 1.1), (1.2, 1.6), (0.1, 0.2), (0.0, 0.0))
    ]
    prior, rounding, asked = (
        (1e-30, 4.0, 5.0, 6.0),
        (0.1, 0.3, 0.01, 0.02),
        (0.5, 0.1, 0.1, 0.0),
    )
    lows, highs = (
        [math.nextafter(0.7, 0), math.nextafter(1.4, 0), 0.0, 0.0],
        [1.1, 1.6, 0.2, 0.0],
    )
    proofs = []
    for i in range(4):
        bounds = {"row_means": row_means[i], "norm": norm[i]}
        found = certified_interval(
            bounds, upper[i], prior[i], rounding[i], asked[i], of_plan=of_plan
        )
        proof = found.certificate
        proofs.append(proof)
        assert proof.lower == lows[i]
        assert proof.bound == ("row_means", "norm", "row_means", "row_means")[i]
        assert proof.upper == (math.nextafter(highs[i], math.inf) if highs[i] else 0.0)
        # What the bound itself is rounded down by is added.
        assert proof.a_priori == math.nextafter(prior[i], math.inf) + 2 * math.ulp(
            proof.bounds["norm"]
        )
        assert proof.rounding == math.nextafter(rounding[i], math.inf)
        assert found.objective == (1.0, 1.4, 0.1, 0.0)[i]
        assert found.distance == found.objective**0.5
        assert proof.bounds["norm"] == (math.nextafter(norm[i], 0) if i < 2 else 0.0)
    open_ended = Kind.BRACKET if of_plan else Kind.LOWER
    assert [p.kind for p in proofs] == [
        Kind.GLOBAL,
        Kind.GLOBAL,
        open_ended,
        Kind.GLOBAL,
    ]
    assert [p.tolerance for p in proofs] == [
        0.5,
        proofs[1].rounding,
        0.1,
        proofs[3].rounding,
    ]


def missed(plan_rows, plan_cols, x, y, place, sums):
    """Of one problem, from the sums of its plan."""
    (_, a, of_x, _), (_, b, of_y, _) = alone(x, place), alone(y, place)
    rows = sum(abs(r - w) for r, w in zip(plan_rows[: len(a)], a, strict=True))
    cols = sum(abs(c - w) for c, w in zip(plan_cols[: len(b)], b, strict=True))
    return outward.missed_mass(rows, cols, sums, of_x, of_y)


def test_sorting_couplings(coarse, both):
    x, y = both
    plan = comonotone(
        x.moments.deviations, x.moments.weights, y.moments.deviations, y.moments.weights
    )
    plan = plan._replace(
        mass=plan.mass
        * (1 + 0.01 * np.random.default_rng(2).uniform(-1, 1, plan.mass.shape))
    )
    value = np.array([0.7, 1.3, 0.2])
    found = certificates.of_atoms(EnclosedPair(x, y), plan, value)
    assert found.value is value
    assert found.lower == 0.0
    for place in range(3):
        rows, cols = np.zeros(9), np.zeros(9)
        np.add.at(rows, plan.rows[place], plan.mass[place])
        np.add.at(cols, plan.cols[place], plan.mass[place])
        count = int((plan.mass[place] > 0).sum())
        (_, _, of_x, _), (_, _, of_y, _) = alone(x, place), alone(y, place)
        moved = missed(rows, cols, x, y, place, count)
        wanted = outward.squares_upper(
            value[place], count, moved, EnclosedPair(x, y).largest[place], of_x, of_y
        )
        assert found.upper[place] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 0.9, 1.1])
def test_couplings_of_equal_weights_miss_nothing(coarse, factor):
    """Their masses, rounded by a factor, stand for the weights.

    So in the first and the third problem, and not in the second.
    """
    x, y = some_sides(20, SIZES, True), some_sides(40, (3, 2, 4), True)
    plan = comonotone(
        x.moments.deviations, x.moments.weights, y.moments.deviations, y.moments.weights
    )
    plan = plan._replace(mass=factor * plan.mass)
    value = np.array([0.7, 1.3, 0.2])
    found = certificates.of_atoms(EnclosedPair(x, y), plan, value)
    for place, matched in enumerate((True, False, True)):
        rows, cols = np.zeros(9), np.zeros(9)
        np.add.at(rows, plan.rows[place], plan.mass[place])
        np.add.at(cols, plan.cols[place], plan.mass[place])
        count = int((plan.mass[place] > 0).sum())
        (_, _, of_x, _), (_, _, of_y, _) = alone(x, place), alone(y, place)
        missing = 0.0 if matched else missed(rows, cols, x, y, place, count)
        meant = value[place] / factor**2 if matched else value[place]
        largest = EnclosedPair(x, y).largest[place]
        wanted = [
            outward.squares_upper(v, count, missing, largest, of_x, of_y)
            for v in (meant, value[place])
        ]
        assert found.upper[place] == pytest.approx(max(wanted), rel=1e-12)


def test_matrices(coarse, both):
    x, y = both
    plan = x.moments.weights[:, :, None] * y.moments.weights[:, None, :]
    plan = plan * (1 + 0.01 * np.random.default_rng(2).uniform(-1, 1, plan.shape))
    value = np.array([0.7, 1.3, 0.2])
    found = certificates.of_matrices(EnclosedPair(x, y), plan, value)
    assert found.value is value
    assert found.lower == 0.0
    sums = plan.shape[1] + plan.shape[2]
    assert plan.shape[1] != plan.shape[2]
    for place in range(3):
        (_, _, *of_x), (_, _, *of_y) = alone(x, place), alone(y, place)
        moved = missed(plan[place].sum(1), plan[place].sum(0), x, y, place, sums)
        apart = EnclosedPair(x, y).mean_gap[place]
        largest = EnclosedPair(x, y).largest[place]
        wanted = outward.parts_upper(
            value[place],
            sums,
            moved,
            apart,
            largest,
            of_x[0],
            of_y[0],
            of_x[1],
            of_y[1],
        )
        assert found.upper[place] == pytest.approx(wanted, rel=1e-12)
