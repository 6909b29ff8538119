"""Norms of C − C′ in rational arithmetic, for spaces anywhere in the range of float64.

Numbers are fractions and decimals in arrays of objects, whose sums are exact.
"""

from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds.float_error import gamma
from tests.rational import rational

SCALES = st.sampled_from([1e-170, 1.0, 1e150])
POWERS = st.sampled_from([1, 2])
KINDS = st.sampled_from(["dense", "euclidean", "sqeuclidean", "gram"])
TIGHT = 1 + Fraction(1, 10**12)
WIDE = Context(prec=250, Emin=-99999, Emax=99999)


def space_of(kind, data, a):
    if kind == "dense":
        return gw.DenseSpace(data, a)
    if kind == "gram":
        return gw.GramSpace(data, a)
    return gw.PointCloud(data, a, metric=kind)


def unit_of_data(kind, scale):
    """The unit of stored values where C has the unit ``scale``."""
    return scale if kind in ("dense", "euclidean") else scale**0.5


def instance(kind, seed, scale, most=6):
    """Stored values, the same moved by rounding up to their own size, and weights."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, most + 1)
    d = rng.integers(1, 4)
    shapes = {"dense": (n, n), "gram": (d, n)}
    shape = shapes.get(kind, (n, d))
    unit = unit_of_data(kind, scale)
    data = rng.standard_normal(shape) * unit
    size = rng.choice([1e-15, 1e-8, 1.0]) * unit
    moved = data + size * rng.standard_normal(shape)
    if kind == "dense":
        data = (data + data.T) / 2
        moved = (moved + moved.T) / 2
    return data, moved, rng.dirichlet(np.ones(n))


def decimal_of(value):
    return Decimal(value.numerator) / Decimal(value.denominator)


def root_of(value):
    return decimal_of(value).sqrt()


# The same for every number of an array.
decimal = np.vectorize(decimal_of, otypes=[object])
root = np.vectorize(root_of, otypes=[object])


def stored_vectors(kind, data):
    """Points, or columns of a factor, as rows of rational numbers."""
    return rational(data.T if kind == "gram" else data)


def entries(kind, data):
    """C of the stored values: rational; Euclidean distances have 250 digits."""
    vectors = stored_vectors(kind, data)  # (n, d)
    if kind == "dense":
        return vectors
    if kind == "gram":
        return vectors @ vectors.T
    differences = vectors[:, None] - vectors[None, :]
    squares = (differences**2).sum(axis=-1)
    if kind == "sqeuclidean":
        return squares
    distances = np.vectorize(Fraction, otypes=[object])
    return distances(root(squares))


def power_of_norm(E, a, p):
    """‖E‖_p^p, the mean over pairs of |E_ik|^p."""
    return a @ abs(E) ** p @ a


def radius_of_entries(*spaces):
    """The radius of computed entries and their own error, which is up to as much."""
    radii = [2.01 * gamma(s.float_operations) * s.largest() for s in spaces]
    return sum(radii)


def lies_just_above(found, power, p, radius=0.0):
    """Whether found^p is at least a power, and found hardly above its root.

    It may be above by a share of 1e-12 and a radius.
    """
    if Fraction(found) ** p < power:
        return False
    reduced = max(Fraction(found) - Fraction(radius), 0)
    return reduced**p <= power * TIGHT**p
