"""Files by their names, matrices of distances, and weights."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.files.formats import Named, read_space, read_weights
from tests.files.cases import (
    DISTANCES,
    MATRIX,
    PLAIN,
    WITH_EDGES,
    Case,
    Read,
    Refused,
    array,
    check,
)
from tests.test_check import refused

CASES = {
    "ending in capitals": Case("P.CSV", "1.5,-2\n3,0.25\n", PLAIN),
    "distances, not said": Case(
        "d.csv", "0,1.5,2\n1.5,0,1\n2,1,0\n", Refused("", "--distances")
    ),
    "distances, said": Case(
        "d.csv", "0,1.5,2\n1.5,0,1\n2,1,0\n", Read(MATRIX), DISTANCES
    ),
    "a kernel, not said": Case("d.csv", "1,.5\n.5,1\n", Refused("", "--distances")),
    "points that look so": Case(
        "d.csv", "1,.5\n.5,1\n", Read([[1.0, 0.5], [0.5, 1.0]]), {"holds": "points"}
    ),
    "distances that are not square": Case(
        "d.csv", "0,1.5,2\n1.5,0,1\n", Refused("", "2 rows of 3"), DISTANCES
    ),
    "distances that are not symmetric": Case(
        "d.csv", "0,1.5\n2,0\n", Refused("", "must be symmetric"), DISTANCES
    ),
    "a condensed list": Case(
        "d.txt", "1.5\n2\n1\n", Refused("", "squareform"), DISTANCES
    ),
    "another ending": Case("p.xlsx", "", Refused("", "'.xlsx'")),
    "no ending": Case("points", "1,2\n", Refused("", "no such ending")),
    "edges said to be points": Case(
        "g.edges", "a b\n", Refused("", "--points"), {"holds": "points"}
    ),
    "an array said to be edges": Case(
        "p.npy", array(np.eye(2)), Refused("", "--edges"), WITH_EDGES
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


def named(names=None):
    space = gw.DenseSpace(np.array(MATRIX))
    return Named(space, range(3) if names is None else names)


WEIGHTS = {
    "a column": ("w.csv", "0.5\n0.25\n0.25\n", None),
    "that starts with 0": ("w.csv", "0\n0.5\n0.5\n", None),
    "under 0": ("w.csv", "0\n0.5\n0.25\n0.25\n", None),
    "under a title": ("w.txt", "weight\n0,5\n0,25\n0,25\n".replace(",", "."), None),
    "of pandas": ("w.csv", ",0\n0,0.5\n1,0.25\n2,0.25\n", None),
    "beside id": ("w.csv", "id;w\n7;0,5\n8;0,25\n9;0,25\n", None),
    "by name": ("w.csv", "a,0.5\nc,0.25\nb,0.25\n", ("a", "b", "c")),
    "names that repeat in the same order": (
        "w.csv",
        "a,0.5\na,0.25\nb,0.25\n",
        ("a", "a", "b"),
    ),
    "npy": ("w.npy", array(np.array([0.5, 0.25, 0.25])), ("a", "b", "c")),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case, tmp_path):
    name, content, names = WEIGHTS[case]
    (tmp_path / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    found = read_weights(tmp_path / name, named(names))
    expected = [0.0, 0.5, 0.5] if case == "that starts with 0" else [0.5, 0.25, 0.25]
    np.testing.assert_array_equal(found.weights, expected)
    np.testing.assert_array_equal(found.dense(), MATRIX)


def test_weights_go_to_the_atoms_that_they_name(tmp_path):
    (tmp_path / "g.edges").write_text("c a\na b\n")
    (tmp_path / "w.csv").write_text("node,w\na,0.5\nb,0.125\nc,0.375\n")
    graph = read_space(tmp_path / "g.edges")
    space = read_weights(tmp_path / "w.csv", graph)
    assert dict(zip(space.nodes, space.weights.tolist(), strict=True)) == {
        "a": 0.5,
        "b": 0.125,
        "c": 0.375,
    }


BAD_WEIGHTS = {
    "too few": ("w.csv", "0.5\n0.5\n", None, "each of the 3 atoms"),
    "too many": ("w.csv", "0.5\n0.5\n0\n0\n", None, "each of the 3 atoms"),
    "negative": ("w.csv", "1\n0.5\n-0.5\n", None, "non-negative"),
    "of another sum": ("w.csv", "1\n2\n3\n", None, "sum to 1"),
    "two columns": ("w.csv", "0.5,0.5\n0.5,0.25\n0,0.25\n", None, "2 columns"),
    "a gap": ("w.csv", "0.5\nNA\n0.5\n", None, "line 2, column 1"),
    "other numbers": ("w.csv", "2,0.5\n0,0.25\n1,0.25\n", ("a", "b", "c"), "'a'"),
    "other names": ("w.csv", "a,0.5\nd,0.25\nb,0.25\n", ("a", "b", "c"), "'c'"),
    "names that repeat": (
        "w.csv",
        "b,0.5\na,0.25\na,0.25\n",
        ("a", "a", "b"),
        "repeat",
    ),
    "a name of no atom, where atoms share one": (
        "w.csv",
        "ann,0.3\nbob,0.4\ncid,0.3\n",
        ("ann", "ann", "bob"),
        "no atom is called 'cid'",
    ),
    "a name of no atom, where all atoms share one": (
        "w.csv",
        "b,0.3\na,0.4\nc,0.3\n",
        ("a", "a", "a"),
        "no atom is called 'b'",
    ),
    "a name of no atom, where nodes are numbers": (
        "w.csv",
        "node,w\n1,0.3\n3,0.4\n2,0.3\n",
        (1, 1, 2),
        "no atom is called '3'",
    ),
    "another name that repeats": (
        "w.csv",
        "a,0.3\nb,0.4\nb,0.3\n",
        ("a", "a", "b"),
        "repeat",
    ),
    "a graph": ("w.edges", "a b\n", None, "is a graph"),
    "another ending": ("w.xlsx", "", None, "'.xlsx'"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_do_not_match(case, tmp_path):
    name, text, names, words = BAD_WEIGHTS[case]
    (tmp_path / name).write_text(text)
    refused(
        lambda: read_weights(tmp_path / name, named(names)),
        ValueError,
        str(tmp_path / name),
        words,
    )


OPEN_WEIGHTS = {
    "a title that is a number": ("node,0\n2,0.5\n0,0.25\n1,0.25\n", "remove this line"),
    "a title that is a year": (
        "node,2024\n2,0.5\n0,0.25\n1,0.25\n",
        "remove this line",
    ),
    "a price first": ("$5\n0.5\n0.5\n", "write plain numbers"),
    "a gap first": ("NA\n0.5\n0.5\n", "remove that row"),
    "a gap in a header": ("node,\na,1\nb,0\nc,0\n", "remove that row"),
    "words and numbers": ("a,0.5\n2,0.25\n1,0.25\n", "write words alone"),
    "numbers, then a word": ("3,0.5\n2,0.25\na,0.25\n", "integers that differ"),
    "text below": ("0.5\n0.5\nhalf\n", "replace the text"),
    "an index behind": ("w,id\n.5,1\n.25,2\n.25,3\n", "has 2 columns"),
    "two indices": ("Unnamed: 0.1,Unnamed: 0,w\n0,0,1\n1,1,0\n2,2,0\n", "2 columns"),
    "an empty corner": (",w,a\n.5,0,1\n.25,1,2\n.25,2,3\n", "has 3 columns"),
    "counting": ("0,2,.5\n1,3,.5\n2,4,0\n", "has 3 columns"),
    "id": ("id,w,x\n1,.5,2\n2,.5,3\n3,0,4\n", "has 3 columns"),
}


@pytest.mark.parametrize("case", OPEN_WEIGHTS)
def test_no_option_is_advised_of_weights(case, tmp_path):
    text, words = OPEN_WEIGHTS[case]
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(ValueError, match=" must ") as caught:
        read_weights(tmp_path / "w.csv", named())
    message = str(caught.value).removeprefix(str(tmp_path))
    assert words in message
    assert "--" not in message


def test_a_column_of_weights_may_be_called_id(tmp_path):
    (tmp_path / "w.csv").write_text("node,id\nb,1\na,0\n")
    (tmp_path / "g.edges").write_text("a b\n")
    space = read_weights(tmp_path / "w.csv", read_space(tmp_path / "g.edges"))
    assert space.weights.tolist() == [0.0, 1.0]
