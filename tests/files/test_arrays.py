"""Arrays in files: every number is the one that was saved."""

import gzip
import zipfile

import numpy as np
import pytest

from gwtools.files.formats import read_space
from tests.files.cases import (
    MATRIX,
    PLAIN,
    POINTS,
    Case,
    Read,
    Refused,
    array,
    check,
)
from tests.test_check import refused


def archive(**arrays):
    return array(None, lambda buffer, _: np.savez_compressed(buffer, **arrays))


CASES = {
    "npy": Case("p.npy", array(np.array(POINTS)), PLAIN),
    "npy.gz": Case("p.npy.gz", gzip.compress(array(np.array(POINTS))), PLAIN),
    "npy of integers": Case(
        "p.npy", array(np.array([[1, 2], [3, -4]])), Read([[1.0, 2.0], [3.0, -4.0]])
    ),
    "npy of large integers": Case(
        "p.npy", array(np.array([2**60, -(2**63)])), Read([[2.0**60], [-(2.0**63)]])
    ),
    "npy of integers beyond float64": Case(
        "p.npy", array(np.array([2**53 + 1, 0])), Refused("", "float64")
    ),
    "npy of unsigned ones": Case(
        "p.npy", array(np.array([2**64 - 1], np.uint64)), Refused("", "float64")
    ),
    "npy of booleans": Case(
        "p.npy", array(np.array([[True], [False]])), Read([[1.0], [0.0]])
    ),
    "npy with the other end first": Case(
        "p.npy", array(np.array(POINTS, ">f8")), PLAIN
    ),
    "npy in Fortran's order": Case("p.npy", array(np.asfortranarray(POINTS)), PLAIN),
    "npy of float32": Case(
        "p.npy", array(np.array([[0.1]], np.float32)), Read([[float(np.float32(0.1))]])
    ),
    "npy of float16": Case(
        "p.npy", array(np.array([[0.1]], np.float16)), Read([[float(np.float16(0.1))]])
    ),
    "npy of one axis": Case("p.npy", array(np.array([1.5, 3.0])), Read([[1.5], [3.0]])),
    "npy of no axis": Case("p.npy", array(np.array(1.5)), Refused("", "shape ()")),
    "npy of three axes": Case(
        "p.npy", array(np.zeros((2, 2, 2))), Refused("", "shape (2, 2, 2)")
    ),
    "npy of nothing": Case(
        "p.npy", array(np.zeros((0, 3))), Refused("", "shape (0, 3)")
    ),
    "npy of objects": Case(
        "p.npy", array(np.array([{}], object)), Refused("", "numpy.save")
    ),
    "npy of complex numbers": Case(
        "p.npy", array(np.array([1j])), Refused("", "complex128")
    ),
    "npy of text": Case("p.npy", array(np.array(["1.5"])), Refused("", "<U3")),
    "npy of records": Case(
        "p.npy", array(np.zeros(2, [("x", float)])), Refused("", "dtype")
    ),
    "npy with NaN": Case(
        "p.npy",
        array(np.array([[1.0, 2.0], [3.0, np.nan]])),
        Refused("entry [1, 1]", "nan"),
    ),
    "npy cut short": Case(
        "p.npy", array(np.array(POINTS))[:-8], Refused("", "NumPy array")
    ),
    "npy of distances": Case(
        "d.npy", array(np.array(MATRIX)), Refused("", "--distances")
    ),
    "no npy": Case("p.npy", "1,2\n", Refused("", "NumPy array")),
    "npz of one array": Case("p.npz", archive(points=np.array(POINTS)), PLAIN),
    "npz of two arrays": Case(
        "p.npz", archive(x=np.eye(2), y=np.eye(2)), Refused("", "holds 2 (x, y)")
    ),
    "npz cut short": Case(
        "p.npz", archive(x=np.eye(2))[:-20], Refused("", "NumPy array")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


def test_archives_of_text_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as bundle:
        bundle.writestr("points.csv", "1,2\n")
    refused(lambda: read_space(tmp_path / "p.npz"), ValueError, "p.npz")
