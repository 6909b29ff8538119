"""Preparation: two spaces made ready to compute with, in units near 1 (``prepare``).

Atoms without weight are dropped, half precision is converted, and values whose squares
would over- or underflow are rescaled. Plans of the atoms that are kept go back into
plans of all (``embed``).
"""

from __future__ import annotations

from dataclasses import dataclass

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, SparsePlan, changed, make_unchecked
from gwtools.spaces import DenseSpace, Space, converted

# Fourth powers of values between the inverse of these and these neither overflow nor
# lose digits.
_SAFE_DOUBLE = 2.0**200
_SAFE_SINGLE = 2.0**24
# The squared difference of two values of at most this size is still a number.
_MOST_DOUBLE = 2.0**509
_MOST_SINGLE = 2.0**61


@dataclass(frozen=True, eq=False)
class Prepared:
    """Two spaces made ready to compute with, and how they differ from those given.

    Parameters
    ----------
    x, y : Space
        The spaces: atoms without weight dropped, half precision converted, units near
        1.
    unit : float
        A power of four: values of C are ``unit`` times those of the prepared spaces,
        exactly, up to a constant that may have been subtracted from both matrices,
        exactly too.
    atoms : pair of arrays or None
        Positions of the atoms that are kept of each space; None where all are.
    """

    x: Space
    y: Space
    unit: float
    atoms: tuple[Array | None, Array | None]


def prepare(x: Space, y: Space, beside: float = 0.0) -> Prepared:
    """Make two spaces ready to compute with.

    Drop atoms of zero weight, convert half precision to single, subtract a large common
    constant, and rescale where squares would over- or underflow.

    Parameters
    ----------
    x, y : Space
        Spaces of one array library, dtype and device.
    beside : float
        The size of other values that are computed with, in units of C.

    Returns
    -------
    Prepared
        The spaces to compute with, their unit and the atoms that were kept.

    Raises
    ------
    TypeError
        If the spaces differ in array library, dtype or device.
    ValueError
        If values of C are too large for their squares to be numbers of the dtype.
    """
    _check.same_kind(x.weights, y.weights, "x", "y")
    arrays = (x.data, x.weights, y.data, y.weights)
    _check_spaces.readable(arrays, "x and y")
    # 1. Atoms without weight count nothing, and divisions by weights need them gone.
    x, atoms_x = restrict_to_support(x)
    y, atoms_y = restrict_to_support(y)
    # 2. Sums of half-precision numbers need single precision.
    x = converted(x, _array.at_least_single)
    y = converted(y, _array.at_least_single)
    # 3. Beyond this size the objective itself has no number.
    require_in_range(x, y)
    # 4. A common constant would cost the digits of what the matrices differ by.
    x, y = without_offset(x, y)
    # 5. Scaling by a power of four is exact, and so is that by its root.
    unit = common_unit(x, y, beside=beside)
    if unit != 1.0:
        x = x.scaled(1 / unit)
        y = y.scaled(1 / unit)
    return Prepared(x, y, unit, (atoms_x, atoms_y))


def prepare_as_given(x: Space, y: Space) -> Prepared:
    """Make two spaces ready as :func:`prepare`, their values kept as they are.

    For losses that depend on more than differences of values, or are in other units.

    Parameters
    ----------
    x, y : Space
        Spaces of one array library, dtype and device.

    Returns
    -------
    Prepared
        Without the atoms of weight 0, in at least single precision.
    """
    _check.same_kind(x.weights, y.weights, "x", "y")
    _check_spaces.readable((x.data, x.weights, y.data, y.weights), "x and y")
    x, atoms_x = restrict_to_support(x)
    y, atoms_y = restrict_to_support(y)
    x = converted(x, _array.at_least_single)
    y = converted(y, _array.at_least_single)
    require_in_range(x, y)
    return Prepared(x, y, 1.0, (atoms_x, atoms_y))


def require_in_range(*spaces: Space) -> None:
    """Refuse values of C whose squared differences are no numbers of the dtype."""
    largest = max(space.largest() for space in spaces)
    like = spaces[0].weights
    _check_spaces.in_range(largest, most_size(like), like)


def common_unit(*spaces: Space, beside: float = 0.0) -> float:
    """Return 1 where fourth powers of all values are numbers, else a power of four."""
    largest = max(beside, *(space.largest() for space in spaces))
    safe = safe_size(spaces[0].weights)
    if largest == 0.0:
        return 1.0
    if 1 / safe < largest < safe:
        return 1.0
    return _array.power_of_four(largest)


