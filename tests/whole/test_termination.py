"""The default solver answers on graphs.

Matrices of few distinct values make linear programs that are all ties.

Solves run in a child process that may be killed: a loop in compiled code can be ended
in no other way.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csgraph
from scipy.spatial import KDTree

import gwtools as gw

# Linear programs of a solve at most: where one of them may not end, one of the first
# does not.
PROGRAMS = 15
SIZES = (
    299,
    301,
    350,
    500,
)  # programs of up to 300 x 300 are solved on all arcs at once
LARGE = 1000
# Seconds of the child's own time, which a busy machine does not spend: 50 times and
# more what the slowest solve takes.
LIMITS = dict.fromkeys(SIZES, 120) | {LARGE: 400}


def block_model(n):
    sizes = [n - 2 * (3 * n // 10), 3 * n // 10, 3 * n // 10]
    return nx.stochastic_block_model(sizes, np.where(np.eye(3) > 0, 0.1, 0.01), seed=0)


def erdos_renyi(n):
    return nx.gnp_random_graph(n, 2 * np.log(n) / n, seed=0)


def barabasi_albert(n):
    return nx.barabasi_albert_graph(n, 3, seed=0)


def watts_strogatz(n):
    return nx.watts_strogatz_graph(n, 6, 0.1, seed=0)


def grid(n):
    """The first n nodes of a grid that is about square."""
    side = int(np.sqrt(n))
    whole = nx.grid_2d_graph(n // side + 1, side)
    return whole.subgraph(sorted(whole)[:n])


def nearest_neighbours(n):
    points = np.random.default_rng(0).random((n, 2))
    near = KDTree(points).query(points, 6)[1][:, 1:]
    return nx.Graph([(i, int(j)) for i in range(n) for j in near[i]])


def path(n):
    return nx.path_graph(n)


GRAPHS = {
    build.__name__: build
    for build in (
        block_model,
        erdos_renyi,
        barabasi_albert,
        watts_strogatz,
        grid,
        nearest_neighbours,
        path,
    )
}


@functools.cache
def matrix(name, kind, n):
    """The 0/1 adjacency, or the numbers of edges on shortest paths.

    Twice the longest where there is none.
    """
    graph = GRAPHS[name](n)
    adjacency = nx.to_numpy_array(graph, nodelist=sorted(graph), weight=None)
    assert adjacency.shape == (n, n)
    if kind == "adjacency":
        return adjacency
    lengths = csgraph.shortest_path(adjacency, unweighted=True)
    return np.where(np.isinf(lengths), 2 * lengths[np.isfinite(lengths)].max(), lengths)


def relabelled(C):
    order = np.random.default_rng(0).permutation(len(C))
    return C[np.ix_(order, order)]


def answer(first, second, kind, n):
    """The objective and the name of the status, of two graphs.

    The second is another one or a relabelled copy of the first.
    """
    C, D = matrix(first, kind, n), relabelled(matrix(second, kind, n))
    result = gw.solve(C, D, callback=lambda progress: progress.iteration >= PROGRAMS)
    return float(result.objective), result.status.name


def serve(pipe):
    """Answer one question after the other.

    A question that takes too much time ends the process.
    """
    with contextlib.suppress(EOFError):
        while True:
            question = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, LIMITS[question[-1]])
            found = answer(*question)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(found)


class Child:
    """A process that answers questions.

    Where one ended it, the next one starts another.
    """

    def __init__(self):
        self.process = self.pipe = None

    def ask(self, *question):
        if self.process is None:
            self.start()
        self.pipe.send(question)
        with contextlib.suppress(EOFError, ConnectionResetError):
            return self.pipe.recv()
        self.process.join()
        code, self.process = self.process.exitcode, None
        took = (
            f"no answer in {LIMITS[question[-1]]} s of its own time"
            if code == -signal.SIGPROF
            else f"exit {code}"
        )
        return pytest.fail(f"{' '.join(map(str, question))}: {took}", pytrace=False)

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(
                os.environ, "OMP_NUM_THREADS", "1"
            )  # threads that wait would count as time of its own
            self.process.start()
        theirs.close()

    def stop(self):
        if self.process is not None:
            self.pipe.close()
            self.process.join()


@pytest.fixture(scope="module")
def child():
    process = Child()
    yield process
    process.stop()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["adjacency", "paths"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_against_a_relabelled_copy(child, name, kind, n):
    objective, status = child.ask(name, name, kind, n)
    assert np.isfinite(objective)
    assert status != "NON_FINITE"


# Every size in turn, and other pairs of adjacencies and of paths at each.
@pytest.mark.parametrize("kind", ["adjacency", "paths"])
@pytest.mark.parametrize(("first", "second"), list(combinations(GRAPHS, 2)))
def test_a_graph_against_another(child, first, second, kind):
    names = list(GRAPHS)
    n = SIZES[1:][(names.index(first) + names.index(second) + (kind == "paths")) % 3]
    objective, status = child.ask(first, second, kind, n)
    assert np.isfinite(objective)
    assert status != "NON_FINITE"


def test_a_large_graph_against_a_relabelled_copy(child):
    objective, status = child.ask("block_model", "block_model", "adjacency", LARGE)
    assert np.isfinite(objective)
    assert status != "NON_FINITE"


def lost(pipe):
    pipe.recv()
    signal.setitimer(signal.ITIMER_PROF, 0.01)
    while True:
        pass


def test_a_question_without_an_answer_is_named_and_the_next_is_answered(monkeypatch):
    process, question = Child(), ("path", "path", "paths", 299)
    with monkeypatch.context() as patch:
        patch.setattr("tests.whole.test_termination.serve", lost)
        process.start()
    with pytest.raises(
        pytest.fail.Exception, match="path path paths 299: no answer in 120 s"
    ):
        process.ask(*question)
    assert process.ask(*question)[1] != "NON_FINITE"
    process.stop()
