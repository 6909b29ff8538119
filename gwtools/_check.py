"""The only file that rejects input: each error says the requirement, what was received and the remedy, in one sentence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse

from gwtools import _array, _words
from gwtools._array import Array, NumpyArray

MOST_MISSED = 1e-3  # mass by which a given plan's marginal may differ from the weights, in total


def array(value: Any, name: str, ndim: int) -> Array:
    """Require a non-empty array of finite floating-point numbers with ``ndim`` axes, and return it in native byte order."""
    value = floating(value, name, ndim)
    finite(value, name)
    return value


def floating(value: Any, name: str, ndim: int, meant: str | None = None) -> Array:
    """Require a non-empty array of floating-point numbers, finite or not, and return it in native byte order.

    ``meant`` is the argument whose axes the remedy explains, where errors give it another name.
    """
    if not _array.is_array(value):
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX, CuPy or another array-API library, "
            f"but is {_words.shown(value)}: {_words.to_array(value, name)}."
        )
    if _array.is_abstract(value):
        raise TypeError(
            f"{name} must hold numbers, but is an abstract array within jax.jit or jax.vmap: "
            "call gwtools outside of them, where jax.grad alone works."
        )
    _plain(value, name)
    if not _array.is_floating(value):
        raise TypeError(
            f"{name} must hold floating-point numbers, but has dtype {value.dtype}: {_words.to_floating(value, name)}."
        )
    if _array.epsilon(value) < 1e-16:
        raise TypeError(
            f"{name} must hold numbers of at most 64 bits, but has dtype {value.dtype}: "
            f"round them yourself, with {name}.astype(float)."
        )
    axes(value, name, ndim, meant)
    if 0 in tuple(value.shape):
        raise ValueError(
            f"{name} must not be empty, but has shape {tuple(value.shape)}: a space needs at least one atom."
        )
    return _array.native(value)


def axes(value: Array, name: str, ndim: int, meant: str | None = None) -> None:
    """Require ``ndim`` axes."""
    if value.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} {'axis' if ndim == 1 else 'axes'}, but has shape {tuple(value.shape)}: "
            f"{_words.to_axes(value.ndim, meant or name)}."
        )


def _plain(value: Array, name: str) -> None:
    """Refuse arrays whose entries or products mean something else than those of plain ones."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, but is of type MaskedArray: "
            f"leave the masked atoms out, or fill their entries with {name}.filled(value)."
        )
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"{name} must be a plain numpy.ndarray, but is of type {type(value).__name__}: pass numpy.asarray({name})."
        )
    layout = str(getattr(value, "layout", ""))
    if layout.startswith("torch.") and layout != "torch.strided":
        raise TypeError(f"{name} must be a dense tensor, but has layout {layout}: pass {name}.to_dense().")


def instance(value: Any, name: str, kind: type, remedy: str) -> None:
    """Require an instance of one of gwtools' classes."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a gwtools.{kind.__name__}, but is {_words.shown(value)}: {remedy}.")


def flag(value: Any, name: str) -> None:
    """Require a truth value."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, but is {_words.shown(value)}: pass one of these.")


def callback(value: Any) -> None:
    """Require a function, or nothing."""
    if value is not None and not callable(value):
        raise TypeError(
            f"callback must be a function of a gwtools.Progress, but is {_words.shown(value)}: pass one, or leave it out."
        )


def space(value: Any, name: str) -> None:
    """Require an array where a value is no space."""
    if not _array.is_array(value):
        raise TypeError(
            f"{name} must be a gwtools space or a square array, but is {_words.shown(value)}: {_words.to_space(value, name)}."
        )


def keyword(value: str, name: str, meant: str) -> None:
    """Refuse a word in the place of an array."""
    raise TypeError(
        f"{name} must be an array, but is {_words.shown(value)}: pass {meant}={_words.shown(value)} by its name."
    )


def listed(values: Any, name: str) -> None:
    """Require a list of spaces, or a stack of matrices, whose entries can be read more than once."""
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return
    if _array.is_array(values) and values.ndim == 3:
        return
    if isinstance(values, str | bytes):
        remedy = "pass a list of what is read from the files"
    elif _array.is_array(values) or hasattr(values, "weights"):
        remedy = f"pass [{name}] for one pair of spaces"
    else:
        remedy = f"pass list({name}) if it yields spaces"
    raise TypeError(f"{name} must be a list of spaces or square arrays, but is {_words.shown(values)}: {remedy}.")


