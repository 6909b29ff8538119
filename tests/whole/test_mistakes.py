"""What people pass by mistake: at every public entry point one sentence, and it starts with the name of the argument.

``python -m tests.whole.test_mistakes`` prints the mistakes, where they are made, and
the sentences.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools import batch, bounds, stability

C = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.5], [2.0, 2.5, 0.0]])
POINTS = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
A = np.full(3, 1 / 3)
X, Y = gw.DenseSpace(C), gw.DenseSpace(1 - np.eye(2))
PLAN = np.full((3, 2), 1 / 6)
PROBLEM = gw.GWProblem(X, Y)
INDEX = np.arange(3)
GRAPH = nx.Graph([("a", "b", {"weight": 2}), ("b", "c", {})])
MATRIX = C.view(np.matrix)


class Table:
    """What pandas' tables have, as far as errors look: the module that they come from, and a conversion of their own."""

    def to_numpy(self) -> Any:
        raise AssertionError("nothing is converted")


Table.__module__ = "pandas.core.frame"


class Mistake(NamedTuple):
    """A mistake, the call that makes it, the error and what its sentence starts with and contains."""

    what: str
    entry: str
    call: Callable[[], Any]
    error: type[Exception]
    starts: str
    says: str = ""


def _of_other_types():
    """Types in the place of a space."""
    return [
        (
            "list of lists",
            "solve",
            lambda: gw.solve(C.tolist(), Y),
            TypeError,
            "x",
            "numpy.asarray(x, dtype=float)",
        ),
        (
            "tuple",
            "solve",
            lambda: gw.solve(X, tuple(C)),
            TypeError,
            "y",
            "numpy.asarray(y, dtype=float)",
        ),
        (
            "table",
            "solve",
            lambda: gw.solve(Table(), Y),
            TypeError,
            "x",
            "x.to_numpy(dtype=float)",
        ),
        (
            "sparse matrix",
            "solve",
            lambda: gw.solve(sp.csr_array(C), Y),
            TypeError,
            "x",
            "gwtools.GraphSpace(x)",
        ),
        (
            "sparse matrix",
            "certify",
            lambda: gw.certify(X, sp.csr_matrix(C)),
            TypeError,
            "y",
            "y.toarray()",
        ),
        (
            "graph",
            "solve",
            lambda: gw.solve(GRAPH, Y),
            TypeError,
            "x",
            "gwtools.GraphSpace(x)",
        ),
        (
            "list of spaces",
            "solve",
            lambda: gw.solve([X, Y], Y),
            TypeError,
            "x",
            "gwtools.solve_batch",
        ),
        (
            "coordinates",
            "solve",
            lambda: gw.solve(POINTS, Y),
            ValueError,
            "x",
            "gwtools.PointCloud",
        ),
        (
            "one coordinate",
            "solve",
            lambda: gw.solve(A, Y),
            ValueError,
            "x",
            "PointCloud(points[:, None])",
        ),
        (
            "integers",
            "solve",
            lambda: gw.solve(C.astype(int), Y),
            TypeError,
            "x",
            "x.astype(float)",
        ),
        (
            "masked array",
            "solve",
            lambda: gw.solve(np.ma.masked_equal(C, 0), Y),
            TypeError,
            "x",
            "x.filled(value)",
        ),
        (
            "numpy.matrix",
            "solve",
            lambda: gw.solve(MATRIX, Y),
            TypeError,
            "x",
            "numpy.asarray(x, dtype=float)",
        ),
        ("complex", "certify", lambda: gw.certify(X, C + 0j), TypeError, "y", "y.real"),
        (
            "longdouble",
            "certify",
            lambda: gw.certify(C.astype(np.longdouble), Y),
            TypeError,
            "x",
            "64 bits",
        ),
        ("NaN", "certify", lambda: gw.certify(C * np.nan, Y), ValueError, "x", "NaN"),
        (
            "file name",
            "as_space",
            lambda: gw.as_space("x.csv"),
            TypeError,
            "space",
            "'x.csv'",
        ),
        (
            "class",
            "as_space",
            lambda: gw.as_space(gw.DenseSpace, "x"),
            TypeError,
            "x",
            "the class DenseSpace",
        ),
        (
            "array",
            "GWProblem",
            lambda: gw.GWProblem(C, Y),
            TypeError,
            "x",
            "gwtools.as_space(x)",
        ),
        ("None", "GWProblem", lambda: gw.GWProblem(X, None), TypeError, "y", "None"),
        (
            "unlike dtypes",
            "GWProblem",
            lambda: gw.GWProblem(X, _narrow()),
            TypeError,
            "x",
            "float32",
        ),
        (
            "unlike dtypes",
            "solve",
            lambda: gw.solve(X, _narrow()),
            TypeError,
            "x",
            "float64 and float32",
        ),
    ]


