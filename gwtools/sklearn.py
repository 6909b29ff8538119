"""A transformer of scikit-learn: spaces become their distances to reference spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from gwtools import _check, _check_lists
from gwtools._array import NumpyArray, number
from gwtools.batch import solve_batch
from gwtools.solvers import Solver
from gwtools.spaces import Space
from gwtools.spaces.lists import read_spaces, require_one_kind

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        TransformerMixin,
    )
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    # A module that scikit-learn itself lacks is no matter of the extra.
    if error.name != "sklearn":
        raise
    raise ImportError(
        "gwtools.sklearn needs scikit-learn, which is not installed: "
        "run pip install 'gwfusion[sklearn]'."
    ) from None


class GromovWassersteinTransformer(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Transform spaces into their Gromov-Wasserstein distances to reference spaces.

    The first step of a pipeline of scikit-learn that ends in any of its classifiers,
    regressors or clusterings: spaces without common coordinates become rows of numbers.

    Parameters
    ----------
    references : sequence of R spaces or square arrays, optional
        The spaces that others are compared with; by default those of ``fit``.
    solver : Solver, optional
        As in :func:`gwtools.solve_batch`: by default
        :class:`gwtools.ConditionalGradient`.

    Attributes
    ----------
    references_ : list of R Space
        The reference spaces.
    n_references_ : int
        Their number R.

    Notes
    -----
    A distance is that of the plan which the solver found: an upper bound of GW_2 up to
    float error. Where solvers miss their criterion, one
    :class:`gwtools.ConvergenceWarning` tells how many. Each call solves N R problems.

    Examples
    --------
    Handwritten digits as clouds of their inked pixels: zeros and ones are told apart by
    the distances of their points alone, however they are shifted or turned.

    >>> import numpy as np, gwtools as gw
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> images, labels = load_digits(n_class=2, return_X_y=True)
    >>> clouds = [
    ...     gw.PointCloud(np.argwhere(image.reshape(8, 8) > 7).astype(float))
    ...     for image in images[:24]
    ... ]
    >>> distances = gw.sklearn.GromovWassersteinTransformer(references=clouds[:4])
    >>> model = make_pipeline(distances, KNeighborsClassifier(3))
    >>> model.fit(clouds[:16], labels[:16]).score(clouds[16:], labels[16:24])
    1.0
    """

    def __init__(
        self,
        references: Sequence[Any] | None = None,
        solver: Solver | None = None,
    ) -> None:
        # scikit-learn asks that parameters are kept as they are, and checked in fit.
        self.references = references
        self.solver = solver

    def fit(self, spaces: Sequence[Any], y: Any = None) -> Self:
        """Take the reference spaces.

        Parameters
        ----------
        spaces : sequence of N spaces or square arrays
            The references where none were given; else only their kind is checked.
        y : object
            Ignored.

        Returns
        -------
        GromovWassersteinTransformer
            The transformer itself.

        Raises
        ------
        TypeError, ValueError
            If there are no references, or these or the solver are none, or the spaces
            differ from the references in array library, dtype or device.
        """
        given = read_spaces(spaces, "spaces")
        _check_lists.not_empty(given, "spaces")
        references = given
        if self.references is not None:
            references = read_spaces(self.references, "references")
            _check_lists.not_empty(references, "references")
        require_one_kind({"references": references, "spaces": given})
        if self.solver is not None:
            advice = "pass an instance such as gwtools.Sinkhorn()"
            _check.instance(self.solver, "solver", Solver, advice)
        self.references_: list[Space] = list(references)
        self.n_references_ = len(references)
        return self

    def transform(self, spaces: Sequence[Any]) -> NumpyArray:
        """Return the distances of spaces to the references.

        Parameters
        ----------
        spaces : sequence of N spaces or square arrays
            Spaces of any sizes.

        Returns
        -------
        NumPy array of shape (N, R)
            Distances, in units of C.

        Raises
        ------
        TypeError, ValueError
            If the spaces are none, or differ from the references in array library,
            dtype or device.
        NotFittedError
            Before ``fit``.
        """
        check_is_fitted(self, "references_")
        given = read_spaces(spaces, "spaces")
        require_one_kind({"references": self.references_, "spaces": given})
        xs = [space for space in given for _ in self.references_]
        ys = self.references_ * len(given)
        results = solve_batch(xs, ys, self.solver)
        distances = [number(result.distance) for result in results]
        return np.array(distances).reshape(len(given), self.n_references_)

    @property
    def _n_features_out(self) -> int:
        """Number of columns of ``transform``, which scikit-learn names."""
        return self.n_references_

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that spaces are no table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags
