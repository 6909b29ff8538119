"""Free marginals: what is refused, in one sentence and before any work."""

import numpy as np
import pytest
import torch

import gwtools as gw
from tests.test_check import refused

X, Y = 1 - np.eye(3), 1 - np.eye(4)


@pytest.mark.parametrize(
    ("marginals", "error", "words"),
    [
        ("semi-relaxed", ValueError, ("'semi-relaxed'", "pass one of these")),
        ("unbalanced", ValueError, ("'balanced'", "pass gwtools.Unbalanced(rho)")),
        (gw.Unbalanced, TypeError, ("the class Unbalanced", "an instance")),
        (0.5, TypeError, ("is 0.5", "gwtools.Partial(mass)")),
        (gw.Partial, TypeError, ("the class Partial", "an instance")),
        (None, TypeError, ("is None", "pass one of these")),
    ],
)
def test_marginals_of_another_kind(marginals, error, words):
    refused(lambda: gw.solve(X, Y, marginals=marginals), error, "marginals", *words)


@pytest.mark.parametrize("mass", [0, -0.5, 1.5, np.nan, np.inf, "0.5", True, None])
def test_masses_that_are_no_part(mass):
    refused(lambda: gw.Partial(mass), ValueError, "mass", "at most 1")


@pytest.mark.parametrize("rho", [0, -1.0, np.nan, "1", True, None, (1.0, 0.0)])
def test_prices_that_are_none(rho):
    refused(lambda: gw.Unbalanced(rho), ValueError, "rho", "greater than 0")


def test_prices_without_end_and_of_another_number():
    for rho in (np.inf, (1.0, np.inf), float("inf")):
        refused(lambda rho=rho: gw.Unbalanced(rho), ValueError, "rho", "'balanced'")
    refused(lambda: gw.Unbalanced((1, 2, 3)), ValueError, "rho", "one number or two")
    refused(lambda: gw.Unbalanced(1, "l2"), ValueError, "penalty", "'kl'", "'tv'")
    two = (1.0, 2.0)
    refused(lambda: gw.Unbalanced(two, "tv"), ValueError, "rho", "one number", "'kl'")
    assert gw.Unbalanced((2, 2), "tv") == gw.Unbalanced(2.0, "tv")
    assert gw.Unbalanced((1, 2)).prices == (1.0, 2.0)


@pytest.mark.parametrize(
    "solver",
    [gw.MultiStart(), gw.Sinkhorn(), gw.Sorted(), gw.BranchAndBound()],
    ids=str,
)
@pytest.mark.parametrize(
    "marginals", ["semi_relaxed", gw.Partial(0.5), gw.Unbalanced(1.0)], ids=str
)
def test_solvers_of_the_balanced_problem(solver, marginals):
    refused(
        lambda: gw.solve(X, Y, solver, marginals=marginals),
        ValueError,
        "solver",
        str(solver),
        "or leave the solver out",
    )


def test_costs_below_0_with_total_variation():
    """There plans above the weights could be better, which are not tried."""
    features = np.ones((3, 4))
    marginals = gw.Unbalanced(1.0, "tv")
    given = {"alpha": 0.5, "marginals": marginals}
    assert gw.solve(X, Y, features=features, **given).status.success
    features[1, 2] = -0.25
    refused(
        lambda: gw.solve(X, Y, features=features, **given),
        ValueError,
        "features",
        "the least is -0.25",
        "penalty='kl'",
    )
    # The remedy, and the share at which costs do not count.
    given["marginals"] = gw.Unbalanced(1.0)
    assert gw.solve(X, Y, features=features, **given).status.success
    assert gw.solve(X, Y, features=features, alpha=1, marginals=marginals).alpha is None


def test_gradients_in_the_weights_of_partial_problems():
    weights = torch.full((3,), 1 / 3, dtype=torch.float64, requires_grad=True)
    x = gw.DenseSpace(torch.tensor(X), weights)
    y = gw.as_space(torch.tensor(Y))
    partial = gw.Partial(0.5)
    refused(lambda: gw.solve(x, y, marginals=partial), TypeError, "x must", "detach")
    refused(lambda: gw.solve(y, x, marginals=partial), TypeError, "y must", "detach")
    variation = gw.Unbalanced(0.5, "tv")
    words = ("x must", "gwtools.Unbalanced", "detach")
    refused(lambda: gw.solve(x, y, marginals=variation), TypeError, *words)


def start(plan, marginals):
    solver = gw.ConditionalGradient(init=plan)
    return lambda: gw.solve(X, Y, solver, marginals=marginals)


def test_starts_of_other_marginals():
    coupling = np.full((3, 4), 1 / 12)
    lopsided = coupling.copy()
    lopsided[0] *= 1.5
    refused(start(lopsided, "semi_relaxed"), ValueError, "init", "row sums", "0.167")
    refused(start(coupling.T.copy(), "semi_relaxed"), ValueError, "init", "transpose")
    half = gw.Partial(0.5)
    refused(start(coupling, half), ValueError, "init", "the mass 0.5", "has 1")
    refused(start(coupling - 0.2, half), ValueError, "init", "non-negative")
    heavy = np.zeros((3, 4))
    heavy[0, 0] = 0.5
    refused(start(heavy, half), ValueError, "init", "no atom of x", "0.167")
    heavy[0, 0] = 0.0
    heavy[:2, 0] = 0.25
    refused(start(heavy, half), ValueError, "init", "no atom of y", "0.25")
    single = coupling.astype(np.float32)
    refused(start(single, "semi_relaxed"), TypeError, "init", "float32")
    nothing = np.zeros((3, 4))
    refused(start(nothing, gw.Unbalanced(1.0)), ValueError, "init", "a mass above 0")
    by_variation = gw.Unbalanced(1.0, "tv")
    refused(start(lopsided, by_variation), ValueError, "init", "no atom of x", "0.167")


def test_marginals_are_not_offered_in_batches():
    with pytest.raises(TypeError, match="marginals"):
        gw.solve_batch([X], [Y], marginals="semi_relaxed")
