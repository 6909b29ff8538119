"""Pairs of spaces unlike noisy copies under uniform weights, each made from a seed.

There are 15 families: weights drawn from Dirichlet laws, spaces of unlike sizes,
similarity kernels, squared distances, geodesics of surfaces, closed curves, graphs with
changed edges, and data. Together with the 17 of ``hard_families`` they are what search
is judged by. Where atoms of D are copies of atoms of C, these are known.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import numpy as np
from scipy.linalg import expm
from scipy.spatial.distance import cdist

import gwtools as gw
from simulations import hard_families
from simulations.hard_families import Numbers, Pair, paths, rotation


def _dirichlet(rng: np.random.Generator, count: int) -> Numbers:
    """Weights of the flat Dirichlet law, none of them below a tenth of the mean."""
    weights = 0.1 / count + 0.9 * rng.dirichlet(np.ones(count))
    return weights / weights.sum()


def _weighted_cloud(seed: int) -> Pair:
    """A cloud and a noisy copy, each with weights of its own."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((50, 2))
    planted = rng.permutation(50)
    noise = 0.05 * rng.standard_normal((50, 2))
    others = (points @ rotation(rng, 2))[planted] + noise
    a, b = _dirichlet(rng, 50), _dirichlet(rng, 50)
    return Pair(cdist(points, points), cdist(others, others), planted, a, b)


def _weighted_tree(seed: int) -> Pair:
    """A weighted tree against itself, shuffled with its weights: the minimum is 0."""
    rng = np.random.default_rng(seed)
    tree = nx.random_labeled_tree(60, seed=seed)
    for _, _, edge in tree.edges(data=True):
        edge["length"] = 1.0 + rng.integers(3)
    C = np.asarray(nx.floyd_warshall_numpy(tree, weight="length"), float)
    planted = rng.permutation(60)
    a = _dirichlet(rng, 60)
    return Pair(C, C[np.ix_(planted, planted)], planted, a, a[planted])


def _subsample(seed: int) -> Pair:
    """A five-armed star of 75 points against 45 of them, disturbed."""
    rng = np.random.default_rng(seed)
    radius, arm = np.repeat(np.arange(1, 16) / 3, 5), np.tile(np.arange(5), 15)
    angle = 2 * np.pi * arm / 5 + 0.1 * radius
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    planted = rng.permutation(75)[:45]
    others = points[planted] + 0.05 * rng.standard_normal((45, 2))
    return Pair(cdist(points, points), cdist(others, others), planted)


def _cycles(seed: int) -> Pair:
    """A cycle of n with three chords against one of n + 1 with the same chords."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 60))
    chords = rng.choice(n, (3, 2), replace=False)
    graphs = [nx.cycle_graph(n), nx.cycle_graph(n + 1)]
    for graph in graphs:
        graph.add_edges_from(chords.tolist())
    C, D = (paths(graph) for graph in graphs)
    planted = rng.permutation(n + 1)
    return Pair(C, D[np.ix_(planted, planted)], np.minimum(planted, n - 1))


def _unequal_clusters(seed: int) -> Pair:
    """Five clusters against as many around the same centres, of other sizes.

    A cluster has the same mass on both sides, spread over unlike numbers of points.
    """
    rng = np.random.default_rng(seed)
    centres, masses = 3 * rng.standard_normal((5, 3)), _dirichlet(rng, 5)
    sides = []
    for rest in (40, 55):
        counts = 2 + rng.multinomial(rest, np.ones(5) / 5)
        label = np.repeat(np.arange(5), counts)
        points = centres[label] + 0.3 * rng.standard_normal((len(label), 3))
        sides.append((cdist(points, points), (masses / counts)[label]))
    (C, a), (D, b) = sides
    return Pair(C, D, None, a / a.sum(), b / b.sum())


def _gaussian_kernel(points: Numbers, width: float) -> Numbers:
    return np.exp(-cdist(points, points, "sqeuclidean") / (2 * width**2))


def _kernels(seed: int) -> Pair:
    """Gaussian kernels of a cloud and of a noisy copy, of other widths."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((60, 3))
    planted = rng.permutation(60)
    others = points[planted] + 0.1 * rng.standard_normal((60, 3))
    return Pair(_gaussian_kernel(points, 1.0), _gaussian_kernel(others, 0.8), planted)


