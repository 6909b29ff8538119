"""Lines as numbers: decimal points, decimal commas and notations that are refused."""

import pytest

from tests.files.cases import (
    PLAIN,
    Case,
    Refused,
    check,
)

CASES = {
    "decimal commas": Case("p.csv", "1,5;-2\n3;0,25\n", PLAIN),
    "decimal commas between tabs": Case("p.txt", "x\ty\n1,5\t-2,0\n3\t0,25\n", PLAIN),
    "decimal commas in quotes": Case("p.csv", '"1,5","-2"\n"3","0,25"\n', PLAIN),
    "commas of thousands or decimals": Case(
        "p.csv", "1,500;2\n3;4,250\n", Refused("line 1", "may be 1.500 or 1500")
    ),
    "commas of thousands and points": Case(
        "p.csv", "1,500;2.5\n3;4,250\n", Refused("line 1", "decimal point in line 1")
    ),
    "separated thousands": Case(
        "p.csv", '"1,234,567",2\n3,4\n', Refused("line 1, column 1", "'1,234,567'")
    ),
    "Unicode's minus": Case(
        "p.csv", "−1.5,2\n−3,4\n", Refused("line 1, column 1", "plain numbers")
    ),
    "currencies": Case(
        "p.csv", "$1.50,2\n$3.00,4\n", Refused("line 1, column 1", "plain numbers")
    ),
    "Fortran's exponents": Case(
        "p.dat",
        " 1.5D+00 2.0D+00\n 3.0D+00 4.0D+00\n",
        Refused("line 1, column 2", "plain numbers"),
    ),
    "numbers as programs write them": Case(
        "p.csv", "1_000,2\n3,4\n", Refused("line 1, column 1", "'1_000'")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)
