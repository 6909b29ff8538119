"""Features and shares that fit no problem, and what cannot carry them."""

import numpy as np
import pytest

import gwtools as gw
from tests.test_check import refused

X = gw.DenseSpace(1 - np.eye(3))
Y = gw.DenseSpace(1 - np.eye(2), np.array([0.75, 0.25]))
M = np.ones((3, 2))
CALLS = {
    "solve": lambda **given: gw.solve(X, Y, **given),
    "certify": lambda **given: gw.certify(X, Y, **given),
    "problem": lambda **given: gw.GWProblem(X, Y, **given),
}
MISTAKES = {
    "no share": ({"features": M}, TypeError, ["alpha", "0 to 1", "pass alpha=0.5"]),
    "no features": ({"alpha": 0.5}, TypeError, ["features", "leave alpha out"]),
    "transposed": (
        {"features": M.T, "alpha": 0.5},
        ValueError,
        ["features", "(3, 2)", "(2, 3)", "transpose"],
    ),
    "one axis": ({"features": M[:, 0], "alpha": 0.5}, ValueError, ["2 axes"]),
    "integers": (
        {"features": M.astype(int), "alpha": 0.5},
        TypeError,
        ["features", "astype"],
    ),
    "list": ({"features": M.tolist(), "alpha": 0.5}, TypeError, ["features, dtype"]),
    "NaN": ({"features": M * np.nan, "alpha": 0.5}, ValueError, ["features", "NaN"]),
    "infinite": ({"features": M * np.inf, "alpha": 0.5}, ValueError, ["finite"]),
    "float32": (
        {"features": M.astype(np.float32), "alpha": 0.5},
        TypeError,
        ["features", "float32 and float64"],
    ),
    "above": ({"features": M, "alpha": 1.5}, ValueError, ["alpha", "is 1.5"]),
    "below": ({"features": M, "alpha": -1e-9}, ValueError, ["alpha", "-1e-09"]),
    "no number": ({"features": M, "alpha": np.nan}, ValueError, ["alpha", "nan"]),
    "truth value": ({"features": M, "alpha": True}, ValueError, ["alpha", "True"]),
    "word": ({"features": M, "alpha": "half"}, ValueError, ["alpha", "'half'"]),
    "array of one": ({"features": M, "alpha": np.ones(1)}, ValueError, ["alpha"]),
    "narrow share": (
        {"features": M, "alpha": np.asarray(0.5, dtype=np.float32)},
        TypeError,
        ["alpha", "float32 and float64"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("call", CALLS)
def test_one_sentence_says_what_is_wrong(call, mistake):
    given, kind, parts = MISTAKES[mistake]
    refused(lambda: CALLS[call](**given), kind, *parts)


@pytest.mark.parametrize(
    "solver", [gw.Sorted(), gw.Sorted("norm"), gw.BranchAndBound()]
)
def test_solvers_of_the_plain_problem_refuse_features(solver):
    parts = ("features", type(solver).__name__, "gwtools.ConditionalGradient")
    refused(lambda: gw.solve(X, Y, solver, features=M, alpha=0.5), ValueError, *parts)
    refused(lambda: solver.run(gw.GWProblem(X, Y, M, 0.5)), ValueError, *parts)


def test_solvers_of_callers_carry_no_features_unless_they_say_so():
    class Own(gw.Solver):
        def run(self, problem, callback=None):
            raise AssertionError("it is refused before")

    refused(
        lambda: gw.solve(X, Y, Own(), features=M, alpha=0.5), ValueError, "features"
    )


def test_no_proof_of_a_fused_objective_is_kept():
    refused(
        lambda: gw.certify(X, Y, keep_proof=True, features=M, alpha=0.5),
        ValueError,
        "keep_proof",
        "leave it out",
    )


@pytest.mark.parametrize("alpha", [0, 1, 0.25, np.float32(0.5), np.asarray(0.5)])
def test_shares_of_any_type_of_number_are_read(alpha):
    result = gw.solve(X, Y, features=M, alpha=alpha)
    assert result.objective.dtype == np.float64
    assert float(result.objective) >= 0.0


F = np.ones((3, 4))
G = np.ones((2, 4))
WITH = gw.DenseSpace(1 - np.eye(3), features=F)
ALSO = gw.DenseSpace(1 - np.eye(2), features=G)
OF_SPACES = {
    "one space": (WITH, Y, {"alpha": 0.5}, ValueError, ["features", "to y too"]),
    "other space": (X, ALSO, {"alpha": 0.5}, ValueError, ["features", "to x too"]),
    "no share": (WITH, ALSO, {}, TypeError, ["alpha", "None", "1 for the spaces"]),
    "no space": (
        X,
        Y,
        {"features": "euclidean", "alpha": 0.5},
        ValueError,
        ["features='euclidean'", "neither"],
    ),
    "other word": (
        WITH,
        ALSO,
        {"features": "cosine", "alpha": 0.5},
        ValueError,
        ["features", "'sqeuclidean'"],
    ),
    "twice": (
        WITH,
        ALSO,
        {"features": M, "alpha": 0.5},
        ValueError,
        ["features", "once"],
    ),
    "unlike lengths": (
        WITH,
        gw.DenseSpace(1 - np.eye(2), features=G[:, :1]),
        {"alpha": 0.5},
        ValueError,
        ["features", "4 and 1"],
    ),
    "share": (WITH, ALSO, {"alpha": 2.0}, ValueError, ["alpha", "2"]),
}


@pytest.mark.parametrize("mistake", OF_SPACES)
@pytest.mark.parametrize("call", [gw.solve, gw.certify])
def test_features_of_spaces_that_do_not_fit(call, mistake):
    x, y, given, kind, parts = OF_SPACES[mistake]
    refused(lambda: call(x, y, **given), kind, *parts)


def test_a_space_refuses_features_of_other_atoms():
    refused(
        lambda: gw.PointCloud(F, features=G), ValueError, "features", "3 atoms", "2"
    )
    refused(lambda: gw.GramSpace(F, features=G.astype(int)), TypeError, "features")
    refused(
        lambda: gw.DenseSpace(1 - np.eye(3), features=F * np.nan), ValueError, "NaN"
    )


def test_batches_say_which_pair_has_features_that_do_not_fit():
    pair = "xs[1] and ys[1]: "
    refused(lambda: gw.solve_batch([X, WITH], [Y, Y]), ValueError, pair, "to y too")
    refused(
        lambda: gw.solve_batch([X, X], [Y, Y], features=[M, M.T], alpha=0.5),
        ValueError,
        pair,
        "transpose",
    )
    refused(
        lambda: gw.solve_batch([X], [Y], gw.Sorted(), features=[M], alpha=0.5),
        ValueError,
        "Sorted",
        "carry them",
    )
