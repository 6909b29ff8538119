"""Losses L(c, d) between values of C and of D, as sums of products of functions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np

from gwtools import _array
from gwtools._array import Array


class Channel(NamedTuple):
    """A product X_ik Y_jl of a function of C_ik and a function of D_jl."""

    x: Array  # X, (n, n)
    y: Array  # Y, (m, m)


class Entries(NamedTuple):
    """The values C_ik and D_jl, or one entry of each where they are vectors."""

    x: Array  # (n, n)
    y: Array  # (m, m)


@dataclass(frozen=True)
class Loss(ABC):
    """L(c, d) = f(c) + g(d) − 2 Σ_r X_r(c) Y_r(d), which is at least 0.

    Functions take entries of C or of D and return as many numbers. X_r and Y_r are
    non-decreasing, so that sorting couples two rows best (THEORY.md, "Losses").
    """

    name: ClassVar[str]
    # The power of a unit of C that the loss is in.
    power: ClassVar[int] = 1

    @property
    def products(self) -> int:
        """The number of products X_r Y_r."""
        return 1

    @property
    def is_squared(self) -> bool:
        """Whether it is a squared difference, of numbers or of vectors."""
        return self.name == Square.name

    def entries(self, c: Array, d: Array) -> tuple[Entries, ...]:
        """Return all entries of C and of D as pairs of matrices, one for numbers."""
        return (Entries(c, d),)

    @abstractmethod
    def values(self, c: Array, d: Array) -> Array:
        """Return L(c, d), entry by entry."""

    @abstractmethod
    def of_first(self, c: Array) -> Array:
        """Return f(c)."""

    @abstractmethod
    def of_second(self, d: Array) -> Array:
        """Return g(d)."""

    @abstractmethod
    def channels(self, c: Array, d: Array) -> tuple[Channel, ...]:
        """Return X_r(c) and Y_r(d) for all r."""

    def size(self, c: Array, d: Array) -> Array:
        """Return the sum of the absolute values that L(c, d) is computed from."""
        return self.values(c, d)


@final
@dataclass(frozen=True)
class Square(Loss):
    """The squared difference (c − d)²."""

    name: ClassVar[str] = "square"
    power: ClassVar[int] = 2

    def values(self, c: Array, d: Array) -> Array:
        """Return (c − d)²."""
        return (c - d) ** 2

    def of_first(self, c: Array) -> Array:
        """Return c²."""
        return c**2

    def of_second(self, d: Array) -> Array:
        """Return d²."""
        return d**2

    def channels(self, c: Array, d: Array) -> tuple[Channel, ...]:
        """Return c and d themselves."""
        return (Channel(c, d),)


@final
@dataclass(frozen=True)
class SquaredLength(Loss):
    """The squared length Σ_r (c_r − d_r)² of the difference of two vectors.

    Entries C_ik and D_jl are vectors along the last axis.

    Parameters
    ----------
    length : int
        The number of entries of a vector.
    """

    name: ClassVar[str] = Square.name
    power: ClassVar[int] = 2
    length: int

    @property
    def products(self) -> int:
        """One for each entry of a vector."""
        return self.length

    def entries(self, c: Array, d: Array) -> tuple[Entries, ...]:
        """Return the r-th entries of c and of d, for each r."""
        return tuple(Entries(c[..., r], d[..., r]) for r in range(self.length))

    def values(self, c: Array, d: Array) -> Array:
        """Return Σ_r (c_r − d_r)²."""
        return self.of_first(c - d)

    def of_first(self, c: Array) -> Array:
        """Return Σ_r c_r²."""
        xp = _array.namespace(c)
        return xp.sum(c**2, axis=-1)

    def of_second(self, d: Array) -> Array:
        """Return Σ_r d_r²."""
        return self.of_first(d)

    def channels(self, c: Array, d: Array) -> tuple[Channel, ...]:
        """Return the r-th entries of c and of d, for each r."""
        return tuple(Channel(*pair) for pair in self.entries(c, d))


@final
@dataclass(frozen=True)
class KullbackLeibler(Loss):
    """The divergence c log(c/d) − c + d of positive numbers, with 0 log 0 = 0."""

    name: ClassVar[str] = "kl"

    def values(self, c: Array, d: Array) -> Array:
        """Return c log(c/d) − c + d."""
        xp = _array.namespace(c)
        # Float error may bring the divergence of nearly equal numbers below 0.
        return xp.clip(c * _log_ratio(c, d) - c + d, min=0.0)

    def of_first(self, c: Array) -> Array:
        """Return c log c − c."""
        xp = _array.namespace(c)
        return c * xp.log(_positive(c)) - c

    def of_second(self, d: Array) -> Array:
        """Return d."""
        return d

    def channels(self, c: Array, d: Array) -> tuple[Channel, ...]:
        """Return c and log(d)/2."""
        xp = _array.namespace(d)
        return (Channel(c, xp.log(d) / 2),)

    def size(self, c: Array, d: Array) -> Array:
        """Return c |log(c/d)| + c + d."""
        xp = _array.namespace(c)
        return c * xp.abs(_log_ratio(c, d)) + c + d


def _positive(c: Array) -> Array:
    """Return numbers with 1 in place of 0, of which a logarithm is 0 too."""
    xp = _array.namespace(c)
    return xp.where(c > 0, c, xp.ones_like(c))


def _log_ratio(c: Array, d: Array) -> Array:
    """Return log(c/d), also where the ratio itself is no number of the dtype.

    Where c is 0 it is −log(d).
    """
    xp = _array.namespace(c)
    c = _positive(c)
    info = xp.finfo(c.dtype)
    logs = xp.log(c) - xp.log(d)
    # Far from 1 the difference of logarithms is as precise; near 1 the ratio alone is.
    near = xp.abs(logs) < -math.log(float(info.smallest_normal)) / 2
    one = xp.ones_like(logs)
    ratio = xp.where(near, c, one) / xp.where(near, d, one)
    return xp.where(near, xp.log(ratio), logs)


@final
@dataclass(frozen=True)
class Absolute(Loss):
    """The absolute difference |c − d|, where one of both has few values.

    Between the levels t_1 < … < t_K, |t_k − d| = |t_1 − d| + Σ_{r=2}^k (|t_r − d| −
    |t_{r−1} − d|): a step function of c times a function of d for each r.

    Parameters
    ----------
    levels : tuple of float
        All values of one of both matrices, ascending.
    of_x : bool
        Whether it is C; else D.
    """

    name: ClassVar[str] = "absolute"
    levels: tuple[float, ...]
    of_x: bool

    @property
    def products(self) -> int:
        """One for each level but the first, and one of zeros beside a single level."""
        return max(1, len(self.levels) - 1)

    def values(self, c: Array, d: Array) -> Array:
        """Return |c − d|."""
        xp = _array.namespace(c)
        return xp.abs(c - d)

    def of_first(self, c: Array) -> Array:
        """Return 0 of the matrix with the levels, |c − t_1| of the other."""
        return c * 0 if self.of_x else self._from(c, 0)

    def of_second(self, d: Array) -> Array:
        """Return |d − t_1|, or 0 where D has the levels."""
        return self._from(d, 0) if self.of_x else d * 0

    def channels(self, c: Array, d: Array) -> tuple[Channel, ...]:
        """Return a step at each level, and half of what it changes."""
        few, other = (c, d) if self.of_x else (d, c)
        xp = _array.namespace(few)
        pairs = []
        for place in range(1, len(self.levels)):
            # At the middle between two levels, which float errors do not reach.
            middle = (self.levels[place - 1] + self.levels[place]) / 2
            step = xp.astype(few > middle, few.dtype)
            change = (self._from(other, place - 1) - self._from(other, place)) / 2
            pairs.append((step, change) if self.of_x else (change, step))
        if not pairs:
            pairs.append((c * 0, d * 0))
        return tuple(Channel(x, y) for x, y in pairs)

    def _from(self, values: Array, place: int) -> Array:
        """Return how far values are from a level."""
        xp = _array.namespace(values)
        return xp.abs(values - self.levels[place])


SQUARE = Square()


def levels(matrix: Array) -> tuple[float, ...]:
    """Return the different values of a matrix, ascending."""
    values = _array.to_numpy(_array.detached(matrix)).astype(np.float64)
    return tuple(float(value) for value in np.unique(values))
