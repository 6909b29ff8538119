"""The portfolio of starts of a search: one generator for each kind, listed at the end.

Starts are computed in NumPy and float64 on the CPU, and brought to the library, dtype
and device of the spaces; annealing, eigenvectors and eccentricities are computed there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
import scipy.sparse

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.bounds.certified import lower_by_root
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.float_error import gamma, matrix_radii
from gwtools.bounds.moments import squared_distance_of_spectra
from gwtools.certify import ProvedInterval
from gwtools.lifted_problems import LiftedProblem, are_lifted, are_too_many
from gwtools.plans import DensePlan, Plan, SparsePlan, make_unchecked
from gwtools.preparation import is_double
from gwtools.problems import GWProblem
from gwtools.solvers.base import Solver
from gwtools.solvers.coarsening import coarse_costs, coarse_lifted_costs
from gwtools.solvers.exact_copies import exact_copy
from gwtools.solvers.permutations import MOST_ATOMS, enumerated
from gwtools.solvers.perturbed import perturbed_plan
from gwtools.solvers.sinkhorn import Sinkhorn
from gwtools.solvers.starts import sorting_coupling
from gwtools.solvers.vertices import linear_program, vertex_like
from gwtools.transport.local_distributions import Centred, centred, uniform
from gwtools.transport.one_dimensional import comonotone, sorting_plan

# Atoms of the larger space up to which a part is worth its time.
SMALL = 500
MEDIUM = 2500

_SAME_SPECTRUM = 1e-6  # of ‖R‖‖S‖: the squared distance of spectra that count as equal
_SAME = 1000  # spacings of 1.0: values of exact copies that differ by less are equal
_MODES = 3  # pairs of eigenvectors whose signs are tried: 2³ combinations
_KEPT_FLIPS = 3  # of these, the best by objective are started from
_ANNEALING_STEPS = 14  # kernels until ε is 1/1000 of 4‖α‖‖β‖ + 2‖R‖‖S‖
_FEWEST_TO_COARSEN = 250  # atoms: below this, the other starts take little time
_RESTARTS_PER_VERTEX = 5  # restarts from the best plan for each random vertex


class Candidate(NamedTuple):
    """A start of conditional gradient.

    Parameters
    ----------
    name : str
        What a user reads.
    plan : Plan or None
        The coupling; None for the product coupling as the solver itself leaves it.
    independent : bool
        Whether it does not begin at a plan that an earlier start led to.
    optimal : bool
        Whether no coupling has a lower objective.
    """

    name: str
    plan: Plan | None
    independent: bool = True
    optimal: bool = False


@dataclass(eq=False)
class Search:
    """What the parts of a portfolio know: the problem, and the best plan so far.

    Parameters
    ----------
    problem : GWProblem
        The problem, outside any gradient graph.
    rng : numpy.random.Generator
        Where random starts come from.
    coarse_solver : Solver
        Solves coarse problems.
    best : Plan or None
        The best coupling that a start has led to.
    least : float
        Its objective, in squared units of C.
    proved : ProvedInterval or None
        A lower bound that a part has proved.
    """

    problem: GWProblem
    rng: np.random.Generator
    coarse_solver: Solver
    best: Plan | None = None
    least: float = math.inf
    proved: ProvedInterval | None = None

    @property
    def atoms(self) -> int:
        """The number of atoms of the larger space."""
        return max(self.problem.shape)

    @cached_property
    def x(self) -> Centred:
        """The first space and its parts, in NumPy."""
        return centred(self.problem.x)

    @cached_property
    def y(self) -> Centred:
        """The second space and its parts, in NumPy."""
        return centred(self.problem.y)

    @cached_property
    def weights(self) -> tuple[NumpyArray, NumpyArray]:
        """The weights a and b in NumPy and float64."""
        return numpy64(self.problem.x.weights), numpy64(self.problem.y.weights)

    def vertex(self, costs: NumpyArray) -> SparsePlan:
        """Return the vertex of least cost, for costs (n, m)."""
        # Between many atoms programs go on from a coupling in a part of the time.
        start = sorting_coupling(self.problem) if self.atoms > SMALL else None
        program = linear_program(self.problem, costs, start)
        return vertex_like(program.plan, self.problem.x.weights)

    def bijection(self, images: NumpyArray) -> SparsePlan:
        """Return the coupling of atoms i with atoms images[i] of equal weights."""
        a, _ = self.weights
        plan = make_unchecked(
            SparsePlan,
            rows=np.arange(len(images)),
            cols=images,
            mass=a,
            size=self.problem.shape,
        )
        return vertex_like(plan, self.problem.x.weights)


def numpy64(array: Array) -> NumpyArray:
    """Bring an array to NumPy, in float64."""
    return _array.to_numpy(array).astype(np.float64, copy=False)


def product_coupling(_: Search) -> Iterator[Candidate]:
    """The product coupling, at which the first program sorts the row means."""
    yield Candidate("product coupling", None)


def exact_copies(search: Search) -> Iterator[Candidate]:
    """The bijection that keeps all values, where one space is a copy of the other."""
    problem = search.problem
    # Between copies features may still ask for another coupling.
    if problem.linear is not None:
        return
    # Copies have equal moments.
    (alpha, left), (beta, right) = problem.norms
    float_error = problem.float_error
    differ_in_means = abs(alpha**2 - beta**2) > float_error
    if differ_in_means or abs(left**2 - right**2) > float_error:
        return
    # And equal spectra, which few others have: regular graphs have equal moments too.
    lam = problem.left.spectrum()
    mu = problem.right.spectrum()
    between = float(squared_distance_of_spectra(lam, mu))
    if between > _SAME_SPECTRUM * left * right:
        return
    tolerance = _SAME * _array.epsilon(problem.x.weights)
    images = exact_copy(search.x, search.y, tolerance)
    if images is not None:
        yield Candidate("exact copy", search.bijection(images))


def permutations(search: Search) -> Iterator[Candidate]:
    """The best of all bijections between a few atoms of equal weights.

    Where F is concave over couplings it is least at a vertex, which between equal
    weights is a bijection (Birkhoff): no coupling is then better.
    """
    n, m = search.problem.shape
    a, b = search.weights
    # Its bounds are those of F alone.
    if search.problem.linear is not None:
        return
    if n != m or n > MOST_ATOMS or not (uniform(a) and uniform(b)):
        return
    # What the best start attained, up to the float error of its objective.
    attained = (search.least + search.problem.float_error) * n * n
    images, least = enumerated(search.x.matrix, search.y.matrix, attained)
    concave = curvatures(search.problem).is_concave
    search.proved = _proved_by_permutations(search.problem, least)
    if images is not None:
        plan = search.bijection(images)
        yield Candidate("all permutations", plan, optimal=concave)


def _proved_by_permutations(problem: GWProblem, least: float) -> ProvedInterval | None:
    """Return the bound that all bijections prove, where the kinds of spaces say so.

    ``least`` is at most every sum Σ_ik (C_ik − D_σ(i)σ(k))² of the computed matrices.
    The kinds prove that F is concave over couplings (theorem 11); spectra would do so
    up to float error alone.
    """
    spaces = (problem.x, problem.y)
    is_concave = problem.x.sign * problem.y.sign > 0
    # Vertices are bijections where weights are equal exactly.
    are_equal = all(space.equal_weights for space in spaces)
    if not (is_concave and are_equal and is_double(problem.x.weights)):
        return None
    n, _ = problem.shape
    # Entries are off by their own float errors and the mean with their transposes, and
    # the root of F by no more (theorem 6 a).
    radius = 0.0
    for space in spaces:
        radii = matrix_radii(space)
        radius += float(radii.entries + gamma(2) * radii.largest)
    lower = lower_by_root(least / n**2, radius)
    return ProvedInterval(lower, "permutations")


class Curvatures(NamedTuple):
    """The least and the largest product λ μ of eigenvalues of R and of S.

    Along the modes of λ and μ, the term of second order of F is −2 λ μ t² (theorem 11).
    """

    least: float
    largest: float
    float_error: float

    @property
    def is_concave(self) -> bool:
        """Whether F is concave over couplings, up to float error."""
        return self.least >= -self.float_error

    @property
    def is_convex(self) -> bool:
        """Whether F is convex over couplings, up to float error."""
        return self.largest <= self.float_error


def curvatures(problem: GWProblem) -> Curvatures:
    """Return the extreme products of eigenvalues of both residuals."""
    lam = numpy64(problem.left.spectrum())
    mu = numpy64(problem.right.spectrum())
    # Eigenvalues that are left out are zeros.
    ends_x = (min(0.0, float(lam[0])), max(0.0, float(lam[-1])))
    ends_y = (min(0.0, float(mu[0])), max(0.0, float(mu[-1])))
    products = [problem.share * p * q for p in ends_x for q in ends_y]
    return Curvatures(min(products), max(products), problem.float_error)


def third_bound(search: Search) -> Iterator[Candidate]:
    """The coupling that attains Mémoli's third bound, of the residuals (theorem 7).

    It pairs atoms whose α and β are near, and whose rows of R and S are distributed
    alike.
    """
    _, costs = third_costs(search.x, search.y, residual=True)
    linear = search.problem.linear
    if linear is not None:
        costs = search.problem.share * costs + numpy64(linear.costs)
    yield Candidate("third bound", search.vertex(costs))


def linear_transport(search: Search) -> Iterator[Candidate]:
    """The coupling of least linear term, where the objective is fused."""
    linear = search.problem.linear
    if linear is not None:
        yield Candidate("linear transport", search.vertex(numpy64(linear.costs)))


def eigenvectors(search: Search) -> Iterator[Candidate]:
    """Alignments of leading eigenvectors of both residuals, whose signs are arbitrary.

    With R = Σ λ_r u_r u_rᵀ in L²(a) and S = Σ μ_s v_s v_sᵀ in L²(b), the objective has
    the part −2 Σ λ_r μ_s (E_π u_r v_s)². Each choice of signs for the leading pairs
    with λ μ > 0 gives one linear program, whose costs are the gradient where u_r and
    ±v_r agree. The best of their vertices are started from. For clouds with squared
    distances the signs are flips of the principal axes.
    """
    problem = search.problem
    aligned = _aligned_modes(search)
    if aligned is None:
        return
    U, V, products = aligned
    bilinear = numpy64(problem.bilinear_cost)
    found: list[tuple[float, int, str, SparsePlan]] = []
    for signs in itertools.product((1.0, -1.0), repeat=len(products)):
        slopes = -4 * products * np.asarray(signs)
        plan = search.vertex(bilinear + (U * slopes) @ V.T)
        objective = float(problem.objective(plan))
        shown = "".join("+" if sign > 0 else "-" for sign in signs)
        # The place in the list decides between equal objectives.
        found.append((objective, len(found), f"eigenvectors {shown}", plan))
    for _, _, name, plan in sorted(found)[:_KEPT_FLIPS]:
        yield Candidate(name, plan)


def _aligned_modes(
    search: Search,
) -> tuple[NumpyArray, NumpyArray, NumpyArray] | None:
    """Return leading eigenfunctions u (n, k) and v (m, k), and their products λ μ.

    Eigenvalues of one sign are paired by rank; the pairs of the largest products are
    kept. None where no product is positive.
    """
    problem = search.problem
    a, b = search.weights
    values_x, modes_x = problem.left.modes()
    values_y, modes_y = problem.right.modes()
    lam = numpy64(values_x)
    mu = numpy64(values_y)
    count = min(len(lam), len(mu), _MODES)
    # Positive eigenvalues from the largest down, negative ones from the least up.
    from_the_top = [-1 - k for k in range(count)]
    from_the_bottom = list(range(count))
    ends = []
    for end in from_the_top + from_the_bottom:
        sign = 1.0 if end < 0 else -1.0
        if sign * lam[end] > 0.0 and sign * mu[end] > 0.0:
            ends.append(end)
    products = problem.share * (lam[ends] * mu[ends])
    # Eigenfunctions of eigenvalues that are float error are not defined.
    resolved = int(np.count_nonzero(products > problem.float_error))
    if resolved == 0:
        return None
    leading = np.argsort(-products, kind="stable")[: min(resolved, _MODES)]
    kept = [ends[k] for k in leading]
    # Modes are a ∘ u for the eigenfunctions u in L²(a).
    U = numpy64(modes_x)[:, kept] / a[:, None]
    V = numpy64(modes_y)[:, kept] / b[:, None]
    return U, V, products[leading]


def annealing(search: Search) -> Iterator[Candidate]:
    """The plan of proximal Sinkhorn at the end of annealing its entropy."""
    outcome = Sinkhorn(max_iterations=_ANNEALING_STEPS).run(search.problem)
    yield Candidate("annealing", outcome.plan)


def first_bound(search: Search) -> Iterator[Candidate]:
    """The coupling that attains Mémoli's first bound: it sorts the eccentricities."""
    x = search.problem.x
    y = search.problem.y
    of_x = x.power_means(2.0)
    of_y = y.power_means(2.0)
    plan = sorting_plan(of_x, x.weights, of_y, y.weights)
    yield Candidate("first bound", plan)


