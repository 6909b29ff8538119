"""Spaces of unequal sizes brought together: those of one form and size are stacked, what is read of them is padded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.batch import threads
from gwtools.batch.stacks import CloudStack, DenseStack, GramStack, Stack, block_entries
from gwtools.spaces import GramSpace, PointCloud, Space, as_space, converted

_GROUP_ENTRIES = 2**18
_STEPS, _ENOUGH, _ENOUGH_LISTS = (8, 16, 32), 64, 256
_FEW = 12
T = TypeVar("T", bound=tuple[Any, ...])

Convert = Callable[[Array], Array]
Read = Callable[[Stack], tuple[Array, ...]]
Block = tuple[str, list[int]]
Found = tuple[list[int], tuple[Array, ...]]


class Profile(NamedTuple):
    """What transports and norms need of B spaces, padded: weights, f_C and α (B, N); m_C and ‖R‖² (B,)."""

    weights: Array
    row_means: Array
    deviations: Array
    mean: Array
    residual_norm_squared: Array


def profile(s: Stack) -> Profile:
    """Read the profile of a stack."""
    return Profile(s.weights, s.row_means, s.deviations, s.mean, s.residual_norm_squared)


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
    large: bool = False,
    spectra: bool = False,
) -> Array:
    """Compute one array (b, …) of what is read of the spaces of b problems of like size, and join them in order.

    All spaces are surveyed at once; with ``spectra``, the eigenvalues of the matrices that ``read`` returns last take their
    place. What is ``large``, as matrices are, is surveyed group by group and computed with for few problems at a time, as they
    fit the cache of a CPU.
    """
    convert, surveys = _array.at_least_single, []
    if spectra:
        with surveyed(left, right, read, convert) as (whole, finish):
            surveys = [whole, finish()]
    elif not large:
        surveys = [survey(left, right, read, convert)]
    parts, places = [], []
    for group in groups(left, right, lists=not large):
        found, pairs, step = surveys, group, len(group)
        if large:
            found = [survey([left[i] for i in group], [right[i] for i in group], read, convert)]
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
        parts.append([padded(v, size) if v.ndim == 2 else v for v in found])
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
        return members, read(_JOINED[kind](converted_all([spaces[i] for i in members], convert)))


def in_order(parts: Sequence[Array], places: Sequence[int]) -> Array:
    """Join parts of a (B, …) array, whose problems stand at the given places, in the order of the problems."""
    joined = parts[0] if len(parts) == 1 else _array.namespace(parts[0]).concat(parts)
    if list(places) == list(range(len(places))):
        return joined
    return taken(joined, sorted(range(len(places)), key=places.__getitem__))


def _form(space: Space) -> tuple[Any, ...]:
    """Name what spaces must share to be stacked: their form, their size, and the rank where it is below the size."""
    kind, size = type(space), _size(space)
    if kind is GramSpace:
        return "gram", size, min(size + 1, int(space.data.shape[0]))
    if kind is PointCloud and cast(PointCloud, space).metric == "sqeuclidean":
        return "cloud", size, int(space.data.shape[1])
    return "dense", size


def _size(space: Space) -> int:
    """Return the number of atoms, without the checks of :attr:`gwtools.Space.size`: long lists are looked through."""
    return cast(int, space.weights.shape[0])


def _joined(arrays: Sequence[Array], weights: Sequence[Array]) -> tuple[Array, Array]:
    """Stack matrices of one shape, and their weights: joined and cut again, as stacking would handle each by itself."""
    xp, shape = _array.namespace(weights[0]), (len(arrays), *arrays[0].shape)
    if len(arrays) == 1:
        return arrays[0][None, ...], weights[0][None, ...]
    return xp.reshape(xp.concat(list(arrays)), shape), xp.reshape(xp.concat(list(weights)), (shape[0], -1))


def _dense(spaces: Sequence[Space]) -> Stack:
    matrix, weights = _joined([s.dense() for s in spaces], [s.weights for s in spaces])
    return DenseStack(weights, matrix)


def _gram(spaces: Sequence[Space]) -> Stack:
    """Stack factors; rows of zeros, which change no inner product, make factors of unequal height alike."""
    factors = [s.data for s in spaces]
    height = max(int(f.shape[0]) for f in factors)
    factor, weights = _joined([_heightened(f, height) for f in factors], [s.weights for s in spaces])
    return GramStack(weights, factor)


def _heightened(factor: Array, height: int) -> Array:
    xp, missing = _array.namespace(factor), height - factor.shape[0]
    if not missing:
        return factor
    return xp.concat([factor, xp.zeros((missing, factor.shape[1]), dtype=factor.dtype, device=_array.device(factor))])


def _cloud(spaces: Sequence[Space]) -> Stack:
    points, weights = _joined([s.data for s in spaces], [s.weights for s in spaces])
    return CloudStack(weights, points)


_JOINED: dict[str, Callable[[Sequence[Space]], Stack]] = {"dense": _dense, "gram": _gram, "cloud": _cloud}


def padded(array: Array, size: int) -> Array:
    """Pad all axes but the first with zeros to the length ``size``."""
    xp, kind = _array.namespace(array), {"dtype": array.dtype, "device": _array.device(array)}
    for axis in range(1, array.ndim):
        if (missing := size - array.shape[axis]) > 0:
            shape = (*array.shape[:axis], missing, *array.shape[axis + 1 :])
            array = xp.concat([array, xp.zeros(shape, **kind)], axis=axis)
    return array


def taken(values: Array, places: Sequence[int]) -> Array:
    """Return the problems at the given places of a (B, …) array."""
    return _array.namespace(values).take(values, _index(places, values), axis=0)


def _index(places: Sequence[int], like: Array) -> Array:
    return _array.from_numpy(np.asarray(places, dtype=np.int64), like)


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


def at(values: T, places: Sequence[int]) -> T:
    """Return the problems at the given places of a named tuple of (B, …) arrays."""
    index, take = _index(places, values[0]), _array.namespace(values[0]).take
    return cast(T, cast(Any, type(values))(*[take(v, index, axis=0) for v in values]))


def together(parts: Sequence[T], places: Sequence[int]) -> T:
    """Join named tuples of (B, …) arrays, whose problems stand at the given places, in the order of the problems."""
    return cast(T, cast(Any, type(parts[0]))(*(in_order(part, places) for part in zip(*parts, strict=True))))


def split(mask: Array) -> tuple[list[int], list[int]]:
    """Return the places where a mask (B,) holds, and the others: one crossing to the CPU for all problems."""
    here = _array.to_numpy(mask)
    return np.nonzero(here)[0].tolist(), np.nonzero(~here)[0].tolist()
