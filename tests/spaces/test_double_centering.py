"""The doubly centred residual: its entries, norm, spectrum and sign."""

import numpy as np
from hypothesis import given

from tests import checkers
from tests.spaces.test_base import close, largest
from tests.strategies import KINDS, spaces


@given(spaces(null=True))
def test_residual(drawn):
    space, (_, _, R) = drawn.space(), checkers.parts(drawn.matrix, drawn.weights)
    residual, size = space.residual(), checkers.norm(R, drawn.weights) ** 2
    assert close(residual.dense(), R, 10 * largest(drawn))
    assert close(space.residual_rows(0, drawn.size), R, 10 * largest(drawn))
    assert close(residual.dense() @ drawn.weights, 0, 10 * largest(drawn))
    values = np.random.default_rng(0).standard_normal((drawn.size, 3))
    assert close(residual.apply(values), R @ values, 100 * largest(drawn))
    for found in (residual.norm_squared(), space.residual_norm_squared()):
        assert close(found, size, 10 * largest(drawn, 2))
    second_moment = drawn.weights @ (drawn.matrix**2 @ drawn.weights)
    assert close(space.second_moment(), second_moment, 10 * largest(drawn, 2))


@given(spaces(null=True))
def test_spectrum(drawn):
    found = np.asarray(drawn.space().residual().spectrum())
    assert np.all(np.diff(found) >= 0)
    padded = np.sort(np.concatenate([found, np.zeros(max(0, drawn.size - len(found)))]))
    expected = checkers.spectrum(drawn.matrix, drawn.weights)
    expected = np.sort(
        np.concatenate([expected, np.zeros(len(padded) - len(expected))])
    )
    assert close(padded, expected, 10 * largest(drawn))


@given(spaces(kinds=KINDS[1:], null=True))
def test_sign_is_that_of_the_spectrum(drawn):
    space = drawn.space()
    assert space.sign == (1 if drawn.kind == "gram" else -1) == space.residual().sign
    assert (
        space.sign * checkers.spectrum(drawn.matrix, drawn.weights)
    ).min() >= -1e-12 * largest(drawn)
