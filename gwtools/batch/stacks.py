"""Spaces of unequal sizes as one stack of arrays, padded with atoms that carry no weight, and transports between two stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools.spaces import Space, converted

# Entries of the arrays that are passed over several times: they stay in the processor's cache.
_BLOCK_ENTRIES = 2**16


@dataclass(frozen=True, eq=False)
class Stack:
    """B spaces of up to N atoms as arrays; each quantity is that of :class:`gwtools.Space`, with one more axis in front.

    Padding atoms have weight zero and zero rows, so that no mean, norm or transport sees them.
    """

    matrix: Array
    weights: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Number of spaces and of padded atoms (B, N)."""
        count, size = self.weights.shape
        return count, size

    @cached_property
    def row_means(self) -> Array:
        """f_C = C a, shape (B, N), in units of C."""
        return self.averaged(self.matrix)

    @cached_property
    def mean(self) -> Array:
        """m_C = aᵀ C a, shape (B,), in units of C."""
        return dot(self.weights, self.row_means)

    @cached_property
    def deviations(self) -> Array:
        """α = f_C − m_C, shape (B, N), in units of C."""
        return self.row_means - self.mean[:, None]

    @cached_property
    def residual(self) -> Array:
        """R = C − m − α1ᵀ − 1αᵀ, shape (B, N, N), in units of C; of no meaning at padding atoms."""
        alpha = self.deviations
        return self.matrix - alpha[:, :, None] - (alpha + self.mean[:, None])[:, None, :]

    @cached_property
    def residual_norm_squared(self) -> Array:
        """‖R‖² = Σ a_i a_k R_ik², shape (B,), in squared units of C."""
        return dot(self.weights, self.averaged(self.residual**2))

    @property
    def largest(self) -> Array:
        """Largest |C_ik|, shape (B,), in units of C."""
        xp = _array.namespace(self.matrix)
        axes = (1, 2)
        return xp.maximum(xp.max(self.matrix, axis=axes), -xp.min(self.matrix, axis=axes))

    @property
    def skew(self) -> Array:
        """Largest |C_ik − C_ki|, shape (B,), in units of C."""
        xp, C = _array.namespace(self.matrix), self.matrix
        return xp.max(xp.abs(C - xp.permute_dims(C, (0, 2, 1))), axis=(1, 2))

    def averaged(self, matrix: Array) -> Array:
        """Return the weighted means of the rows of a (B, N, N) array, shape (B, N)."""
        return (matrix @ self.weights[:, :, None])[:, :, 0]

    def power_means(self, p: float) -> Array:
        """Return Σ_k a_k |C_ik|^p, shape (B, N), in units of C to the power p."""
        return self.averaged(_array.namespace(self.matrix).abs(self.matrix) ** p)

    def spectrum(self) -> Array:
        """Return the eigenvalues of diag(√a) R diag(√a), ascending, shape (B, N); padding adds zeros."""
        root = rooted(self.weights, 2.0)
        return _array.namespace(root).linalg.eigvalsh(root[:, :, None] * self.residual * root[:, None, :])


class Profile(NamedTuple):
    """What transports and norms need of B spaces, padded: weights, f_C and α (B, N); m_C and ‖R‖² (B,)."""

    weights: Array
    row_means: Array
    deviations: Array
    mean: Array
    residual_norm_squared: Array


def profile(spaces: Sequence[Space], convert: Callable[[Array], Array] = _array.at_least_single) -> Profile:
    """Compute the profiles of spaces of any sizes."""

    def read(s: Stack) -> Profile:
        return Profile(s.weights, s.row_means, s.deviations, s.mean, s.residual_norm_squared)

    return Profile(*gathered(spaces, read, convert))


Convert = Callable[[Array], Array]


def stack(spaces: Sequence[Space], size: int, convert: Convert = _array.at_least_single) -> Stack:
    """Stack spaces of at most ``size`` atoms, padded."""
    return Stack(*gathered(spaces, lambda s: (padded(s.matrix, size), s.weights), convert, size))


