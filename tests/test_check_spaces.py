"""Bad spaces: matrices, coordinates, factors and weights, at every entry point."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests.strategies import spaces
from tests.test_check import BOUNDS, GOOD, SPACE, refused


def matrix_entries():
    """Every public way in for a raw matrix."""
    pair = {
        "solve x": lambda v: gw.solve(v, SPACE),
        "solve y": lambda v: gw.solve(SPACE, v),
        "certify x": lambda v: gw.certify(v, SPACE),
        "certify y": lambda v: gw.certify(SPACE, v),
        "DenseSpace": gw.DenseSpace,
        "as_space": gw.as_space,
    }
    for name in BOUNDS:
        bound = getattr(gw.bounds, name)
        pair[f"{name} x"] = partial(bound, y=SPACE)
        pair[f"{name} y"] = partial(bound, SPACE)
    return pair


def changed(index, value):
    matrix = GOOD.copy()
    matrix[index] = value
    return matrix


BAD_MATRICES = {
    "NaN": (changed((1, 1), np.nan), ValueError, ("must be finite", "NaN or infinite")),
    "inf": (changed((0, 0), np.inf), ValueError, ("must be finite",)),
    "-inf": (changed((0, 0), -np.inf), ValueError, ("must be finite",)),
    "asymmetric": (
        changed((0, 1), 1.25),
        ValueError,
        ("must be symmetric", "0.25", "(C + C.T) / 2"),
    ),
    "nearly symmetric": (changed((0, 1), 1 + 1e-6), ValueError, ("must be symmetric",)),
    "not square": (
        GOOD[:2],
        ValueError,
        ("must be a square matrix", "(2, 3)", "PointCloud"),
    ),
    "vector": (GOOD[0], ValueError, ("must have 2 axes", "(3,)")),
    "four axes": (GOOD[None, None], ValueError, ("must have 2 axes", "(1, 1, 3, 3)")),
    "empty": (np.zeros((0, 0)), ValueError, ("must not be empty", "(0, 0)")),
    "integers": (
        GOOD.astype(int),
        TypeError,
        ("floating-point", "int64", ".astype(float)"),
    ),
    "booleans": (GOOD > 1, TypeError, ("floating-point", "bool")),
    "complex": (GOOD + 0j, TypeError, ("floating-point", "complex128")),
    "objects": (GOOD.astype(object), TypeError, ("floating-point", "object")),
    "list": (GOOD.tolist(), TypeError, ("array", "list")),
    "None": (None, TypeError, ("array", "is None")),
    "number": (1.0, TypeError, ("array", "float")),
    "text": ("X.csv", TypeError, ("array", "'X.csv'")),
}


@pytest.mark.parametrize("entry", matrix_entries())
@pytest.mark.parametrize("case", BAD_MATRICES)
def test_bad_matrices(entry, case):
    value, error, words = BAD_MATRICES[case]
    name = {"DenseSpace": "distances", "as_space": "space"}.get(entry, entry[-1])
    refused(lambda: matrix_entries()[entry](value), error, f"{name} must ", *words)


SPACES = {
    "DenseSpace": (
        lambda values, weights=None: gw.DenseSpace(values, weights),
        "distances",
    ),
    "PointCloud": (
        lambda values, weights=None: gw.PointCloud(values, weights),
        "points",
    ),
    "GramSpace": (lambda values, weights=None: gw.GramSpace(values, weights), "factor"),
}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize(
    "case", [c for c in BAD_MATRICES if "symmetric" not in c and c != "not square"]
)
def test_bad_data(kind, case):
    value, error, words = BAD_MATRICES[case]
    build, name = SPACES[kind]
    refused(lambda: build(value), error, f"{name} must ", *words)


BAD_WEIGHTS = {
    "NaN": (np.array([0.5, np.nan, 0.5]), ValueError, ("must be finite",)),
    "inf": (np.array([0.5, np.inf, 0.5]), ValueError, ("must be finite",)),
    "negative": (
        np.array([0.75, -0.25, 0.5]),
        ValueError,
        ("must be non-negative", "-0.25"),
    ),
    "no mass": (np.zeros(3), ValueError, ("positive mass", "sum to zero")),
    "too much": (
        np.array([0.5, 0.5, 0.5]),
        ValueError,
        ("must sum to 1", "1.5", "divide"),
    ),
    "too little": (np.array([0.5, 0.25, 0.25 - 1e-7]), ValueError, ("must sum to 1",)),
    "too long": (np.full(4, 0.25), ValueError, ("each of the 3 atoms", "4", "(3,)")),
    "too short": (np.full(2, 0.5), ValueError, ("each of the 3 atoms", "2")),
    "matrix": (np.full((3, 1), 1 / 3), ValueError, ("must have 1 axis", "(3, 1)")),
    "empty": (np.zeros(0), ValueError, ("must not be empty",)),
    "integers": (np.array([1, 0, 0]), TypeError, ("floating-point", "int64")),
    "list": ([0.5, 0.25, 0.25], TypeError, ("array", "list")),
    "other dtype": (
        np.full(3, 1 / 3, dtype=np.float32),
        TypeError,
        ("same array dtype", "float32", "float64"),
    ),
}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(kind, case):
    value, error, words = BAD_WEIGHTS[case]
    refused(lambda: SPACES[kind][0](GOOD, value), error, "weights", *words)


@given(spaces(), st.floats(1e-7, 1e-2))
def test_weights_off_by_more_than_rounding_are_refused(drawn, off):
    refused(
        lambda: gw.DenseSpace(drawn.matrix, drawn.weights * (1 + off)),
        ValueError,
        "must sum to 1",
    )


@pytest.mark.parametrize("kind", SPACES)
def test_weights_on_another_device(kind):
    torch, strict = (
        pytest.importorskip("torch"),
        pytest.importorskip("array_api_strict"),
    )
    here, there = (
        strict.asarray(GOOD),
        strict.full((3,), 1 / 3, device=strict.Device("device1")),
    )
    refused(
        lambda: SPACES[kind][0](here, there), TypeError, "weights", "same array device"
    )
    meta = torch.full((3,), 1 / 3, dtype=torch.float64, device="meta")
    refused(
        lambda: SPACES[kind][0](torch.asarray(GOOD), meta),
        TypeError,
        "weights",
        "same array device",
        "meta",
    )


@pytest.mark.parametrize("kind", SPACES)
def test_weights_of_another_library(kind):
    torch = pytest.importorskip("torch")
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    refused(
        lambda: SPACES[kind][0](GOOD, weights),
        TypeError,
        "weights",
        "same array library",
    )


@pytest.mark.parametrize(
    "bad",
    [gw.DenseSpace, object(), {"distances": GOOD}],
    ids=["class", "object", "dict"],
)
def test_what_is_no_space(bad):
    refused(
        lambda: gw.solve(bad, GOOD),
        TypeError,
        "x must be a gwtools space or a square array",
    )
    refused(
        lambda: gw.solve(GOOD, bad),
        TypeError,
        "y must be a gwtools space or a square array",
    )
