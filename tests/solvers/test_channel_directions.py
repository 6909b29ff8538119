"""The steepest direction from the product coupling, against a dense eigenproblem."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.channel_problems import ChannelProblem, read_loss
from gwtools.solvers.channel_directions import steepest_direction
from tests import channel_problems


def largest_eigenvalue(problem):
    """Of E ↦ √(a bᵀ) ∘ Σ R Δ Sᵀ as a matrix over all pairs."""
    a, b = problem.x.weights, problem.y.weights
    root = np.sqrt(np.outer(a, b)).ravel()
    matrix = sum(np.kron(form.x.residual, form.y.residual) for form in problem.forms)
    return np.linalg.eigvalsh(root[:, None] * matrix * root).max()


@pytest.mark.parametrize("loss", ["square", "kl"])
def test_direction_is_the_eigenvector_of_the_largest_eigenvalue(loss):
    C, a, D, b, _ = channel_problems.drawn(2, loss)
    x, y = channel_problems.spaces(C, a, D, b)
    problem = ChannelProblem(x, y, loss=read_loss(loss, x, y))
    largest = largest_eigenvalue(problem)
    direction = steepest_direction(problem, 0.99 * largest)
    assert np.abs(direction.sum(axis=0)).max() <= 1e-12
    assert np.abs(direction.sum(axis=1)).max() <= 1e-12
    # The objective has the second-order part −2 ⟨Δ, Σ R Δ Sᵀ⟩ along it.
    moved = sum(f.x.residual @ direction @ f.y.residual.T for f in problem.forms)
    scaled = direction / np.sqrt(np.outer(a, b))
    assert np.sum(direction * moved) / np.sum(scaled**2) == pytest.approx(largest)


def test_none_where_no_direction_descends_by_more():
    C, a, D, b, _ = channel_problems.drawn(2)
    problem = ChannelProblem(*channel_problems.spaces(C, a, D, b))
    assert steepest_direction(problem, 1.01 * largest_eigenvalue(problem)) is None


def test_a_circuit_is_left_along_a_descent():
    """Its product coupling is stationary, as all row and column means are equal."""
    steps = np.arange(6)
    C = (steps - steps[:, None]) % 6.0
    x = gw.DenseSpace(C, directed=True)
    problem = ChannelProblem(x, x)
    assert problem.slope_range <= problem.float_error
    direction = steepest_direction(problem, problem.float_error)
    moved = sum(f.x.residual @ direction @ f.y.residual.T for f in problem.forms)
    assert np.sum(direction * moved) > 0
    result = gw.solve(x, x, gw.ConditionalGradient())
    assert float(result.objective) <= problem.product_objective / 2