def second_bound(search: Search) -> Iterator[Candidate]:
    """The (i, j) marginal of a coupling of pairs that attains Mémoli's second bound.

    Pairs (i, k) of x and (j, l) of y are coupled in the order of C_ik and D_jl, those
    of one value independently: so that the order of the atoms does not matter.
    """
    values_x, masses_x, starts_x = _pairs_by_value(search.x)
    values_y, masses_y, starts_y = _pairs_by_value(search.y)
    coupling = comonotone(values_x, masses_x, values_y, masses_y)
    shares = coupling.mass / masses_x[coupling.rows] / masses_y[coupling.cols]
    between = scipy.sparse.csr_array(
        (shares, (coupling.rows, coupling.cols)),
        shape=(len(values_x), len(values_y)),
    )
    matrix = (starts_x @ between @ starts_y.T).toarray()
    plan = _array.from_numpy(matrix, search.problem.x.weights)
    yield Candidate("second bound", make_unchecked(DensePlan, matrix=plan))


def _pairs_by_value(
    space: Centred,
) -> tuple[NumpyArray, NumpyArray, scipy.sparse.csr_array]:
    """Return the values of C, ascending, their masses, and the atoms they start from.

    The last is the matrix (n, number of values) of Σ a_i a_k over the atoms k with C_ik
    of a value.
    """
    values, numbers = np.unique(space.matrix, return_inverse=True)
    a = space.weights
    n = len(a)
    products = np.outer(a, a).ravel()  # of the pairs (i, k)
    masses = np.bincount(numbers.ravel(), weights=products)
    rows = np.repeat(np.arange(n), n)
    # Compressed rows add the masses of one position.
    starts = scipy.sparse.csr_array(
        (products, (rows, numbers.ravel())), shape=(n, len(values))
    )
    return values, masses, starts


