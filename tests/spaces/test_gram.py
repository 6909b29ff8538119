"""Spaces of inner products: a factor that may be transposed by mistake."""

import numpy as np
import pytest

import gwtools as gw


def test_a_factor_that_looks_transposed_warns():
    features = np.arange(15.0).reshape(5, 3)
    with pytest.warns(
        UserWarning,
        match=r"5 rows and 3 columns, and each column is an atom: pass factor.T",
    ) as warned:
        gw.GramSpace(features)
    assert [entry.filename for entry in warned] == [__file__]
    with pytest.raises(
        ValueError,
        match=r"for each of the 3 columns of factor, .* 5 rows: pass factor.T",
    ):
        gw.GramSpace(features, np.full(5, 1 / 5))


@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (1, 1), (1, 2)])
def test_no_other_factor_warns(shape):
    assert gw.GramSpace(np.ones(shape)).size == shape[1]


def test_weights_say_that_columns_are_atoms(rng):
    tall = rng.standard_normal((5, 3))
    stated = gw.GramSpace(tall, np.full(3, 1 / 3))
    with pytest.warns(UserWarning, match="each column is an atom"):
        plain = gw.GramSpace(tall)
    assert np.array_equal(stated.weights, plain.weights)
    # Spaces that are made of others have no doubt about it.
    assert stated.restrict(np.array([0, 1])).size == 2
    assert float(gw.solve(stated, stated.scaled(4.0)).objective) > 0
