"""Records of searches: what they count, print, rescale and store."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests.strategies import pairs

MADE = (
    gw.Start("product coupling", 3.0, 4, 0.5, False, False),
    gw.Start("third bound", 1.0, 2, 0.25, True, True),
    gw.Start("random vertex 1", 1.0 + 1e-12, 7, 0.5, True, False),
)
STARTS = gw.Starts(MADE)


def test_a_sequence_of_starts():
    assert len(STARTS) == 3
    assert list(STARTS) == list(MADE)
    assert STARTS[0] is MADE[0]
    assert STARTS[-1] is MADE[2]
    with pytest.raises(IndexError):
        STARTS[3]
    assert STARTS.best is MADE[1]
    assert STARTS.reached == 2
    assert STARTS.left_out == ""


def test_printed():
    assert str(STARTS) == "best of 3 starts; 2 reached it"
    assert str(gw.Starts(MADE[1:2])) == "best of 1 start; 1 reached it"
    large = gw.Starts(MADE, "eigenvectors, annealing")
    assert str(large) == (
        "best of 3 starts; 2 reached it (left out at this size: "
        "eigenvectors, annealing)"
    )


@pytest.mark.parametrize("factor", [1.0, 0.25, 4.0, 2.0**500, 2.0**-500])
def test_objectives_in_other_units(factor):
    scaled = STARTS.scaled(factor)
    assert isinstance(scaled, gw.Starts)
    for start, before in zip(scaled, MADE, strict=True):
        assert start == before._replace(objective=before.objective * factor * factor)
    assert list(STARTS) == list(MADE)
    assert gw.Starts(MADE, "annealing").scaled(factor).left_out == "annealing"


def test_factors_whose_squares_overflow():
    small = gw.Starts((MADE[1]._replace(objective=2.0**-1000),))
    assert small.scaled(2.0**600).best.objective == 2.0**200
    assert small.scaled(1.0).best.objective == 2.0**-1000
    none = gw.Starts((MADE[1]._replace(objective=math.inf),))
    assert none.scaled(2.0**-600).best.objective == math.inf


def spaces(unit=1.0, n=6, m=8):
    rng = np.random.default_rng(2)
    sides = []
    for size in (n, m):
        points = rng.standard_normal((size, 2))
        C = np.abs(points[:, None] - points).sum(-1) * unit
        sides.append(gw.DenseSpace(C, rng.dirichlet(np.full(size, 3.0))))
    return sides


@pytest.mark.parametrize("power", [-400, -330, 330, 400])
def test_results_hold_objectives_in_the_units_of_the_spaces(power):
    """About 1e±100 and 1e±120, whose fourth powers have no numbers."""
    unit = 2.0**power
    expected = gw.solve(*spaces(), gw.MultiStart(starts=9)).starts
    result = gw.solve(*spaces(unit), gw.MultiStart(starts=9))
    assert [start.name for start in result.starts] == [s.name for s in expected]
    for start, other in zip(result.starts, expected, strict=True):
        assert start.objective == pytest.approx(other.objective * unit**2, rel=1e-9)
        assert (start.reached, start.won) == (other.reached, other.won)
    assert str(result.starts) == str(expected)
    best = result.starts.best.objective
    assert best == pytest.approx(float(result.objective), rel=1e-12)


def test_results_print_their_starts():
    result = gw.solve(*spaces(), gw.MultiStart(starts=5))
    line = f"starts       {result.starts}"
    assert line in str(result)
    assert str(result.starts) in result._repr_html_()
    assert str(result.starts).startswith("best of 5 starts; ")
    assert "  starts  " not in str(gw.solve(*spaces(), gw.ConditionalGradient()))


@settings(max_examples=30)
@given(pairs(null=True), st.integers(1, 8))
def test_counts_of_results(pair, number):
    x, y = (side.space() for side in pair)
    starts = gw.solve(x, y, gw.MultiStart(starts=number)).starts
    counted = [start.reached for start in starts if start.independent or start.won]
    assert starts.reached == sum(counted)
    assert 1 <= starts.reached <= len(starts) <= number
    assert starts.best.won
    assert starts.best.reached
    assert all(isinstance(start, gw.Start) for start in starts)


def test_results_with_starts_are_stored(tmp_path):
    result = gw.solve(*spaces(), gw.MultiStart(starts=7))
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert isinstance(loaded.starts, gw.Starts)
    assert loaded.starts == result.starts
    assert isinstance(loaded.starts[0], gw.Start)
    assert loaded.starts.best == result.starts.best
    assert str(loaded) == str(result)


@pytest.mark.parametrize("left_out", ["", "eigenvectors, annealing"])
def test_all_fields_are_stored(tmp_path, left_out):
    import dataclasses

    result = gw.solve(*spaces(), gw.ConditionalGradient())
    starts = gw.Starts((*MADE, MADE[0]._replace(objective=math.inf)), left_out)
    result = dataclasses.replace(result, starts=starts)
    result.save(tmp_path / "result.npz")
    assert gw.GWResult.load(tmp_path / "result.npz").starts == starts
