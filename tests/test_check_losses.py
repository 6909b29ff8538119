"""What is refused of losses and of directed spaces, in one sentence."""

import numpy as np
import pytest

import gwtools as gw
from tests import channel_problems

X = gw.DenseSpace(1.5 - np.eye(3))
TOWARDS = gw.DenseSpace(np.triu(np.ones((3, 3))), directed=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "l2"}, "loss must be one of"),
        ({"loss": "kl", "y": 1 - np.eye(3)}, "y must have values above 0 alone"),
        ({"loss": "kl", "x": -np.eye(3)}, "x must have no values below 0"),
        ({"loss": "kl", "solver": gw.Sorted()}, "with loss='kl', but is Sorted"),
        ({"loss": "kl", "marginals": "semi_relaxed"}, "marginals must be left out"),
        ({"x": TOWARDS, "solver": gw.Sorted()}, "with directed spaces, but is Sorted"),
        ({"x": TOWARDS, "solver": gw.BranchAndBound()}, "with directed spaces"),
        ({"y": TOWARDS, "marginals": gw.Partial(0.5)}, "with directed spaces"),
    ],
    ids=str,
)
def test_refused_by_solve(options, words):
    pair = {"x": X, "y": X} | options
    with pytest.raises(ValueError, match=words):
        gw.solve(**pair)


def test_many_levels_are_counted():
    rng = np.random.default_rng(0)
    many = rng.random((12, 12))
    many += many.T
    with pytest.raises(ValueError, match="but they have 78 and 78"):
        gw.solve(many, many, loss="absolute")
    assert gw.solve(many, np.round(many), loss="absolute").objective > 0


def test_steps_have_no_gradient():
    torch = pytest.importorskip("torch")
    x = gw.DenseSpace(1 - torch.eye(3, dtype=torch.float64).requires_grad_())
    with pytest.raises(TypeError, match="x must be outside any gradient graph"):
        gw.solve(x, x, loss="absolute")


@pytest.mark.parametrize("loss", ["kl", "absolute"])
def test_other_losses_have_no_distance(loss):
    result = gw.solve(X, X, loss=loss)
    with pytest.raises(ValueError, match=f"the loss is '{loss}'"):
        print(result.distance)
    assert result.as_dict()["distance"] is None
    assert result.as_dict()["loss"] == loss
    assert "distance" not in str(result)
    assert f"loss={loss!r}" in repr(result)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gw.GWProblem(x, X),
        lambda x: gw.bounds.norm(x, X),
        lambda x: gw.bounds.spectral(X, x),
        lambda x: gw.bounds.third(x, X, residual=True),
        lambda x: gw.bounds.convex(x, X),
        lambda x: gw.solve_batch([X], [x]),
        lambda x: gw.pairwise([X, x]),
        lambda x: gw.barycenter([x, X]),
        lambda x: gw.LinearEmbedding(x),
        lambda x: gw.stability.perturbation(X, x),
        lambda x: gw.certify(X, X, keep_proof=True).verify(x, X),
    ],
    ids=range(11),
)
def test_directed_spaces_are_refused_where_c_must_be_symmetric(call):
    with pytest.raises(ValueError, match="without directions here, but is directed"):
        call(TOWARDS)


def test_nothing_is_proved_again_of_directed_spaces():
    with pytest.raises(ValueError, match="keep_proof must be left out with directed"):
        gw.certify(TOWARDS, X, keep_proof=True)


def test_the_remedies_work():
    C = np.triu(np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"gwtools.DenseSpace\(C, directed=True\)"):
        gw.DenseSpace(C)
    result = gw.solve(gw.DenseSpace(C, directed=True), X)
    plan = np.asarray(result.plan)
    expected = channel_problems.objective(C, X.distances, plan)
    assert float(result.objective) == pytest.approx(expected, rel=1e-13)
