"""Plans with free marginals that another library computed are certified too."""

import numpy as np
import ot
import pytest

import gwtools as gw
from tests import checkers, free_plans
from tests.libraries import EAGER

KINDS = [
    "semi_relaxed",
    gw.Partial(0.6),
    gw.Unbalanced(0.5),
    gw.Unbalanced((0.5, 0.8), penalty="kl"),
]


def pair(seed=4):
    C, a, D, b, _ = free_plans.drawn(seed)
    return gw.DenseSpace(C, a), gw.DenseSpace(D, b), C, a, D, b


@pytest.mark.parametrize("effort", ["linear", "cubic"])
@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_certificates_are_those_of_results(marginals, effort):
    x, y, *_ = pair()
    result = gw.solve(x, y, marginals=marginals, effort=effort)
    found = gw.certify(x, y, result.plan, effort, marginals=marginals)
    assert found.bounds == result.certificate.bounds
    assert found.upper == pytest.approx(result.certificate.upper, rel=1e-12)


def test_plans_of_pot_lie_in_their_intervals():
    x, y, C, a, D, b = pair()
    semi = ot.gromov.semirelaxed_gromov_wasserstein(C, D, a)
    part = ot.gromov.partial_gromov_wasserstein(C, D, a, b, m=0.6)
    for plan, marginals in ((semi, "semi_relaxed"), (part, gw.Partial(0.6))):
        found = gw.certify(x, y, plan, "cubic", marginals=marginals)
        objective = checkers.objective(C, D, plan)
        assert found.lower <= objective <= found.upper <= objective + 1e-9
        assert found.lower > 0


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_features_and_libraries(library):
    _, _, C, a, D, b = pair()
    M = np.abs(np.random.default_rng(2).standard_normal((len(a), len(b))))
    plan = free_plans.random_plan(a, b, gw.Partial(0.6), np.random.default_rng(3))
    x, y = (
        gw.DenseSpace(library.array(values), library.array(weights))
        for values, weights in ((C, a), (D, b))
    )
    found = gw.certify(
        x,
        y,
        library.array(plan),
        features=library.array(M),
        alpha=0.4,
        marginals=gw.Partial(0.6),
    )
    objective = 0.4 * checkers.objective(C, D, plan) + 0.6 * np.sum(M * plan)
    assert found.upper == pytest.approx(objective, rel=library.rtol)
    assert 0 < found.lower <= objective


def test_leaving_all_out_is_a_plan():
    """It costs the price of both."""
    x, y, *_ = pair()
    nothing = np.zeros((x.size, y.size))
    found = gw.certify(x, y, nothing, marginals=gw.Unbalanced(0.5))
    assert found.lower <= 1.0 <= found.upper <= 1.0 + 1e-10


@pytest.mark.parametrize("sent", [1e-4, 0.3])
def test_mass_at_atoms_of_weight_0(sent):
    """A divergence is infinite there; a little mass may be float error, and is left."""
    x = gw.DenseSpace(1 - np.eye(3), np.array([0.5, 0.5, 0.0]))
    y = gw.DenseSpace(1 - np.eye(2), np.array([1.0, 0.0]))
    astray = np.zeros((3, 2))
    astray[2, 1] = sent
    if sent > 1e-3:
        with pytest.raises(ValueError, match="no mass to atoms of x of weight 0"):
            gw.certify(x, y, astray, marginals=gw.Unbalanced(0.5))
        return
    for marginals in (gw.Unbalanced(0.5), gw.Unbalanced(0.5, penalty="tv")):
        found = gw.certify(x, y, astray, marginals=marginals)
        nothing = gw.certify(x, y, np.zeros((3, 2)), marginals=marginals)
        assert (found.lower, found.upper) == (nothing.lower, nothing.upper)
