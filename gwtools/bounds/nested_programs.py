"""The nested linear program of theorems 15 and 16: transport within transport.

For costs of pairs of pairs, Σ c_ijkl π_ij π_kl is at least the least Σ σ_ij W_ij over
couplings σ, where W_ij is the least Σ c_ijkl τ_kl over couplings τ. Potentials prove
every one of these programs, whatever solver they came from (theorem 13 f).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds import float_error
from gwtools.bounds.float_error import gamma
from gwtools.bounds.transport_error import dual_value
from gwtools.history import now
from gwtools.transport.local_distributions import Centred
from gwtools.transport.programs import Program, exact


class Multipliers(NamedTuple):
    """What moves costs between pairs without changing any Σ c_ijkl π_ij π_kl.

    Parameters
    ----------
    first : numpy array of shape (m, n, m)
        G¹_jkl, in squared units of C, as is all that follows; float64.
    second : numpy array of shape (n, n, m)
        G²_ikl.
    potentials : numpy array of shape (n, m, m)
        Potentials ψ_ijl of the inner programs.
    tensor : numpy array of shape (n, m, n, m), optional
        Ξ_ijkl / √(a_i b_j a_k b_l).

    Examples
    --------
    Any numbers prove a bound, those of a search a better one.

    >>> import numpy as np, gwtools as gw
    >>> C = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.5], [3.0, 2.5, 0.0]])
    >>> D = np.array([[0.0, 2.0], [2.0, 0.0]])
    >>> none = gw.bounds.Multipliers(
    ...     np.zeros((2, 3, 2)), np.zeros((3, 3, 2)), np.zeros((3, 2, 2))
    ... )
    >>> found = gw.bounds.find_multipliers(C, D)
    >>> found.first.shape, found.second.shape, found.potentials.shape
    ((2, 3, 2), (3, 3, 2), (3, 2, 2))
    >>> bound = gw.bounds.reformulation(C, D, multipliers=none)
    >>> bound < gw.bounds.reformulation(C, D, multipliers=found)
    np.True_
    """

    first: NumpyArray
    second: NumpyArray
    potentials: NumpyArray
    tensor: NumpyArray | None = None


# Sums of costs from multipliers of this size are numbers of float64.
_LARGEST = 2.0**1000


def in_range(multipliers: Multipliers, most: float = _LARGEST) -> bool:
    """Tell whether all multipliers are numbers, and below ``most`` in size.

    By default all costs from them are then numbers of float64.
    """
    arrays = [array for array in multipliers if array is not None]
    return all(bool((np.abs(array) < most).all()) for array in arrays)


@dataclass(frozen=True, eq=False)
class NestedProgram:
    """The costs that multipliers make of two spaces, and their float errors.

    The objective is (m_C − m_D)² + Σ π_ij [h_ij + e_ij + Σ π_kl (c_ijkl + t_ijkl)] with

        c_ijkl = (R_ik − S_jl)² + h_kl − G¹_jkl − G²_ikl − t_ijkl,
        h_kl = (α_k − β_l)²,     e_kl = Σ_j b_j G¹_jkl + Σ_i a_i G²_ikl,

    for any multipliers: t is their tensor, and e is what the sums of G over a marginal
    are off from zero.
    """

    x: Centred
    y: Centred
    omega: float  # ω of the weights
    multipliers: Multipliers
    h: NumpyArray = field(init=False)  # (n, m)

    def __post_init__(self) -> None:
        alpha = self.x.deviations  # (n,)
        beta = self.y.deviations  # (m,)
        object.__setattr__(self, "h", (alpha[:, None] - beta) ** 2)

    def costs_of(self, i: int, atoms: NumpyArray) -> NumpyArray:
        """Return c_ijkl of one atom i of x and of atoms j of y, shape (J, n, m)."""
        first, second, _, tensor = self.multipliers
        R_i = self.x.residual[i]  # (n,)
        S_j = self.y.residual[atoms]  # (J, m)
        costs = (R_i[None, :, None] - S_j[:, None, :]) ** 2
        costs += self.h
        costs -= first[atoms]
        costs -= second[i]
        if tensor is not None:
            costs -= tensor[i, atoms]
        return np.asarray(costs)

    def sizes_of(self, i: int, atoms: NumpyArray) -> NumpyArray:
        """Bound the sizes of all terms of c_ijkl over the atoms l, shape (J, n)."""
        first, second, _, tensor = self.multipliers
        R_i = np.abs(self.x.residual[i])
        S_j = np.abs(self.y.residual[atoms]).max(axis=1)  # (J,)
        sizes = (R_i + S_j[:, None]) ** 2
        sizes += self.h.max(axis=1)
        sizes += np.abs(first[atoms]).max(axis=2)
        sizes += np.abs(second[i]).max(axis=1)
        if tensor is not None:
            sizes += np.abs(tensor[i, atoms]).max(axis=2)
        return np.asarray(sizes)

    def missed_centring(self) -> tuple[NumpyArray, NumpyArray]:
        """Return e_kl and a bound of its float error, each of shape (n, m)."""
        first, second, _, _ = self.multipliers
        a = self.x.weights
        b = self.y.weights
        value = np.tensordot(b, first, 1) + np.tensordot(a, second, 1)
        size = np.tensordot(b, np.abs(first), 1) + np.tensordot(a, np.abs(second), 1)
        terms = len(a) + len(b) + self.omega + 4
        return value, 2 * gamma(terms) * size + float_error.UNDERFLOW


@dataclass(frozen=True, eq=False)
class NestedBound:
    """A proved value of a nested program, and the plans and potentials behind it."""

    value: float  # of the outer program as computed; without (m_C − m_D)²
    lower: float  # the same as proved for the stored parts
    potentials: NumpyArray  # ψ_ijl of the inner programs, (n, m, m)
    outer: Program  # σ
    # τ of pairs, among them all that σ couples where no deadline came before.
    inner: dict[tuple[int, int], Program]


def inner_values(
    program: NestedProgram,
    i: int,
    atoms: NumpyArray,
    potentials: NumpyArray,
) -> NumpyArray:
    """Return what potentials of pairs (i, j) prove of the values W_ij, shape (J,).

    Less all float errors: of the costs, of φ and of the sums over atoms.

    Parameters
    ----------
    program : NestedProgram
        The program.
    i : int
        An atom of x.
    atoms : numpy array of shape (J,)
        Atoms j of y.
    potentials : numpy array of shape (J, m)
        ψ_jl of the inner programs of i and j.
    """
    a = program.x.weights
    b = program.y.weights
    # 1. φ_jk = min over l of c_ijkl − ψ_jl, lowered until both are surely feasible.
    reduced = program.costs_of(i, atoms)
    reduced -= potentials[:, None, :]
    least = reduced.min(axis=2)  # (J, n)
    largest = np.abs(potentials).max(axis=1)  # (J,)
    sizes = program.sizes_of(i, atoms) + largest[:, None]
    phi = least - gamma(12) * sizes - float_error.UNDERFLOW
    # 2. Σ_k a_k φ_jk + Σ_l b_l ψ_jl, less the float errors of these sums.
    value = phi @ a + potentials @ b
    size = np.abs(phi) @ a + np.abs(potentials) @ b
    terms = max(len(a), len(b)) + program.omega + 4
    return np.asarray(value - 2 * gamma(terms) * size - float_error.UNDERFLOW)


def solve(
    program: NestedProgram,
    refine: bool = True,
    deadline: float = math.inf,
) -> NestedBound:
    """Solve a nested program from the potentials of its multipliers.

    Inner programs are solved exactly only for pairs that the outer program couples:
    the values of all others are above what they need to be.

    Parameters
    ----------
    program : NestedProgram
        The program.
    refine : bool
        Whether to solve inner programs at all. Without, the value is that of the
        multipliers' own potentials.
    deadline : float
        When to solve no more of them, by the clock of :func:`gwtools.history.now`.
    """
    a = program.x.weights
    b = program.y.weights
    n = len(a)
    m = len(b)
    potentials = program.multipliers.potentials.copy()
    # 1. What the potentials at hand prove of all inner programs.
    values = np.empty((n, m))
    everywhere = np.arange(m)
    for i in range(n):
        values[i] = inner_values(program, i, everywhere, potentials[i])
    # 2. Solve the outer program and, exactly, the inner ones that its plan uses, until
    #    its plan uses none whose value is not exact.
    missed, missed_error = program.missed_centring()
    additive = program.h + missed  # (n, m)
    inner: dict[tuple[int, int], Program] = {}
    while True:
        costs = values + additive
        outer = exact(costs, a, b)
        coupled = zip(outer.plan.rows.tolist(), outer.plan.cols.tolist(), strict=True)
        unsolved = [pair for pair in coupled if pair not in inner]
        if not refine or not unsolved or now() > deadline:
            break
        for i, j in unsolved:
            if now() > deadline:
                break
            inner[i, j] = _solve_inner(program, values, potentials, i, j)
    # 3. The proof: a dual value of the outer program.
    size = np.abs(values) + program.h + np.abs(missed)
    costs_error = gamma(8) * size + missed_error
    potential = outer.potentials[1]
    lower = dual_value(costs, potential, a, b, program.omega, costs_error)
    return NestedBound(outer.lower, lower, potentials, outer, inner)


def _solve_inner(
    program: NestedProgram,
    values: NumpyArray,
    potentials: NumpyArray,
    i: int,
    j: int,
) -> Program:
    """Solve one inner program, and keep its potentials where they prove more."""
    only = np.array([j])
    costs = program.costs_of(i, only)[0]  # (n, m)
    solved = exact(costs, program.x.weights, program.y.weights)
    potential = solved.potentials[1]  # (m,)
    proved = float(inner_values(program, i, only, potential[None])[0])
    if proved > values[i, j]:
        values[i, j] = proved
        potentials[i, j] = potential
    return solved
