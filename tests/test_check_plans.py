"""Bad plans: shapes, signs, marginals and libraries, wherever a plan is taken."""

import numpy as np
import pytest

import gwtools as gw
from tests.test_check import SPACE, refused

PLAN = np.full((3, 3), 1 / 9)


BAD_PLANS = {
    "wrong shape": (
        np.full((2, 3), 1 / 6),
        ValueError,
        ("must have shape (3, 3)", "(2, 3)"),
    ),
    "wrong rows": (np.diag([0.5, 0.25, 0.25]) + 0.0, ValueError, ("marginal", "of x")),
    "wrong columns": (
        np.full((3, 1), 1 / 3) * np.array([[0.5, 0.25, 0.25]]),
        ValueError,
        ("marginal", "of y"),
    ),
    "too much mass": (2 * PLAN, ValueError, ("marginal",)),
    "negative": (
        PLAN + 0.2 * np.outer([1, -1, 0], [1, -1, 0]),
        ValueError,
        ("non-negative",),
    ),
    "NaN": (PLAN * np.array([[1, 1, np.nan]]), ValueError, ("must be finite",)),
    "inf": (PLAN * np.array([[1, 1, np.inf]]), ValueError, ("must be finite",)),
    "integers": (np.eye(3, dtype=int), TypeError, ("floating-point", "int64")),
    "list": (PLAN.tolist(), TypeError, ("array", "list")),
    "vector": (PLAN[0], ValueError, ("must have 2 axes",)),
}


PLAN_ENTRIES = {
    "certify": lambda plan: gw.certify(SPACE, SPACE, plan),
    "init": lambda plan: gw.solve(SPACE, SPACE, gw.ConditionalGradient(init=plan)),
    "init of Sinkhorn": lambda plan: gw.solve(SPACE, SPACE, gw.Sinkhorn(init=plan)),
}


NAMES = {
    "certify": "plan must",
    "init": "init must",
    "init of Sinkhorn": "init must",
}


@pytest.mark.parametrize("entry", PLAN_ENTRIES)
@pytest.mark.parametrize("case", BAD_PLANS)
def test_bad_plans(entry, case):
    value, error, words = BAD_PLANS[case]
    refused(lambda: PLAN_ENTRIES[entry](value), error, NAMES[entry], *words)


@pytest.mark.parametrize("entry", PLAN_ENTRIES)
@pytest.mark.parametrize(
    "case", ["wrong shape", "wrong rows", "wrong columns", "negative", "NaN", "inf"]
)
def test_bad_plan_objects(entry, case):
    value, error, words = BAD_PLANS[case]
    refused(
        lambda: PLAN_ENTRIES[entry](gw.DensePlan(value)), error, NAMES[entry], *words
    )
    rows, cols = np.indices(value.shape).reshape(2, -1)
    sparse = gw.SparsePlan(rows, cols, value.ravel(), value.shape)
    refused(lambda: PLAN_ENTRIES[entry](sparse), error, NAMES[entry], *words)


def test_start_of_another_dtype():
    refused(
        lambda: PLAN_ENTRIES["init"](PLAN.astype(np.float32)),
        TypeError,
        "same array dtype",
        "float32",
    )


@pytest.mark.parametrize("entry", PLAN_ENTRIES)
def test_plan_of_another_library(entry):
    torch = pytest.importorskip("torch")
    refused(
        lambda: PLAN_ENTRIES[entry](torch.asarray(PLAN)),
        TypeError,
        NAMES[entry],
        "same array library",
    )
