"""Graphs whose copies in another order search is to recognise, by claim and name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import networkx as nx

Make = Callable[[], nx.Graph]


def _ethane() -> nx.Graph:
    bonds = [("C1", "C2")]
    bonds += [(carbon, f"{carbon}H{k}") for carbon in ("C1", "C2") for k in range(3)]
    return nx.Graph(bonds)


def _benzene() -> nx.Graph:
    ring = [(k, (k + 1) % 6) for k in range(6)]
    return nx.Graph([*ring, *((k, f"H{k}") for k in range(6))])


_SYMMETRIC: dict[str, Make] = {
    "cycle of 8": partial(nx.cycle_graph, 8),
    "icosahedron": nx.icosahedral_graph,
    "ethane": _ethane,
    "benzene": _benzene,
    "octahedron": nx.octahedral_graph,
    "cube": nx.cubical_graph,
    "Petersen": nx.petersen_graph,
    "binary tree of 31": partial(nx.balanced_tree, 2, 4),
    "karate club": nx.karate_club_graph,
}
_NAMED: dict[str, Make] = {
    "bull": nx.bull_graph,
    "Chvatal": nx.chvatal_graph,
    "Desargues": nx.desargues_graph,
    "diamond": nx.diamond_graph,
    "dodecahedron": nx.dodecahedral_graph,
    "Frucht": nx.frucht_graph,
    "Heawood": nx.heawood_graph,
    "Hoffman-Singleton": nx.hoffman_singleton_graph,
    "house": nx.house_graph,
    "Krackhardt kite": nx.krackhardt_kite_graph,
    "Moebius-Kantor": nx.moebius_kantor_graph,
    "Pappus": nx.pappus_graph,
    "Sedgewick maze": nx.sedgewick_maze_graph,
    "truncated cube": nx.truncated_cube_graph,
    "truncated tetrahedron": nx.truncated_tetrahedron_graph,
    "Tutte": nx.tutte_graph,
    "Davis women": nx.davis_southern_women_graph,
    "Florentine families": nx.florentine_families_graph,
    "Les Miserables": nx.les_miserables_graph,
    "complete bipartite 4, 5": partial(nx.complete_bipartite_graph, 4, 5),
    "ladder of 8": partial(nx.ladder_graph, 8),
    "circular ladder of 10": partial(nx.circular_ladder_graph, 10),
    "wheel of 10": partial(nx.wheel_graph, 10),
    "star of 20": partial(nx.star_graph, 20),
    "barbell 10, 3": partial(nx.barbell_graph, 10, 3),
    "lollipop 6, 4": partial(nx.lollipop_graph, 6, 4),
    "grid 5 x 5": partial(nx.grid_2d_graph, 5, 5),
    "Turan 12, 4": partial(nx.turan_graph, 12, 4),
    "windmill 4, 3": partial(nx.windmill_graph, 4, 3),
    "Dorogovtsev-Goltsev-Mendes 3": partial(nx.dorogovtsev_goltsev_mendes_graph, 3),
}
GRAPHS: dict[str, dict[str, Make]] = {
    "relabelled": _SYMMETRIC,
    "hypercube": {
        f"dimension {d}": partial(nx.hypercube_graph, d) for d in range(2, 7)
    },
    "binary tree": {
        f"depth {depth}": partial(nx.balanced_tree, 2, depth) for depth in range(2, 7)
    },
    "named graph": _NAMED,
}
