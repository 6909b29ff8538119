"""Lists of spaces without a mean, and weights that are none, are refused."""

import numpy as np
import pytest

import gwtools as gw
from gwtools import _check_lists
from tests.test_check import refused

C = 1 - np.eye(3)


def test_weights_of_spaces_that_are_none_are_refused():
    pair = [C, C]
    for given, error, *words in (
        ([0.5], ValueError, "each of the 2 spaces", "has 1"),
        ([-0.5, 1.5], ValueError, "non-negative", "-0.5"),
        ([np.nan, 1.0], ValueError, "finite"),
        ([np.inf, 1.0], ValueError, "finite"),
        ([0.0, 0.0], ValueError, "sum to 1", "sum to 0"),
        ([1.0, 1.0], ValueError, "sum to 2", "divide them by their sum"),
        ("half", TypeError, "'half'"),
        (0.5, TypeError, "is 0.5"),
        (["a", "b"], TypeError, "one for each space"),
    ):
        refused(
            lambda given=given: gw.barycenter(pair, given), error, "weights", *words
        )


def test_weights_that_miss_one_by_rounding_are_divided_by_their_sum():
    assert _check_lists.shares(None, 4) == (0.25,) * 4
    assert _check_lists.shares(np.array([0.5, 0.5], dtype=np.float32), 2) == (0.5, 0.5)
    found = _check_lists.shares([0.1] * 10, 10)
    assert sum(found) == pytest.approx(1.0, abs=1e-15)
    assert _check_lists.shares([1, 0], 2) == (1.0, 0.0)


def test_lists_without_a_barycenter_are_refused():
    refused(lambda: gw.barycenter([]), ValueError, "spaces", "is empty")
    refused(lambda: gw.barycenter(C), TypeError, "spaces", "[spaces]")
    refused(
        lambda: gw.barycenter([C, C.astype(np.float32)]),
        TypeError,
        "spaces[1]",
        "float32 and float64",
    )
    refused(lambda: gw.barycenter([C, "x"]), TypeError, "spaces[1]")
    refused(lambda: gw.barycenter([C], size=0), ValueError, "size", "is 0")
    refused(lambda: gw.barycenter([C], size=2.0), ValueError, "size", "2.0")
    refused(
        lambda: gw.barycenter([C], size=2, init=C),
        ValueError,
        "size",
        "init",
        "2 and 3",
    )
    refused(lambda: gw.barycenter([C], init=C[:2]), ValueError, "init", "square")
    refused(
        lambda: gw.barycenter([C], init=C.astype(np.float32)),
        TypeError,
        "init",
        "dtype",
    )
    refused(
        lambda: gw.barycenter([C], barycenter_weights=np.array([1.0, 0.0])),
        ValueError,
        "barycenter_weights",
        "greater than 0",
    )
    refused(
        lambda: gw.barycenter([C], size=3, barycenter_weights=np.array([0.5, 0.5])),
        ValueError,
        "barycenter_weights",
        "has 2",
    )
    refused(
        lambda: gw.barycenter([C], barycenter_weights=[0.5, 0.5]),
        TypeError,
        "barycenter_weights",
    )


def test_options_of_a_barycenter_that_are_none_are_refused():
    refused(lambda: gw.barycenter([C], solver="fast"), TypeError, "solver", "'fast'")
    refused(
        lambda: gw.barycenter([C], solver=gw.BranchAndBound()),
        TypeError,
        "solver",
        "BranchAndBound",
        "MultiStart",
    )
    refused(lambda: gw.barycenter([C], tolerance=-1.0), ValueError, "tolerance")
    refused(lambda: gw.barycenter([C], max_iterations=0), ValueError, "max_iterations")
    refused(lambda: gw.barycenter([C], seed=-1), ValueError, "seed")