def paired(xs: Sequence[Any], ys: Sequence[Any]) -> None:
    """Require lists of one length."""
    if len(xs) != len(ys):
        raise ValueError(
            f"xs must have as many spaces as ys, but they have {len(xs)} and {len(ys)}: pass one y for each x."
        )


def some(xs: Sequence[Any]) -> None:
    """Require a list that is not empty, where nothing else tells the array library of the answer."""
    if not xs:
        raise ValueError("xs must hold at least one space, but is empty: no array library is known then.")


def untransformed(arrays: Sequence[Any], name: str, function: str) -> None:
    """Require arrays outside ``jax.grad``, for a function that gradients do not pass."""
    if any(_array.is_array(array) and _array.is_traced(array) for array in arrays):
        raise TypeError(
            f"{name} must be outside of jax.grad for {function}, which gradients do not pass, but is within it: "
            "pass jax.lax.stop_gradient of its arrays, or use another bound, such as spectral or second."
        )


def finite(value: Array, name: str) -> None:
    """Require that no entry is NaN or infinite."""
    xp = _array.namespace(value)
    _finite(bool(xp.all(xp.isfinite(value))), name)


def finite_largest(largest: float, name: str) -> None:
    """Require that no entry is NaN or infinite, from the largest absolute value, which is NaN where an entry is."""
    _finite(math.isfinite(largest), name)


def _finite(met: bool, name: str) -> None:
    if not met:
        raise ValueError(
            f"{name} must be finite, but holds NaN or infinite entries: remove those atoms or replace the entries."
        )


def square(matrix: Array, name: str) -> None:
    """Require as many columns as rows."""
    n, m = matrix.shape
    if n != m:
        raise ValueError(
            f"{name} must be a square matrix, but has shape {(n, m)}: pass the values of all pairs, "
            "or gwtools.PointCloud for coordinates."
        )


def symmetric(skew: float, largest: float, epsilon: float, name: str) -> None:
    """Require a matrix that is symmetric up to rounding (THEORY.md, theorem 14).

    ``skew`` and ``largest`` are its max |C_ik − C_ki| and max |C_ik|, ``epsilon`` the spacing of 1.0 in its dtype.
    """
    if skew > 128 * epsilon * largest:
        raise ValueError(
            f"{name} must be symmetric, but differs from its transpose by up to {skew:.3g}: "
            "pass (C + C.T) / 2 if that is what you mean."
        )


def weights(value: Any, data: Array, size: int, name: str = "weights") -> Array:
    """Return probability weights that match ``data``: uniform for None, else checked and divided by their sum.

    Equal weights are those for None, whatever their rounded sum is; weights in a gradient graph are always divided.
    """
    xp = _array.namespace(data)
    if value is None:
        return _uniform(data, size)
    if _array.is_array(value):
        same_library(value, data, name, "the space's values")
    value = array(value, name, 1)
    same_kind(value, data, name, "the space's values")
    if value.shape[0] != size:
        raise ValueError(
            f"{name} must have one entry for each of the {size} atoms, but has {value.shape[0]}: "
            f"pass an array of shape ({size},)."
        )
    if bool(xp.any(value < 0)):
        raise ValueError(
            f"{name} must be non-negative, but the smallest is {float(xp.min(value)):.3g}: clip or remove those atoms."
        )
    wide = _array.at_least_single(value)
    total = _array.exact_sum(wide)
    if total <= 0.0:
        raise ValueError(f"{name} must have positive mass, but sum to zero: give some atom a positive weight.")
    if abs(total - 1.0) > math.sqrt(_array.epsilon(value)):
        found, _ = _words.apart(total, 1.0, 6)
        raise ValueError(
            f"{name} must sum to 1, but sum to {found}: divide them by their sum if that is what you mean."
        )
    if not _array.tracked(value) and _array.all_equal(value):
        return _uniform(data, size)
    return value if total == 1.0 else xp.astype(_array.normalised(wide), value.dtype)


def columns_are_atoms(factor: Array, given: Any) -> None:
    """Warn of a factor with more rows than columns, unless weights say which are the atoms; refuse weights of the rows.

    Four calls below the user's line, so that the warning points there.
    """
    rows, columns = factor.shape
    if rows <= columns:
        return
    if given is None:
        warnings.warn(
            f"factor has {rows} rows and {columns} columns, and each column is an atom: pass factor.T where rows are the "
            "atoms, or weights, one for each column, to say that columns are.",
            stacklevel=4,
        )
    elif _array.is_array(given) and tuple(given.shape) == (rows,):
        raise ValueError(
            f"weights must have one entry for each of the {columns} columns of factor, but has one for each of the {rows} "
            "rows: pass factor.T where rows are the atoms."
        )


