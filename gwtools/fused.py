"""Fused problems: costs M between the atoms of both spaces, and the share α of F."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gwtools import _array, _check_free, _check_fused, _check_losses
from gwtools._array import Array
from gwtools.channel_problems import ChannelProblem, has_forms
from gwtools.linear_terms import share_of
from gwtools.losses import SQUARE, Loss
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem
from gwtools.spaces import Space


@dataclass(frozen=True, eq=False)
class Fused:
    """What makes an objective F_α(π) = (1 − α) ⟨M, π⟩ + α F(π).

    Parameters
    ----------
    features : array of shape (n, m)
        M, in squared units of C.
    alpha : float or 0-d array
        α; an array may be in a gradient graph.
    """

    features: Array
    alpha: Any

    @property
    def share(self) -> float:
        """α as a number."""
        return share_of(self.alpha)

    @property
    def tracked(self) -> bool:
        """Whether gradients in M or α are asked for."""
        of_alpha = not isinstance(self.alpha, float) and _array.tracked(self.alpha)
        return of_alpha or _array.tracked(self.features)

    def size(self, x: Space, y: Space) -> float:
        """Return the root of the largest |M_ij| between atoms that carry weight.

        It is in units of C.
        """
        features = _array.detached(self.features)
        xp = _array.namespace(features)
        in_x = (x.weights > 0)[:, None]
        in_y = (y.weights > 0)[None, :]
        sizes = xp.where(in_x & in_y, xp.abs(features), xp.zeros_like(features))
        return math.sqrt(_array.number(xp.max(sizes)))

    def prepared(self, ready: Prepared) -> Fused:
        """Return the same for prepared spaces: on their atoms, in their units."""
        features = self.features
        xp = _array.namespace(features)
        for axis, kept in enumerate(ready.atoms):
            if kept is not None:
                features = xp.take(features, kept, axis=axis)
        single = Fused(features, self.alpha).converted(_array.at_least_single)
        return single.in_units(ready.unit)

    def in_units(self, unit: float) -> Fused:
        """Return the same for spaces whose values are divided by a power of four."""
        if unit == 1.0:
            return self
        # Factor by factor: the square alone may have no number.
        features = _array.scaled(_array.scaled(self.features, 1 / unit), 1 / unit)
        return Fused(features, self.alpha)

    def converted(self, convert: Callable[[Array], Array]) -> Fused:
        """Return the same in a wider dtype."""
        alpha = self.alpha
        if not isinstance(alpha, float):
            alpha = convert(alpha)
        return Fused(convert(self.features), alpha)

    def detached(self) -> Fused:
        """Return the same outside any gradient graph, α as a number."""
        return Fused(_array.detached(self.features), self.share)


def given_features(features: Any, alpha: Any, x: Space, y: Space) -> Fused | None:
    """Return features and α as they were passed, checked; None where none were.

    Parameters
    ----------
    features : array of shape (n, m), word or None
        M, or the distance between features of the spaces that it holds; None for
        "sqeuclidean" where they have features.
    alpha : float, 0-d array or None
        α.
    x, y : Space
        The spaces.

    Raises
    ------
    TypeError
        If one of both is given alone, or they are of another library, dtype or device
        than the spaces.
    ValueError
        If M has another shape or is not finite, or α is not from 0 to 1.
    """
    if features is None or isinstance(features, str):
        if _check_fused.of_spaces(features, alpha, x, y):
            features = costs(x, y, features or _check_fused.METRICS[0])
            alpha = _check_fused.share(alpha, x.weights)
            return _unless_plain(Fused(features, alpha))
    else:
        _check_fused.given_once(x, y)
    alpha = _check_fused.features(features, alpha, x, y)
    if alpha is None:
        return None
    return _unless_plain(Fused(features, alpha))


def _unless_plain(fused: Fused) -> Fused | None:
    """Return None where α is 1, unless gradients in α and M may be asked for."""
    return fused if fused.share < 1.0 or fused.tracked else None


def costs(x: Space, y: Space, metric: str = "sqeuclidean") -> Array:
    """Return distances between the features of two spaces, or their squares, (n, m).

    Parameters
    ----------
    x, y : Space
        Spaces with features of one length.
    metric : {"sqeuclidean", "euclidean"}
        The squares, or the distances.
    """
    # Squares of half precision may have no number.
    of_x = _array.at_least_single(x.features)
    of_y = _array.at_least_single(y.features)
    distances = _array.pairwise_distances(of_x, of_y)
    return distances**2 if metric == "sqeuclidean" else distances


def problem_of(
    x: Space, y: Space, fused: Fused | None, loss: Loss = SQUARE
) -> GWProblem:
    """Return the plain problem of two spaces, or the fused one, with any loss."""
    costs = None if fused is None else fused.features
    alpha = None if fused is None else fused.alpha
    if has_forms(x, y, loss):
        return ChannelProblem(x, y, costs, alpha, loss)
    return GWProblem(x, y, costs, alpha)


class Distance:
    """The field ``distance`` of a result.

    Fused objectives have none, and plans with free marginals neither.

    Reading it there raises an error, instead of a number that is no distance.
    """

    def __get__(self, result: Any, kind: type | None = None) -> Any:
        """Return the distance of a result."""
        if result is None:
            # Read of the class, which has none: so the field has no default.
            raise AttributeError("distance")
        _check_fused.is_distance(result.__dict__.get("alpha"))
        marginals = result.__dict__.get("marginals", _check_free.BALANCED)
        _check_free.is_distance(marginals != _check_free.BALANCED)
        _check_losses.is_distance(result.__dict__.get("loss", SQUARE.name))
        return result.__dict__["distance"]

    def __set__(self, result: Any, value: Any) -> None:
        """Keep the distance, or None; a result is frozen once it is made."""
        result.__dict__["distance"] = value
