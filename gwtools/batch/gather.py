"""Pairs of spaces of unequal sizes, grouped by size and stacked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.fused import Fused
from gwtools.preparation import common_offset, safe_size
from gwtools.spaces import (
    GramSpace,
    PointCloud,
    Space,
    converted,
    detached,
)
from gwtools.spaces.dense import dense_space
from gwtools.spaces.lists import read_spaces, require_one_kind

# Entries that are computed with at a time. On a CPU they fit its cache; on other
# devices, calls on fewer would take as long.
_CPU_ENTRIES = 2**16  # of a stack of spaces
_CPU_GROUP_ENTRIES = 2**18  # of a group of pairs
_DEVICE_ENTRIES = 2**24  # of either

# Sizes are rounded up to multiples of the first of these that leaves enough pairs in a
# group, as a group makes the same number of calls whatever its number of pairs. Calls
# on lists of numbers are shorter than those on matrices: more pairs must share them.
_MULTIPLES = (8, 16, 32)
_ENOUGH_MATRICES = 64
_ENOUGH_LISTS = 256

Convert: TypeAlias = Callable[[Array], Array]  # to a dtype
_Form: TypeAlias = tuple[str, int, float]  # what is stored, number of atoms, rank
_Shape: TypeAlias = tuple[int, int]  # numbers of atoms (n, m)
_Positions = TypeVar("_Positions", list[int], NumpyArray)


class Pairs(NamedTuple):
    """The left and the right spaces of B pairs, and features between these, if any."""

    left: Sequence[Space]
    right: Sequence[Space]
    fused: Sequence[Fused] = ()  # of all pairs, or of none

    def each(self) -> Iterator[tuple[Space, Space]]:
        """Iterate over the pairs."""
        return zip(self.left, self.right, strict=True)

    def at(self, positions: Sequence[int] | NumpyArray) -> Pairs:
        """Return the pairs at some positions."""
        left: list[Space] = []
        right: list[Space] = []
        for i in positions:
            left.append(self.left[i])
            right.append(self.right[i])
        if not self.fused:
            return Pairs(left, right)
        return Pairs(left, right, [self.fused[i] for i in positions])

    def detached(self) -> Pairs:
        """Return the pairs outside any gradient graph."""
        left = list(map(detached, self.left))
        right = list(map(detached, self.right))
        return Pairs(left, right, [fused.detached() for fused in self.fused])

    @property
    def like(self) -> Array:
        """An array of the library, dtype and device of all spaces."""
        return self.left[0].weights


def pairs(xs: Sequence[Any], ys: Sequence[Any]) -> Pairs:
    """Read two lists of spaces of one length, and of one library, dtype and device."""
    left = read_spaces(xs, "xs")
    right = read_spaces(ys, "ys")
    _check.paired(left, right)
    require_one_kind({"xs": left, "ys": right})
    return Pairs(left, right)


def groups(pairs: Pairs, lists: bool = False) -> Iterator[NumpyArray]:
    """Yield positions of pairs whose sizes round up to the same multiples.

    On a CPU, a group has as many pairs as fit its cache.

    Parameters
    ----------
    pairs : Pairs
        Pairs of spaces of any sizes.
    lists : bool
        Whether lists of numbers are computed with, (n,) and (m,), and no matrices.
    """
    if not pairs.left:
        return
    enough = _ENOUGH_LISTS if lists else _ENOUGH_MATRICES
    shapes, shape_of_pair = _rounded_shapes(pairs, enough)
    most = block_entries(pairs.like, _CPU_GROUP_ENTRIES)
    for i, (n, m) in enumerate(shapes):
        entries_of_pair = n + m if lists else max(n, m) ** 2
        count = max(1, most // entries_of_pair)
        positions = np.flatnonzero(shape_of_pair == i)
        yield from _cut(positions, count)


def _cut(positions: _Positions, count: int) -> Iterator[_Positions]:
    """Cut positions into parts of ``count``, the last one shorter."""
    for start in range(0, len(positions), count):
        yield positions[start : start + count]


def _rounded_shapes(pairs: Pairs, enough: int) -> tuple[list[_Shape], NumpyArray]:
    """Return the distinct shapes (n, m), rounded up, and which one each pair has."""
    n = _sizes(pairs.left)  # (B,)
    m = _sizes(pairs.right)
    for multiple in _MULTIPLES:
        rounded_n = -(-n // multiple) * multiple
        rounded_m = -(-m // multiple) * multiple
        # A shape is one number, n · base + m: rows of two would be sorted more slowly.
        base = int(rounded_m.max()) + 1
        code_of_pair = rounded_n * base + rounded_m  # (B,)
        codes, shape_of_pair = np.unique(code_of_pair, return_inverse=True)
        if len(n) >= enough * len(codes):
            break
    shapes = [divmod(code, base) for code in codes.tolist()]
    return shapes, shape_of_pair


def stacks(
    spaces: Sequence[Space],
    convert: Convert,
    dense: bool = False,
) -> Iterator[tuple[list[int], Space]]:
    """Yield the positions of g spaces of one size, and these as one stack.

    Parameters
    ----------
    spaces : sequence of Space
        Spaces of any sizes.
    convert : callable
        Converts the spaces' arrays before they are stacked.
    dense : bool
        Whether to stack matrices (g, n, n) of all spaces. Squared distances and inner
        products are stacked by their points and factors otherwise.
    """
    positions_of_form: dict[_Form, list[int]] = {}
    for i, space in enumerate(spaces):
        form = _matrix_form(space) if dense else _form(space)
        positions_of_form.setdefault(form, []).append(i)
    stored = spaces[0].weights
    is_wide = convert(stored).dtype == stored.dtype
    most = block_entries(stored)
    for (kind, size, _), positions in positions_of_form.items():
        count = max(1, most // size**2)
        for block in _cut(positions, count):
            members = []
            for i in block:
                space = spaces[i]
                members.append(space if is_wide else converted(space, convert))
            yield block, _stack(members, kind)


def _form(space: Space) -> _Form:
    """Name what spaces must share to be stacked."""
    size = _size(space)
    stored_rank = rank(space)
    if type(space) is GramSpace:
        # Factors of more rows than atoms save no work by their rank: whatever it is,
        # they are padded to one height and stacked together.
        return "factor", size, min(stored_rank, size + 1)
    if stored_rank <= size:
        return "points", size, stored_rank
    return _matrix_form(space)


def _matrix_form(space: Space) -> _Form:
    """Return the form of a space whose matrix is stacked."""
    return "matrix", _size(space), math.inf


def rank(space: Space) -> float:
    """Return the rank of the form in which a space is stored; infinite for a matrix.

    It is read from the shape of the points or of the factor: no form is made.
    """
    kind = type(space)
    if kind is GramSpace:
        return int(space.data.shape[0])
    if kind is PointCloud and space.kind == "sqeuclidean":
        return int(space.data.shape[1])
    return math.inf


def is_low_rank(space: Space) -> bool:
    """Tell whether a space is stored in a form of no higher rank than its size."""
    return rank(space) <= space.size


def _stack(spaces: Sequence[Space], kind: str) -> Space:
    """Return g spaces of one form as one space with a leading axis."""
    weights = _joined([space.weights for space in spaces])  # (g, n)
    if kind == "matrix":
        matrices = [space.dense() for space in spaces]
        return dense_space(_joined(matrices), weights)
    data = [space.data for space in spaces]
    if kind == "factor":
        data = _of_equal_height(data)
    return spaces[0].with_data(_joined(data), weights)


def _of_equal_height(factors: Sequence[Array]) -> list[Array]:
    """Append rows of zeros, which change no inner product, to the lower factors."""
    height = 0
    for factor in factors:
        height = max(height, int(factor.shape[0]))
    padded = []
    for factor in factors:
        columns = _array.padded(_array.transposed(factor), height)
        padded.append(_array.transposed(columns))
    return padded


def _joined(arrays: Sequence[Array]) -> Array:
    """Stack g arrays of one shape."""
    if len(arrays) == 1:
        return arrays[0][None, ...]
    # Joined and reshaped: a library's own stacking would reshape each array by itself.
    xp = _array.namespace(arrays[0])
    joined = xp.concat(list(arrays))
    shape = arrays[0].shape
    return xp.reshape(joined, (len(arrays), *shape))


def _sizes(spaces: Sequence[Space]) -> NumpyArray:
    """Return the numbers of atoms, (B,)."""
    return np.fromiter(map(_size, spaces), np.int64, len(spaces))


def _size(space: Space) -> int:
    """Return the number of atoms.

    Without the checks of :attr:`gwtools.Space.size`, as lists of spaces may be long.
    """
    return cast(int, space.weights.shape[0])


def finite(matrices: Array) -> Array:
    """Return matrices (g, k, k) with zeros for those that are not finite.

    One of these would spoil the eigenvalues of its whole stack.
    """
    xp = _array.namespace(matrices)
    is_finite = xp.isfinite(matrices)
    usable = xp.all(is_finite, axis=(1, 2), keepdims=True)  # (g, 1, 1)
    if bool(xp.all(usable)):
        return matrices
    return xp.where(usable, matrices, xp.zeros_like(matrices))


def are_in_range(lows: tuple[Array, Array], highs: tuple[Array, Array]) -> NumpyArray:
    """Tell which pairs need neither other units nor a shift of their values, (B,).

    Parameters
    ----------
    lows, highs : pairs of arrays of shape (B,)
        The least and the largest values of C and of D.
    """
    safe = safe_size(lows[0])
    low = np.stack(list(map(_array.to_numpy, lows)))  # (2, B)
    high = np.stack(list(map(_array.to_numpy, highs)))  # (2, B)
    # 1. Units: of |C_ik| and |D_jl|, the largest must be near 1, or 0.
    largest = np.maximum(high, -low).max(axis=0)  # (B,)
    is_near_one = (1 / safe < largest) & (largest < safe)
    keeps_units = is_near_one | (largest == 0.0)
    # 2. Shift: a problem by itself, if far from 0, has a constant subtracted.
    ends = np.concatenate([low, high])  # (4, B)
    offsets = []
    for ends_of_pair in ends.T.tolist():
        offsets.append(common_offset(*ends_of_pair))
    keeps_values = np.array(offsets) == 0.0
    return np.asarray(keeps_units & keeps_values)


def block_entries(like: Array, on_cpu: int = _CPU_ENTRIES) -> int:
    """Return how many entries to compute with at a time."""
    return on_cpu if _array.on_cpu(like) else _DEVICE_ENTRIES
