"""Spaces of points: digits far from the origin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests.spaces.test_base import largest
from tests.strategies import spaces


@given(spaces(kinds=("euclidean", "sqeuclidean")), st.sampled_from([1e3, 1e6]))
def test_clouds_far_from_the_origin_keep_their_digits(drawn, far):
    """Centring loses nothing but what adding the offset itself has rounded away."""
    # Multiples of 2⁻¹⁰, to which the offset is added exactly.
    near = np.round(drawn.data * 2**10) / 2**10
    points = near + far * 2.0
    moved = gw.PointCloud(points, drawn.weights, metric=drawn.kind)
    home = gw.PointCloud(points - far * 2.0, drawn.weights, metric=drawn.kind)
    scale = max(1.0, largest(drawn))
    for name in ("row_means", "deviations", "mean"):
        change = np.abs(getattr(moved, name) - getattr(home, name))
        assert change.max() <= 1e-12 * scale
    change = moved.residual_norm_squared() - home.residual_norm_squared()
    assert abs(float(change)) <= 1e-12 * scale**2