def gathered(
    spaces: Sequence[Space],
    read: Callable[[Stack], tuple[Array, ...]],
    convert: Convert = _array.at_least_single,
    size: int = 0,
) -> list[Array]:
    """Return quantities of spaces, computed together for all spaces of one size, without padding.

    ``read`` takes a stack of g spaces and returns arrays whose first axis is g; those of shape (g, n) are padded with zeros
    to the largest n, or to ``size``. ``convert`` widens the spaces' arrays first.
    """
    if convert(spaces[0].weights).dtype != spaces[0].weights.dtype:
        spaces = [converted(s, convert) for s in spaces]
    sizes = [s.size for s in spaces]
    order, size = sorted(range(len(sizes)), key=sizes.__getitem__), max(size, *sizes)
    parts = []
    for n, alike in groupby(order, key=sizes.__getitem__):
        places, step = list(alike), max(1, 4 * _BLOCK_ENTRIES // n**2)
        for start in range(0, len(places), step):
            found = read(_exact([spaces[i] for i in places[start : start + step]]))
            parts.append([padded(v, size) if v.ndim == 2 else v for v in found])
    back = sorted(range(len(order)), key=order.__getitem__)
    return [taken(_array.namespace(part[0]).concat(part), back) for part in zip(*parts, strict=True)]


def _exact(spaces: Sequence[Space]) -> Stack:
    """Stack spaces of one size."""
    xp = _array.namespace(spaces[0].weights)
    shape = (len(spaces), spaces[0].size)
    # Joined and cut again: stacking would handle every array by itself.
    matrix = xp.reshape(xp.concat([s.dense() for s in spaces]), (*shape, shape[1]))
    return Stack(matrix, xp.reshape(xp.concat([s.weights for s in spaces]), shape))


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
    xp = _array.namespace(values)
    return xp.take(values, xp.asarray(places, device=_array.device(values)), axis=0)


def dot(first: Array, second: Array) -> Array:
    """Return the inner products of the rows of two (B, K) arrays, shape (B,)."""
    return _array.namespace(first, second).vecdot(first, second)


def rooted(value: Array, p: float) -> Array:
    """The p-th root, with a zero subgradient at zero."""
    xp = _array.namespace(value)
    positive = value > 0
    ones = xp.ones_like(value)
    root = xp.where(positive, value, ones) ** (1.0 / p)
    return xp.where(positive, root, 0.0 * ones)


class Atoms(NamedTuple):
    """Sorting couplings: atoms of both sides and masses, shape (B, K), those without mass last; and which are balanced.

    A problem is balanced where all its n = m weights are one number, so that values pair off.
    """

    rows: Array
    cols: Array
    mass: Array
    balanced: Array


def comonotone(x: Array, a: Array, y: Array, b: Array) -> Atoms:
    """Couple each row of values with its partner in sorted order: :func:`gwtools.linear.comonotone` of many lists.

    Parameters
    ----------
    x, a : arrays of shape (B, N)
        Values and weights; atoms of weight zero take no part.
    y, b : arrays of shape (B, M)
        Values and weights.

    Returns
    -------
    Atoms
        N + M atoms for each problem, most of those without mass cut off.
    """
    xp, (count, n) = _array.namespace(x, a, y, b), x.shape
    order_x, order_y = xp.argsort(x, axis=1), xp.argsort(y, axis=1)
    ends_x, ends_y = (_ends(w, order) for w, order in ((a, order_x), (b, order_y)))
    ends = xp.concat([ends_x, ends_y], axis=1)
    # One merge for each problem: the place of an end among those of its own list is the atom that its cell belongs to.
    order = xp.argsort(ends, axis=1)
    ends = xp.take_along_axis(ends, order, axis=1)
    mass = ends - xp.concat([xp.zeros((count, 1), dtype=a.dtype, device=_array.device(a)), ends[:, :-1]], axis=1)
    of_x = xp.astype(order < n, order.dtype)
    first = xp.clip(xp.cumulative_sum(of_x, axis=1) - of_x, max=n - 1)
    second = xp.clip(xp.cumulative_sum(1 - of_x, axis=1) - 1 + of_x, max=y.shape[1] - 1)
    level = xp.max(a, axis=1)
    paired = balanced(a, b)
    mass = xp.where(paired[:, None] & (mass > 0), level[:, None], mass)
    # Cells without length go last, name atom 0, and those that are one in every problem go away.
    here = mass > 0
    width = int(xp.max(support(mass)))
    kept = xp.argsort(xp.astype(~here, order.dtype), axis=1)[:, :width]
    first, second, mass = (xp.take_along_axis(v, kept, axis=1) for v in (first, second, mass))
    rows, cols = xp.take_along_axis(order_x, first, axis=1), xp.take_along_axis(order_y, second, axis=1)
    none = xp.zeros_like(rows)
    return Atoms(xp.where(mass > 0, rows, none), xp.where(mass > 0, cols, none), mass, paired)


def _ends(weights: Array, order: Array) -> Array:
    """Right ends of the sorted atoms' cells, of which the last is 1."""
    xp = _array.namespace(weights)
    ends = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=1), axis=1)
    return ends / ends[:, -1:]


def balanced(a: Array, b: Array) -> Array:
    """Tell for each problem whether all positive weights of both lists are one number, as many on both sides."""
    xp = _array.namespace(a, b)
    level = xp.max(a, axis=1)
    flat = [xp.all((w == level[:, None]) | (w == 0), axis=1) for w in (a, b)]
    return flat[0] & flat[1] & (support(a) == support(b))


def support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (B,)."""
    xp = _array.namespace(weights)
    return xp.count_nonzero(weights, axis=1)


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (B,): :func:`gwtools.linear.line` of many lists."""
    return total(comonotone(x, a, y, b), x, y, p)


def total(atoms: Atoms, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of each coupling, shape (B,)."""
    xp = _array.namespace(x, y)
    apart = xp.abs(xp.take_along_axis(x, atoms.rows, axis=1) - xp.take_along_axis(y, atoms.cols, axis=1))
    return dot(atoms.mass, apart if p == 1 else apart**p)


def objective(x: Stack, y: Stack, rows: Array, cols: Array, mass: Array) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl of sparse couplings, shape (B,), as a sum of squares in which nothing cancels."""
    xp, (count, width) = _array.namespace(x.matrix), mass.shape
    step = max(1, _BLOCK_ENTRIES // width**2)
    parts = []
    for i in range(0, count, step):
        block = slice(i, min(i + step, count))
        apart = _submatrices(x.matrix[block, ...], rows[block, :]) - _submatrices(y.matrix[block, ...], cols[block, :])
        parts.append(dot(mass[block, :], ((apart * apart) @ mass[block, :, None])[:, :, 0]))
    return xp.concat(parts)


def _submatrices(matrix: Array, index: Array) -> Array:
    """Return C[index, index] for each problem, shape (B, K, K), by whole rows: matrices are symmetric."""
    xp, (count, size, _) = _array.namespace(matrix), matrix.shape
    flat = xp.reshape(index + size * xp.arange(count, device=_array.device(index))[:, None], (-1,))
    rows = xp.take(xp.reshape(matrix, (count * size, size)), flat, axis=0)
    rows = xp.permute_dims(xp.reshape(rows, (count, -1, size)), (0, 2, 1))
    width = index.shape[1]
    return xp.reshape(xp.take(xp.reshape(rows, (count * size, width)), flat, axis=0), (count, width, width))
