"""Rejects losses that no values allow, and what cannot carry directions or losses."""

from __future__ import annotations

from gwtools import _check

LOSSES = ("square", "kl", "absolute")
MOST_LEVELS = 64


def loss(value: object) -> None:
    """Require the name of a loss."""
    _check.choice(value, "loss", LOSSES)


def edge_features(of_x: int | None, of_y: int | None, name: object) -> None:
    """Require vectors of one length as values of both spaces, or numbers.

    ``name`` is that of the loss: of vectors the square of their distance alone.
    """
    if of_x != of_y:
        shown = [
            "one number" if count is None else f"{count} edge features"
            for count in (of_x, of_y)
        ]
        raise ValueError(
            f"y must have {shown[0]} for each pair of atoms, as x, but has {shown[1]}: "
            "pass gwtools.DenseSpace of arrays of shape (n, n, c) and (m, m, c)."
        )
    if of_x is not None and name != "square":
        raise ValueError(
            f"loss must be 'square' with edge features, but is {name!r}: leave it out, "
            "or pass one of the features as a matrix."
        )


def divergent(least_x: float, least_y: float) -> None:
    """Require C ≥ 0 and D > 0 for the Kullback-Leibler divergence.

    Both are the least values between atoms that carry weight.
    """
    if least_x < 0.0:
        raise ValueError(
            f"x must have no values below 0 with loss='kl', but the least is "
            f"{least_x:.3g}: pass loss='square', or values such as exp(C)."
        )
    if least_y <= 0.0:
        raise ValueError(
            f"y must have values above 0 alone with loss='kl', of which a logarithm is "
            f"taken, but the least is {least_y:.3g}: swap x and y, add a small number "
            "to all of its values, or pass loss='square'."
        )


def few_levels(of_x: int, of_y: int) -> None:
    """Require one of both matrices to have few different values."""
    if min(of_x, of_y) > MOST_LEVELS:
        raise ValueError(
            f"x or y must have at most {MOST_LEVELS} different values with "
            f"loss='absolute', but they have {of_x} and {of_y}: round the values of "
            "one of them, or pass loss='square'."
        )


def carried(carries: bool, solver: str, words: str) -> None:
    """Refuse directed spaces, or another loss, for a solver that cannot carry them."""
    if not carries:
        raise ValueError(
            f"solver must be a gwtools.ConditionalGradient, MultiStart or Sinkhorn "
            f"with {words}, but is {solver}: pass one of these, or leave it out."
        )


def alone(given: bool, name: str, words: str) -> None:
    """Refuse an option beside directed spaces, or another loss."""
    if given:
        raise ValueError(
            f"{name} must be left out with {words}, but is given: leave one of both "
            "out."
        )


def without_gradients(tracked: bool, name: str) -> None:
    """Refuse values in a gradient graph, of which a step function has no gradient."""
    if tracked:
        raise TypeError(
            f"{name} must be outside any gradient graph with loss='absolute', but is "
            "in one: detach it first, or pass loss='square'."
        )


def is_distance(name: str) -> None:
    """Refuse the distance of another loss than squares."""
    if name != "square":
        raise ValueError(
            f"distance must be that of squared differences, but the loss is {name!r} "
            "and has no root that is a distance: read result.objective."
        )
