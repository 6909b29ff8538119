"""The entry point ``solve``: two spaces and a solver in, a certified result out."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, cast

from gwtools import _array, _check, _check_fused, _check_losses, _memory
from gwtools.bounds.memory import numbers_held
from gwtools.certified_results import rescaled, result_of
from gwtools.certify import EFFORTS
from gwtools.channel_problems import (
    numbers_of_forms,
    prepared_for,
    read_loss,
    words_of_forms,
)
from gwtools.free_marginals import given_marginals
from gwtools.free_results import free_result, free_search
from gwtools.fused import Fused, given_features, problem_of
from gwtools.lifted_problems import are_lifted
from gwtools.losses import SQUARE, Loss
from gwtools.preparation import Prepared
from gwtools.results import ConvergenceError, ConvergenceWarning, GWResult
from gwtools.solvers import (
    Choice,
    ConditionalGradient,
    Outcome,
    Progress,
    Solver,
    chosen_solver,
)
from gwtools.solvers.base import Callback
from gwtools.spaces import Space, as_space, without_directions


def solve(
    x: Any,
    y: Any,
    solver: Solver | str | None = None,
    *,
    effort: str = "linear",
    throw: bool = False,
    callback: Callback | None = None,
    memory_limit: float | None = None,
    features: Any = None,
    alpha: Any = None,
    marginals: Any = "balanced",
    loss: str = "square",
) -> GWResult:
    """Compute the Gromov-Wasserstein distance between two spaces, with a certificate.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms, of one array library, dtype and device. A raw array is
        a :class:`gwtools.DenseSpace` with uniform weights.
    solver : Solver or "auto", optional
        By default ``"auto"``, which chooses by the structure of the problem; see the
        notes. Or :class:`gwtools.MultiStart`, :class:`gwtools.ConditionalGradient`,
        :class:`gwtools.Sinkhorn`, :class:`gwtools.Sorted`,
        :class:`gwtools.BranchAndBound`.
    effort : {"linear", "quadratic", "cubic", "quartic"}
        What the certificate may spend; see :func:`gwtools.certify`.
    throw : bool
        Raise :class:`gwtools.ConvergenceError` where the solver's criterion is not met,
        instead of warning.
    callback : callable, optional
        Called with a :class:`gwtools.Progress` after every step; return True to stop
        with the plan of that step, of a search with the best so far. The status is then
        STOPPED, of which nothing warns or raises.
    memory_limit : float, optional
        Bytes that may be used; by default what is free: the least of what the system,
        the limits of the process and its control group leave, or what is free on the
        device. :class:`gwtools.Sorted` needs few beside the spaces, for squared clouds
        and Gram spaces a multiple of n + m; iterative solvers hold n × m arrays.
    features : array of shape (n, m), "sqeuclidean" or "euclidean", optional
        Costs M between the atoms of x and y, in squared units of C, finite and of any
        sign: the objective is then fused, (1 − α) ⟨M, π⟩ + α F(π). Pairs that must not
        match get a cost far above the objective, known matches one below all others.
        Where both spaces were made with ``features=``, a word says which distance
        between these M holds, by default "sqeuclidean", their square; the certificate
        speaks of M as computed.
    alpha : float or 0-d array, optional
        The share α of F, from 0 (linear transport, whose optimum is found and proved)
        to 1 (F alone, as without features); it comes with the features. See the notes.
    marginals : "balanced", "semi_relaxed", Partial or Unbalanced
        Which plans compete. By default the couplings of both weights, "balanced".
        "semi_relaxed": the mass of each atom of x is its weight, and atoms of y receive
        what is best; no weight of y is read, so that those of weight 0 may receive
        mass, too. ``gwtools.Partial(mass)``: a part of the mass, no atom giving or
        receiving more than its weight. ``gwtools.Unbalanced(rho)``: any masses, at a
        price for what their marginals miss of the weights. See the notes.
    loss : {"square", "kl", "absolute"}, optional
        The loss L between values of C and of D in the objective Σ L(C_ik, D_jl) π_ij
        π_kl. "square": (c − d)². "kl": c log(c/d) − c + d with 0 log 0 = 0, for C ≥ 0
        and D > 0. "absolute": |c − d|, where C or D has at most 64 different values.
        See the notes.

    Returns
    -------
    GWResult
        Objective (GW_2², squared units of C), distance, estimate, plan, status and
        certificate; with features and α < 1 these are of the fused objective, which has
        no distance. Arrays are of the library, dtype and device of the spaces; half
        precision is computed in float32, and the plan and the numbers stay so.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work. Lists, tables, sparse matrices and graphs are not
        converted: the sentence says how. So for features without α or α without
        features, and with solvers that answer the plain problem alone (``Sorted`` and
        ``BranchAndBound``).
    MemoryError
        If what the solver and the effort need does not fit, before it is asked for.
    ConvergenceError
        With ``throw=True``, where the criterion is not met and no callback asked to
        stop.

    Warns
    -----
    ConvergenceWarning
        Where the criterion is not met and no callback asked to stop; the best plan is
        returned and ``status`` says why.

    Notes
    -----
    ``"auto"`` runs what stands in the first line that holds, and ``result.solver`` says
    which:

    =====================================  =============================================
    the problem                            solver
    =====================================  =============================================
    gradients are asked for                ``ConditionalGradient()``: one start, whose
                                           plan changes least from call to call
    a space of one atom                    ``ConditionalGradient()``: one coupling
    two Gram spaces, C = h hᵀ, D = k kᵀ    ``ConditionalGradient()``: sorting h and k
                                           alike, or against each other, is optimal
                                           (theorem 12)
    a space with C_ik = u_i + u_k          ``ConditionalGradient()``: the coupling that
                                           sorts the row means is optimal (theorem 5)
    λ μ ≤ 0 for all eigenvalues λ of R     ``ConditionalGradient()``: the objective is
    and μ of S                             convex over couplings (theorem 11), as
                                           between a kernel and distances; above 500
                                           atoms where the kinds of the spaces tell
    a search does not fit memory           ``ConditionalGradient()``
    all others                             ``MultiStart()``
    =====================================  =============================================

    What ``MultiStart()`` does depends on the structure too. Between equally many atoms,
    at most nine, of equal weights it tries all bijections, and ends there where the
    objective is concave. Where row means are constant its first start leaves the
    product coupling, a saddle, along eigenvectors. Between squared distances or inner
    products its eigenvectors are principal axes. Above 500 atoms, and again above 2500,
    it makes fewer starts, and ``result.starts`` names those left out.

    Above 2500 atoms a search takes about twice the time of a single
    ``ConditionalGradient()`` at most, above 500 about four times.

    PyTorch, and ``jax.grad``, differentiate ``objective``, ``distance``, ``estimate``
    and ``regularized`` with respect to distances, points, factors and weights.
    Gradients with respect to a matrix are symmetric, so that steps keep it so.
    Estimates are closed forms. Objectives of iterative solvers have the gradient of the
    minimum, by the envelope theorem: exact where the plan is stationary and unique, for
    weights along changes that keep their mass, where the potentials are unique. At a
    fixed ε that is the gradient of ``regularized``, which is what is at its minimum
    then; ``objective`` has the same one. Both hold ε, also where it is not given and
    follows from the data. Plans of iterative solvers carry no gradient: second
    derivatives leave out how plans change, which is right for a vertex that stays
    optimal, and wrong at a fixed ε. Where a distance is 0, its gradient is taken to be
    0. Within ``jax.jit`` and ``jax.vmap``, where arrays have no values yet, spaces are
    refused.

    With features "auto" leaves out what holds for F alone: the second, third and fourth
    line of the table, whose reason is then that one linear program is optimal, and the
    starts by exact copies and by all permutations. A search also starts from the plan
    of least ⟨M, π⟩. Gradients in M and in α are those of the minimum, too.

    α is the share of the structure, as in POT (``alpha``, 1 for pure
    Gromov-Wasserstein). OTT-JAX's ``fused_penalty`` f is said to be the weight of
    ⟨M, π⟩ beside F; its plans are stationary where that weight is 2 f, here (1 − α)/α,
    and moscot passes it (1 − ``alpha``)/``alpha`` as f. TorchGW's share is that of the
    features, here 1 − α. M stands beside squared differences of C, so that units are
    part of the model: dividing C by s and M by s² changes nothing but units, dividing C
    alone gives M more weight. Rescale so that both terms are comparable. A constant
    added to C alone changes F and no plan, so does one added to M.

    With free marginals the default makes a few starts, and descends from each by
    conditional gradient; where semi-relaxed plans are stationary, single atoms of x go
    to another atom of y as long as one lowers the objective. A
    ``ConditionalGradient(init=...)`` makes that start alone, of the marginals that are
    asked for. ``certificate.lower`` is 0, and from ``effort="cubic"`` on a bound from
    minima over rows. There is no distance and there are no potentials. Features go
    beside: bounds have the costs of both terms then, those of unbalanced plans the
    least cost of a mass. With "tv" costs below 0 are refused, as plans above the
    weights would compete; with "kl" no mass at all may be best where costs exceed the
    prices. Objectives have gradients in distances, points and factors, semi-relaxed
    ones in the weights of x, too, unbalanced ones with divergences in both weights
    (THEORY.md, theorem 18). Unbalanced plans without features have no bound but 0; with
    divergences they descend from each start by several paths, of which ``init`` is the
    start, too.

    Directed spaces, ``DenseSpace(C, directed=True)`` or a digraph's, and other losses
    than squares are carried by conditional gradient, Sinkhorn's algorithm and a search
    from other starts: the product coupling, steps towards single vertices, exact
    copies, what attains the three bounds for squares, annealing, restarts and random
    vertices. Their certificates have the bound ``row_means`` and, from "cubic" on,
    ``third``. Gradients in a directed matrix have no symmetry; "absolute" has none.
    "kl" and "absolute" are in units of C. Zeros of D, as on the diagonal of distances,
    are refused with "kl", which is infinite there. Features go beside: M is in units of
    the loss then, and the bounds are ``joint row_means`` and ``joint third``, of one
    linear program each. Free marginals do not (THEORY.md, "Losses and directions").

    Examples
    --------
    Three points on a line, the first twice as heavy as the others, against a triangle
    in the plane.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y)
    >>> print(result)  # doctest: +NORMALIZE_WHITESPACE
    Gromov-Wasserstein between 3 and 3 atoms by auto: MultiStart()
      distance     0.858896
      objective    0.737702  (GW_2^2 of the plan)
      certificate  [0.215718, 0.737702] (bracket, lower bound by norm)
      excess       objective at most 3.5 times the minimum, distance at most 1.9 times
      starts       best of 15 starts; 6 reached it
      status       The plan is stationary: the Frank-Wolfe gap fell below the
                   tolerance. (2 iterations)
    >>> result.plan.dense().round(4)
    array([[0.1667, 0.3333, 0.    ],
           [0.1667, 0.    , 0.0833],
           [0.    , 0.    , 0.25  ]])

    Members of a karate club, before and after two of them left. By paths in the graph
    alone few keep to their faction; a cost that forbids the others leaves structure to
    decide within factions.

    >>> import networkx as nx
    >>> club = nx.karate_club_graph()
    >>> left = [member for member in club if member not in (16, 24)]
    >>> x = gw.GraphSpace(nx.Graph(club.edges))
    >>> y = gw.GraphSpace(nx.Graph(club.subgraph(left).edges))
    >>> of_x, of_y = (
    ...     np.array([club.nodes[name]["club"] for name in space.names])
    ...     for space in (x, y)
    ... )
    >>> across = (of_x[:, None] != of_y).astype(float)
    >>> one = gw.ConditionalGradient()
    >>> plain = gw.solve(x, y, one)
    >>> fused = gw.solve(x, y, one, features=100 * across, alpha=0.5)
    >>> [round(float((r.plan.dense() * across).sum()), 2) for r in (plain, fused)]
    [0.76, 0.0]

    The two parties of a karate club: a template of two groups, 1 within and 0 between,
    to which friendships are sent. How many join either group is free.

    >>> friends = nx.to_numpy_array(club, weight=None)
    >>> result = gw.solve(friends, np.eye(2), marginals="semi_relaxed")
    >>> group = [j for i, j, share in result.matching()]
    >>> [i for i in club if group[i] == group[0]]
    [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 19, 21]
    >>> sum(club.nodes[i]["club"] == "Mr. Hi" for i in club if group[i] == group[0])
    16

    With a cost for both leaders, the first and the last member, each group has a name:
    32 of the 34 members are found in their leader's.

    >>> costs = np.zeros((34, 2))
    >>> costs[0, 1] = costs[33, 0] = 1
    >>> named = gw.solve(
    ...     friends, np.eye(2), features=costs, alpha=0.5, marginals="semi_relaxed"
    ... )
    >>> leaders = ["Mr. Hi", "Officer"]
    >>> sum(club.nodes[i]["club"] == leaders[j] for i, j, share in named.matching())
    32

    A league in which one player beats both others, against one in which one loses to
    both: who beats whom has a direction.

    >>> wins = np.array([[1.0, 2.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    >>> x, y = (gw.DenseSpace(C, directed=True) for C in (wins, wins.T))
    >>> results = [gw.solve(x, y, loss=loss) for loss in ("square", "kl")]
    >>> [round(float(result.objective), 4) for result in results]
    [0.2222, 0.077]
    """
    # 1. The arguments.
    x = without_directions(as_space(x, "x"))
    y = without_directions(as_space(y, "y"))
    given = _given_solver(solver)
    _check.choice(effort, "effort", EFFORTS)
    _check.flag(throw, "throw")
    _check.callback(callback)
    _check.memory_limit(memory_limit)
    free = given_marginals(marginals)
    fused = given_features(features, alpha, x, y)
    given_loss = read_loss(loss, x, y)
    words = words_of_forms(x, y, given_loss)
    if words is not None:
        _check_losses.alone(free is not None, "marginals", words)
        if given is not None:
            _check_losses.carried(given.carries_losses, str(given), words)
    if free is not None:
        search = free_search(given, free, fused, x, y)
        heard = partial(_in_units, callback)
        result = free_result(x, y, free, search, effort, heard, memory_limit, fused)
        return _announced(result, throw)
    if fused is not None and given is not None:
        _check_fused.carried(given.carries_features, str(given))
    least = ConditionalGradient() if given is None else given
    is_fused = fused is not None
    require_memory(x, y, least, effort, memory_limit, fused=is_fused, loss=given_loss)
    # 2. The problem of the atoms that carry weight, in units near 1: fourth powers of
    # values in other units may have no numbers.
    beside = 0.0 if fused is None else fused.size(x, y)
    ready = prepared_for(given_loss, x, y, beside)
    callback_here = _in_units(callback, ready.unit)
    choice = Choice(given) if given is not None else None
    outcome, choice = _outcome(
        x, y, ready, fused, given_loss, choice, callback_here, memory_limit
    )
    # 3. The result, in the units and on the atoms of the spaces.
    name = str(choice) if given is None else None
    result = result_of(
        x, y, ready, outcome, choice.solver, effort, fused, name, given_loss
    )
    return _announced(result, throw)


def _announced(result: GWResult, throw: bool) -> GWResult:
    """Return a result, with a warning where its criterion is not met, or raise."""
    if result.status.failure:
        if throw:
            raise ConvergenceError(result)
        # The warning is shown at the line that called ``solve``.
        warnings.warn(result.status.value, ConvergenceWarning, stacklevel=3)
    return result


def _given_solver(solver: Any) -> Solver | None:
    """Return the solver that was passed; None for "auto"."""
    if solver is None or (isinstance(solver, str) and solver == "auto"):
        return None
    advice = 'pass "auto" or an instance such as gwtools.ConditionalGradient()'
    _check.instance(solver, "solver", Solver, advice)
    return cast(Solver, solver)


def _outcome(
    x: Space,
    y: Space,
    ready: Prepared,
    fused: Fused | None,
    loss: Loss,
    choice: Choice | None,
    callback: Callback | None,
    limit: float | None,
) -> tuple[Outcome, Choice]:
    """Run the given solver, or the one that suits the problem.

    The problem keeps its residuals, which are freed with it on return.
    """
    fused_here = None if fused is None else fused.prepared(ready)
    problem = problem_of(ready.x, ready.y, fused_here, loss)
    if choice is None:
        arrays = (x.data, x.weights, y.data, y.weights)
        gradients = any(_array.tracked(array) for array in arrays)
        gradients = gradients or (fused is not None and fused.tracked)
        choice = chosen_solver(problem.detached(), gradients)
        if not _fits(x, y, choice.solver, limit):
            reason = "one start, as a search does not fit memory"
            choice = Choice(ConditionalGradient(), reason)
    solver = choice.solver.in_units(ready.unit)
    solver = solver.on_atoms(ready, (x.size, y.size))
    return solver.run(problem, callback), choice


def _fits(x: Space, y: Space, solver: Solver, limit: float | None) -> bool:
    """Tell whether what a solver holds fits memory."""
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return True
    held = solver.numbers_held(x, y)
    try:
        _memory.require(held, (x.size, y.size), str(solver), x.weights, limit, "x, y")
    except MemoryError:
        return False
    return True


def require_memory(
    x: Space,
    y: Space,
    solver: Solver,
    effort: str,
    limit: float | None,
    name: str = "x and y",
    fused: bool = False,
    loss: Loss = SQUARE,
) -> None:
    """Refuse two spaces for which a solver or a certificate holds more than fits.

    Parameters
    ----------
    x, y : Space
        The spaces.
    solver : Solver
        The solver.
    effort : str
        The effort of the certificate.
    limit : float or None
        Bytes that may be used; None for what is free.
    name : str
        What to call the spaces in an error.
    fused : bool
        Whether costs (n, m) between the atoms are part of the problem.
    loss : Loss
        Of the objective.

    Raises
    ------
    MemoryError
        If what the solver or the certificate needs does not fit.
    """
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return
    shape = (x.size, y.size)
    # In numbers, each of 8 bytes.
    of_solver = solver.numbers_held(x, y)
    if fused:
        # M, (1 − α) M and the same centred, converted, with a copy for the certificate.
        of_solver += 6.0 * x.size * y.size
        if are_lifted(x, y):
            # With M the programs are those between all pairs.
            of_solver += 8.0 * x.size * y.size
    of_solver += numbers_of_forms(x, y, loss)
    of_effort = numbers_held(x, y, effort)
    _memory.require(of_solver, shape, str(solver), x.weights, limit, name)
    _memory.require(of_effort, shape, f"effort={effort!r}", x.weights, limit, name)


def _in_units(callback: Callback | None, unit: float) -> Callback | None:
    """Report progress in the caller's units, not in those of the prepared problem."""
    if callback is None or unit == 1.0:
        return callback

    def in_units_of_the_caller(progress: Progress) -> Any:
        objective = rescaled(progress.objective, unit)
        gap = progress.frank_wolfe_gap
        if gap is not None:
            gap = rescaled(gap, unit)
        lower = progress.lower
        if lower is not None:
            lower = rescaled(lower, unit)
        return callback(Progress(progress.iteration, objective, gap, lower))

    return in_units_of_the_caller
