"""Random pairs of spaces with a solver: each is drawn from a seed and an index alone.

Kinds of spaces, weights, units, dtypes, sizes and solvers are drawn independently of
each other, among them all that makes ties, saddles and overflow: relabelled and
repeated atoms, weights of 0 and of 1e-6, values of 1e±150, and sides in units of 1e±8
of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gwtools as gw
from simulations._report import Row
from simulations.random_spaces import KINDS, TIES, Numbers, Raw

# One pair in so many has a program that is solved on growing sets of arcs.
LARGE_EVERY = 16

# What is drawn, with its probability.
SMALL_SIZES = {
    1: 0.04,
    2: 0.06,
    3: 0.06,
    8: 0.12,
    9: 0.12,
    64: 0.28,
    65: 0.28,
    299: 0.02,
    301: 0.01,
    350: 0.01,
}
LARGE_SIZES = {301: 0.6, 350: 0.37, 1000: 0.03}
WEIGHTS = {
    "uniform": 0.5,
    "dirichlet": 0.2,
    "dominant": 0.1,
    "zeros": 0.1,
    "duplicates": 0.1,
}
UNIT_SHARES = {"1": 0.6, "large": 0.08, "small": 0.08, "up": 0.12, "down": 0.12}
DTYPES = {"float64": 0.75, "float32": 0.25}
RELATIONS = {"other": 0.4, "same kind": 0.25, "copy": 0.35}
SOLVERS = {
    "default": 0.25,
    "ConditionalGradient": 0.2,
    "Sinkhorn": 0.25,
    "Sinkhorn at epsilon": 0.2,
    "Sorted": 0.1,
}

# Factors of C and D.
UNITS = {
    "1": (1.0, 1.0),
    "large": (1e150, 1e150),
    "small": (1e-150, 1e-150),
    "up": (1.0, 1e8),
    "down": (1.0, 1e-8),
}
# Values of float32 reach less far: the squares of its extreme units are finite as well.
SINGLE_UNITS = UNITS | {"large": (1e15, 1e15), "small": (1e-15, 1e-15)}


@dataclass(frozen=True)
class Case:
    """A pair, in words."""

    seed: int
    index: int
    kinds: tuple[str, str]
    sizes: tuple[int, int]
    weights: tuple[str, str]
    relation: str
    units: str
    dtype: str
    solver: str

    def row(self) -> Row:
        """Return the words as the first columns of a row."""
        return {
            "index": self.index,
            "kind_x": self.kinds[0],
            "kind_y": self.kinds[1],
            "size_x": self.sizes[0],
            "size_y": self.sizes[1],
            "weight_x": self.weights[0],
            "weight_y": self.weights[1],
            "relation": self.relation,
            "units": self.units,
            "dtype": self.dtype,
            "solver": self.solver,
        }


def case(seed: int, index: int) -> Case:
    """Draw what a pair is; it depends on nothing but the arguments."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, 0)))
    large = index % LARGE_EVERY == 0
    relation = _choice(rng, RELATIONS)
    # The order of the draws fixes the pairs: a change of it makes others.
    kinds = _kinds(rng, relation, large)
    sizes = _sizes(rng, relation, large)
    first = _choice(rng, WEIGHTS)
    alike = relation == "copy" or rng.random() < 0.5
    second = first if alike else _choice(rng, WEIGHTS)
    units = _choice(rng, UNIT_SHARES)
    dtype = _choice(rng, DTYPES)
    solver = _choice(rng, SOLVERS)
    return Case(
        seed=seed,
        index=index,
        kinds=kinds,
        sizes=sizes,
        weights=(first, second),
        relation=relation,
        units=units,
        dtype=dtype,
        solver=solver,
    )


def _kinds(rng: np.random.Generator, relation: str, large: bool) -> tuple[str, str]:
    """Draw the kinds of both sides; every other large program has ties."""
    names = tuple(KINDS)
    if large and rng.random() < 0.5:
        names = TIES
    first = _uniform(rng, names)
    second = _uniform(rng, names)
    return first, second if relation == "other" else first


def _sizes(rng: np.random.Generator, relation: str, large: bool) -> tuple[int, int]:
    """Draw the sizes of both sides."""
    sizes = LARGE_SIZES if large else SMALL_SIZES
    n = _choice(rng, sizes)
    alike = relation == "copy" or rng.random() < 0.4
    m = n if alike else _choice(rng, sizes)
    if large:
        m = min(n, m)  # so that few are of 1000 atoms
    return n, m


def _choice(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    place = rng.choice(len(shares), p=list(shares.values()))
    return list(shares)[int(place)]


def _uniform(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def build(case: Case) -> tuple[gw.Space, gw.Space, gw.Solver | None]:
    """Draw the spaces and the solver of a case."""
    rng = np.random.default_rng(np.random.SeedSequence((case.seed, case.index, 1)))
    n, m = case.sizes
    raw = KINDS[case.kinds[0]](rng, n)
    x, a = _weighted(rng, raw, case.weights[0], n)
    if case.relation == "copy":
        order = rng.permutation(n)
        y = x.take(order)
        b = None if a is None else a[order]
    else:
        raw = KINDS[case.kinds[1]](rng, m)
        y, b = _weighted(rng, raw, case.weights[1], m)
    units = UNITS if case.dtype == "float64" else SINGLE_UNITS
    unit_x, unit_y = units[case.units]
    solver = _solver(rng, case.solver, (unit_x, unit_y))
    space_x = x.space(unit_x, a, case.dtype)
    space_y = y.space(unit_y, b, case.dtype)
    return space_x, space_y, solver


def _weighted(
    rng: np.random.Generator, raw: Raw, weights: str, n: int
) -> tuple[Raw, Numbers | None]:
    """Return a raw space with its weights; duplicates repeat the very same atoms."""
    if weights == "uniform":
        return raw, None
    if weights == "duplicates":
        return raw.take(rng.integers(0, n, n)), None
    values = rng.dirichlet(np.ones(n))
    if weights == "dominant":
        values = np.full(n, 1e-6)
        values[rng.integers(n)] = 1 - 1e-6 * (n - 1)
    elif weights == "zeros":
        values[rng.permutation(n)[: n // 3]] = 0.0
    return raw, values / values.sum()


def _solver(
    rng: np.random.Generator, name: str, units: tuple[float, float]
) -> gw.Solver | None:
    """Return a solver of a name; none for what is taken by default."""
    if name == "default":
        return None
    if name != "Sinkhorn at epsilon":
        solver: gw.Solver = getattr(gw, name)()
        return solver
    epsilon = None  # a share of the product coupling's objective
    if rng.random() < 0.5:
        share = 10 ** rng.uniform(-4, 0)
        epsilon = float(share * units[0] * units[1])  # in squared units of C
    return gw.Sinkhorn(proximal=False, epsilon=epsilon)