def coarse_to_fine(search: Search) -> Iterator[Candidate]:
    """The best vertex at the lifted coupling of two quantised spaces."""
    if min(search.problem.shape) < _FEWEST_TO_COARSEN:
        return
    problem = search.problem
    if problem.linear is None and are_lifted(problem.x, problem.y):
        # The product coupling leads through cells there, and no program is solved.
        if are_too_many(problem.shape):
            return
        lifted = LiftedProblem.of(problem)
        gradient = coarse_lifted_costs(lifted, search.coarse_solver)
        start = sorting_coupling(lifted)
        program = linear_program(lifted, gradient, start)
        plan = vertex_like(program.plan, problem.x.weights)
        yield Candidate("coarse to fine", plan)
        return
    costs = coarse_costs(problem, search.coarse_solver)
    yield Candidate("coarse to fine", search.vertex(costs))


def endless(search: Search) -> Iterator[Candidate]:
    """The best plan so far, perturbed; in turns with vertices for random costs."""
    for number in itertools.count(1):
        for _ in range(_RESTARTS_PER_VERTEX):
            best = cast(Plan, search.best)
            plan = perturbed_plan(best, search.problem, search.rng)
            yield Candidate("restart from the best", plan, independent=False)
        costs = search.rng.random(search.problem.shape)
        yield Candidate(f"random vertex {number}", search.vertex(costs))