def _of_options():
    """Solvers and options."""
    return [
        (
            "class",
            "solve",
            lambda: gw.solve(X, Y, gw.Sinkhorn),
            TypeError,
            "solver",
            "the class Sinkhorn",
        ),
        (
            "name",
            "solve",
            lambda: gw.solve(X, Y, "sinkhorn"),
            TypeError,
            "solver",
            "gwtools.ConditionalGradient()",
        ),
        (
            "number",
            "solve",
            lambda: gw.solve(X, Y, effort=2),
            ValueError,
            "effort",
            "'linear'",
        ),
        (
            "text",
            "solve",
            lambda: gw.solve(X, Y, throw="yes"),
            TypeError,
            "throw",
            "True or False",
        ),
        (
            "number",
            "solve",
            lambda: gw.solve(X, Y, callback=5),
            TypeError,
            "callback",
            "is 5",
        ),
        (
            "array",
            "certify",
            lambda: gw.certify(X, Y, effort=A),
            ValueError,
            "effort",
            "of type ndarray",
        ),
        (
            "negative",
            "certify",
            lambda: gw.certify(X, Y, tolerance=-1e-9),
            ValueError,
            "tolerance",
            "-1e-09",
        ),
        (
            "text",
            "Sinkhorn",
            lambda: gw.Sinkhorn(epsilon="0.1"),
            ValueError,
            "epsilon",
            "'0.1'",
        ),
        (
            "zero",
            "Sinkhorn",
            lambda: gw.Sinkhorn(epsilon=0),
            ValueError,
            "epsilon",
            "greater than 0",
        ),
        (
            "text",
            "Sinkhorn",
            lambda: gw.Sinkhorn(proximal="no"),
            TypeError,
            "proximal",
            "'no'",
        ),
        (
            "above 1",
            "Sinkhorn",
            lambda: gw.Sinkhorn(cooling=1.5),
            ValueError,
            "cooling",
            "less than 1",
        ),
        (
            "half a step",
            "Sinkhorn",
            lambda: gw.Sinkhorn(max_iterations=2.5),
            ValueError,
            "max_iterations",
            "2.5",
        ),
        (
            "None",
            "ConditionalGradient",
            lambda: gw.ConditionalGradient(tolerance=None),
            ValueError,
            "tolerance",
        ),
        (
            "number",
            "ConditionalGradient",
            lambda: gw.ConditionalGradient(exchange=1),
            TypeError,
            "exchange",
        ),
        (
            "list",
            "ConditionalGradient",
            lambda: gw.ConditionalGradient(init=[[1.0]]),
            TypeError,
            "init",
            "init, dtype",
        ),
        (
            "name",
            "ConditionalGradient",
            lambda: gw.ConditionalGradient(init="sorted"),
            ValueError,
            "init",
        ),
        (
            "transposed",
            "ConditionalGradient",
            partial(_started, PLAN.T),
            ValueError,
            "init",
            "transpose",
        ),
        (
            "other weights",
            "ConditionalGradient",
            partial(_started, _lopsided()),
            ValueError,
            "init",
            "0.2",
        ),
        (
            "rowmeans",
            "Sorted",
            lambda: gw.Sorted(kind="rowmeans"),
            ValueError,
            "kind",
            "'row_means'",
        ),
        ("below 1", "Sorted", lambda: gw.Sorted(p=0.5), ValueError, "p", "0.5"),
        (
            "space",
            "Solver.run",
            lambda: gw.Sorted().run(X),
            TypeError,
            "problem",
            "gwtools.GWProblem(x, y)",
        ),
    ]


