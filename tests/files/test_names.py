"""Weights and the names beside them: every weight goes to the atom that is meant."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.files.formats import read_space, read_weights
from tests.files.cases import array

GRAPH_2_0_1 = ("g.edges", "2 0\n0 1\n")
BY_NAME = {
    "counting, a graph in another order": (
        GRAPH_2_0_1,
        "node,w\n0,0.5\n1,0.125\n2,0.375\n",
        [0.375, 0.5, 0.125],
    ),
    "counting, a header of pandas": (
        GRAPH_2_0_1,
        ",0\n0,0.5\n1,0.125\n2,0.375\n",
        [0.375, 0.5, 0.125],
    ),
    "counting, no header": (
        GRAPH_2_0_1,
        "0,0.5\n1,0.125\n2,0.375\n",
        [0.375, 0.5, 0.125],
    ),
    "counting, two atoms in another order": (
        ("g.edges", "1 0\n"),
        "0,0.25\n1,0.75\n",
        [0.75, 0.25],
    ),
    "counting, points in another order": (
        ("p.csv", ",x,y\n2,1.5,0.5\n0,2,3.5\n1,4,1.5\n"),
        ",w\n0,0.5\n1,0.125\n2,0.375\n",
        [0.375, 0.5, 0.125],
    ),
    "the same order, not counting": (
        GRAPH_2_0_1,
        "node,w\n2,0.5\n0,0.125\n1,0.375\n",
        [0.5, 0.125, 0.375],
    ),
    "another order, a graph that counts": (
        ("g.edges", "0 1\n1 2\n"),
        "node,w\n2,0.5\n0,0.125\n1,0.375\n",
        [0.125, 0.375, 0.5],
    ),
    "another order, points that count": (
        ("p.csv", ",x,y\n0,1.5,0.5\n1,2,3.5\n2,4,1.5\n"),
        ",w\n2,0.5\n0,0.125\n1,0.375\n",
        [0.125, 0.375, 0.5],
    ),
    "another order, points without names": (
        ("p.csv", "x,y\n1.5,0.5\n2,3.5\n4,1.5\n"),
        '"w"\n"2",0.5\n"0",0.125\n"1",0.375\n',
        [0.125, 0.375, 0.5],
    ),
    "another order, an array": (
        ("p.npy", array(np.array([[1.5], [2.0], [4.0]]))),
        "2,0.5\n0,0.125\n1,0.375\n",
        [0.125, 0.375, 0.5],
    ),
}
BY_ORDER = {
    "numbers of lines beside names": (
        ("g.edges", "b a\na c\n"),
        ",0\n0,0.5\n1,0.125\n2,0.375\n",
        [0.5, 0.125, 0.375],
    ),
    "numbers of lines beside names that repeat": (
        ("p.csv", "who,x\nann,1.5\nann,2\nbob,4\n"),
        ",0\n0,0.5\n1,0.125\n2,0.375\n",
        [0.5, 0.125, 0.375],
    ),
    "numbers from 1 beside no names": (
        ("p.csv", "1.5,0.5\n2,3.5\n4,1.5\n"),
        '"","w"\n"1",0.5\n"2",0.125\n"3",0.375\n',
        [0.5, 0.125, 0.375],
    ),
    "words beside no names": (
        ("p.csv", "1.5,0.5\n2,3.5\n4,1.5\n"),
        "b,0.5\na,0.125\nc,0.375\n",
        [0.5, 0.125, 0.375],
    ),
    "no names beside names that count": (
        GRAPH_2_0_1,
        "w\n0.5\n0.125\n0.375\n",
        [0.5, 0.125, 0.375],
    ),
}


@pytest.mark.parametrize("case", BY_NAME | BY_ORDER)
def test_weights_go_by_order_only_where_their_names_are_not_those_of_atoms(
    case, tmp_path
):
    (name, content), text, expected = (BY_NAME | BY_ORDER)[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "w.csv").write_text(text)
    space = read_weights(tmp_path / "w.csv", read_space(path))
    assert space.weights.tolist() == expected


@given(
    n=st.integers(2, 5),
    data=st.data(),
)
def test_weights_stay_with_their_nodes_in_any_order(n, data, tmp_path_factory):
    orders = st.permutations(range(n))
    nodes = data.draw(orders)
    lines = data.draw(orders)
    # Different for every node.
    weights = [2 * (node + 1) / (n * (n + 1)) for node in range(n)]
    folder = tmp_path_factory.mktemp("weights")
    edges = [f"{i} {j}\n" for i, j in pairwise(nodes)]
    (folder / "g.edges").write_text("".join(edges))
    text = [f"{node},{weights[node]!r}\n" for node in lines]
    (folder / "w.csv").write_text("".join(text))
    space = read_weights(folder / "w.csv", read_space(folder / "g.edges"))
    expected = np.array([weights[node] for node in nodes])
    np.testing.assert_allclose(space.weights, expected, rtol=1e-12)
