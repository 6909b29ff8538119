"""What people pass by mistake: the answer is one sentence about the argument.

It starts with the name of the argument. The mistakes are in the tables of
``tests/whole/mistakes``, a file for each subject; what is the same mistake at many
entry points is below. ``python -m tests.whole.test_mistakes`` prints the mistakes,
where they are made, and the sentences.
"""

import builtins
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools import batch, bounds, stability

TABLES = Path(__file__).parent / "mistakes"
SUBJECTS = (
    "other_types",
    "options",
    "spaces",
    "plans",
    "lists",
    "bounds",
    "stability",
)


class Table:
    """What errors look at in pandas' tables: their module, and a conversion."""

    def to_numpy(self) -> Any:
        raise AssertionError("nothing is converted")


Table.__module__ = "pandas.core.frame"

# Two spaces, of three and of two atoms, and what belongs to them.
C = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.5], [2.0, 2.5, 0.0]])
POINTS = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
A = np.full(3, 1 / 3)
X = gw.DenseSpace(C)
Y = gw.DenseSpace(1 - np.eye(2))
PLAN = np.full((3, 2), 1 / 6)
GRAPH = nx.Graph([("a", "b", {"weight": 2}), ("b", "c", {})])
ROW = gw.GramSpace(np.ones((1, 3)))

# The names that the calls in the tables use.
NAMES = {
    "gw": gw,
    "bounds": bounds,
    "batch": batch,
    "stability": stability,
    "np": np,
    "nx": nx,
    "sp": sp,
    "C": C,
    "POINTS": POINTS,
    "A": A,
    "X": X,
    "Y": Y,
    "PLAN": PLAN,
    "GRAPH": GRAPH,
    "ROW": ROW,
    "Table": Table,
    "PROBLEM": gw.GWProblem(X, Y),
    "INDEX": np.arange(3),
    "MATRIX": C.view(np.matrix),
    "FEATURED": gw.DenseSpace(C, features=np.ones((3, 2))),
    "FEATURES": np.ones((3, 2)),
    "LONGER": gw.DenseSpace(C, features=np.ones((3, 3))),
    "FAR": gw.DenseSpace(C, features=np.full((3, 2), 1e200)),
    "NARROW": gw.DenseSpace(C.astype(np.float32)),
    "MULTIPLIERS": bounds.Multipliers(
        np.zeros((2, 3, 2)), np.zeros((3, 3, 2)), np.zeros((3, 2, 2))
    ),
    "LOPSIDED": np.outer(A, [0.6, 0.4]),  # its columns sum to other weights than Y's
}


class Mistake(NamedTuple):
    """A mistake, the call that makes it, and the error that answers it."""

    what: str
    entry: str
    call: Callable[[], Any]
    error: type[Exception]
    starts: str  # the argument, with which the sentence starts
    says: str = ""  # what the sentence contains


def read(subject):
    """Yield the mistakes of a table: one a row, below the names of the columns."""
    text = (TABLES / f"{subject}.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        cells = [cell.strip().strip("`") for cell in row.strip("|").split(" | ")]
        what, entry, call, error, starts, says = cells
        made = partial(eval, compile(call, f"{subject}.md", "eval"), NAMES)
        yield Mistake(what, entry, made, getattr(builtins, error), starts, says)


def at_bounds_of_a_pair():
    """Yield what is no space, at every bound of one pair."""
    by_moments = ("row_means", "first", "norm", "spectral", "rank_one")
    by_programs = ("second", "third", "convex", "reformulation", "find_multipliers")
    for name in (*by_moments, *by_programs, "semidefinite"):
        bound = getattr(bounds, name)
        good = ROW if name == "rank_one" else X
        entry = f"bounds.{name}"
        rows = partial(bound, C.tolist(), good)
        graph = partial(bound, good, GRAPH)
        yield Mistake("list", entry, rows, TypeError, "x", "numpy.asarray(x")
        yield Mistake("graph", entry, graph, TypeError, "y", "gwtools.GraphSpace(y)")


def at_bounds_of_many_pairs():
    """Yield what is no list of spaces, and no power, at every bound of many pairs."""
    for name in ("row_means", "first", "norm", "spectral", "second"):
        bound = getattr(batch, name)
        entry = f"batch.{name}"
        rows = partial(bound, [X, C.tolist()], [Y, Y])
        generator = partial(bound, [X], iter([Y]))
        yield Mistake("list", entry, rows, TypeError, "xs[1]", "asarray(xs[1]")
        yield Mistake("generator", entry, generator, TypeError, "ys", "list(ys)")
        if name in ("row_means", "first", "second"):
            text = partial(bound, [X], [Y], p="2")
            yield Mistake("text", entry, text, ValueError, "p", "'2'")


def at_stability():
    """Yield rows of numbers in the place of the space, at stability's functions."""
    others = {
        "perturbation": X,
        "row_means_perturbation": X,
        "quantization": 0.1,
        "rounding": "float32",
        "subsampling": np.arange(3),
        "sampling": 5,
        "row_means_sampling": 5,
    }
    for name, other in others.items():
        entry = f"stability.{name}"
        rows = partial(getattr(stability, name), C.tolist(), other)
        yield Mistake("list", entry, rows, TypeError, "x", "numpy.asarray(x")


def every_mistake():
    for subject in SUBJECTS:
        yield from read(subject)
    yield from at_bounds_of_a_pair()
    yield from at_bounds_of_many_pairs()
    yield from at_stability()


MISTAKES = list(every_mistake())


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


def is_documented(value):
    """Tell whether a callable describes arguments: neither abstract nor returned."""
    return "Parameters\n" in (getattr(value, "__doc__", None) or "")


def public_calls():
    """Yield the names of the public callables that a user gives arguments to."""
    modules = {name: getattr(gw, name) for name in ("bounds", "batch", "stability")}
    for folder, module in modules.items():
        for name, value in vars(module).items():
            if not is_documented(value):
                continue
            # Under its own name alone, and of this folder.
            own = getattr(value, "__name__", name) == name
            if own and value.__module__.startswith(f"gwtools.{folder}"):
                yield f"{folder}.{name}"
    for name in set(gw.__all__) - set(modules):
        if is_documented(getattr(gw, name)):
            yield name


def test_every_public_entry_point_has_a_mistake():
    made = {mistake.entry for mistake in MISTAKES}
    public = set(public_calls())
    # A bound of many pairs may have its mistakes at that of one pair.
    untried = {
        name
        for name in public
        if name not in made and name.removeprefix("batch.") not in made
    }
    assert untried == set()
    assert made - {"Solver.run", "GWProblem.objective"} <= public
    assert len(MISTAKES) >= 60


def test_every_table_is_read():
    assert {path.stem for path in TABLES.iterdir()} == set(SUBJECTS)
    assert all(list(read(subject)) for subject in SUBJECTS)


def table():
    """Yield the mistakes as lines of a Markdown table."""
    yield "| mistake | entry point | sentence |"
    yield "|---|---|---|"
    for mistake in MISTAKES:
        yield f"| {mistake.what} | `{mistake.entry}` | {sentence(mistake)} |"


if __name__ == "__main__":
    print("\n".join(table()))
