"""Layouts: distances in the plane are those of the space, where it is flat."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.spaces.layout import in_square, positions
from tests import checkers
from tests.libraries import Library


@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_of_a_plane_keep_their_distances(name, dimensions):
    """Also where the plane lies in a space of more dimensions."""
    rng = np.random.default_rng(dimensions)
    library = Library(name, "float64")
    weights = rng.dirichlet(np.full(7, 3.0))
    points = rng.standard_normal((7, min(dimensions, 2)))
    turn, _ = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    wide = points @ turn[: points.shape[1]]
    C = checkers.euclidean(points)
    for space in (
        gw.PointCloud(library.array(wide), library.array(weights)),
        gw.DenseSpace(library.array(C), library.array(weights)),
    ):
        places = positions(space)
        assert places.shape == (7, 2)
        assert checkers.euclidean(places) == pytest.approx(C, abs=1e-7)


def test_a_layout_fills_a_square_of_side_one_and_one_atom_its_middle():
    places = in_square(np.array([[1.0, 5.0], [3.0, 6.0]]))
    assert places == pytest.approx(np.array([[0.0, 0.25], [1.0, 0.75]]))
    assert in_square(np.array([[7.0, 7.0]])) == pytest.approx(0.5)
