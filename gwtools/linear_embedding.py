"""Linear embedding: spaces as vectors, by their plans from one reference space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

from gwtools import _array, _check, _check_lists
from gwtools._array import Array
from gwtools.block_descent import best_matrix
from gwtools.preparation import restrict_to_support
from gwtools.solve import solve
from gwtools.solvers import Solver
from gwtools.spaces import Space, converted, detached, undirected_space
from gwtools.spaces.lists import read_spaces, require_one_kind, require_plain


@final
@dataclass(frozen=True, eq=False)
class LinearEmbedding:
    """Embed spaces as vectors, whose Euclidean distances approximate GW_2.

    Linear Gromov-Wasserstein: every space is compared with one reference alone, N
    problems in place of N (N − 1) / 2. A plan π from the reference, of weights a,
    carries the matrix of a space over to the reference's atoms, B = π C πᵀ / (a aᵀ),
    and matrices over the same atoms are compared entry by entry.

    Parameters
    ----------
    reference : Space or square array
        The reference, such as a barycenter (:func:`gwtools.barycenter`) of the spaces.
    solver : Solver, optional
        What finds the plans; by default as :func:`gwtools.solve` chooses.

    Raises
    ------
    TypeError, ValueError
        If the reference is no space, or the solver none.

    Notes
    -----
    The distance of two vectors is an *approximation* of GW_2 of their spaces and no
    bound. Where both plans are maps, so that each atom of the reference has one
    partner, it is an upper bound; the length of a vector is at most the distance of its
    plan to the reference, and equal to it where the plan is a map (THEORY.md, "Linear
    embedding"). Source: Beier, Beinert and Steidl 2022, arXiv:2112.11964.

    Examples
    --------
    Four trees of networkx against a path of six nodes: the path itself and its
    relabelled copy are at 0, the star is farther than the balanced tree of seven nodes.

    >>> import networkx as nx, numpy as np, gwtools as gw
    >>> path = nx.path_graph(6)
    >>> copy = nx.relabel_nodes(path, {i: (5 * i + 2) % 6 for i in range(6)})
    >>> graphs = [path, copy, nx.star_graph(5), nx.balanced_tree(2, 2)]
    >>> embedding = gw.LinearEmbedding(gw.GraphSpace(path))
    >>> vectors = embedding.transform([gw.GraphSpace(graph) for graph in graphs])
    >>> vectors.shape
    (4, 36)
    >>> np.linalg.norm(vectors, axis=1).round(3)
    array([0.   , 0.   , 1.247, 0.457])
    """

    reference: Any
    solver: Solver | None = None

    def __post_init__(self) -> None:
        # The class is frozen: its own constructor alone may complete a field.
        object.__setattr__(
            self, "reference", undirected_space(self.reference, "reference")
        )
        if self.solver is not None:
            advice = "pass an instance such as gwtools.MultiStart()"
            _check.instance(self.solver, "solver", Solver, advice)

    def transform(self, spaces: Sequence[Any]) -> Array:
        """Embed spaces.

        Parameters
        ----------
        spaces : sequence of N spaces or square arrays
            Spaces of any sizes, of the array library, dtype and device of the
            reference.

        Returns
        -------
        array of shape (N, n²)
            The vectors √(a_i a_k) (B − C)_ik, row by row, in units of C, with C the
            matrix of the reference over its n atoms that carry weight: the reference
            itself is at 0. Outside any gradient graph; of half precision in single.

        Raises
        ------
        TypeError, ValueError
            If the list is empty, or holds what is no space or differs from the
            reference in array library, dtype or device.

        Warns
        -----
        ConvergenceWarning
            Where the solver misses its criterion.

        Examples
        --------
        >>> import numpy as np, gwtools as gw
        >>> embedding = gw.LinearEmbedding(1 - np.eye(2))
        >>> embedding.transform([3 * (1 - np.eye(2))])
        array([[0., 1., 1., 0.]])
        """
        given = read_spaces(spaces, "spaces")
        _check_lists.not_empty(given, "spaces")
        reference = cast(Space, self.reference)
        lists = {"reference": [reference], "spaces": given}
        require_one_kind(lists)
        require_plain(lists, "LinearEmbedding")
        xp = _array.namespace(reference.weights)
        reference, _ = restrict_to_support(_computed_with(reference))
        a = reference.weights
        C = reference.dense()
        roots = xp.sqrt(a)
        rows = []
        for space in given:
            space = _computed_with(space)
            plan = solve(reference, space, self.solver).plan
            B = best_matrix([space], [1.0], [plan], a)
            tangent = (B - C) * roots[:, None] * roots[None, :]
            rows.append(xp.reshape(tangent, (1, -1)))
        return _array.joined(rows)

    def distances(self, spaces: Sequence[Any]) -> Array:
        """Return the linear distances between all pairs of spaces.

        Parameters
        ----------
        spaces : sequence of N spaces or square arrays
            As for :meth:`transform`.

        Returns
        -------
        array of shape (N, N)
            Euclidean distances of the vectors, in units of C.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`transform`.

        Examples
        --------
        Segments of three lengths.

        >>> import numpy as np, gwtools as gw
        >>> segments = [length * (1 - np.eye(2)) for length in (1.0, 2.0, 5.0)]
        >>> gw.LinearEmbedding(1 - np.eye(2)).distances(segments).round(4)
        array([[0.    , 0.7071, 2.8284],
               [0.7071, 0.    , 2.1213],
               [2.8284, 2.1213, 0.    ]])
        """
        vectors = self.transform(spaces)
        xp = _array.namespace(vectors)
        # Squares of values in other units may have no numbers.
        largest = float(xp.max(xp.abs(vectors)))
        unit = _array.power_of_four(largest) if largest > 0.0 else 1.0
        scaled = vectors / unit
        return _array.pairwise_distances(scaled, scaled) * unit


def _computed_with(space: Space) -> Space:
    """Return a space outside any gradient graph, in single precision at least."""
    return converted(detached(space), _array.at_least_single)
