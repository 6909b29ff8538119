"""Contents of files: encodings of text, compression, and files that are no text."""

import gzip

import pytest

from gwtools.files.formats import read_space
from tests.files.cases import (
    NAMED,
    PLAIN,
    Case,
    Refused,
    check,
)
from tests.test_check import refused

CASES = {
    "byte-order mark": Case("p.csv", "\ufeff1.5,-2\n3,0.25\n", PLAIN),
    "byte-order mark and header": Case("p.csv", "\ufeffx,y\n1.5,-2\n3,0.25\n", PLAIN),
    "UTF-16": Case("p.txt", "x\ty\r\n1.5\t-2\r\n3\t0.25\r\n".encode("utf-16"), PLAIN),
    "UTF-16, big end first": Case(
        "p.csv", b"\xfe\xff" + "1.5,-2\n3,0.25\n".encode("utf-16-be"), PLAIN
    ),
    "UTF-16 without its mark": Case(
        "p.csv", "1.5,-2\n3,0.25\n".encode("utf-16-le"), Refused("", "null characters")
    ),
    "broken UTF-16": Case(
        "p.csv", b"\xff\xfe1\x00,\x00\x00\xd8", Refused("", "utf-16-le text")
    ),
    "Latin-1 titles": Case(
        "p.csv", "Länge;Höhe\n1,5;-2\n3;0,25\n".encode("latin-1"), PLAIN
    ),
    "Latin-1 names": Case(
        "p.csv", "anna,1.5,-2\nbjørn,3,0.25\n".encode("latin-1"), NAMED
    ),
    "gz": Case("p.csv.gz", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n"), PLAIN),
    "gz without the ending": Case(
        "p.csv", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n"), PLAIN
    ),
    "gz cut short": Case(
        "p.csv.gz", gzip.compress(b"x,y\n1.5,-2\n3,0.25\n")[:-9], Refused("", "gzip")
    ),
    "no gz": Case("p.csv.gz", "1,2\n", Refused("", "gzip")),
    "a workbook called .csv": Case(
        "p.csv", b"PK\x03\x04\x14\x00\x06\x00", Refused("", "null characters")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


def test_missing_files_and_folders(tmp_path):
    refused(lambda: read_space(tmp_path / "x.csv"), ValueError, "x.csv", "No such file")
    (tmp_path / "y.csv").mkdir()
    refused(
        lambda: read_space(tmp_path / "y.csv"), ValueError, "y.csv", "Is a directory"
    )
