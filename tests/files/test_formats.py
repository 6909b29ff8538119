"""Files as people have them: read exactly as meant, or refused in one sentence that names the file and the line.

``python -m tests.files.test_formats`` prints what becomes of each file.
"""

import gzip
import io
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools.files.formats import Named, read_space, read_weights
from tests.test_check import refused


@dataclass(frozen=True)
class Read:
    """What a file means: points or a matrix, and the names of its rows."""

    values: list
    names: tuple | None = None


@dataclass(frozen=True)
class Graph:
    """What a file means: lengths of edges by name, in an order of nodes."""

    edges: dict
    nodes: tuple


@dataclass(frozen=True)
class Refused:
    """What the sentence about a file says, behind its name."""

    where: str
    words: str


@dataclass(frozen=True)
class Case:
    name: str
    content: str | bytes
    meant: Read | Graph | Refused
    said: dict = field(default_factory=dict)


def array(value, saved=np.save):
    buffer = io.BytesIO()
    saved(buffer, value)
    return buffer.getvalue()


def archive(**arrays):
    return array(None, lambda buffer, _: np.savez_compressed(buffer, **arrays))


def graphml(edges, kind=nx.Graph, **data):
    graph = kind()
    graph.add_weighted_edges_from(edges, **data)
    buffer = io.BytesIO()
    nx.write_graphml(graph, buffer)
    return buffer.getvalue()


POINTS = [[1.5, -2.0], [3.0, 0.25]]


PLAIN = Read(POINTS)


NAMED = Read(POINTS, ("anna", "bjørn"))


MATRIX = [[0.0, 1.5, 2.0], [1.5, 0.0, 1.0], [2.0, 1.0, 0.0]]


EDGES = {("a", "b"): 1.5, ("b", "c"): 2.0}


GRAPH = Graph(EDGES, ("a", "b", "c"))


UNIT = Graph(dict.fromkeys(EDGES, 1.0), ("a", "b", "c"))


INDEX = Refused("column 1", "--index-column yes")


HEADER = Refused("line 1", "--header yes")


DISTANCES, WITH_EDGES = {"holds": "distances"}, {"holds": "edges"}


