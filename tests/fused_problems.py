"""Fused problems for tests: spaces with a coupling, costs between them and a share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import Drawn, coupled

SHARES = (0.0, 0.1, 0.5, 0.9)


class FusedProblem(NamedTuple):
    """Two spaces, a coupling of their weights, costs M and the share α of F."""

    x: Drawn
    y: Drawn
    plan: np.ndarray
    features: np.ndarray
    alpha: float

    def objective(self, plan: np.ndarray) -> float:
        """(1 − α) ⟨M, π⟩ + α F(π), term by term."""
        structure = checkers.objective(self.x.matrix, self.y.matrix, plan)
        linear = float((self.features * plan).sum())
        return self.alpha * structure + (1 - self.alpha) * linear

    @property
    def scale(self) -> float:
        """The largest term of an objective."""
        largest = max(np.abs(s.matrix).max() ** 2 for s in (self.x, self.y))
        return max(largest, np.abs(self.features).max(), 1e-300)

    @property
    def spaces(self) -> tuple[gw.Space, gw.Space]:
        return self.x.space(), self.y.space()

    @property
    def problem(self) -> gw.GWProblem:
        return gw.GWProblem(*self.spaces, self.features, self.alpha)

    @property
    def given(self) -> dict[str, Any]:
        return {"features": self.features, "alpha": self.alpha}


@st.composite
def fused_problems(
    draw: st.DrawFn, shares: tuple[float, ...] = SHARES, **options: Any
) -> FusedProblem:
    """Costs of either sign in general position, of few values, or some prohibitive."""
    x, y, plan = draw(coupled(**options))
    seed = draw(st.integers(0, 2**20 - 1))
    rng = np.random.default_rng(seed)
    shape = (x.size, y.size)
    features = [
        rng.standard_normal(shape),
        rng.integers(0, 3, shape).astype(float),
        np.where(rng.random(shape) < 0.2, 1e3, rng.random(shape)),
    ][seed % 3]
    return FusedProblem(x, y, plan, features, draw(st.sampled_from(shares)))
