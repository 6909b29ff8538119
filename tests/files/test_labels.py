"""Names of columns and rows: what first lines and first columns are taken for."""

import re

import pytest

from tests.files.cases import (
    DISTANCES,
    MATRIX,
    NAMED,
    PLAIN,
    POINTS,
    Case,
    Read,
    Refused,
    check,
    read,
)

INDEX = Refused("column 1", "--index-column yes")
HEADER = Refused("line 1", "--header yes")
CASES = {
    "a header": Case("p.csv", "x,y\n1.5,-2\n3,0.25\n", PLAIN),
    "pandas' numbers as titles": Case("p.csv", "0,1\n1.5,-2\n3,0.25\n", HEADER),
    "the same, said": Case("p.csv", "0,1\n1.5,-2\n3,0.25\n", PLAIN, {"header": True}),
    "data that look so, said": Case(
        "p.csv", "0,1\n1.5,-2\n", Read([[0.0, 1.0], [1.5, -2.0]]), {"header": False}
    ),
    "wavelengths as titles": Case(
        "p.csv", "400,410,420\n.5,.25,.75\n.5,.75,.125\n", HEADER
    ),
    "years beside names": Case(
        "p.csv", "country,1990,1991\nfr,1.5,2\nde,2.5,3\n", HEADER
    ),
    "years above integers": Case("p.csv", "1990,1991\n1,0\n2,1\n", HEADER),
    "even steps above integers": Case("p.csv", "10,20,30\n1,2,3\n", HEADER),
    "two integers above integers": Case(
        "p.csv", "30,31\n1,2\n", Read([[30.0, 31.0], [1.0, 2.0]])
    ),
    "uneven steps above integers": Case(
        "p.csv", "10,20,40\n1,2,3\n", Read([[10.0, 20.0, 40.0], [1.0, 2.0, 3.0]])
    ),
    "successive integers among others": Case(
        "p.csv", "3,4\n2,5\n", Read([[3.0, 4.0], [2.0, 5.0]])
    ),
    "years under an empty corner": Case(
        "p.csv", ",1990,1991\nanna,1.5,-2\nbjørn,3,0.25\n", NAMED
    ),
    "integers first": Case("p.csv", "2,2\n1.5,-2\n", Read([[2.0, 2.0], [1.5, -2.0]])),
    "pandas.to_csv": Case("p.csv", ",0,1\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN),
    "pandas.to_csv of named columns": Case(
        "p.csv", ",x,y\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN
    ),
    "pandas.to_csv read and written again": Case(
        "p.csv", "Unnamed: 0,x,y\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN
    ),
    "pandas.to_csv of chosen rows": Case(
        "p.csv", ",x,y\n7,1.5,-2.0\n2,3.0,0.25\n", Read(POINTS, ("7", "2"))
    ),
    "pandas.to_csv with words and years": Case(
        "p.csv", ",x,1990\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN
    ),
    "pandas.to_csv with years": Case(
        "p.csv", ",1990,1991\n0,1.5,-2.0\n1,3.0,0.25\n", HEADER
    ),
    "the same, said to have a header": Case(
        "p.csv", ",1990,1991\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN, {"header": True}
    ),
    "pandas.to_csv by tabs": Case(
        "p.tsv", "\t0\t1\n0\t1.5\t-2.0\n1\t3.0\t0.25\n", PLAIN
    ),
    "pandas.to_csv with names": Case(
        "p.csv", ",x,y\nanna,1.5,-2.0\nbjørn,3.0,0.25\n", NAMED
    ),
    "pandas.to_csv with times": Case(
        "p.csv", ",x,y\n0.5,1.5,-2.0\n1.5,3.0,0.25\n", INDEX
    ),
    "pandas.to_string": Case(
        "p.txt", "     0     1\n0  1.5 -2.00\n1  3.0  0.25\n", PLAIN
    ),
    "R's write.table": Case("p.txt", '"x" "y"\n"anna" 1.5 -2\n"bjørn" 3 0.25\n', NAMED),
    "R's write.csv": Case(
        "p.csv", '"","x","y"\n"1",1.5,-2\n"2",3,0.25\n', Read(POINTS, ("1", "2"))
    ),
    "names without a header": Case("p.csv", "anna,1.5,-2\nbjørn,3,0.25\n", NAMED),
    "names with a comma": Case(
        "p.csv", 'who,x\n"a, b",1.5\nc,3\n', Read([[1.5], [3.0]], ("a, b", "c"))
    ),
    "names and a number": Case(
        "p.csv", "anna,1.5\n2,3\n", Refused("line 1, column 1", "--index-column yes")
    ),
    "truth values first": Case(
        "p.csv", "TRUE,1.5\nFALSE,3\n", Refused("line 1, column 1", "'TRUE'")
    ),
    "truth values under a title": Case(
        "p.csv",
        "ill,x\nTrue,1.5\nFalse,3\n",
        Refused("line 2, column 1 ('ill')", "'True'"),
    ),
    "truth values as names": Case(
        "p.csv",
        "ill,x\nTrue,1.5\nFalse,3\n",
        Read([[1.5], [3.0]], ("True", "False")),
        {"index": True},
    ),
    "id from 1": Case("p.csv", "id,x\n1,2.5\n2,3.5\n", INDEX),
    "id at the end": Case(
        "p.csv",
        "x,y,id\n2.5,1.5,1\n3.5,2.5,2\n",
        Refused("column 3 ('id')", "--index-column no"),
    ),
    "two indices of pandas": Case(
        "p.csv",
        "Unnamed: 0.1,Unnamed: 0,x\n0,0,1.5\n1,1,3\n",
        Refused("column 2 ('Unnamed: 0')", "remove that column"),
    ),
    "id in any order": Case("p.csv", "id,x\n17,2.5\n12,3.5\n", INDEX),
    "counting without a header": Case("p.csv", "0,2.5\n1,3.5\n2,4.5\n", INDEX),
    "counting that is none": Case(
        "p.csv", "t,x\n0,2.5\n1,3.5\n", Read([[0.0, 2.5], [1.0, 3.5]]), {"index": False}
    ),
    "counting that is one": Case(
        "p.csv",
        "id,x\n1,2.5\n2,3.5\n",
        Read([[2.5], [3.5]], ("1", "2")),
        {"index": True},
    ),
    "distances between names": Case(
        "d.csv",
        ",a,b,c\na,0,1.5,2\nb,1.5,0,1\nc,2,1,0\n",
        Read(MATRIX, ("a", "b", "c")),
        DISTANCES,
    ),
    "distances between numbers": Case(
        "d.csv",
        ",7,3,5\n7,0,1.5,2\n3,1.5,0,1\n5,2,1,0\n",
        Read(MATRIX, ("7", "3", "5")),
        DISTANCES,
    ),
    "distances of pandas": Case(
        "d.csv", ",0,1,2\n0,0,1.5,2\n1,1.5,0,1\n2,2,1,0\n", Read(MATRIX), DISTANCES
    ),
    "distances that start 0, 1": Case(
        "d.csv", "0,1\n1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES
    ),
    "distances below 0, 1": Case(
        "d.csv", "0,1\n0,1\n1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES
    ),
    "distances beside an index": Case(
        "d.csv", "0,0,1\n1,1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


ONE_OF_TWO = ["--header yes", "--header no"]
REMEDIES = {
    "integers first": ("0,1\n2.5,3\n", {}, [*ONE_OF_TWO, "--distances"]),
    "integers first, of points by what is said": (
        "0,1\n2.5,3\n",
        {"holds": "points"},
        ONE_OF_TWO,
    ),
    "integers first, no index by what is said": (
        "0,1\n2.5,3\n",
        {"holds": "points", "index": False},
        ONE_OF_TWO,
    ),
    "integers beside names, of points by what is said": (
        "id,1,2\na,2.5,3\nb,2.5,3\n",
        {"holds": "points", "index": True},
        ONE_OF_TWO,
    ),
    "id behind a number": (
        "n,id,x\n3,7,1.5\n5,8,2.5\n",
        {},
        ["--index-column no"],
    ),
    "id behind an index by what is said": (
        "n,id,x\n1,7,1.5\n2,8,2.5\n",
        {"index": True},
        [],
    ),
    "id behind an empty corner, an index by what is said": (
        ",x,id\n1,1.5,7\n2,2.5,8\n",
        {"index": True},
        [],
    ),
    "two indices of pandas, the first said": (
        "Unnamed: 0.1,Unnamed: 0,x\n0,0,1.5\n1,1,3\n",
        {"index": True},
        [],
    ),
    "id behind names": ("who,id,x\nanna,7,1.5\nben,8,2.5\n", {}, []),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_options_are_named_where_they_may_help(case, tmp_path):
    text, said, options = REMEDIES[case]
    with pytest.raises(ValueError, match="must be") as caught:
        read(Case("p.csv", text, PLAIN, said), tmp_path)
    found = re.findall(r"--\S+(?: yes| no)?", str(caught.value))
    assert found == options


def test_a_coordinate_by_another_name_is_read(tmp_path):
    text = "n,count,x\n1,7,1.5\n2,8,2.5\n"
    meant = Read([[7.0, 1.5], [8.0, 2.5]], ("1", "2"))
    check(Case("p.csv", text, meant, {"index": True}), tmp_path)
