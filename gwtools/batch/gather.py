"""Spaces of unequal sizes brought together: those of one form and size are stacked, what is read of them is padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.batch.stacks import CloudStack, DenseStack, GramStack, Stack
from gwtools.spaces import GramSpace, PointCloud, Space, as_space, converted

_BLOCK_ENTRIES = 2**18
_DEVICE_ENTRIES = 2**24
_STEPS, _ENOUGH = (8, 16, 32), 64
T = TypeVar("T", bound=tuple[Any, ...])

Convert = Callable[[Array], Array]


class Profile(NamedTuple):
    """What transports and norms need of B spaces, padded: weights, f_C and α (B, N); m_C and ‖R‖² (B,)."""

    weights: Array
    row_means: Array
    deviations: Array
    mean: Array
    residual_norm_squared: Array


def profile(spaces: Sequence[Space], convert: Convert = _array.at_least_single, dense: bool = False) -> Profile:
    """Compute the profiles of spaces of any sizes."""

    def read(s: Stack) -> Profile:
        return Profile(s.weights, s.row_means, s.deviations, s.mean, s.residual_norm_squared)

    return Profile(*gathered(spaces, read, convert, dense=dense))


def stack(spaces: Sequence[Space], size: int, convert: Convert = _array.at_least_single) -> Stack:
    """Stack spaces of at most ``size`` atoms, padded."""
    weights, matrix = gathered(spaces, lambda s: (s.weights, padded(s.matrix, size)), convert, size, dense=True)
    return DenseStack(weights, matrix)


def gathered(
    spaces: Sequence[Space],
    read: Callable[[Stack], tuple[Array, ...]],
    convert: Convert = _array.at_least_single,
    size: int = 0,
    dense: bool = False,
) -> list[Array]:
    """Return quantities of spaces, computed together for all spaces of one size, without padding.

    ``read`` takes a stack of g spaces and returns arrays whose first axis is g; those of shape (g, n) are padded with zeros
    to the largest n, or to ``size``. ``convert`` widens the spaces' arrays first. ``dense`` asks for stacks of matrices.
    """
    if convert(spaces[0].weights).dtype != spaces[0].weights.dtype:
        spaces = [converted(s, convert) for s in spaces]
    size = max(size, *(s.size for s in spaces))
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, space in enumerate(spaces):
        alike.setdefault(("dense", space.size) if dense else _form(space), []).append(i)
    places: list[int] = []
    parts = []
    for (kind, n, *_), members in alike.items():
        step = max(1, _BLOCK_ENTRIES // n**2)
        for start in range(0, len(members), step):
            found = read(_JOINED[kind]([spaces[i] for i in members[start : start + step]]))
            parts.append([padded(v, size) if v.ndim == 2 else v for v in found])
        places.extend(members)
    return [in_order(list(part), places) for part in zip(*parts, strict=True)]


def in_order(parts: Sequence[Array], places: Sequence[int]) -> Array:
    """Join parts of a (B, …) array, whose problems stand at the given places, in the order of the problems."""
    joined = parts[0] if len(parts) == 1 else _array.namespace(parts[0]).concat(parts)
    if list(places) == list(range(len(places))):
        return joined
    return taken(joined, sorted(range(len(places)), key=places.__getitem__))


def _form(space: Space) -> tuple[Any, ...]:
    """Name what spaces must share to be stacked: their form, their size, and the rank where it is below the size."""
    if isinstance(space, GramSpace):
        return "gram", space.size, min(space.size + 1, int(space.factor.shape[0]))
    if isinstance(space, PointCloud) and space.metric == "sqeuclidean":
        return "cloud", space.size, int(space.points.shape[1])
    return "dense", space.size


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
    left, right = (
        [as_space(v, f"{name}[{i}]") for i, v in enumerate(values)] for values, name in ((xs, "xs"), (ys, "ys"))
    )
    if len(left) != len(right):
        raise ValueError(
            f"xs and ys must have the same length, but have {len(left)} and {len(right)}: pass one y for each x."
        )
    kinds: dict[Any, Array] = {}
    for space in (*left, *right):
        weights = space.weights
        kinds.setdefault((type(weights), weights.dtype, _array.device(weights)), weights)
    for weights in kinds.values():
        _check.same_kind(weights, left[0].weights, "every space", "the first one")
    return left, right


def groups(left: Sequence[Space], right: Sequence[Space]) -> Iterator[list[int]]:
    """Split problems by sizes that round up to the same multiple; on the CPU, into groups that fit its cache.

    The multiple is the least that leaves enough problems together, as a group costs the same calls whatever its number.
    """
    for step in _STEPS:
        buckets: dict[tuple[int, int], list[int]] = {}
        for i, (x, y) in enumerate(zip(left, right, strict=True)):
            buckets.setdefault((-(-x.size // step), -(-y.size // step)), []).append(i)
        if len(left) >= _ENOUGH * len(buckets):
            break
    entries = _BLOCK_ENTRIES if _array.on_cpu(left[0].weights) else _DEVICE_ENTRIES
    for key, members in buckets.items():
        count = max(1, entries // (max(key) * step) ** 2)
        yield from (members[start : start + count] for start in range(0, len(members), count))


def saves_work(space: Space) -> bool:
    """Tell whether the space has a form of at most its size in rank."""
    kind, size, *rank = _form(space)
    return bool(kind != "dense" and rank[0] <= size)


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