def _of_spaces():
    """Spaces."""
    return [
        (
            "list",
            "DenseSpace",
            lambda: gw.DenseSpace([[0.0]]),
            TypeError,
            "distances",
            "numpy.asarray(distances",
        ),
        (
            "rounded",
            "DenseSpace",
            lambda: gw.DenseSpace(C, A * (1 + 1e-7)),
            ValueError,
            "weights",
            "1.0000001",
        ),
        (
            "list",
            "DenseSpace",
            lambda: gw.DenseSpace(C, [0.5, 0.25, 0.25]),
            TypeError,
            "weights",
            "numpy.asarray(wei",
        ),
        (
            "dict",
            "DenseSpace",
            lambda: gw.DenseSpace(C, {"a": 1.0}),
            TypeError,
            "weights",
            "weights.values()",
        ),
        (
            "list",
            "PointCloud",
            lambda: gw.PointCloud([[0.0], [1.0]]),
            TypeError,
            "points",
            "numpy.asarray(points",
        ),
        (
            "table",
            "PointCloud",
            lambda: gw.PointCloud(Table()),
            TypeError,
            "points",
            "points.to_numpy(dtype=float)",
        ),
        (
            "one axis",
            "PointCloud",
            lambda: gw.PointCloud(POINTS[:, 0]),
            ValueError,
            "points",
            "points[:, None]",
        ),
        (
            "metric",
            "PointCloud",
            lambda: gw.PointCloud(POINTS, "sqeuclidean"),
            TypeError,
            "weights",
            "metric='sqeu",
        ),
        (
            "misspelt",
            "PointCloud",
            lambda: gw.PointCloud(POINTS, metric="cosine"),
            ValueError,
            "metric",
            "'cosine'",
        ),
        (
            "column",
            "PointCloud",
            lambda: gw.PointCloud(POINTS, A[:, None]),
            ValueError,
            "weights",
            "reshape(-1)",
        ),
        (
            "sparse matrix",
            "GramSpace",
            lambda: gw.GramSpace(sp.eye_array(3)),
            TypeError,
            "factor",
            "factor.toarray()",
        ),
        (
            "one axis",
            "GramSpace",
            lambda: gw.GramSpace(A),
            ValueError,
            "factor",
            "factor[None, :]",
        ),
        (
            "rows as atoms",
            "GramSpace",
            lambda: gw.GramSpace(POINTS, A),
            ValueError,
            "weights",
            "factor.T",
        ),
        (
            "matrix",
            "GraphSpace",
            lambda: gw.GraphSpace(C),
            TypeError,
            "adjacency",
            "scipy.sparse.csr_array",
        ),
        (
            "unlike edges",
            "GraphSpace",
            lambda: gw.GraphSpace(GRAPH),
            ValueError,
            "adjacency",
            "1 of 2 edges",
        ),
        (
            "no such",
            "GraphSpace",
            lambda: gw.GraphSpace(GRAPH, weight="length"),
            ValueError,
            "adjacency",
            "'length'",
        ),
        (
            "weights",
            "GraphSpace",
            lambda: gw.GraphSpace(GRAPH, weight=A),
            TypeError,
            "weight",
            "of the nodes",
        ),
        (
            "text",
            "GraphSpace",
            partial(_labelled, "2"),
            TypeError,
            "adjacency",
            "real numbers",
        ),
        (
            "directed",
            "GraphSpace",
            lambda: gw.GraphSpace(nx.DiGraph([(0, 1)])),
            ValueError,
            "adjacency",
            "directed",
        ),
    ]