def _uniform(data: Array, size: int) -> Array:
    return _array.namespace(data).full((size,), 1.0 / size, dtype=data.dtype, device=_array.device(data))


def same_library(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library and one device for both arrays."""
    if _array.kind(first) == _array.kind(second):  # quick, as nothing need be named
        return
    _same("library", _array.library(first), _array.library(second), name, other)
    _same("device", str(_array.device(first)), str(_array.device(second)), name, other)


def same_kind(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library, one dtype and one device for both arrays."""
    if _array.kind(first) == _array.kind(second):
        return
    same_library(first, second, name, other)
    _same("dtype", _array.dtype_name(first), _array.dtype_name(second), name, other)


def _same(kind: str, first: str, second: str, name: str, other: str) -> None:
    if first != second:
        raise TypeError(
            f"{name} must have the same array {kind} as {other}, but they have {first} and {second}: "
            "convert one of them first."
        )


def representable(value: float, name: str, like: Array) -> None:
    """Require that a positive number is a normal one of an array's dtype, also after a change of units."""
    least = float(_array.namespace(like).finfo(like.dtype).smallest_normal)
    if value < least:
        found, limit = _words.apart(value, least)
        raise ValueError(
            f"{name} must be at least {limit}, the smallest normal number of {like.dtype}, but is "
            f"{found} in the units of the problem: raise it, or pass wider arrays."
        )


def in_range(largest: float, most: float, like: Array) -> None:
    """Require values of C whose squared differences are numbers of the dtype."""
    if not largest <= most:
        found, limit = _words.apart(largest, most)
        raise ValueError(
            f"values of C must be at most {limit} in absolute value, the range in which squared differences are numbers of "
            f"{like.dtype}, but reach {found}: divide both spaces by one number."
        )


def one_row(rows: int | None, space: object, name: str) -> None:
    """Require a factor of one row; ``rows`` is None where the space has no factor."""
    if rows != 1:
        received = f"is {space!r}" if rows is None else f"has a factor of {rows} rows"
        raise ValueError(
            f"{name} must be a gwtools.GramSpace with a factor of one row, but {received}: "
            "use gwtools.bounds.spectral, which takes any space."
        )


def within_range(fits: bool, name: str) -> None:
    """Require what a name stands for to be within the range of float64."""
    if not fits:
        raise ValueError(
            f"{name} must be within the range of float64, up to {np.finfo(float).max:.2g}, but exceeds it: "
            "divide the stored values by a power of two and multiply the bound by it, or by its square, yourself."
        )


def fits(needed: float, limit: float, shape: tuple[int, int], what: str, name: str) -> None:
    """Require that work on n × m atoms needs no more than ``limit`` bytes."""
    if needed <= limit:
        return
    (n, m), share = shape, math.sqrt(max(limit, 0.0) / needed)
    fewer_n, fewer_m = (max(1, int(size * share)) for size in shape)
    raise MemoryError(
        f"{name} must be small enough for {what}, but {n} × {m} atoms need about {_gigabytes(needed)} GB at once, of which "
        f"{_gigabytes(limit)} GB may be used: take gwtools.Sorted(), gwtools.certify or gwtools.bounds.norm, which hold no "
        f"n × m arrays, subsamples of at most {fewer_n} and {fewer_m} atoms, or a larger memory_limit if the "
        "machine has more."
    )


def memory_limit(value: Any) -> None:
    """Require a number of bytes, or None."""
    if value is not None:
        number(value, "memory_limit", above=0.0)


def _gigabytes(number: float) -> str:
    return f"{float(f'{max(number, 0.0) / 1e9:.3g}'):,.12g}"


def choice(value: Any, name: str, options: Collection[Any]) -> None:
    """Require one of a few values."""
    if not isinstance(value, str | Real | None) or value not in options:
        allowed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {allowed}, but is {_words.shown(value)}: choose one of these.")


def number(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Require a finite real number, greater than ``above`` or at least ``least``, less than ``below``, at most ``most``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or (above is not None and float(value) <= above)
        or (least is not None and float(value) < least)
        or float(value) >= below
        or float(value) > most
    ):
        limit = f"greater than {above:g}" if above is not None else f"at least {least:g}"
        limit += "" if below == math.inf else f" and less than {below:g}"
        limit += "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"{name} must be a finite number {limit}, but is {_words.shown(value)}: pass such a number.")


def integer(value: Any, name: str, *, least: int) -> None:
    """Require an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name} must be an integer at least {least}, but is {_words.shown(value)}: pass such a number."
        )


def indices(value: Any, name: str, size: int) -> None:
    """Require a list of positions among ``size`` atoms."""
    if not _array.is_array(value) or not _array.is_integer(value):
        received = f"has dtype {value.dtype}" if _array.is_array(value) else f"is {_words.shown(value)}"
        remedy = f"pass the positions of the atoms, for example numpy.asarray({name}, dtype=int)"
        raise TypeError(f"{name} must be an array of integers, but {received}: {remedy}.")
    axes(value, name, 1)
    if 0 in tuple(value.shape):
        return
    xp = _array.namespace(value)
    for found in (int(xp.min(value)), int(xp.max(value))):
        if not 0 <= found < size:
            raise ValueError(
                f"{name} must hold positions from 0 to {size - 1}, but holds {found}: count the {size} atoms from 0."
            )


def atoms_of_plan(rows: Any, cols: Any, mass: Any, size: Any) -> None:
    """Require a list of masses with their positions in a matrix of shape ``size``."""
    if not isinstance(size, tuple) or len(size) != 2 or not all(isinstance(n, Integral) and int(n) > 0 for n in size):
        received = repr(size) if isinstance(size, tuple) else _words.shown(size)
        raise TypeError(f"size must be a tuple (n, m) of positive integers, but is {received}: pass the plan's shape.")
    floating(mass, "mass", 1)
    for value, name, most in ((rows, "rows", size[0]), (cols, "cols", size[1])):
        indices(value, name, most)
        same_library(value, mass, name, "mass")
        if value.shape != mass.shape:
            raise ValueError(
                f"{name} must have one entry for each of the {mass.shape[0]} masses, but has {value.shape[0]}: "
                "pass rows, cols and mass of one length."
            )


def coupling_shape(shape: tuple[int, ...], expected: tuple[int, int], name: str = "plan") -> None:
    """Require a plan between spaces of the given sizes."""
    if tuple(shape) != expected:
        raise ValueError(
            f"{name} must have shape {expected}, one row for each atom of x and one column for each of y, "
            f"but has {tuple(shape)}: transpose it or pass the spaces in the plan's order."
        )


def marginal(found: Array, wanted: Array, side: str, epsilon: float | None = None, name: str = "plan") -> None:
    """Require that a given plan's marginal is the space's weights, but for a thousandth of the mass or rounding.

    ``epsilon`` is that of the stored weights where they were widened since.
    """
    xp = _array.namespace(wanted)
    error = _array.number(xp.sum(xp.abs(found - wanted)))
    most = max(MOST_MISSED, math.sqrt(_array.epsilon(wanted) if epsilon is None else epsilon))
    if not error <= most:
        missed, limit = _words.apart(error, most)
        raise ValueError(
            f"{name} must have the weights of {side} as its marginal up to {limit} in total, but misses them by {missed}: "
            "pass a coupling of the two spaces' weights, as gwtools.round_plan gives one."
        )


def same_weights(first: Array, second: Array, name: str, other: str) -> None:
    """Require one size and, up to rounding, one list of weights."""
    if first.shape != second.shape:
        raise ValueError(
            f"{name} must have the atoms of {other}, but they have {second.shape[0]} and {first.shape[0]}: "
            "pass two spaces over the same atoms."
        )
    apart = _array.number(_array.namespace(first).max(_array.namespace(first).abs(first - second)))
    if apart > 128 * _array.epsilon(first):
        raise ValueError(
            f"{name} must have the weights of {other}, but they differ by up to {apart:.3g}: "
            "pass two spaces over the same atoms, with equal weights."
        )


def non_negative(mass: Array, name: str) -> None:
    """Require that a plan carries no negative mass."""
    xp = _array.namespace(mass)
    if bool(xp.any(mass < 0)):
        raise ValueError(
            f"{name} must be non-negative, but its smallest entry is {float(xp.min(mass)):.3g}: clip and rescale it."
        )


def graph(value: Any) -> None:
    """Require a sparse matrix or a networkx graph without directions."""
    if scipy.sparse.issparse(value):
        if value.ndim != 2 or value.shape[0] != value.shape[1] or value.shape[0] == 0:
            raise ValueError(
                f"adjacency must be a square matrix with one row for each node, but has shape {tuple(value.shape)}: "
                "pass the edge lengths of all pairs of at least one node."
            )
        if value.dtype.kind not in "biuf":
            raise TypeError(f"adjacency must hold real numbers, but has dtype {value.dtype}: convert it first.")
        return
    if not _words.is_networkx(value):
        raise TypeError(
            f"adjacency must be a scipy.sparse matrix or a networkx graph, but is of type {type(value).__name__}: "
            "convert it first, for example with scipy.sparse.csr_array(adjacency)."
        )
    if len(value) == 0:
        raise ValueError("adjacency must have at least one node, but the graph is empty: add its nodes first.")
    if value.is_directed():
        raise ValueError(
            "adjacency must be an undirected graph, but its edges have directions: "
            "pass graph.to_undirected() if that is what you mean."
        )


def attribute(name: Any, said: bool, adjacency: Any) -> None:
    """Require the name of an attribute of a networkx graph's edges, or None."""
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"weight must be the name of an edge attribute or None, but is {_words.shown(name)}: "
            "pass weights, in the plural, for the weights of the nodes."
        )
    if said and name is not None and scipy.sparse.issparse(adjacency):
        raise ValueError(
            f"weight must be left out or None for a sparse matrix, whose entries are lengths, but is {name!r}: "
            "name attributes of a networkx graph alone."
        )


