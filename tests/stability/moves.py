"""What a bound of stability must allow: the norm of C − C′, and certified moves."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

import gwtools as gw

SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1 + 1e-9


def norm(E, a, p=2.0):
    powers = np.abs(E) ** p
    return float((a @ (powers @ a)) ** (1 / p))


def largest(*drawn):
    sizes = [np.abs(s.matrix).max() for s in drawn]
    return max(sizes)


def holds(found, moved, *drawn):
    """Whether a bound is at least the move, up to the rounding of matrices."""
    return moved <= found * ROUNDING + 1e-14 * largest(*drawn)


def certificate_of(x, y):
    """An interval of GW_2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)  # any coupling will do
        solver = gw.ConditionalGradient(max_iterations=20)
        plan = gw.solve(x.space(), y.space(), solver).plan
    certificate = gw.certify(x.space(), y.space(), plan)
    return certificate.lower**0.5, certificate.upper**0.5


def moves_no_more(found, x, x2, y):
    """Whether certificates admit |GW(x, y) − GW(x2, y)| and GW(x, x2) up to found."""
    low, high = certificate_of(x, y)
    low2, high2 = certificate_of(x2, y)
    slack = 1e-6 * largest(x, x2, y)
    apart = gw.certify(x.space(), x2.space(), np.diag(x.weights))
    certain = max(low - high2, low2 - high, apart.lower**0.5)
    return certain <= found + slack


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(gw.Space):
    """Of a kind that gwtools does not know: C = height · exp(−|x_i − x_k|²).

    No factor on the points scales it.
    """

    points: np.ndarray
    weights: np.ndarray
    height: float = 1.0

    data = property(lambda self: self.points)
    sign = 1

    def rows(self, start, stop):
        apart = self.points[start:stop, None, :] - self.points[None, :, :]
        return self.height * np.exp(-(apart**2).sum(axis=2))

    def largest(self):
        return self.height

    def with_data(self, data, weights):
        return replace(self, points=data, weights=weights)

    def restrict(self, index):
        points = self.points[index]
        weights = self.weights[index]
        return replace(self, points=points, weights=weights)

    def scaled(self, factor):
        return replace(self, height=factor * self.height)


def truncated(factor, k):
    """The factor with the k largest values of each row, which all differ."""
    descending = np.sort(factor, axis=1)[:, ::-1]
    least = descending[:, min(k, factor.shape[1]) - 1]
    return np.where(factor >= least[:, None], factor, 0.0)


def truncation_formula(factor, kept, a):
    """The right side of theorem 6 c: (‖A‖ + ‖A′‖) ‖A − A′‖_F."""
    A = factor * np.sqrt(a)
    A2 = kept * np.sqrt(a)
    norms = np.linalg.norm(A, 2) + np.linalg.norm(A2, 2)
    return norms * np.linalg.norm(A - A2)