def _of_plans():
    """Plans."""
    return [
        (
            "list",
            "DensePlan",
            lambda: gw.DensePlan([[1.0]]),
            TypeError,
            "matrix",
            "numpy.asarray(matrix",
        ),
        (
            "one axis",
            "DensePlan",
            lambda: gw.DensePlan(A),
            ValueError,
            "matrix",
            "(3,)",
        ),
        (
            "no such atom",
            "SparsePlan",
            partial(_listed, rows=INDEX + 1),
            ValueError,
            "rows",
            "holds 3",
        ),
        (
            "negative",
            "SparsePlan",
            partial(_listed, cols=INDEX - 1),
            ValueError,
            "cols",
            "holds -1",
        ),
        (
            "floats",
            "SparsePlan",
            partial(_listed, rows=A),
            TypeError,
            "rows",
            "dtype=int",
        ),
        (
            "too short",
            "SparsePlan",
            partial(_listed, cols=INDEX[:2]),
            ValueError,
            "cols",
            "each of the 3 masses",
        ),
        (
            "list",
            "SparsePlan",
            partial(_listed, mass=[1 / 3] * 3),
            TypeError,
            "mass",
            "numpy.asarray(mass",
        ),
        (
            "one number",
            "SparsePlan",
            partial(_listed, size=3),
            TypeError,
            "size",
            "(n, m)",
        ),
        (
            "result",
            "certify",
            lambda: gw.certify(X, Y, gw.solve(X, Y)),
            TypeError,
            "plan",
            "plan.plan",
        ),
        (
            "effort",
            "certify",
            lambda: gw.certify(X, Y, "cubic"),
            TypeError,
            "plan",
            "effort='cubic'",
        ),
        (
            "swapped",
            "certify",
            lambda: gw.certify(Y, X, PLAN),
            ValueError,
            "plan",
            "transpose it",
        ),
        (
            "negative",
            "certify",
            lambda: gw.certify(X, Y, gw.DensePlan(-PLAN)),
            ValueError,
            "plan",
            "non-negative",
        ),
        (
            "other weights",
            "certify",
            lambda: gw.certify(X, Y, _lopsided()),
            ValueError,
            "plan",
            "up to 0.001",
        ),
        (
            "array",
            "GWProblem.objective",
            lambda: PROBLEM.objective(PLAN),
            TypeError,
            "plan",
            "DensePlan(plan)",
        ),
        (
            "list",
            "round_plan",
            lambda: gw.round_plan(PLAN.tolist(), A, A[:2]),
            TypeError,
            "matrix",
            "numpy.asarray(ma",
        ),
        (
            "negative",
            "round_plan",
            lambda: gw.round_plan(-PLAN, A, Y.weights),
            ValueError,
            "matrix",
            "non-negative",
        ),
        (
            "swapped",
            "round_plan",
            lambda: gw.round_plan(PLAN, Y.weights, A),
            ValueError,
            "a",
            "3 atoms",
        ),
        (
            "counts",
            "round_plan",
            lambda: gw.round_plan(PLAN, A, np.ones(2)),
            ValueError,
            "b",
            "sum to 2",
        ),
    ]


def _of_lists():
    """Lists of spaces."""
    return [
        (
            "one space",
            "solve_batch",
            lambda: gw.solve_batch(X, [Y]),
            TypeError,
            "xs",
            "[xs]",
        ),
        (
            "one matrix",
            "solve_batch",
            lambda: gw.solve_batch([X], C),
            TypeError,
            "ys",
            "[ys]",
        ),
        (
            "generator",
            "solve_batch",
            lambda: gw.solve_batch((s for s in [X]), [Y]),
            TypeError,
            "xs",
            "list(xs)",
        ),
        (
            "text",
            "solve_batch",
            lambda: gw.solve_batch([X], "y"),
            TypeError,
            "ys",
            "'y'",
        ),
        (
            "unlike length",
            "solve_batch",
            lambda: gw.solve_batch([X, X], [Y]),
            ValueError,
            "xs",
            "2 and 1",
        ),
        (
            "list",
            "solve_batch",
            lambda: gw.solve_batch([X, X], [Y, [[0.0]]]),
            TypeError,
            "ys[1]",
            "asarray(ys[1]",
        ),
        (
            "integers",
            "solve_batch",
            lambda: gw.solve_batch([X, C.astype(int)], [Y, Y]),
            TypeError,
            "xs[1]",
            "int64",
        ),
        (
            "unlike dtypes",
            "solve_batch",
            lambda: gw.solve_batch([X, _narrow()], [Y, Y]),
            TypeError,
            "xs[1]",
            "float32",
        ),
        (
            "class",
            "solve_batch",
            lambda: gw.solve_batch([], [], gw.Sinkhorn),
            TypeError,
            "solver",
            "class Sinkhorn",
        ),
        (
            "number",
            "solve_batch",
            lambda: gw.solve_batch([X], [Y], throw=1),
            TypeError,
            "throw",
            "is 1",
        ),
    ]