def attributes(values: list[Any], name: str | None, said: bool) -> list[float]:
    """Return the lengths of edges; require the attribute of all of them, or of none where nobody has asked for it."""
    missing = sum(value is None for value in values)
    if missing and (said or missing < len(values)):
        raise ValueError(
            f"adjacency must have the attribute {str(name)!r} on every edge, but {missing} of {len(values)} edges lack it: "
            "set it there, or pass weight=None for edges of length 1."
        )
    if missing:
        return [1.0] * len(values)
    for value in values:
        if not isinstance(value, Real):
            raise TypeError(
                f"adjacency must have real numbers as the attribute {str(name)!r} of its edges, but one is "
                f"{_words.shown(value)}: convert it first."
            )
    if not said and len(set(values)) > 1:
        warnings.warn(
            f"adjacency has the edge attribute 'weight', from {min(values):.3g} to {max(values):.3g}, which is read as the "
            "length of an edge: where it says how strong an edge is, pass weight=None for edges of length 1, or "
            "weight='length' after storing 1 / weight there; weight='weight' says that lengths are meant.",
            stacklevel=5,
        )
    return [float(value) for value in values]


def edge_lengths(adjacency: scipy.sparse.csr_array) -> None:
    """Require finite and non-negative edge lengths, the same both ways up to rounding."""
    lengths = adjacency.data
    finite(lengths, "adjacency")
    if (lengths < 0).any():
        raise ValueError(
            f"adjacency must hold non-negative edge lengths, but the smallest is {lengths.min():.3g}: "
            "turn similarities into lengths first, for example by -log or 1 / weight."
        )
    present = scipy.sparse.csr_array((np.ones_like(lengths), adjacency.indices, adjacency.indptr), adjacency.shape)
    skew, missing = (abs(matrix - matrix.T).max() for matrix in (adjacency, present))
    if missing or skew > 128 * np.finfo(float).eps * lengths.max(initial=0.0):
        raise ValueError(
            "adjacency must be symmetric, but some edge has another length the other way or is missing there: "
            "pass adjacency.maximum(adjacency.T) if that is what you mean."
        )


def connected(count: int, labels: NumpyArray, nodes: Sequence[Any]) -> None:
    """Require that every node can be reached from every other."""
    if count == 1:
        return
    sizes = np.bincount(labels)
    shown = np.argsort(-sizes, kind="stable")[:5]
    named = "; ".join(f"{sizes[c]} nodes, one is {nodes[int(np.argmax(labels == c))]!r}" for c in shown)
    raise ValueError(
        f"adjacency must connect all nodes, but has {count} components ({named}{'; …' if count > len(shown) else ''}): "
        "pass the largest one alone, or add the edges that are missing."
    )


def unreadable(place: str, requirement: str, received: str, remedy: str) -> ValueError:
    """Return the error about what a file holds; ``place`` names the file and, where there are any, its line and column."""
    return ValueError(f"{place} must {requirement}, but {received}: {remedy}.")