CASES = {
    # delimiters and numbers
    "commas": Case("p.csv", "1.5,-2\n3,.25\n", PLAIN),
    "commas and spaces": Case("p.csv", "1.5, -2\n3, 2.5E-1\n", PLAIN),
    "semicolons": Case("p.csv", "1.5;-2\n3;0.25\n", PLAIN),
    "tabs": Case("p.tsv", "1.5\t-2\n3\t0.25\n", PLAIN),
    "aligned by spaces": Case("p.dat", "  1.5   -2\n  3      0.25\n", PLAIN),
    "numpy.savetxt": Case("p.txt", array(np.array(POINTS), np.savetxt), PLAIN),
    "numpy.savetxt with a header": Case("p.txt", array(np.array(POINTS), lambda f, v: np.savetxt(f, v, header="x y")), PLAIN),
    "decimal commas": Case("p.csv", "1,5;-2\n3;0,25\n", PLAIN),
    "decimal commas between tabs": Case("p.txt", "x\ty\n1,5\t-2,0\n3\t0,25\n", PLAIN),
    "decimal commas in quotes": Case("p.csv", '"1,5","-2"\n"3","0,25"\n', PLAIN),
    "Excel's first line": Case("p.csv", "sep=;\r\n1,5;-2\r\n3;0,25\r\n", PLAIN),
    "Excel's first line with a tab": Case("p.csv", "sep=\t\n1,5\t-2\n3\t0,25\n", PLAIN),
    "commas of thousands or decimals": Case("p.csv", "1,500;2\n3;4,250\n", Refused("line 1", "may be 1.500 or 1500")),
    "commas of thousands and points": Case("p.csv", "1,500;2.5\n3;4,250\n", Refused("line 1", "decimal point in line 1")),
    "separated thousands": Case("p.csv", '"1,234,567",2\n3,4\n', Refused("line 1, column 1", "'1,234,567'")),
    "a column of decimal commas": Case("p.csv", "x\n1,5\n2,75\n", Refused("line 2", "decimal comma")),
    "decimal commas without a title": Case("p.csv", "1,5\n2,05\n", Refused("line 2", "'2,05' may also be")),
    "decimal commas around 0": Case("p.csv", "1,5\n-0,5\n", Refused("line 2", "'-0,5' may also be")),
    "two titles above leading zeros": Case("p.csv", "x,y\n1,05\n", Read([[1.0, 5.0]])),
    "two columns of integers": Case("p.csv", "1,5\n-3,0\n", Read([[1.0, 5.0], [-3.0, 0.0]])),
    "one column": Case("p.txt", "1.5\n3\n-2", Read([[1.5], [3.0], [-2.0]])),
    "one column under a title with a number": Case("p.csv", "step 2\n1.5\n3\n", Read([[1.5], [3.0]])),
    "one column under a title": Case("p.csv", "height (cm)\n1.5\n3\n", Read([[1.5], [3.0]])),
    "one row": Case("p.csv", "1.5,3\n", Read([[1.5, 3.0]])),
    # encodings and lines
    "CRLF": Case("p.csv", "x,y\r\n1.5,-2\r\n3,0.25\r\n", PLAIN),
    "CRLF written as text": Case("p.txt", "1.5\r\r\n3\r\r\n", Read([[1.5], [3.0]])),
    "CR alone": Case("p.csv", "1.5,-2\r3,0.25\r", PLAIN),
    "byte-order mark": Case("p.csv", "\ufeff1.5,-2\n3,0.25\n", PLAIN),
    "byte-order mark and header": Case("p.csv", "\ufeffx,y\n1.5,-2\n3,0.25\n", PLAIN),
    "UTF-16": Case("p.txt", "x\ty\r\n1.5\t-2\r\n3\t0.25\r\n".encode("utf-16"), PLAIN),
    "UTF-16, big end first": Case("p.csv", b"\xfe\xff" + "1.5,-2\n3,0.25\n".encode("utf-16-be"), PLAIN),
    "UTF-16 without its mark": Case("p.csv", "1.5,-2\n3,0.25\n".encode("utf-16-le"), Refused("", "null characters")),
    "broken UTF-16": Case("p.csv", b"\xff\xfe1\x00,\x00\x00\xd8", Refused("", "utf-16-le text")),
    "Latin-1 titles": Case("p.csv", "Länge;Höhe\n1,5;-2\n3;0,25\n".encode("latin-1"), PLAIN),
    "Latin-1 names": Case("p.csv", "anna,1.5,-2\nbjørn,3,0.25\n".encode("latin-1"), NAMED),
    "quotes": Case("p.csv", '"x","y, in m"\n"1.5","-2"\n"3","0.25"\n', PLAIN),
    "a quote that is not closed": Case("p.csv", '1.5,2\n"3,4\n5,6\n', Refused("line 2", "quotation marks")),
    "trailing commas": Case("p.csv", "x,y,\n1.5,-2,\n3,0.25,\n", PLAIN),
    "trailing commas but in the header": Case("p.csv", "x,y\n1.5,-2,,\n3,0.25,,\n", PLAIN),
    "a trailing comma of one line": Case("p.csv", "1.5,-2,\n", Refused("line 1, column 3", "is empty")),
    "trailing commas without a header": Case("p.csv", "1.5,-2,\n3,0.25,\n", PLAIN),
    "trailing commas with a title": Case("p.csv", "x,y,z\n1.5,-2,\n3,0.25,\n", Refused("line 2, column 3 ('z')", "is empty")),
    "Unicode's minus": Case("p.csv", "−1.5,2\n−3,4\n", Refused("line 1, column 1", "plain numbers")),
    "currencies": Case("p.csv", "$1.50,2\n$3.00,4\n", Refused("line 1, column 1", "plain numbers")),
    "Fortran's exponents": Case("p.dat", " 1.5D+00 2.0D+00\n 3.0D+00 4.0D+00\n", Refused("line 1, column 2", "plain numbers")),
    "blank lines and comments": Case("p.csv", "# by us\n\nx,y\n1.5,-2\n  \n# more\n3,0.25\n\n", PLAIN),
    "gz": Case("p.csv.gz", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n"), PLAIN),
    "gz without the ending": Case("p.csv", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n"), PLAIN),
    "gz cut short": Case("p.csv.gz", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n")[:-9], Refused("", "gzip")),
    "no gz": Case("p.csv.gz", "1,2\n", Refused("", "gzip")),
    "ending in capitals": Case("P.CSV", "1.5,-2\n3,0.25\n", PLAIN),
    # headers
    "a header": Case("p.csv", "x,y\n1.5,-2\n3,0.25\n", PLAIN),
    "a header with a gap": Case("p.csv", "x,,z\n1.5,-2,1\n3,0.25,1\n", Refused("line 1, column 2", "is empty")),
    "a header alone": Case("p.csv", "x,y\n", Refused("", "names alone")),
    "two lines of titles": Case("p.csv", "x,y\nm,m\n1.5,-2\n3,0.25\n", Refused("line 2, column 2 ('y')", "'m'")),
    "pandas' numbers as titles": Case("p.csv", "0,1\n1.5,-2\n3,0.25\n", HEADER),
    "the same, said": Case("p.csv", "0,1\n1.5,-2\n3,0.25\n", PLAIN, {"header": True}),
    "data that look so, said": Case("p.csv", "0,1\n1.5,-2\n", Read([[0.0, 1.0], [1.5, -2.0]]), {"header": False}),
    "wavelengths as titles": Case("p.csv", "400,410,420\n.5,.25,.75\n.5,.75,.125\n", HEADER),
    "years beside names": Case("p.csv", "country,1990,1991\nfr,1.5,2\nde,2.5,3\n", HEADER),
    "years above integers": Case("p.csv", "1990,1991\n1,0\n2,1\n", HEADER),
    "even steps above integers": Case("p.csv", "10,20,30\n1,2,3\n", HEADER),
    "two integers above integers": Case("p.csv", "30,31\n1,2\n", Read([[30.0, 31.0], [1.0, 2.0]])),
    "uneven steps above integers": Case("p.csv", "10,20,40\n1,2,3\n", Read([[10.0, 20.0, 40.0], [1.0, 2.0, 3.0]])),
    "successive integers among others": Case("p.csv", "3,4\n2,5\n", Read([[3.0, 4.0], [2.0, 5.0]])),
    "years under an empty corner": Case("p.csv", ",1990,1991\nanna,1.5,-2\nbjørn,3,0.25\n", NAMED),
    "integers first": Case("p.csv", "2,2\n1.5,-2\n", Read([[2.0, 2.0], [1.5, -2.0]])),
    # gaps
    "a gap in the first line": Case("p.csv", "1.0,,2.0\n1,2,3\n", Refused("line 1, column 2", "is empty")),
    "a gap at its start": Case("p.csv", ",2.5,3.5\n1.5,2,3\n", Refused("line 1, column 1", "is empty")),
    "nan first": Case("p.csv", "nan,1\n2,3\n", Refused("line 1, column 1", "'nan'")),
    "NA alone": Case("p.csv", "NA,NA\n2,3\n", Refused("line 1", "'NA'")),
    "n/a behind a byte-order mark": Case("p.csv", "\ufeff1.0,n/a\n2,3\n", Refused("line 1, column 2", "'n/a'")),
    "a gap in the middle": Case("p.csv", "x,y\n1,2\n\n3,\n4,5\n", Refused("line 4, column 2 ('y')", "is empty")),
    "infinity": Case("p.csv", "1,2\n3,-inf\n", Refused("line 2, column 2", "finite")),
    "beyond the range": Case("p.csv", "1.5,2\n3,1e999\n", Refused("line 2, column 2", "finite")),
    "a gap in one column": Case("p.txt", "x\n\n1.5\n\n2.5\n\n", Refused("line 4, column 1 ('x')", "is empty")),
    "a gap below the first number": Case("p.txt", "1.5\n\n2.5\n", Refused("line 2, column 1", "is empty")),
    "Excel's errors": Case("p.csv", "1.5,2\n3,#DIV/0!\n", Refused("line 2, column 2", "#DIV/0!")),
    "ragged": Case("p.csv", "1.5,2\n3\n", Refused("line 2", "2 cells")),
    "ragged below a header": Case("p.csv", "x,y,z\n1.5,2\n3,4\n", Refused("line 2", "3 cells")),
    "text": Case("p.csv", "1.5,2\n3,four\n", Refused("line 2, column 2", "'four'")),
    "text in the first line": Case("p.csv", "1.5,four\n3,2\n", Refused("line 1, column 2", "--header yes")),
    "numbers as programs write them": Case("p.csv", "1_000,2\n3,4\n", Refused("line 1, column 1", "'1_000'")),
    "a class behind the numbers": Case("p.csv", "x,y,kind\n1,2,a\n3,4,b\n", Refused("line 2, column 3 ('kind')", "remove")),
    "empty": Case("p.csv", "", Refused("", "is empty")),
    "comments alone": Case("p.csv", "# x\n", Refused("", "is empty")),
    # names of rows
    "pandas.to_csv": Case("p.csv", ",0,1\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN),
    "pandas.to_csv of named columns": Case("p.csv", ",x,y\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN),
    "pandas.to_csv read and written again": Case("p.csv", "Unnamed: 0,x,y\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN),
    "pandas.to_csv of chosen rows": Case("p.csv", ",x,y\n7,1.5,-2.0\n2,3.0,0.25\n", Read(POINTS, ("7", "2"))),
    "pandas.to_csv with words and years": Case("p.csv", ",x,1990\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN),
    "pandas.to_csv with years": Case("p.csv", ",1990,1991\n0,1.5,-2.0\n1,3.0,0.25\n", HEADER),
    "the same, said to have a header": Case("p.csv", ",1990,1991\n0,1.5,-2.0\n1,3.0,0.25\n", PLAIN, {"header": True}),
    "pandas.to_csv by tabs": Case("p.tsv", "\t0\t1\n0\t1.5\t-2.0\n1\t3.0\t0.25\n", PLAIN),
    "pandas.to_csv with names": Case("p.csv", ",x,y\nanna,1.5,-2.0\nbjørn,3.0,0.25\n", NAMED),
    "pandas.to_csv with times": Case("p.csv", ",x,y\n0.5,1.5,-2.0\n1.5,3.0,0.25\n", INDEX),
    "pandas.to_string": Case("p.txt", "     0     1\n0  1.5 -2.00\n1  3.0  0.25\n", PLAIN),
    "R's write.table": Case("p.txt", '"x" "y"\n"anna" 1.5 -2\n"bjørn" 3 0.25\n', NAMED),
    "R's write.csv": Case("p.csv", '"","x","y"\n"1",1.5,-2\n"2",3,0.25\n', Read(POINTS, ("1", "2"))),
    "names without a header": Case("p.csv", "anna,1.5,-2\nbjørn,3,0.25\n", NAMED),
    "names with a comma": Case("p.csv", 'who,x\n"a, b",1.5\nc,3\n', Read([[1.5], [3.0]], ("a, b", "c"))),
    "names and a number": Case("p.csv", "anna,1.5\n2,3\n", Refused("line 1, column 1", "--index-column yes")),
    "truth values first": Case("p.csv", "TRUE,1.5\nFALSE,3\n", Refused("line 1, column 1", "'TRUE'")),
    "truth values under a title": Case("p.csv", "ill,x\nTrue,1.5\nFalse,3\n", Refused("line 2, column 1 ('ill')", "'True'")),
    "truth values as names": Case(
        "p.csv", "ill,x\nTrue,1.5\nFalse,3\n", Read([[1.5], [3.0]], ("True", "False")), {"index": True}
    ),
    "id from 1": Case("p.csv", "id,x\n1,2.5\n2,3.5\n", INDEX),
    "id at the end": Case("p.csv", "x,y,id\n2.5,1.5,1\n3.5,2.5,2\n", Refused("column 3 ('id')", "--index-column no")),
    "two indices of pandas": Case(
        "p.csv", "Unnamed: 0.1,Unnamed: 0,x\n0,0,1.5\n1,1,3\n", Refused("column 2 ('Unnamed: 0')", "remove that column")
    ),
    "id in any order": Case("p.csv", "id,x\n17,2.5\n12,3.5\n", INDEX),
    "counting without a header": Case("p.csv", "0,2.5\n1,3.5\n2,4.5\n", INDEX),
    "counting that is none": Case("p.csv", "t,x\n0,2.5\n1,3.5\n", Read([[0.0, 2.5], [1.0, 3.5]]), {"index": False}),
    "counting that is one": Case("p.csv", "id,x\n1,2.5\n2,3.5\n", Read([[2.5], [3.5]], ("1", "2")), {"index": True}),
    # matrices
    "distances, not said": Case("d.csv", "0,1.5,2\n1.5,0,1\n2,1,0\n", Refused("", "--distances")),
    "distances, said": Case("d.csv", "0,1.5,2\n1.5,0,1\n2,1,0\n", Read(MATRIX), DISTANCES),
    "a kernel, not said": Case("d.csv", "1,.5\n.5,1\n", Refused("", "--distances")),
    "points that look so": Case("d.csv", "1,.5\n.5,1\n", Read([[1.0, 0.5], [0.5, 1.0]]), {"holds": "points"}),
    "distances between names": Case(
        "d.csv", ",a,b,c\na,0,1.5,2\nb,1.5,0,1\nc,2,1,0\n", Read(MATRIX, ("a", "b", "c")), DISTANCES
    ),
    "distances between numbers": Case(
        "d.csv", ",7,3,5\n7,0,1.5,2\n3,1.5,0,1\n5,2,1,0\n", Read(MATRIX, ("7", "3", "5")), DISTANCES
    ),
    "distances of pandas": Case("d.csv", ",0,1,2\n0,0,1.5,2\n1,1.5,0,1\n2,2,1,0\n", Read(MATRIX), DISTANCES),
    "distances that start 0, 1": Case("d.csv", "0,1\n1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES),
    "distances below 0, 1": Case("d.csv", "0,1\n0,1\n1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES),
    "distances beside an index": Case("d.csv", "0,0,1\n1,1,0\n", Read([[0.0, 1.0], [1.0, 0.0]]), DISTANCES),
    "distances that are not square": Case("d.csv", "0,1.5,2\n1.5,0,1\n", Refused("", "2 rows of 3"), DISTANCES),
    "distances that are not symmetric": Case("d.csv", "0,1.5\n2,0\n", Refused("", "must be symmetric"), DISTANCES),
    "a condensed list": Case("d.txt", "1.5\n2\n1\n", Refused("", "squareform"), DISTANCES),
    # arrays
    "npy": Case("p.npy", array(np.array(POINTS)), PLAIN),
    "npy.gz": Case("p.npy.gz", gzip.compress(array(np.array(POINTS))), PLAIN),
    "npy of integers": Case("p.npy", array(np.array([[1, 2], [3, -4]])), Read([[1.0, 2.0], [3.0, -4.0]])),
    "npy of large integers": Case("p.npy", array(np.array([2**60, -(2**63)])), Read([[2.0**60], [-(2.0**63)]])),
    "npy of integers beyond float64": Case("p.npy", array(np.array([2**53 + 1, 0])), Refused("", "float64")),
    "npy of unsigned ones": Case("p.npy", array(np.array([2**64 - 1], np.uint64)), Refused("", "float64")),
    "npy of booleans": Case("p.npy", array(np.array([[True], [False]])), Read([[1.0], [0.0]])),
    "npy with the other end first": Case("p.npy", array(np.array(POINTS, ">f8")), PLAIN),
    "npy in Fortran's order": Case("p.npy", array(np.asfortranarray(POINTS)), PLAIN),
    "npy of float32": Case("p.npy", array(np.array([[0.1]], np.float32)), Read([[float(np.float32(0.1))]])),
    "npy of float16": Case("p.npy", array(np.array([[0.1]], np.float16)), Read([[float(np.float16(0.1))]])),
    "npy of one axis": Case("p.npy", array(np.array([1.5, 3.0])), Read([[1.5], [3.0]])),
    "npy of no axis": Case("p.npy", array(np.array(1.5)), Refused("", "shape ()")),
    "npy of three axes": Case("p.npy", array(np.zeros((2, 2, 2))), Refused("", "shape (2, 2, 2)")),
    "npy of nothing": Case("p.npy", array(np.zeros((0, 3))), Refused("", "shape (0, 3)")),
    "npy of objects": Case("p.npy", array(np.array([{}], object)), Refused("", "numpy.save")),
    "npy of complex numbers": Case("p.npy", array(np.array([1j])), Refused("", "complex128")),
    "npy of text": Case("p.npy", array(np.array(["1.5"])), Refused("", "<U3")),
    "npy of records": Case("p.npy", array(np.zeros(2, [("x", float)])), Refused("", "dtype")),
    "npy with NaN": Case("p.npy", array(np.array([[1.0, 2.0], [3.0, np.nan]])), Refused("entry [1, 1]", "nan")),
    "npy cut short": Case("p.npy", array(np.array(POINTS))[:-8], Refused("", "NumPy array")),
    "npy of distances": Case("d.npy", array(np.array(MATRIX)), Refused("", "--distances")),
    "no npy": Case("p.npy", "1,2\n", Refused("", "NumPy array")),
    "npz of one array": Case("p.npz", archive(points=np.array(POINTS)), PLAIN),
    "npz of two arrays": Case("p.npz", archive(x=np.eye(2), y=np.eye(2)), Refused("", "holds 2 (x, y)")),
    "npz cut short": Case("p.npz", archive(x=np.eye(2))[:-20], Refused("", "NumPy array")),
    # graphs
    "edges": Case("g.edges", "a b 1.5\nb c 2\n", GRAPH),
    "edges without lengths": Case("g.edgelist", "# of ours\na b\nb c\n", UNIT),
    "edges under titles": Case("g.edges", "Source,Target\na,b\nb,c\n", UNIT),
    "edges with lengths under titles": Case("g.edges", "here,there,km\na,b,1.5\nb,c,2\n", GRAPH),
    "edges of pandas": Case("g.csv", ",source,target,weight\n0,a,b,1.5\n1,b,c,2.0\n", GRAPH, WITH_EDGES),
    "edges listed both ways": Case("g.edges.gz", gzip.compress(b"a\tb\t1.5\nb\tc\t2\nb\ta\t1.5\n"), GRAPH),
    "edges between names with spaces": Case(
        "g.edges",
        "New York,Rome,7\nRome,NA,0\n",
        Graph({("New York", "Rome"): 7.0, ("Rome", "NA"): 0.0}, ("New York", "Rome", "NA")),
    ),
    "edges with a loop": Case("g.edges", "1 2\n2 2\n", Graph({("1", "2"): 1.0, ("2", "2"): 1.0}, ("1", "2"))),
    "edges of two lengths": Case("g.edges", "a b 1.5\nb a 2\n", Refused("line 2", "2 after 1.5")),
    "edges of negative length": Case("g.edges", "a b 1.5\nb c -2\n", Refused("line 2, column 3", "'-2'")),
    "edges with a gap": Case("g.edges", "a,b,1.5\nb,c,\n", Refused("line 2, column 3", "is empty")),
    "edges with a mistake first": Case("g.edges", "a,b,l.5\nb,c,2\n", Refused("line 1, column 3", "'l.5'")),
    "edges to nowhere": Case("g.edges", "a,b\nb,\nc,b\n", Refused("line 2, column 2", "is empty")),
    "edges with some lengths": Case("g.edges", "a b 1.5\nb c\n", Refused("line 2", "3 cells")),
    "edges as networkx.write_edgelist": Case("g.edgelist", "a b {'weight': 1}\n", Refused("line 1", "write_weighted")),
    "edges in two parts": Case("g.edges", "a b\nc d\n", Refused("", "one is 'c'")),
    "no edges": Case("g.edges", "source target\n", Refused("", "is empty")),
    "graphml": Case("g.graphml", graphml([(*e, w) for e, w in EDGES.items()]), GRAPH, {"length": "weight"}),
    "graphml.gz": Case(
        "g.graphml.gz", gzip.compress(graphml([(*e, w) for e, w in EDGES.items()])), GRAPH, {"length": "weight"}
    ),
    "graphml of one weight": Case("g.graphml", graphml([(*e, 1.0) for e in EDGES]), UNIT),
    "graphml of strengths or lengths": Case(
        "g.graphml", graphml([(*e, w) for e, w in EDGES.items()]), Refused("", "--edge-length weight")
    ),
    "graphml of strengths": Case("g.graphml", graphml([(*e, w) for e, w in EDGES.items()]), UNIT, {"length": "none"}),
    "graphml by another attribute": Case(
        "g.graphml", graphml([(*e, w) for e, w in EDGES.items()], weight="km"), GRAPH, {"length": "km"}
    ),
    "graphml without the attribute": Case("g.graphml", graphml([("a", "b", 2.0)]), Refused("", "'km'"), {"length": "km"}),
    "graphml without lengths": Case("g.graphml", graphml([("a", "b", "x"), ("b", "c", "y")], weight="colour"), UNIT),
    "graphml with directions": Case(
        "g.graphml", graphml([("a", "b", 1.0), ("b", "c", 2.0)], nx.DiGraph), Refused("", 'edgedefault="undirected"')
    ),
    "graphml with other lengths": Case(
        "g.graphml", graphml([("a", "b", 2.0)], weight="length"), Refused("", "--edge-length length")
    ),
    "graphml with lengths as text": Case("g.graphml", graphml([("a", "b", "2")]), Refused("", "real numbers")),
    "graphml with a Weight": Case(
        "g.graphml", graphml([(*e, w) for e, w in EDGES.items()], weight="Weight"), Refused("", "--edge-length Weight")
    ),
    "graphml of two graphs": Case(
        "g.graphml",
        graphml([("a", "b", 1.0)]).replace(b"</graphml>", b'<graph edgedefault="undirected"/></graphml>'),
        Refused("", "holds 2"),
    ),
    "graphml cut short": Case("g.graphml", graphml([("a", "b", 1.0)])[:-20], Refused("", "GraphML")),
    "graphml of no graph": Case("g.graphml", "<html></html>", Refused("", "GraphML")),
    # endings
    "another ending": Case("p.xlsx", "", Refused("", "'.xlsx'")),
    "no ending": Case("points", "1,2\n", Refused("", "no such ending")),
    "edges said to be points": Case("g.edges", "a b\n", Refused("", "--points"), {"holds": "points"}),
    "an array said to be edges": Case("p.npy", array(np.eye(2)), Refused("", "--edges"), WITH_EDGES),
    "a workbook called .csv": Case("p.csv", b"PK\x03\x04\x14\x00\x06\x00", Refused("", "null characters")),
}  # fmt: skip


def read(case, folder):
    path = Path(folder) / case.name
    path.write_bytes(
        case.content if isinstance(case.content, bytes) else case.content.encode()
    )
    return read_space(
        path,
        case.said.get("holds"),
        **{k: v for k, v in case.said.items() if k != "holds"},
    )


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if isinstance(case.meant, Read)]
)
def test_numbers_and_names_are_those_that_were_meant(name, tmp_path):
    case, named = CASES[name], read(CASES[name], tmp_path)
    values = np.array(case.meant.values)
    kind = gw.DenseSpace if case.said.get("holds") == "distances" else gw.PointCloud
    assert type(named.space) is kind
    assert named.space.data.dtype == np.float64
    assert named.space.data.dtype.isnative
    np.testing.assert_array_equal(named.space.data, values)
    assert list(named.names) == (
        list(range(len(values))) if case.meant.names is None else list(case.meant.names)
    )


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if isinstance(case.meant, Refused)]
)
def test_what_cannot_be_read_is_refused_by_file_and_line(name, tmp_path):
    case = CASES[name]
    place = str(tmp_path / case.name) + (
        f", {case.meant.where}" if case.meant.where else ""
    )
    refused(lambda: read(case, tmp_path), ValueError, place, case.meant.words)
    with pytest.raises(ValueError, match=re.escape(place)) as caught:
        read(case, tmp_path)
    assert "\n" not in str(caught.value)


REMEDIES = {
    "first line": ("1.5,a\n2,3\n", {}, ["--header yes"]),
    "a later line": ("1.5,2\n2,a\n", {}, []),
    "below a header": ("x,y\n2,a\n", {}, []),
    "no header by what is said": ("1.5,a\n2,3\n", {"header": False}, []),
    "first column": ("1.5,2\na,3\n", {}, ["--index-column yes"]),
    "no index by what is said": ("1.5,2\na,3\n", {"index": False}, []),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_options_are_named_where_they_may_help(case, tmp_path):
    text, said, options = REMEDIES[case]
    with pytest.raises(ValueError, match="must hold a number") as caught:
        read(Case("p.csv", text, PLAIN, said), tmp_path)
    assert re.findall(r"--\S+ yes", str(caught.value)) == options


def test_missing_files_and_folders(tmp_path):
    refused(lambda: read_space(tmp_path / "x.csv"), ValueError, "x.csv", "No such file")
    (tmp_path / "y.csv").mkdir()
    refused(
        lambda: read_space(tmp_path / "y.csv"), ValueError, "y.csv", "Is a directory"
    )


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
    "other names": ("w.csv", "a,0.5\nd,0.25\nb,0.25\n", ("a", "b", "c"), "'c'"),
    "names that repeat": (
        "w.csv",
        "b,0.5\na,0.25\na,0.25\n",
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


def test_archives_of_text_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as bundle:
        bundle.writestr("points.csv", "1,2\n")
    refused(lambda: read_space(tmp_path / "p.npz"), ValueError, "p.npz")


def outcomes():
    """Yield (what the file is, what became of it) for every case."""
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = read(case, folder)
                values = (
                    sp.coo_array(found.space.adjacency).data
                    if hasattr(found.space, "nodes")
                    else found.space.data
                )
                said = (
                    ""
                    if isinstance(found.names, range)
                    else f", names {', '.join(map(str, found.names))}"
                )
                yield name, f"read: {values.tolist()}{said}"
            except ValueError as error:
                yield name, f"refused: {str(error).replace(folder + '/', '')}"


if __name__ == "__main__":
    for row in outcomes():
        print("| {} | {} |".format(*row))