def _of_bounds():
    """Bounds."""
    return [
        (
            "NaN",
            "bounds.row_means",
            lambda: bounds.row_means(X, Y, p=np.nan),
            ValueError,
            "p",
            "nan",
        ),
        (
            "matrix",
            "bounds.rank_one",
            lambda: bounds.rank_one(X, _row()),
            ValueError,
            "x",
            "gwtools.GramSpace",
        ),
        (
            "text",
            "bounds.third",
            lambda: bounds.third(X, Y, residual="yes"),
            TypeError,
            "residual",
            "'yes'",
        ),
        (
            "other power",
            "bounds.third",
            lambda: bounds.third(X, Y, 1.0, residual=True),
            ValueError,
            "p",
            "one of 2",
        ),
        (
            "half a step",
            "bounds.convex",
            lambda: bounds.convex(X, Y, steps=1.5),
            ValueError,
            "steps",
            "1.5",
        ),
        (
            "empty",
            "batch.norm",
            lambda: batch.norm([], []),
            ValueError,
            "xs",
            "at least one",
        ),
    ]


def _of_stability():
    """Stability."""
    return [
        (
            "unlike sizes",
            "stability.perturbation",
            lambda: stability.perturbation(X, Y),
            ValueError,
            "x2",
            "2 and 3",
        ),
        (
            "zero",
            "stability.quantization",
            lambda: stability.quantization(X, 0.0),
            ValueError,
            "step",
            "0.0",
        ),
        (
            "integer",
            "stability.rounding",
            lambda: stability.rounding(X, int),
            ValueError,
            "dtype",
            "'int'",
        ),
        (
            "matrix",
            "stability.truncation",
            lambda: stability.truncation(X, 1),
            TypeError,
            "x",
            "GramSpace(factor)",
        ),
        (
            "half",
            "stability.truncation",
            lambda: stability.truncation(_row(), 1.5),
            ValueError,
            "k",
            "1.5",
        ),
        (
            "mask",
            "stability.subsampling",
            lambda: stability.subsampling(X, A > 0),
            TypeError,
            "index",
            "bool",
        ),
        (
            "list",
            "stability.subsampling",
            lambda: stability.subsampling(X, [0]),
            TypeError,
            "index",
            "dtype=int",
        ),
        (
            "no such atom",
            "stability.subsampling",
            lambda: stability.subsampling(X, INDEX + 1),
            ValueError,
            "index",
        ),
        (
            "float",
            "stability.sampling",
            lambda: stability.sampling(X, 1e3),
            ValueError,
            "draws",
            "1000.0",
        ),
        (
            "percent",
            "stability.row_means_sampling",
            partial(_drawn, 5),
            ValueError,
            "failure",
            "less than 1",
        ),
    ]


