"""Spaces of unequal sizes brought together: spaces of one size are stacked, and what is read of them is padded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.problems import common_offset, detached, safe_size
from gwtools.spaces import GramSpace, PointCloud, Space, as_space, converted
from gwtools.spaces.dense import dense_space

_GROUP_ENTRIES = 2**18
_CPU_ENTRIES, _DEVICE_ENTRIES = 2**16, 2**24
_STEPS = (8, 16, 32)
_ENOUGH, _ENOUGH_LISTS = 64, 256

Convert = Callable[[Array], Array]
Read = Callable[[Space], tuple[Array, ...]]


class Pairs(NamedTuple):
    """The left and the right spaces of B pairs."""

    left: Sequence[Space]
    right: Sequence[Space]

    def at(self, positions: Iterable[int]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(
            [self.left[i] for i in positions], [self.right[i] for i in positions]
        )

    def detached(self) -> Pairs:
        """Return the pairs outside any gradient graph."""
        return Pairs(
            [detached(x) for x in self.left], [detached(y) for y in self.right]
        )


def pairs(xs: Sequence[Any], ys: Sequence[Any]) -> Pairs:
    """Read two lists of as many spaces, all of one library, dtype and device."""
    left, right = _read(xs, "xs"), _read(ys, "ys")
    _check.paired(left, right)
    kinds: dict[Any, tuple[str, Array]] = {}
    for side, spaces_of_side in (("xs", left), ("ys", right)):
        for i, space in enumerate(spaces_of_side):
            kinds.setdefault(
                _array.kind(space.weights), (f"{side}[{i}]", space.weights)
            )
    for name, weights in kinds.values():
        _check.same_kind(weights, left[0].weights, name, "xs[0]")
    return Pairs(left, right)


def _read(values: Sequence[Any], name: str) -> list[Space]:
    """Read raw matrices as spaces; lists of spaces are looked through by kind, as they may be long."""
    _check.listed(values, name)
    if all(issubclass(kind, Space) for kind in set(map(type, values))):
        return list(values)
    return [as_space(value, f"{name}[{i}]") for i, value in enumerate(values)]


def groups(pairs: Pairs, lists: bool = False) -> Iterator[NumpyArray]:
    """Yield positions of pairs whose sizes round up to the same multiple; on the CPU, as many as fit its cache.

    The multiple is the least that leaves enough pairs together, as a group costs the
    same calls whatever its number: fewer where it holds matrices than where it holds
    ``lists``, whose calls are short.
    """
    left, right = pairs
    if not left:
        return
    n = np.fromiter(map(_size, left), np.int64, len(left))
    m = np.fromiter(map(_size, right), np.int64, len(right))
    enough = _ENOUGH_LISTS if lists else _ENOUGH
    for step in _STEPS:
        rounded_n, rounded_m = -(-n // step) * step, -(-m // step) * step
        width = int(rounded_m.max()) + 1
        shapes, shape_of_pair = np.unique(
            rounded_n * width + rounded_m, return_inverse=True
        )
        if len(left) >= enough * len(shapes):
            break
    most = block_entries(left[0].weights, _GROUP_ENTRIES)
    for i, shape in enumerate(shapes.tolist()):
        rows, cols = divmod(shape, width)
        entries = rows + cols if lists else max(rows, cols) ** 2
        count = max(1, most // entries)
        positions = np.flatnonzero(shape_of_pair == i)
        for start in range(0, len(positions), count):
            yield positions[start : start + count]


def stacks(
    spaces: Sequence[Space], convert: Convert, dense: bool = False
) -> Iterator[tuple[list[int], Space]]:
    """Yield positions of spaces of one size, and these as one space with a leading axis that fits the cache.

    ``convert`` widens the spaces' arrays first. Squared distances and inner products
    are stacked by points and factors, unless ``dense`` asks for matrices.
    """
    positions_of_form: dict[tuple[str, int, float], list[int]] = {}
    for i, space in enumerate(spaces):
        form = ("matrix", _size(space), math.inf) if dense else _form(space)
        positions_of_form.setdefault(form, []).append(i)
    stored = spaces[0].weights
    is_wide = convert(stored).dtype == stored.dtype
    most = block_entries(stored)
    for (kind, size, _), positions in positions_of_form.items():
        step = max(1, most // size**2)
        for start in range(0, len(positions), step):
            block = positions[start : start + step]
            members = [
                spaces[i] if is_wide else converted(spaces[i], convert) for i in block
            ]
            yield block, _stack(members, kind)


def _form(space: Space) -> tuple[str, int, float]:
    """Name what spaces must share to be stacked: what is stored, the size, and the rank where it is below the size."""
    kind, size, most = type(space), _size(space), rank(space)
    if kind is GramSpace:
        return "factor", size, min(most, size + 1)
    return ("points", size, most) if most <= size else ("matrix", size, math.inf)


def rank(space: Space) -> float:
    """Return the rank of the form in which a space is stored, without making that form; infinite for a matrix."""
    kind = type(space)
    if kind is GramSpace:
        return int(space.data.shape[0])
    if kind is PointCloud and space.kind == "sqeuclidean":
        return int(space.data.shape[1])
    return math.inf


def _stack(spaces: Sequence[Space], kind: str) -> Space:
    weights = _joined([s.weights for s in spaces])
    if kind == "matrix":
        return dense_space(_joined([s.dense() for s in spaces]), weights)
    data = [s.data for s in spaces]
    if kind == "factor":
        # Rows of zeros, which change no inner product, make factors of unequal height
        # alike.
        height = max(int(factor.shape[0]) for factor in data)
        data = [
            _array.transposed(_array.padded(_array.transposed(factor), height))
            for factor in data
        ]
    return spaces[0].with_data(_joined(data), weights)


def _joined(arrays: Sequence[Array]) -> Array:
    """Stack arrays of one shape: joined and cut again, as stacking would handle each by itself."""
    if len(arrays) == 1:
        return arrays[0][None, ...]
    xp = _array.namespace(arrays[0])
    return xp.reshape(xp.concat(list(arrays)), (len(arrays), *arrays[0].shape))


def _size(space: Space) -> int:
    """Return the number of atoms, without the checks of :attr:`gwtools.Space.size`: long lists are looked through."""
    return cast(int, space.weights.shape[0])


class Fields:
    """Quantities of the spaces of B pairs, end to end in flat arrays: padded only where pairs of like size are taken.

    Parameters
    ----------
    blocks : sequence of lists of int
        Positions of g spaces of one size: those of left spaces are 0 to B − 1, those of
        right ones B to 2 B − 1.
    values : sequence of tuples of arrays
        What was read of each block: arrays of shape (g, k), whose k may depend on the
        size, or (g,).
    """

    def __init__(
        self, blocks: Sequence[list[int]], values: Sequence[tuple[Array, ...]]
    ) -> None:
        self._blocks = blocks
        self._pairs = sum(map(len, blocks)) // 2
        self._alike: list[_AlikeFields] = []
        fields = list(zip(*values, strict=True))
        indices_of_widths: dict[Any, list[int]] = {}
        for i, parts in enumerate(fields):
            widths = tuple(part.shape[1:] for part in parts)
            indices_of_widths.setdefault(widths, []).append(i)
        for indices in indices_of_widths.values():
            self._alike.append(
                _AlikeFields(blocks, indices, [fields[i] for i in indices])
            )
        self._number = len(fields)

    def add(self, parts: Sequence[Array]) -> None:
        """Add a quantity that was computed of the same blocks."""
        self._alike.append(_AlikeFields(self._blocks, [self._number], [parts]))
        self._number += 1

    def at(self, positions: NumpyArray) -> tuple[list[Array], list[Array]]:
        """Return the quantities of both spaces of some pairs: (b,), or (b, K) padded with zeros to the largest."""
        return self._side(positions), self._side(positions + self._pairs)

    def _side(self, positions: NumpyArray) -> list[Array]:
        taken: dict[int, Array] = {}
        for alike in self._alike:
            taken.update(zip(alike.indices, alike.at(positions), strict=True))
        return [taken[i] for i in range(self._number)]


class _AlikeFields:
    """Quantities of the same widths: each a row of values end to end, with a zero behind them."""

    def __init__(
        self,
        blocks: Sequence[list[int]],
        indices: list[int],
        fields: Sequence[Sequence[Array]],
    ) -> None:
        first = fields[0]
        self.indices = indices
        self._are_numbers = first[0].ndim == 1
        widths = [1 if self._are_numbers else part.shape[1] for part in first]
        length = np.repeat(widths, [len(block) for block in blocks])
        start = np.cumsum(length) - length
        order = np.argsort(np.concatenate(blocks))
        self._start, self._length = start[order], length[order]
        xp = _array.namespace(first[0])
        zero = xp.zeros(1, dtype=first[0].dtype, device=_array.device(first[0]))
        rows = [
            xp.concat([*(xp.reshape(part, (-1,)) for part in parts), zero])
            for parts in fields
        ]
        self._values = xp.stack(rows)

    def at(self, positions: NumpyArray) -> list[Array]:
        """Return the quantities of some spaces, (b,) or (b, K)."""
        xp = _array.namespace(self._values)
        index = self._start[positions]
        if not self._are_numbers:
            length = self._length[positions][:, None]
            column = np.arange(length.max())
            padding = self._values.shape[1] - 1
            index = np.where(column < length, index[:, None] + column, padding)
        flat = _array.from_numpy(np.reshape(index, -1), self._values)
        taken = xp.take(self._values, flat, axis=1)
        return [xp.reshape(taken[i, :], index.shape) for i in range(len(self.indices))]


def read_fields(
    pairs: Pairs,
    read: Read,
    convert: Convert = _array.at_least_single,
    dense: bool = False,
) -> Fields:
    """Read the spaces of pairs, in stacks as :func:`stacks` makes them of g spaces: arrays whose first axis is g."""
    blocks, values = [], []
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what is read of values out of range is not used
        for block, stack in stacks([*pairs.left, *pairs.right], convert, dense):
            blocks.append(block)
            values.append(read(stack))
    return Fields(blocks, values)


def finite(matrices: Array) -> Array:
    """Return matrices (B, k, k) with zeros for each that is not finite: it would spoil the eigenvalues of its stack."""
    xp = _array.namespace(matrices)
    usable = xp.all(xp.isfinite(matrices), axis=(1, 2), keepdims=True)
    if bool(xp.all(usable)):
        return matrices
    return xp.where(usable, matrices, xp.zeros_like(matrices))


def are_in_range(lows: tuple[Array, Array], highs: tuple[Array, Array]) -> NumpyArray:
    """Tell which pairs need neither other units nor a shift by the least and largest values of C and of D, shape (B,)."""
    safe = safe_size(lows[0])
    low = np.stack([_array.to_numpy(values) for values in lows])
    high = np.stack([_array.to_numpy(values) for values in highs])
    largest = np.maximum(high, -low).max(axis=0)
    without_scale = ((1 / safe < largest) & (largest < safe)) | (largest == 0.0)
    offsets = [common_offset(*ends) for ends in np.concatenate([low, high]).T.tolist()]
    return np.asarray(without_scale & (np.array(offsets) == 0.0))


def block_entries(like: Array, on_cpu: int = _CPU_ENTRIES) -> int:
    """Return how many entries arrays should have that are passed over several times: on a CPU, as its cache holds."""
    return on_cpu if _array.on_cpu(like) else _DEVICE_ENTRIES
