"""The doubly centred residual: its entries, norm, spectrum and sign."""

import numpy as np
from hypothesis import given

from tests import checkers
from tests.spaces.test_base import close, largest
from tests.strategies import KINDS, spaces


@given(spaces(null=True))
def test_residual(drawn):
    a = drawn.weights
    space = drawn.space()
    residual = space.residual()
    _, _, R = checkers.parts(drawn.matrix, a)
    # Differences of float numbers of this size.
    scale = 10 * largest(drawn)
    squared_scale = 10 * largest(drawn, 2)
    assert close(residual.dense(), R, scale)
    assert close(space.residual_rows(0, drawn.size), R, scale)
    assert close(residual.dense() @ a, 0, scale)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((drawn.size, 3))
    assert close(residual.apply(values), R @ values, 10 * scale)
    norm_squared = checkers.norm(R, a) ** 2
    assert close(residual.norm_squared(), norm_squared, squared_scale)
    assert close(space.residual_norm_squared(), norm_squared, squared_scale)
    second_moment = a @ (drawn.matrix**2 @ a)
    assert close(space.second_moment(), second_moment, squared_scale)


@given(spaces(null=True))
def test_spectrum(drawn):
    residual = drawn.space().residual()
    found = np.asarray(residual.spectrum())
    assert np.all(np.diff(found) >= 0)
    expected = checkers.spectrum(drawn.matrix, drawn.weights)
    # Either of them may leave out zeros.
    size = max(len(found), drawn.size)
    assert close(
        with_zeros(found, size), with_zeros(expected, size), 10 * largest(drawn)
    )


def with_zeros(eigenvalues, size):
    """Eigenvalues and as many zeros as make ``size`` of them, in ascending order."""
    zeros = np.zeros(size - len(eigenvalues))
    return np.sort(np.concatenate([eigenvalues, zeros]))


@given(spaces(kinds=KINDS[1:], null=True))
def test_sign_is_that_of_the_spectrum(drawn):
    space = drawn.space()
    sign = 1 if drawn.kind == "gram" else -1
    assert space.sign == sign
    assert space.residual().sign == sign
    eigenvalues = checkers.spectrum(drawn.matrix, drawn.weights)
    least = (sign * eigenvalues).min()
    assert least >= -1e-12 * largest(drawn)
