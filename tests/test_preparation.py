"""Preparation: spaces before they are computed with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.preparation import prepare
from tests.strategies import coupled, pairs


@given(coupled(null=True))
def test_prepare_changes_nothing_but_null_atoms(instance):
    x, y, _ = instance
    given_spaces = x.space(), y.space()
    ready, constants = prepare(*given_spaces), []
    assert ready.unit == 1.0
    for drawn, before, space, atoms in zip(
        (x, y), given_spaces, (ready.x, ready.y), ready.atoms, strict=True
    ):
        kept = np.flatnonzero(drawn.weights > 0)
        assert np.array_equal(space.weights, before.weights[kept])
        assert (atoms is None) == (len(kept) == drawn.size)
        assert atoms is None or np.array_equal(atoms, kept)
        constants.append(drawn.matrix[kept[0], kept[0]] - space.dense()[0, 0])
        assert np.allclose(
            space.dense() + constants[-1],
            drawn.matrix[np.ix_(kept, kept)],
            rtol=1e-13,
            atol=1e-13,
        )
    assert constants[0] == pytest.approx(constants[1], abs=1e-13)
    assert x.kind == y.kind == "dense" or constants[0] == pytest.approx(0, abs=1e-13)


@given(pairs(generic=True, least=2), st.sampled_from([1e150, 1e-150, 1e80, 1e-80]))
def test_prepare_brings_extreme_units_to_one(pair, factor):
    x, y = (s.scaled(factor) for s in pair)
    ready = prepare(x.space(), y.space())
    exponent = np.log2(ready.unit)
    assert exponent == int(exponent)
    assert int(exponent) % 2 == 0
    largest = max(ready.x.largest(), ready.y.largest())
    assert 0.9 <= largest <= 4.1
    for drawn, space in ((x, ready.x), (y, ready.y)):
        assert np.allclose(
            np.asarray(space.dense()) * ready.unit,
            drawn.matrix,
            rtol=1e-10,
            atol=1e-12 * factor,
        )