def _kernel_against_distances(seed: int) -> Pair:
    """A Gaussian kernel of one cloud against distances within another one."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((45, 2))
    others = rng.standard_normal((60, 2)) * [2.0, 1.0]
    a, b = _dirichlet(rng, 45), _dirichlet(rng, 60)
    D = cdist(others, others)
    return Pair(_gaussian_kernel(points, 1.0), D / D.max(), None, a, b)


def _heat_kernels(seed: int) -> Pair:
    """Heat kernels of a geometric graph, and of itself with changed edges."""
    rng = np.random.default_rng(seed)
    graph = nx.random_geometric_graph(60, 0.22, seed=seed)
    changed = _rewired(graph, 5, rng)
    C, D = (
        60 * expm(-0.5 * nx.laplacian_matrix(g).toarray().astype(float))
        for g in (graph, changed)
    )
    planted = rng.permutation(60)
    C, D = ((matrix + matrix.T) / 2 for matrix in (C, D))
    return Pair(C, D[np.ix_(planted, planted)], planted)


def _rewired(graph: nx.Graph, count: int, rng: np.random.Generator) -> nx.Graph:
    """A graph with so many of its edges removed, and as many others added."""
    changed = graph.copy()
    edges, others = list(graph.edges), list(nx.non_edges(graph))
    changed.remove_edges_from(edges[i] for i in rng.permutation(len(edges))[:count])
    changed.add_edges_from(others[i] for i in rng.permutation(len(others))[:count])
    return changed


def _adjacencies(seed: int) -> Pair:
    """Adjacency of a small-world graph against that of itself with changed edges."""
    rng = np.random.default_rng(seed)
    graph = nx.watts_strogatz_graph(50, 6, 0.2, seed=seed)
    C, D = (nx.to_numpy_array(g) for g in (graph, _rewired(graph, 8, rng)))
    planted = rng.permutation(50)
    return Pair(C, D[np.ix_(planted, planted)], planted)


def _squared(seed: int) -> Pair:
    """Squared distances of a normal cloud in 4-D, against those of another one."""
    rng = np.random.default_rng(seed)
    scales = np.array([1.0, 0.9, 0.8, 0.7])
    points = rng.standard_normal((70, 4)) * scales
    others = rng.standard_normal((80, 4)) * scales
    C, D = (cdist(p, p, "sqeuclidean") for p in (points, others))
    return Pair(C, D, None, _dirichlet(rng, 70), None)


def _sphere(seed: int) -> Pair:
    """Great-circle distances of points on a sphere, disturbed and turned."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((60, 3))
    planted = rng.permutation(60)
    noise = 0.1 * rng.standard_normal((60, 3))
    others = (points @ rotation(rng, 3))[planted] + noise
    C, D = (_great_circles(p) for p in (points, others))
    return Pair(C, D, planted)


def _great_circles(points: Numbers) -> Numbers:
    units = points / np.linalg.norm(points, axis=1)[:, None]
    angles = np.arccos(np.clip(units @ units.T, -1.0, 1.0))
    np.fill_diagonal(angles, 0.0)
    return (angles + angles.T) / 2


def _swiss_roll(seed: int) -> Pair:
    """Paths over neighbours on a rolled strip, against distances on the flat one."""
    rng = np.random.default_rng(seed)
    along, across = 3 + 9 * rng.random(80), 6 * rng.random(80)
    rolled = np.column_stack([along * np.cos(along), across, along * np.sin(along)])
    arc = (along * np.sqrt(1 + along**2) + np.arcsinh(along)) / 2
    flat = np.column_stack([arc, across])
    distances = cdist(rolled, rolled)
    near = distances <= np.sort(distances, axis=1)[:, 4:5]
    graph = nx.from_numpy_array(np.where(near | near.T, distances, 0.0))
    graph.add_weighted_edges_from(
        (i, j, distances[i, j]) for i, j in nx.utils.pairwise(np.argsort(along))
    )
    C = np.asarray(nx.floyd_warshall_numpy(graph), float)
    C = np.minimum(C, C.T)
    planted = rng.permutation(80)[:64]
    return Pair(C, cdist(flat, flat)[np.ix_(planted, planted)], planted)


def _curves(seed: int) -> Pair:
    """Points along a closed curve against unlike many along a similar one."""
    rng = np.random.default_rng(seed)
    waves = np.arange(1, 6)
    first = rng.standard_normal((2, 2, 5)) / waves**1.5
    second = first + 0.05 * rng.standard_normal((2, 2, 5)) / waves
    sides = []
    for coefficients, count in ((first, 60), (second, 50)):
        phase = 2 * np.pi * np.arange(count)[:, None] / count * waves
        points = np.cos(phase) @ coefficients[0].T + np.sin(phase) @ coefficients[1].T
        sides.append(cdist(points, points))
    C, D = sides
    planted = rng.permutation(50)
    images = np.round(planted * 60 / 50).astype(int) % 60
    return Pair(C, D[np.ix_(planted, planted)], images)


