"""Spaces of unequal sizes brought together: those of one form and size are stacked, what is read of them is padded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools._stacks import in_order
from gwtools.batch import threads
from gwtools.spaces import GramSpace, PointCloud, Space, as_space, converted
from gwtools.spaces.dense import dense_space

_GROUP_ENTRIES = 2**18
_CPU_ENTRIES, _DEVICE_ENTRIES = 2**16, 2**24
_STEPS, _ENOUGH, _ENOUGH_LISTS = (8, 16, 32), 64, 256
_FEW = 12

Convert = Callable[[Array], Array]
Read = Callable[[Space], tuple[Array, ...]]
Block = tuple[str, list[int]]
Found = tuple[list[int], tuple[Array, ...]]


class Layout(NamedTuple):
    """Where the entries of each space start in a flat array, and how many they are, shape (B,); None for numbers."""

    start: NumpyArray
    length: NumpyArray | None

    def entries(self, places: NumpyArray, padding: int) -> NumpyArray:
        """Return the places of the entries of some spaces, (b,) or (b, K), with that of padding behind those of each."""
        if self.length is None:
            return self.start[places]
        length = self.length[places][:, None]
        column = np.arange(length.max())
        return np.where(column < length, self.start[places][:, None] + column, padding)


class Survey:
    """Quantities of pairs of spaces, end to end in flat arrays: padded only where problems of like size are taken.

    Parameters
    ----------
    blocks : sequence of (list of int, tuple of arrays)
        Places of g spaces of one size, and what is read of them: arrays of shape (g, k), whose k may depend on the size,
        or (g,). The first half of all places are the left spaces of the pairs, the second half their right ones.
    """

    def __init__(self, blocks: Sequence[Found]) -> None:
        self._members, found = zip(*blocks, strict=True)
        places = np.concatenate([np.asarray(members) for members in self._members])
        back = np.argsort(places)
        self._count = len(places) // 2
        fields = list(zip(*found, strict=True))
        alike: dict[tuple[int, ...] | None, list[int]] = {}
        for i, field in enumerate(fields):
            alike.setdefault(None if field[0].ndim == 1 else tuple(v.shape[1] for v in field), []).append(i)
        self._parts: list[tuple[list[int], Array, Layout]] = []
        for widths, indices in alike.items():
            length = np.repeat(widths or (1,) * len(blocks), [len(members) for members in self._members])
            layout = Layout((np.cumsum(length) - length)[back], length[back] if widths else None)
            flat = _array.namespace(fields[0][0]).stack([_flat(fields[i]) for i in indices])
            self._parts.append((indices, flat, layout))

    def other(self, found: Sequence[tuple[Array, ...]]) -> Survey:
        """Return a survey of other quantities of the same blocks of spaces."""
        return Survey(list(zip(self._members, found, strict=True)))

    def at(self, places: NumpyArray) -> tuple[list[Array], list[Array]]:
        """Return the quantities of both spaces of some pairs: (b,), or (b, K) padded with zeros to the largest."""
        return self._side(places), self._side(places + self._count)

    def _side(self, places: NumpyArray) -> list[Array]:
        found: dict[int, Array] = {}
        for indices, values, layout in self._parts:
            xp, index = _array.namespace(values), layout.entries(places, values.shape[1] - 1)
            taken = xp.take(values, _array.from_numpy(np.reshape(index, -1), values), axis=1)
            taken = xp.reshape(taken, (len(indices), *index.shape))
            found |= {i: taken[k, ...] for k, i in enumerate(indices)}
        return [found[i] for i in range(len(found))]


def _flat(arrays: Sequence[Array]) -> Array:
    """Join the entries of arrays, with a zero behind them from which padding is read."""
    xp, kind = _array.namespace(arrays[0]), {"dtype": arrays[0].dtype, "device": _array.device(arrays[0])}
    return xp.concat([*(xp.reshape(v, (-1,)) for v in arrays), xp.zeros(1, **kind)])


def survey(left: Sequence[Space], right: Sequence[Space], read: Read, convert: Convert, dense: bool = False) -> Survey:
    """Read stacks of the spaces of pairs.

    Parameters
    ----------
    left, right : sequences of B spaces
        Of any sizes, all of one library, dtype and device.
    read : callable
        Takes a stack of g spaces of one size and returns arrays whose first axis is g.
    convert : callable
        Widens the spaces' arrays first.
    dense : bool
        Ask for stacks of matrices, whatever form the spaces have.
    """
    spaces = [*left, *right]
    return Survey([_found(spaces, read, convert, block) for block in _blocks(spaces, dense)])


@contextmanager
def surveyed(
    left: Sequence[Space], right: Sequence[Space], read: Read, convert: Convert, dense: bool = False
) -> Iterator[tuple[Survey, Callable[[], Survey]]]:
    """Make a :func:`survey`, and another one of eigenvalues, on threads while the block of this context does something else.

    What ``read`` returns last are symmetric matrices (g, k, k). The context gives the survey of all else, and a function that
    waits for the eigenvalues of these and returns the survey of them, (g, k).
    """
    spaces, found = [*left, *right], []
    with threads.Ahead[Array](spaces[0].weights) as ahead:
        for block in _blocks(spaces, dense):
            members, (*fields, matrices) = _found(spaces, read, convert, block)
            found.append((members, tuple(fields)))
            ahead.add(partial(_array.eigenvalues, matrices), math.prod(matrices.shape))
        whole = Survey(found)
        yield whole, lambda: whole.other([(values,) for values in ahead.finish()])


def each_group(
    left: Sequence[Space],
    right: Sequence[Space],
    read: Read,
    compute: Callable[[list[Array], list[Array]], Array],
    dense: bool = False,
    large: bool = False,
    spectra: bool = False,
) -> Array:
    """Compute one array (b, …) of what is read of the spaces of b problems of like size, and join them in order.

    All spaces are surveyed at once, by their matrices where ``dense``; with ``spectra``, the eigenvalues of the matrices that
    ``read`` returns last take their place. What is ``large``, as matrices are, is surveyed group by group and computed with
    for few problems at a time, as they fit the cache of a CPU.
    """
    convert, surveys = _array.at_least_single, []
    if spectra:
        with surveyed(left, right, read, convert, dense) as (whole, finish):
            surveys = [whole, finish()]
    elif not large:
        surveys = [survey(left, right, read, convert, dense)]
    parts, places = [], []
    for group in groups(left, right, lists=not large):
        found, pairs, step = surveys, group, len(group)
        if large:
            found = [survey([left[i] for i in group], [right[i] for i in group], read, convert, dense)]
            pairs, step = np.arange(len(group)), _FEW if _array.on_cpu(left[0].weights) else step
        for start in range(0, len(group), step):
            few = pairs[start : start + step]
            x, y = zip(*(s.at(few) for s in found), strict=True)
            parts.append(compute(list(chain(*x)), list(chain(*y))))
        places.extend(group.tolist())
    return in_order(parts, places)


def gathered(
    spaces: Sequence[Space],
    read: Read,
    convert: Convert = _array.at_least_single,
    size: int = 0,
    dense: bool = False,
) -> list[Array]:
    """Return quantities of spaces, computed together for all spaces of one size, without padding.

    ``read`` takes a stack of g spaces and returns arrays whose first axis is g; those of shape (g, n) are padded with zeros
    to the largest n, or to ``size``. ``convert`` widens the spaces' arrays first. ``dense`` asks for stacks of matrices.
    """
    size = max(size, *map(_size, spaces))
    places: list[int] = []
    parts = []
    for block in _blocks(spaces, dense):
        members, found = _found(spaces, read, convert, block)
        parts.append([_array.padded(v, size) if v.ndim == 2 else v for v in found])
        places.extend(members)
    return [in_order(list(part), places) for part in zip(*parts, strict=True)]


def converted_all(spaces: Sequence[Space], convert: Convert) -> Sequence[Space]:
    """Convert the arrays of spaces of one dtype to a wider one, if it is another."""
    stored = spaces[0].weights
    return spaces if convert(stored).dtype == stored.dtype else [converted(s, convert) for s in spaces]


def _blocks(spaces: Sequence[Space], dense: bool) -> list[Block]:
    """Split spaces into blocks of one form and size that fit the cache."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, space in enumerate(spaces):
        alike.setdefault(("dense", _size(space)) if dense else _form(space), []).append(i)
    entries, blocks = block_entries(spaces[0].weights), []
    for (kind, n, *_), members in alike.items():
        step = max(1, entries // n**2)
        blocks += [(kind, members[start : start + step]) for start in range(0, len(members), step)]
    return blocks


def _found(spaces: Sequence[Space], read: Read, convert: Convert, block: Block) -> Found:
    """Read the stack of a block; what is read of values out of range is not used."""
    kind, members = block
    with np.errstate(over="ignore", invalid="ignore"):
        return members, read(stack(converted_all([spaces[i] for i in members], convert), kind == "dense"))


def _form(space: Space) -> tuple[Any, ...]:
    """Name what spaces must share to be stacked: their form, their size, and the rank where it is below the size."""
    kind, size = type(space), _size(space)
    if kind is GramSpace:
        return "gram", size, min(size + 1, int(space.data.shape[0]))
    if kind is PointCloud and space.kind == "sqeuclidean" and space.data.shape[1] <= size:
        return "cloud", size, int(space.data.shape[1])
    return "dense", size


def _size(space: Space) -> int:
    """Return the number of atoms, without the checks of :attr:`gwtools.Space.size`: long lists are looked through."""
    return cast(int, space.weights.shape[0])


def stack(spaces: Sequence[Space], dense: bool = False) -> Space:
    """Return spaces of one form and size as one space with a leading axis; by their matrices where ``dense``."""
    first = spaces[0]
    data = [s.dense() for s in spaces] if dense else [s.data for s in spaces]
    if isinstance(first, GramSpace) and not dense:
        # Rows of zeros, which change no inner product, make factors of unequal height alike.
        height = max(int(factor.shape[0]) for factor in data)
        data = [_heightened(factor, height) for factor in data]
    values, weights = _joined(data), _joined([s.weights for s in spaces])
    return dense_space(values, weights) if dense else first.with_data(values, weights)


def _joined(arrays: Sequence[Array]) -> Array:
    """Stack arrays of one shape: joined and cut again, as stacking would handle each by itself."""
    if len(arrays) == 1:
        return arrays[0][None, ...]
    xp, shape = _array.namespace(arrays[0]), (len(arrays), *arrays[0].shape)
    return xp.reshape(xp.concat(list(arrays)), shape)


def _heightened(factor: Array, height: int) -> Array:
    xp, missing = _array.namespace(factor), height - factor.shape[0]
    if not missing:
        return factor
    return xp.concat([factor, xp.zeros((missing, factor.shape[1]), dtype=factor.dtype, device=_array.device(factor))])


def finite(matrices: Array) -> Array:
    """Return matrices (B, k, k) with zeros for each that is not finite: it would spoil the eigenvalues of its stack."""
    xp = _array.namespace(matrices)
    usable = xp.all(xp.isfinite(matrices), axis=(1, 2), keepdims=True)
    return matrices if bool(xp.all(usable)) else xp.where(usable, matrices, xp.zeros_like(matrices))


def block_entries(like: Array, on_cpu: int = _CPU_ENTRIES) -> int:
    """Return how many entries arrays should have that are passed over several times: on a CPU, as its cache holds."""
    return on_cpu if _array.on_cpu(like) else _DEVICE_ENTRIES


def spaces(xs: Sequence[Any], ys: Sequence[Any]) -> tuple[list[Space], list[Space]]:
    """Read two lists of as many spaces, all of one library, dtype and device."""
    left, right = (_read(values, name) for values, name in ((xs, "xs"), (ys, "ys")))
    _check.paired(left, right)
    kinds: dict[Any, tuple[str, int]] = {}
    for name, side in (("xs", left), ("ys", right)):
        for i, space in enumerate(side):
            kinds.setdefault(_array.kind(space.weights), (name, i))
    for name, i in kinds.values():
        _check.same_kind((left if name == "xs" else right)[i].weights, left[0].weights, f"{name}[{i}]", "xs[0]")
    return left, right


def _read(values: Sequence[Any], name: str) -> list[Space]:
    """Read raw matrices as spaces; lists of spaces are looked through by kind, as they may be long."""
    _check.listed(values, name)
    if all(issubclass(kind, Space) for kind in set(map(type, values))):
        return list(values)
    return [as_space(v, f"{name}[{i}]") for i, v in enumerate(values)]


def without_null_values(space: Space) -> Space:
    """Give atoms of weight zero the values of the heaviest atom: whatever theirs are, none is read for more than its size."""
    xp, weights = _array.namespace(space.weights), _array.detached(space.weights)
    if bool(xp.all(weights > 0)):
        return space
    atoms = xp.arange(weights.shape[0], device=_array.device(weights))
    copied = space.restrict(xp.where(weights > 0, atoms, xp.full_like(atoms, int(xp.argmax(weights)))))
    return copied.with_data(copied.data, space.weights)


def groups(left: Sequence[Space], right: Sequence[Space], lists: bool = False) -> Iterator[NumpyArray]:
    """Split problems by sizes that round up to the same multiple; on the CPU, into groups that fit its cache.

    The multiple is the least that leaves enough problems together, as a group costs the same calls whatever its number:
    fewer where it holds matrices than where it holds ``lists``, whose calls are short.
    """
    if not left:
        return
    n, m = (np.fromiter(map(_size, side), np.int64, len(side)) for side in (left, right))
    for step in _STEPS:
        rounded_n, rounded_m = (-(-size // step) for size in (n, m))
        width = int(rounded_m.max()) + 1
        keys, bucket, counts = np.unique(rounded_n * width + rounded_m, return_inverse=True, return_counts=True)
        if len(left) >= (_ENOUGH_LISTS if lists else _ENOUGH) * len(keys):
            break
    entries = block_entries(left[0].weights, _GROUP_ENTRIES)
    buckets = np.split(np.argsort(bucket, kind="stable"), np.cumsum(counts)[:-1])
    for key, members in zip(keys.tolist(), buckets, strict=True):
        sizes = [step * rounded for rounded in divmod(key, width)]
        count = max(1, entries // (sum(sizes) if lists else max(sizes) ** 2))
        yield from (members[start : start + count] for start in range(0, len(members), count))


def saves_work(space: Space) -> bool:
    """Tell whether the space has a form of at most its size in rank."""
    kind, size, *rank = _form(space)
    return bool(kind != "dense" and rank[0] <= size)


def is_low_rank(space: Space) -> bool:
    """Tell whether the space is stacked by a form of low rank."""
    return bool(_form(space)[0] != "dense")


def objective(xs: Sequence[Array], ys: Sequence[Array], rows: Array, cols: Array, mass: Array) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl of sparse couplings, shape (B,), as a sum of squares in which nothing cancels.

    Parameters
    ----------
    xs, ys : sequences of B arrays of shape (n, n) and (m, m)
        Matrices of any sizes.
    rows, cols, mass : arrays of shape (B, K)
        Atoms of the couplings; those without mass come last and name atom 0.
    """
    xp = _array.namespace(mass)
    if _array.library(mass) == "numpy":
        # NumPy's calls cost less than passes over more arrays.
        counts = xp.count_nonzero(mass, axis=1).tolist()
        problems = zip(xs, ys, rows, cols, mass, counts, strict=True)
        return xp.stack([_objective(x, y, i[:k], j[:k], m[:k]) for x, y, i, j, m, k in problems])
    apart = _submatrices(xs, rows) - _submatrices(ys, cols)
    return _array.dot(mass, _array.times(apart * apart, mass))


def _objective(x: Array, y: Array, rows: Array, cols: Array, mass: Array) -> Array:
    """Return one objective of :func:`objective`, in NumPy."""
    apart = x.take(rows, axis=1).take(rows, axis=0)
    apart -= y.take(cols, axis=1).take(cols, axis=0)
    apart *= apart
    return mass @ (apart @ mass)


def _submatrices(matrices: Sequence[Array], index: Array) -> Array:
    """Return C[index, index] for each matrix, shape (B, K, K), by whole rows: matrices are symmetric."""
    xp, (count, width), size = _array.namespace(index), index.shape, max(m.shape[0] for m in matrices)
    flat = xp.reshape(index + size * xp.arange(count, device=_array.device(index))[:, None], (-1,))
    rows = xp.take(xp.reshape(_array.stacked(matrices, size), (count * size, size)), flat, axis=0)
    rows = xp.permute_dims(xp.reshape(rows, (count, width, size)), (0, 2, 1))
    return xp.reshape(xp.take(xp.reshape(rows, (count * size, width)), flat, axis=0), (count, width, width))