def is_double(like: Array) -> bool:
    """Tell whether arrays are as precise as float64."""
    return _array.epsilon(like) < 1e-10


def safe_size(like: Array) -> float:
    """Return s such that values of C between 1/s and s need no change of units."""
    if is_double(like):
        return _SAFE_DOUBLE
    return _SAFE_SINGLE


def most_size(like: Array) -> float:
    """Return the largest size of values of C whose squared differences are numbers."""
    if is_double(like):
        return _MOST_DOUBLE
    return _MOST_SINGLE


def without_offset(x: Space, y: Space) -> tuple[Space, Space]:
    """Subtract a common constant from both matrices where it hides their differences.

    No objective changes, as F(C − c, D − c) = F(C, D), and no entry has a float error:
    the difference of two numbers is exact where neither is more than twice the other
    (Sterbenz).
    """
    # Other spaces compute C from their data, which have no constant to take off.
    if not isinstance(x, DenseSpace):
        return x, y
    if not isinstance(y, DenseSpace):
        return x, y
    low_x, high_x = x.extremes()
    low_y, high_y = y.extremes()
    offset = common_offset(low_x, low_y, high_x, high_y)
    if offset == 0.0:
        return x, y
    return x.shifted(offset), y.shifted(offset)


def common_offset(
    low_x: float,
    low_y: float,
    high_x: float,
    high_y: float,
) -> float:
    """Return the constant that :func:`without_offset` subtracts, 0 for none.

    Parameters
    ----------
    low_x, low_y, high_x, high_y : float
        The least and the largest values of C and of D.

    Returns
    -------
    float
        The middle of all values where they differ by at most an eighth of the least
        absolute value, else 0.
    """
    low = min(low_x, low_y)
    high = max(high_x, high_y)
    # The least and the largest absolute value, of values of one sign.
    if low > 0:
        near = low
        far = high
    else:
        near = -high
        far = -low
    if near <= 0:
        return 0.0
    if far - near > near / 8:
        return 0.0
    return low + (high - low) / 2


def restrict_to_support(space: Space) -> tuple[Space, Array | None]:
    """Restrict a space to the atoms of positive weight.

    Returns
    -------
    (Space, array or None)
        The restricted space and the positions of its atoms in the given one; the space
        itself and None where all weights are positive.
    """
    # Equal weights sum to 1, so none is zero.
    if space.equal_weights:
        return space, None
    xp = _array.namespace(space.weights)
    positive = space.weights > 0
    if bool(xp.all(positive)):
        return space, None
    atoms = xp.nonzero(positive)[0]
    return space.restrict(atoms), atoms


def embed(plan: Plan, rows: Array, cols: Array, shape: tuple[int, int]) -> Plan:
    """Place a coupling of some atoms into a coupling of more, without mass elsewhere.

    Its atoms are ``rows`` and ``cols``, ascending, of all atoms (n, m) = ``shape``.
    """
    if isinstance(plan, SparsePlan):
        xp = _array.namespace(plan.mass)
        new_rows = xp.take(rows, plan.rows)
        new_cols = xp.take(cols, plan.cols)
        return changed(plan, rows=new_rows, cols=new_cols, size=shape)
    n, m = shape
    matrix = plan.dense()
    matrix = _spread(matrix, rows, n, axis=0)
    matrix = _spread(matrix, cols, m, axis=1)
    return make_unchecked(DensePlan, matrix=matrix)


def _spread(matrix: Array, index: Array, size: int, axis: int) -> Array:
    """Move slices to the positions ``index`` of a longer axis, and put zeros elsewhere.

    The index is ascending.
    """
    xp = _array.namespace(matrix)
    targets = xp.arange(size, device=_array.device(index))
    # By reading alone, as arrays of some libraries cannot be written to. Each place
    # reads the slice that belongs there, or any if none does.
    sources = xp.searchsorted(index, targets)
    sources = xp.clip(sources, max=index.shape[0] - 1)
    present = xp.take(index, sources) == targets
    matrix = xp.take(matrix, sources, axis=axis)
    mask = present[:, None] if axis == 0 else present[None, :]
    return xp.where(mask, matrix, xp.zeros_like(matrix))
