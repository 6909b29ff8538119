"""Theorem 6 c to e in floating point: against rational arithmetic."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from tests.rational import exact_weights, rational
from tests.stability.moves import SEEDS, truncated, truncation_formula
from tests.stability.rational import (
    KINDS,
    SCALES,
    WIDE,
    decimal,
    entries,
    instance,
    lies_just_above,
    power_of_norm,
    root,
    root_of,
    space_of,
    stored_vectors,
    unit_of_data,
)


def stored_formula(kind, data, a, relative, absolute):
    """The right side of theorem 6 d with 250 digits."""
    u = Decimal(relative)
    eta = Decimal(absolute)
    if kind == "dense":
        return u * norm_of_matrix(entries(kind, data), a) + eta
    vectors = stored_vectors(kind, data)  # (n, d)
    dimension = vectors.shape[1]
    lengths = root((vectors**2).sum(axis=1))
    e = u * lengths + eta * Decimal(dimension).sqrt()
    a = decimal(a)
    mean = a @ e
    square = a @ e**2
    if kind == "gram":
        norm_of_lengths = (a @ lengths**2).sqrt()
        return 2 * square.sqrt() * norm_of_lengths + square
    if kind == "euclidean":
        return (2 * square + 2 * mean**2).sqrt()
    C = decimal(entries("sqeuclidean", data))
    root_of_mean = (a @ C @ a).sqrt()
    return 4 * e.max() * (root_of_mean + e.max())


def norm_of_matrix(C, a):
    """‖C‖_2 with 250 digits."""
    return root_of(power_of_norm(C, a, 2))


@given(SEEDS, SCALES, KINDS, st.sampled_from([None, 1e-9, 1.0, 1e3]))
def test_stored_values_are_rounded_up(seed, scale, kind, step):
    """Theorem 6 d with and without an absolute part."""
    data, _, a = instance(kind, seed, scale)
    x = space_of(kind, data, a)
    a = exact_weights(x.weights)
    with localcontext(WIDE):
        if step is None:
            found = stability.rounding(x, "float32")
            expected = stored_formula(kind, data, a, 2.0**-24, 2.0**-150)
        else:
            step *= unit_of_data(kind, scale)
            found = stability.quantization(x, step)
            expected = stored_formula(kind, data, a, 0.0, step / 2)
        assert lies_just_above(found, Fraction(expected), 1)


@given(SEEDS, SCALES)
def test_lengths_of_graphs_are_rounded_up(seed, scale):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    # A path through all nodes, and some more edges.
    some = rng.uniform(0.5, 1.0, (n, n)) * (rng.random((n, n)) < 0.5)
    lengths = np.triu(some, 1) + np.diag(np.ones(n - 1), 1)
    adjacency = sp.csr_array((lengths + lengths.T) * scale)
    x = gw.GraphSpace(adjacency, rng.dirichlet(np.ones(n)))
    C = shortest_paths(x.adjacency.toarray(), far=10**9 * Fraction(scale))
    with localcontext(WIDE):
        norm = norm_of_matrix(C, exact_weights(x.weights))
        expected = Decimal(2.0**-24) * norm + (n - 1) * Decimal(2.0**-150)
    found = stability.rounding(x, "float32")
    assert lies_just_above(found, Fraction(expected), 1)


def shortest_paths(edges, far):
    """Floyd and Warshall's algorithm in rational arithmetic."""
    C = np.where(edges > 0, rational(edges), far)
    np.fill_diagonal(C, Fraction(0))
    for k in range(len(C)):
        C = np.minimum(C, C[:, k, None] + C[k])
    return C


@given(SEEDS, SCALES, st.integers(1, 4))
def test_truncation_is_rounded_up(seed, scale, k):
    factor, _, a = instance("gram", seed, scale)
    x = gw.GramSpace(factor, a)
    found = stability.truncation(x, k)
    kept = truncated(factor, k)
    difference = entries("gram", factor) - entries("gram", kept)
    assert Fraction(found) ** 2 >= power_of_norm(
        difference, exact_weights(x.weights), 2
    )
    unit = scale**0.5
    formula = truncation_formula(factor / unit, kept / unit, a)
    assert found / scale <= formula * (1 + 1e-12)
