"""Gromov-Wasserstein between Gaussian laws, by their moments alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces, _words
from gwtools._array import Array, NumpyArray
from gwtools.spaces import GramSpace, PointCloud, Space, converted


@dataclass(frozen=True, eq=False)
class GaussianDistance:
    """The least objective of Gaussian couplings of two Gaussian laws.

    Attributes
    ----------
    objective : 0-d array
        Of the best Gaussian coupling of the two Gaussians, in squared units of C. For
        data it is an estimate, and no bound: it is a value of the Gaussians that have
        the moments of the data.
    distance : 0-d array
        Its root, in units of C.
    map : array of shape (e, d)
        The matrix A of the best coupling: given a point p of x in d coordinates, the
        mean of its partner in e coordinates is ``mean_y + A @ (p − mean_x)``. Where A
        has the rank of the covariance of y, the partner is that point itself. The signs
        of principal axes are arbitrary, and any choice is optimal.
    mean_x, mean_y : arrays of shape (d,) and (e,)
        The means of both laws; zeros between Gram spaces.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> line = np.array([[-1.0], [0.0], [1.0]])
    >>> x, y = (gw.PointCloud(s * line, metric="sqeuclidean") for s in (1.0, 2.0))
    >>> found = gw.gaussian(x, y)
    >>> round(float(found.objective), 6), abs(found.map)
    (48.0, array([[2.]]))
    """

    objective: Array  # in squared units of C
    distance: Array  # in units of C
    map: Array  # (e, d)
    mean_x: Array  # (d,)
    mean_y: Array  # (e,)


def gaussian(x: Space, y: Space) -> GaussianDistance:
    """Compute GW_2 between the Gaussians with the moments of two spaces.

    Couplings are restricted to Gaussian ones, of which the best is known in closed
    form. With λ and μ the eigenvalues of both
    covariances in descending order, zeros appended to the shorter list, squared
    distances have 4 (Σ λ − Σ μ)² + 8 Σ (λ_i − μ_i)², and inner products, with those of
    second moments about 0, Σ (λ_i − μ_i)² (THEORY.md, "Gaussians").

    Parameters
    ----------
    x, y : PointCloud or GramSpace
        Two clouds with ``metric="sqeuclidean"``, or two Gram spaces, of d and e
        coordinates, with any weights.

    Returns
    -------
    GaussianDistance
        The value, and the map of the best coupling. Arrays are of the library, dtype
        and device of the spaces; objective and distance keep gradients.

    Raises
    ------
    TypeError
        If x and y are no two such spaces of one kind, or differ in array library, dtype
        or device.

    Notes
    -----
    For data that are no Gaussians the value is an *estimate* and no bound, neither of
    their GW_2 nor of that between the laws they were drawn from; use
    :func:`gwtools.certify` for bounds. O(n d² + d³), whatever the number of atoms: it
    compares large samples, and starts a comparison by its map. Between Gram spaces it
    is a lower bound all the same, as the objective there knows second moments alone; it
    is not rounded outward.

    Source: Delon, Desolneux and Salmon 2022, arXiv:2104.07970.

    Examples
    --------
    Two social networks of networkx, drawn by eigenvectors of their Laplacians, as
    ellipses.

    >>> import networkx as nx, numpy as np, gwtools as gw
    >>> graphs = nx.karate_club_graph(), nx.florentine_families_graph()
    >>> layouts = [nx.spectral_layout(graph).values() for graph in graphs]
    >>> points = [np.array(list(layout)) for layout in layouts]
    >>> x, y = (gw.PointCloud(each, metric="sqeuclidean") for each in points)
    >>> round(float(gw.gaussian(x, y).distance), 3)
    0.254

    A cloud and the same cloud, turned and moved, whose map is that motion or its
    mirror image.

    >>> rng = np.random.default_rng(0)
    >>> points = rng.standard_normal((500, 2)) * np.array([3.0, 1.0])
    >>> turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> x = gw.PointCloud(points, metric="sqeuclidean")
    >>> y = gw.PointCloud(points @ turn.T + 5.0, metric="sqeuclidean")
    >>> found = gw.gaussian(x, y)
    >>> bool(found.distance < 1e-6), bool(abs(np.linalg.det(found.map)) > 0.999)
    (True, True)
    """
    _check_spaces.same_moments(_kind(x), _kind(y))
    _check.same_kind(x.weights, y.weights, "x", "y")
    mean_x, moment_x = _moments(x)
    mean_y, moment_y = _moments(y)
    # 1. The value, by eigenvalues in descending order.
    first = _descending(moment_x)
    second = _descending(moment_y)
    size = max(first.shape[0], second.shape[0])
    xp = _array.namespace(first)
    differences = _array.padded(first, size) - _array.padded(second, size)
    objective = xp.sum(differences**2)
    if isinstance(x, PointCloud):
        traces = xp.sum(first) - xp.sum(second)
        objective = 4 * traces**2 + 8 * objective
    # 2. The map, in the dtype of the spaces like all else.
    arrays = (
        objective,
        _array.root(objective),
        _map(moment_x, moment_y),
        mean_x,
        mean_y,
    )
    return GaussianDistance(*[xp.astype(each, x.weights.dtype) for each in arrays])


def _kind(space: Any) -> str:
    """Say what a space is."""
    if isinstance(space, GramSpace):
        return "a Gram space"
    if isinstance(space, PointCloud):
        return f"a cloud with metric={space.kind!r}"
    return _words.shown(space)


def _moments(space: Space) -> tuple[Array, Array]:
    """Return the mean (d,) and the covariance (d, d); of a Gram space about 0."""
    space = converted(space, _array.at_least_single)
    a = space.weights
    if isinstance(space, GramSpace):
        factor = space.data  # (d, n)
        xp = _array.namespace(factor)
        return xp.zeros_like(factor[:, 0]), (factor * a) @ factor.T
    points = space.data  # (n, d)
    mean = a @ points
    centred = points - mean
    return mean, (centred.T * a) @ centred


def _descending(moment: Array) -> Array:
    """Return the eigenvalues (d,) of a positive semidefinite matrix, at least 0."""
    xp = _array.namespace(moment)
    return xp.clip(xp.flip(_array.eigenvalues(moment)), min=0.0)


def _map(moment_x: Array, moment_y: Array) -> Array:
    """Return the matrix (e, d) that takes principal axes to principal axes in order."""
    first, axes_x = _principal_axes(moment_x)
    second, axes_y = _principal_axes(moment_y)
    rank = min(len(first), len(second))
    # Axes of x along which its law does not spread lead nowhere.
    least = first[0] * _array.epsilon(moment_x) * len(first)
    spreads = first[:rank] > least
    squares = np.zeros(rank)
    np.divide(second[:rank], first[:rank], out=squares, where=spreads)
    stretched = axes_y[:, :rank] * np.sqrt(squares)
    return _array.from_numpy(stretched @ axes_x[:, :rank].T, moment_x)


def _principal_axes(moment: Array) -> tuple[NumpyArray, NumpyArray]:
    """Return eigenvalues (d,), descending, and eigenvectors (d, d), in float64."""
    matrix = _array.to_numpy(moment).astype(np.float64)
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]
