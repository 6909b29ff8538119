"""Soft paths: proximal steps that decide late, and end well below where they begin."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers.soft_paths import soft_path
from tests.solvers.test_unbalanced_shapes import drawn, value


@pytest.mark.parametrize("softness", [0.1, 0.5])
def test_paths_lower_the_value_and_keep_probabilities(softness):
    shapes, _, _, _ = drawn(1)
    product = np.outer(shapes.a, shapes.b)
    end = soft_path(shapes, product, softness)
    assert end.sum() == pytest.approx(1, abs=1e-12)
    assert end.min() > 0
    assert value(shapes, end) < value(shapes, product) - 1e-3


def test_pairs_without_mass_are_not_excluded():
    shapes, _, _, _ = drawn(2)
    first = np.zeros((len(shapes.a), len(shapes.b)))
    first[0, 0] = 1.0
    end = soft_path(shapes, first, 0.2)
    assert np.count_nonzero(end.sum(1) > 1e-3) > 1


def test_equal_values_leave_the_product_plan():
    x, y = gw.as_space(np.zeros((3, 3))), gw.as_space(np.zeros((2, 2)))
    result = gw.solve(x, y, marginals=gw.Unbalanced(0.5))
    assert np.allclose(np.asarray(result.plan), 1 / 6)
    assert float(result.objective) == pytest.approx(0, abs=1e-14)