def _everywhere():
    """The same mistakes at every bound, of one pair and of many, and at every function of stability."""
    for name in (
        "row_means",
        "first",
        "norm",
        "spectral",
        "second",
        "third",
        "convex",
        "rank_one",
    ):
        bound, good = getattr(bounds, name), _row() if name == "rank_one" else X
        yield Mistake(
            "list",
            f"bounds.{name}",
            partial(bound, C.tolist(), good),
            TypeError,
            "x",
            "numpy.asarray(x",
        )
        yield Mistake(
            "graph",
            f"bounds.{name}",
            partial(bound, good, GRAPH),
            TypeError,
            "y",
            "gwtools.GraphSpace(y)",
        )
    for name in ("row_means", "first", "norm", "spectral", "second"):
        bound = getattr(batch, name)
        yield Mistake(
            "list",
            f"batch.{name}",
            partial(bound, [X, C.tolist()], [Y, Y]),
            TypeError,
            "xs[1]",
            "asarray(xs[1]",
        )
        yield Mistake(
            "generator",
            f"batch.{name}",
            partial(bound, [X], iter([Y])),
            TypeError,
            "ys",
            "list(ys)",
        )
        if name in ("row_means", "first", "second"):
            yield Mistake(
                "text",
                f"batch.{name}",
                partial(bound, [X], [Y], p="2"),
                ValueError,
                "p",
                "'2'",
            )
    calls = {
        "perturbation": (X,),
        "row_means_perturbation": (X,),
        "quantization": (0.1,),
        "rounding": ("float32",),
        "subsampling": (INDEX,),
        "sampling": (5,),
        "row_means_sampling": (5,),
    }
    for name, rest in calls.items():
        call = partial(getattr(stability, name), C.tolist(), *rest)
        yield Mistake(
            "list", f"stability.{name}", call, TypeError, "x", "numpy.asarray(x"
        )


def _mistakes():
    for rows in (
        _of_other_types,
        _of_options,
        _of_spaces,
        _of_plans,
        _of_lists,
        _of_bounds,
        _of_stability,
    ):
        yield from (Mistake(*row) for row in rows())
    yield from _everywhere()


def _narrow():
    return gw.DenseSpace(C.astype(np.float32))


def _row():
    return gw.GramSpace(np.ones((1, 3)))


def _lopsided():
    return np.outer(A, [0.6, 0.4])


def _started(plan):
    return gw.solve(X, Y, gw.ConditionalGradient(init=plan))


def _labelled(value):
    return gw.GraphSpace(nx.Graph([(0, 1, {"weight": value})]))


def _listed(rows=INDEX, cols=INDEX, mass=A, size=(3, 3)):
    return gw.SparsePlan(rows, cols, mass, size)


def _drawn(failure):
    return stability.row_means_sampling(X, 5, failure)


MISTAKES = list(_mistakes())


def sentence(mistake):
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert type(caught.value) is mistake.error
    return str(caught.value)


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda m: f"{m.entry}-{m.what}-{m.starts}"
)
def test_a_mistake_is_answered_with_one_sentence_that_starts_with_the_argument(mistake):
    text = sentence(mistake)
    requirement, _, rest = text.partition(", but ")
    received, _, remedy = rest.partition(": ")
    assert text.startswith(f"{mistake.starts} must "), text
    assert " must " in requirement, text
    assert received, text
    assert remedy.endswith("."), text
    assert ". " not in text, text
    assert "\n" not in text, text
    assert mistake.says in text, text


def public_calls():
    """Every public callable that a user gives arguments to: abstract classes and what is returned are left out."""
    modules = {name: getattr(gw, name) for name in ("bounds", "batch", "stability")}
    for name, module in modules.items():
        calls = {
            n: f for n, f in vars(module).items() if getattr(f, "__name__", n) == n
        }  # under their own names alone
        documented = (
            n
            for n, f in calls.items()
            if "Parameters\n" in (getattr(f, "__doc__", None) or "")
        )
        yield from (
            f"{name}.{n}"
            for n in documented
            if getattr(module, n).__module__.startswith(f"gwtools.{name}")
        )
    for name in set(gw.__all__) - set(modules):
        if "Parameters\n" in (getattr(gw, name).__doc__ or ""):
            yield name


def test_every_public_entry_point_has_a_mistake():
    made = {mistake.entry for mistake in MISTAKES}
    assert {
        name
        for name in public_calls()
        if name.removeprefix("batch.") not in made and name not in made
    } == set()
    assert made - {"Solver.run", "GWProblem.objective"} <= set(public_calls())
    assert len(MISTAKES) >= 60


def table():
    """Yield the mistakes as lines of a Markdown table."""
    yield "| mistake | entry point | sentence |"
    yield "|---|---|---|"
    yield from (f"| {m.what} | `{m.entry}` | {sentence(m)} |" for m in MISTAKES)


if __name__ == "__main__":
    print("\n".join(table()))