class Part(NamedTuple):
    """A part of the portfolio, and the atoms of a space up to which it is used."""

    name: str
    starts: Callable[[Search], Iterator[Candidate]]
    most_atoms: float


# In this order. A new kind of start is a generator above, and a line here.
PARTS = (
    Part("the product coupling", product_coupling, math.inf),
    Part("exact copies", exact_copies, MEDIUM),
    Part("permutations", permutations, MOST_ATOMS),
    Part("coarse to fine", coarse_to_fine, math.inf),
    Part("linear transport", linear_transport, math.inf),
    Part("the third bound", third_bound, MEDIUM),
    Part("eigenvectors", eigenvectors, SMALL),
    Part("the first bound", first_bound, SMALL),
    Part("the second bound", second_bound, SMALL),
    Part("annealing", annealing, SMALL),
)
ENDLESS = Part("random and perturbed starts", endless, SMALL)


def is_left_out(search: Search, part: Part) -> bool:
    """Tell whether a part takes too long for the size of the problem."""
    if search.atoms > part.most_atoms:
        return True
    if part.starts is not third_bound or search.atoms <= SMALL:
        return False
    a, b = search.weights
    # Transports between unequal weights take far longer.
    return not (uniform(a) and uniform(b))


def left_out(search: Search, parts: tuple[Part, ...]) -> str:
    """Name the parts that are left out at the size of the problem; empty for none."""
    names = []
    for part in (*parts, ENDLESS):
        # That of a few atoms is not missed by more of them.
        if part.most_atoms > MOST_ATOMS and is_left_out(search, part):
            names.append(part.name)
    return ", ".join(names)
