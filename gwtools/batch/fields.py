"""Quantities of the spaces of many pairs, padded where pairs are taken together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.batch.gather import Convert, Pairs, stacks
from gwtools.spaces import Space

# From a stack of g spaces, arrays (g,) or (g, k).
Read: TypeAlias = Callable[[Space], tuple[Array, ...]]


def read_fields(
    pairs: Pairs,
    read: Read,
    convert: Convert = _array.at_least_single,
    dense: bool = False,
) -> Fields:
    """Read quantities of all spaces of B pairs.

    Parameters
    ----------
    pairs : Pairs
        Pairs of spaces.
    read : callable
        Returns the quantities of a stack of g spaces of one size, as arrays (g,) or
        (g, k).
    convert, dense : callable and bool
        As in :func:`gwtools.batch.gather.stacks`.
    """
    blocks: list[list[int]] = []
    values: list[tuple[Array, ...]] = []
    spaces = [*pairs.left, *pairs.right]
    # What is read of values out of range is not used: their overflow is no warning.
    with np.errstate(over="ignore", invalid="ignore"):
        for block, stack in stacks(spaces, convert, dense):
            blocks.append(block)
            values.append(read(stack))
    return Fields(blocks, values)


class Fields:
    """Quantities of the spaces of B pairs, stored without padding.

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
        self,
        blocks: Sequence[list[int]],
        values: Sequence[tuple[Array, ...]],
    ) -> None:
        self._blocks = blocks
        self._pairs = sum(map(len, blocks)) // 2
        fields = list(zip(*values, strict=True))  # of each quantity, its array by block
        self._count = len(fields)
        # Quantities whose widths agree in every block are stored, and taken, together.
        fields_of_widths: dict[Any, list[int]] = {}
        for i, parts in enumerate(fields):
            widths = [part.shape[1:] for part in parts]
            alike = fields_of_widths.setdefault(tuple(widths), [])
            alike.append(i)
        self._tables: list[_Table] = []
        for indices in fields_of_widths.values():
            of_one_width = [fields[i] for i in indices]
            table = _Table(blocks, indices, of_one_width)
            self._tables.append(table)

    def add(self, parts: Sequence[Array]) -> None:
        """Add a quantity that was computed of the same blocks."""
        table = _Table(self._blocks, [self._count], [parts])
        self._tables.append(table)
        self._count += 1

    def at(self, positions: NumpyArray) -> tuple[list[Array], list[Array]]:
        """Return the quantities of the left and of the right spaces of b pairs.

        Each is an array (b,), or (b, K) padded with zeros to the largest width.
        """
        left = self._of_spaces(positions)
        right = self._of_spaces(positions + self._pairs)
        return left, right

    def _of_spaces(self, positions: NumpyArray) -> list[Array]:
        """Return the quantities of some spaces, in the order they were read in."""
        quantities: list[Array] = [None] * self._count
        for table in self._tables:
            taken = table.at(positions)
            for i, values in zip(table.indices, taken, strict=True):
                quantities[i] = values
        return quantities


class _Table:
    """Quantities of the same widths, one in a row: the values of all spaces end to end.

    Parameters
    ----------
    blocks : sequence of lists of int
        As in :class:`Fields`.
    indices : list of int
        Positions of these q quantities among all.
    fields : sequence of sequences of arrays
        For each quantity, its array of every block.
    """

    def __init__(
        self,
        blocks: Sequence[list[int]],
        indices: list[int],
        fields: Sequence[Sequence[Array]],
    ) -> None:
        self.indices = indices
        first = fields[0]
        like = first[0]
        self._are_numbers = like.ndim == 1
        # 1. Where the values of each space stand, in the order of the blocks.
        width_of_block = list(map(_width, first))
        spaces_of_block = list(map(len, blocks))
        length = np.repeat(width_of_block, spaces_of_block)  # (2 B,)
        start = np.cumsum(length) - length  # (2 B,)
        # 2. The same in the order of the spaces.
        order = np.argsort(np.concatenate(blocks))
        self._start = start[order]
        self._length = length[order]
        # 3. The values, and behind those of each quantity a zero, to pad with.
        xp = _array.namespace(like)
        device = _array.device(like)
        zero = xp.zeros(1, dtype=like.dtype, device=device)
        rows = []
        for parts in fields:
            flat = [xp.reshape(part, (-1,)) for part in parts]
            flat.append(zero)
            rows.append(xp.concat(flat))
        self._values = xp.stack(rows)  # (q, L + 1)

    def at(self, positions: NumpyArray) -> list[Array]:
        """Return the quantities of some spaces, each (b,) or (b, K)."""
        xp = _array.namespace(self._values)
        columns = self._columns(positions)
        flat = np.reshape(columns, -1)  # (b,) or (b · K,)
        index = _array.from_numpy(flat, self._values)
        taken = xp.take(self._values, index, axis=1)  # (q, b) or (q, b · K)
        quantities = []
        for row in range(len(self.indices)):
            quantity = xp.reshape(taken[row, :], columns.shape)
            quantities.append(quantity)
        return quantities

    def _columns(self, positions: NumpyArray) -> NumpyArray:
        """Return where the values of some spaces stand, (b,) or (b, K)."""
        start: NumpyArray = self._start[positions]  # (b,)
        if self._are_numbers:
            return start
        length = self._length[positions]  # (b,)
        offset = np.arange(length.max())  # (K,)
        is_value = offset < length[:, None]  # (b, K)
        padding = self._values.shape[1] - 1  # of the zero
        column = start[:, None] + offset
        columns: NumpyArray = np.where(is_value, column, padding)
        return columns


def _width(part: Array) -> int:
    """Return k of a quantity (g, k), 1 of numbers (g,)."""
    return 1 if part.ndim == 1 else int(part.shape[1])
