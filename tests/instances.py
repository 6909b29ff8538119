"""Small pairs of spaces with all that upsets rounding.

Each is drawn from a family's name and a seed alone.

Sizes are 1 to 5. A name is a family and a dtype, such as "offset float32"; families say
what the values are ("any": those of one of the others), and weights, kinds of spaces,
atoms of weight zero and plans are drawn beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import gwtools as gw

FAMILIES = (
    "gaussian",
    "lattice",
    "signs",
    "adjacency",
    "additive",
    "offset",
    "perturbed",
    "tiny",
    "mixed",
    "subnormal",
    "powers",
    "skew",
    "any",
)
DTYPES = ("float64", "float32")
NAMES = tuple(f"{family} {dtype}" for dtype in DTYPES for family in FAMILIES)
KINDS = ("dense", "sqeuclidean", "gram", "euclidean")
SIZES = (1, 2, 2, 3, 3, 3, 4, 4, 5)


@dataclass(frozen=True, eq=False)
class Raw:
    """A space before it is made: kind, values and weights, None for uniform ones."""

    kind: str
    values: np.ndarray
    weights: np.ndarray | None

    @property
    def size(self) -> int:
        """Number of atoms."""
        return self.values.shape[1 if self.kind == "gram" else 0]

    def take(self, order: np.ndarray) -> Raw:
        """The space over its atoms in another order."""
        if self.kind == "dense":
            values = self.values[np.ix_(order, order)]
        else:
            values = (
                self.values[:, order] if self.kind == "gram" else self.values[order]
            )
        weights = None if self.weights is None else self.weights[order]
        return replace(self, values=np.ascontiguousarray(values), weights=weights)

    def space(self, dtype: str) -> gw.Space:
        """Make the space."""
        values = self.values.astype(dtype)
        weights = None if self.weights is None else self.weights.astype(dtype)
        if self.kind == "dense":
            return gw.DenseSpace(values, weights)
        if self.kind == "gram":
            uniform = np.full(self.size, 1 / self.size).astype(
                dtype
            )  # says that columns are the atoms, few as they may be
            return gw.GramSpace(values, uniform if weights is None else weights)
        return gw.PointCloud(values, weights, metric=self.kind)


@dataclass(frozen=True, eq=False)
class Instance:
    """Two spaces, and what may be a coupling of small objective.

    There is a plan between the spaces, or None.
    """

    name: str
    seed: int
    x: gw.Space
    y: gw.Space
    plan: gw.Plan | None
    hints: tuple[gw.Plan, ...]


def instance(name: str, seed: int, sizes: Sequence[int] = SIZES) -> Instance:
    """Draw a pair; it depends on nothing but the arguments.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    seed : int
        Of its own random numbers.
    sizes : sequence of int
        Numbers of atoms, each drawn as often as it stands there.

    Raises
    ------
    ValueError
        If a space refuses the values.
    """
    family, dtype = name.split()
    rng = np.random.default_rng([NAMES.index(name), seed])
    draw = Draw(
        rng,
        FAMILIES[int(rng.integers(len(FAMILIES) - 1))] if family == "any" else family,
        dtype,
        sizes,
    )
    with np.errstate(all="ignore"):
        x, y, order = draw.pair()
        spaces = x.space(dtype), y.space(dtype)
        hints = [] if order is None else [_matching(spaces[0], order)]
        plan = draw.plan(*spaces, hints)
    return Instance(name, seed, *spaces, plan, tuple(hints))


def _matching(x: gw.Space, order: np.ndarray) -> gw.SparsePlan:
    """The plan that sends atom order[j] of x to atom j of y, with the weights of x."""
    return gw.SparsePlan(
        order, np.arange(len(order)), x.weights[order], (len(order), len(order))
    )


@dataclass(frozen=True)
class Draw:
    """What draws a pair: random numbers, the family, the dtype and the sizes."""

    rng: np.random.Generator
    family: str
    dtype: str
    sizes: Sequence[int] = SIZES

    @property
    def single(self) -> bool:
        """Whether values are of float32."""
        return self.dtype == "float32"

    def chance(self, share: float) -> bool:
        """Tell whether something happens that does in a share of all cases."""
        return bool(self.rng.random() < share)

    def among(self, options: Sequence[Any]) -> Any:
        """Return one of several options."""
        return options[int(self.rng.integers(len(options)))]

    def power(self, low: float, high: float) -> float:
        """Return ten to a uniform power."""
        return float(10.0 ** self.rng.uniform(low, high))

    def pair(self) -> tuple[Raw, Raw, np.ndarray | None]:
        """Draw two spaces.

        Draw also the order in which the second repeats the first, if it does.
        """
        kind, n = self.among(KINDS), self.among(self.sizes)
        x = Raw(kind, self.values(kind, n), None)
        if self.family == "perturbed" or self.chance(0.1):
            return self.copied(replace(x, weights=self.weights(n)))
        m = n if self.chance(0.6) else self.among(self.sizes)
        other = kind if self.chance(0.5) else self.among(KINDS)
        y = Raw(other, self.values(other, m), None)
        if self.family == "offset":
            x, y = self.shifted(x, y)
        x = self.hidden(replace(x, weights=self.weights(n)))
        y = self.hidden(replace(y, weights=self.weights(m)))
        return x, y, None

    def copied(self, x: Raw) -> tuple[Raw, Raw, np.ndarray]:
        """Return a space and its copy in another order, mostly with noise."""
        if self.family == "offset":
            x = self.shifted(x, x)[0]
        order = self.rng.permutation(x.size)
        y = x.take(order)
        if self.chance(0.85):
            size = self.power(-9, -5) if self.single else self.power(-16, -9)
            noise = self.rng.standard_normal(y.values.shape)
            values = y.values.astype(self.dtype) * (
                1 + size * (noise + noise.T if y.kind == "dense" else noise)
            )
            y = replace(y, values=values)
        elif x.kind == "dense" and self.chance(0.5):
            # A difference whose square underflows beside the other entries.
            values, k = y.values.copy(), int(self.rng.integers(x.size))
            x.values[order[k], order[k]], values[k, k] = (
                0.0,
                1e-30 if self.single else self.power(-175, -160),
            )
            y = replace(y, values=values)
        if x.weights is None and self.chance(0.3):
            y = replace(y, weights=np.full(x.size, 1 / x.size))
        elif x.weights is not None and self.chance(0.3):
            ulps = self.rng.integers(-1, 2, x.size) * (
                2.0**-23 if self.single else 2.0**-52
            )
            y = replace(y, weights=y.weights * (1 + ulps))
        return x, y, order

    def values(self, kind: str, n: int) -> np.ndarray:
        """Draw a symmetric matrix, points or a factor in the family's numbers."""
        if kind == "dense":
            return self.dense(n)
        d = int(self.rng.integers(1, 4))
        values = self.numbers((n, d), root=kind != "euclidean")
        return values.T.copy() if kind == "gram" else values

    def dense(self, n: int) -> np.ndarray:
        """Draw a symmetric matrix, up to rounding."""
        if self.family == "additive":
            u = self.rng.standard_normal(n) * self.power(-3, 3)
            return u[:, None] + u[None, :]
        values = self.numbers((n, n), root=False)
        # No average, so that lattices, signs and powers stay what they are.
        values = np.triu(values) + np.triu(values, 1).T
        if self.family == "adjacency":
            np.fill_diagonal(values, 0.0)
        if self.family == "skew":
            most = 1e-6 if self.single else 1e-14
            values = (
                values
                + np.abs(values).max()
                * self.rng.uniform(-most, most, (n, n))
                * self.rng.random()
            )
        return values

    def numbers(self, shape: tuple[int, int], root: bool) -> np.ndarray:
        """Draw numbers of the family.

        Roots of them for kinds whose entries are squares.
        """
        rng, gaussian = self.rng, self.rng.standard_normal(shape)
        simple: dict[str, Callable[[], np.ndarray]] = {
            "lattice": lambda: rng.integers(-3, 4, shape) / self.among([1, 2, 3, 10]),
            "signs": lambda: rng.choice([-1.0, 1.0], shape),
            "adjacency": lambda: rng.integers(0, 2, shape).astype(float),
            "powers": lambda: (
                gaussian * 2.0 ** (self.extreme(root) * self.among([-1, 1]))
            ),
            "tiny": lambda: gaussian * self.small(root),
            "subnormal": lambda: (
                gaussian * (1e-40 if self.single else 1e-310) ** (0.5 if root else 1.0)
            ),
            "mixed": lambda: gaussian * self.scales(shape, root),
        }
        if self.family in simple:
            return simple[self.family]()
        return (
            gaussian
            if self.family != "perturbed" or self.chance(0.6)
            else rng.integers(-3, 4, shape) / 2
        )

    def extreme(self, root: bool) -> int:
        """Return the exponent of an extreme power of two."""
        return (60 if self.single else 200) // (2 if root else 1)

    def small(self, root: bool) -> float:
        """Return a scale whose squares underflow, or nearly so."""
        return (self.power(-25, -18) if self.single else self.power(-162, -150)) ** (
            0.5 if root else 1.0
        )

    def scales(self, shape: tuple[int, int], root: bool) -> np.ndarray:
        """Draw a scale for each number, far apart from each other."""
        top = self.among([2, 5, 8, 15] if self.single else [3, 8, 16, 50, 100]) * (
            0.5 if root else 1.0
        )
        return np.asarray(10.0 ** (top * self.rng.choice([-1.0, 0.0, 1.0], shape)))

    def shifted(self, x: Raw, y: Raw) -> tuple[Raw, Raw]:
        """Add one large number to both spaces.

        It is added to a matrix's entries or to each coordinate.
        """
        shift = 2.0 ** self.rng.uniform(*(8, 14) if self.single else (20, 30))
        feature = self.power(1, 3) if self.single else self.power(3, 6)

        def moved(raw: Raw) -> Raw:
            if raw.kind == "gram":
                return replace(raw, values=raw.values + feature)
            return replace(raw, values=raw.values + shift)

        return moved(x), moved(y)

    def weights(self, n: int) -> np.ndarray | None:
        """Draw weights.

        Uniform, equal, unequal, of wrong sums by rounding, with zeros or nearly so.
        """
        rng = self.rng
        sort = self.among(
            ["none", "none", "equal", "unequal", "simple", "biased", "zeros", "nearly"]
        )
        if sort == "none":
            return None
        ulp = 2.0**-23 if self.single else 2.0**-52
        if sort == "equal":
            return np.full(n, 1 / n) * (1 + self.among([-3, -1, 0, 0, 1, 2]) * ulp)
        if sort == "simple":
            counts = rng.integers(1, 4, n).astype(float)
            return counts / counts.sum()
        values = rng.dirichlet(np.ones(n)).astype(self.dtype).astype(float) + ulp
        if sort == "biased":
            return values * (1 + self.among([-8, -2, 1, 4, 16]) * ulp)
        if n > 1 and sort != "unequal":
            tiny = self.among(
                [1e-37, 1e-41] if self.single else [1e-16, 1e-300, 1e-310]
            )
            values[rng.permutation(n)[: self.among([1, 1, n - 1])]] = (
                0.0 if sort == "zeros" else tiny
            )
        return values / values.sum()

    def hidden(self, raw: Raw) -> Raw:
        """Give atoms of weight zero entries of another scale, in some cases."""
        if raw.weights is None or np.all(raw.weights > 0) or self.chance(0.4):
            return raw
        atoms = raw.weights == 0
        scale = self.among(
            [1e-30, 1e30, 1e8] if self.single else [1e-200, 1e200, 1e300, 1e12]
        )
        scale = scale if raw.kind in ("dense", "euclidean") else scale**0.5
        values = raw.values.copy()
        if raw.kind == "dense":
            values[atoms | atoms[:, None]] = scale
        else:
            values[(slice(None), atoms) if raw.kind == "gram" else atoms] = scale
        return replace(raw, values=values)

    def plan(
        self, x: gw.Space, y: gw.Space, hints: Sequence[gw.Plan]
    ) -> gw.Plan | None:
        """Draw a plan, mostly off its marginals a little.

        None, product, vertices, permutations, mixtures.
        """
        a, b = (np.asarray(space.weights, dtype=float) for space in (x, y))
        sort = self.among(["none", "product", "vertex", "vertex", "mixture", "mixture"])
        if hints and self.chance(0.7):
            sort = "hint"
        if sort == "none":
            return None
        if sort == "hint":
            masses = np.asarray(hints[0].dense(), dtype=float)
            if np.abs(masses.sum(0) - b).sum() > 1e-12 and not self.single:
                return None
        elif sort == "product":
            masses = np.outer(a, b)
        elif sort == "vertex":
            masses = self.vertex(a, b)
        else:
            shares = self.rng.dirichlet(np.ones(3))
            masses = (
                shares[0] * np.outer(a, b)
                + shares[1] * self.vertex(a, b)
                + shares[2] * self.vertex(a, b)
            )
        return self.stored(
            self.disturbed(masses), sparse=sort != "product" and self.chance(0.5)
        )

    def vertex(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The north-west corner coupling in random orders."""
        left, right = self.rng.permutation(len(a)), self.rng.permutation(len(b))
        rest_a, rest_b, masses = a.copy(), b.copy(), np.zeros((len(a), len(b)))
        r = s = 0
        while r < len(a) and s < len(b):
            i, j = left[r], right[s]
            moved = min(rest_a[i], rest_b[j])
            masses[i, j] += moved
            rest_a[i] -= moved
            rest_b[j] -= moved
            r, s = (r + 1, s) if rest_a[i] <= rest_b[j] else (r, s + 1)
        return masses

    def disturbed(self, masses: np.ndarray) -> np.ndarray:
        """Multiply masses by 1 + noise, or make rows or columns alone wrong.

        In half of the cases rows or columns alone are too heavy or too light.
        """
        sort = self.among(
            ["none", "none", "none", "noise", "noise", "rows", "cols", "all"]
        )
        n, m = masses.shape
        size = self.power(-8, -5) if self.single else self.power(-15, -9)
        factors = {
            "noise": lambda: self.rng.uniform(-1, 1, (n, m)),
            "rows": lambda: self.rng.choice([-1.0, 0.0, 1.0], (n, 1)),
            "cols": lambda: self.rng.choice([-1.0, 0.0, 1.0], (1, m)),
            "all": lambda: np.full((1, 1), self.among([-1.0, 1.0])),
        }
        return masses if sort == "none" else masses * (1 + size * factors[sort]())

    def stored(self, masses: np.ndarray, sparse: bool) -> gw.Plan:
        """Store masses as a plan; some atoms of sparse ones twice."""
        masses = masses.astype(self.dtype)
        if not sparse:
            return gw.DensePlan(masses)
        rows, cols = np.nonzero(masses)
        mass = masses[rows, cols]
        if self.chance(0.2):
            rows, cols, mass = (
                np.append(rows, rows[0]),
                np.append(cols, cols[0]),
                np.append(mass, mass[0] / 2),
            )
            mass[0] /= 2
        return gw.SparsePlan(rows, cols, mass, masses.shape)