def _molecule(seed: int) -> Pair:
    """Bonds of a chain of rings with side groups, in lengths of bonds.

    The other one has other lengths of bonds, and its atoms shuffled.
    """
    rng = np.random.default_rng(seed)
    graph: nx.Graph = nx.Graph()
    for ring in range(5):
        atoms = [6 * ring + k for k in range(6)]
        nx.add_cycle(graph, atoms)
        if ring:
            graph.add_edge(6 * ring - int(rng.integers(1, 4)), 6 * ring)
    for atom in range(30, 50):
        graph.add_edge(int(rng.integers(atom)), atom)
    matrices = []
    for _ in range(2):
        for _, _, bond in graph.edges(data=True):
            bond["length"] = 1.4 + 0.1 * rng.standard_normal()
        lengths = np.asarray(nx.floyd_warshall_numpy(graph, weight="length"), float)
        matrices.append((lengths + lengths.T) / 2)
    C, D = matrices
    planted = rng.permutation(50)
    return Pair(C, D[np.ix_(planted, planted)], planted)


def _novel(seed: int) -> Pair:
    """The characters of Les Misérables, met as often as in the book or by chance.

    A character weighs as much as it meets others. Edges are as long as meetings are
    rare. The other side has the numbers of meetings drawn anew, and lacks whom these
    leave alone.
    """
    rng = np.random.default_rng(seed)
    book = nx.convert_node_labels_to_integers(nx.les_miserables_graph())
    again: nx.Graph = nx.Graph()
    for u, v, meetings in book.edges(data="weight"):
        if count := int(rng.poisson(meetings)):
            again.add_edge(u, v, weight=count)
    again = again.subgraph(max(nx.connected_components(again), key=len))
    sides = []
    for graph in (book, again):
        names = sorted(graph)
        lengths = nx.Graph()
        lengths.add_nodes_from(names)
        lengths.add_edges_from(
            (u, v, {"length": 1 / meetings})
            for u, v, meetings in graph.edges(data="weight")
        )
        C = np.asarray(nx.floyd_warshall_numpy(lengths, weight="length"), float)
        degree = np.array([graph.degree(name, weight="weight") for name in names])
        sides.append(((C + C.T) / 2, degree / degree.sum(), np.array(names)))
    (C, a, _), (D, b, known) = sides
    order = rng.permutation(len(D))
    return Pair(C, D[np.ix_(order, order)], known[order], a, b[order])


FAMILIES: dict[str, Callable[[int], Pair]] = {
    "cloud, Dirichlet weights": _weighted_cloud,
    "tree with lengths and weights relabelled": _weighted_tree,
    "star of 75 against 45 of it": _subsample,
    "cycle with chords n against n + 1": _cycles,
    "5 clusters of unequal sizes": _unequal_clusters,
    "Gaussian kernels": _kernels,
    "Gaussian kernel against distances": _kernel_against_distances,
    "heat kernels, 5 edges moved": _heat_kernels,
    "adjacency, 8 edges moved": _adjacencies,
    "squared distances 70 against 80": _squared,
    "sphere, noise .1": _sphere,
    "Swiss roll against strip": _swiss_roll,
    "closed curves 60 against 50": _curves,
    "molecule, other bond lengths": _molecule,
    "Les Miserables, drawn again": _novel,
}
ALL = hard_families.FAMILIES | FAMILIES


def draw(family: str, seed: int) -> Pair:
    """Draw a pair of either list; it depends on nothing but the arguments."""
    return ALL[family](seed)


def spaces(pair: Pair) -> tuple[gw.DenseSpace, gw.DenseSpace]:
    """Return both sides of a pair as spaces, which hold nothing computed yet."""
    return gw.DenseSpace(pair.C, pair.a), gw.DenseSpace(pair.D, pair.b)


def weights(pair: Pair) -> tuple[Numbers, Numbers]:
    """Return both lists of weights, where there are none uniform ones."""
    n, m = len(pair.C), len(pair.D)
    a = np.full(n, 1 / n) if pair.a is None else pair.a
    b = np.full(m, 1 / m) if pair.b is None else pair.b
    return a, b


def rounded(pair: Pair, plan: Numbers) -> Numbers:
    """Return a coupling near a matrix (n, m) of masses.

    It is the product coupling where these have no numbers.
    """
    if not np.isfinite(plan).all():
        plan = np.zeros_like(plan)
    return np.asarray(gw.round_plan(np.maximum(plan, 0.0), *weights(pair)))


def planted_coupling(pair: Pair) -> Numbers | None:
    """Return the coupling (n, m) of copies with what they copy, rounded onto weights.

    None where no copies are known.
    """
    if pair.planted is None:
        return None
    _, b = weights(pair)
    matrix = np.zeros((len(pair.C), len(pair.D)))
    matrix[pair.planted, np.arange(len(b))] = b
    return rounded(pair, matrix)
