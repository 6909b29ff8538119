"""Text cut into cells: delimiters, quotes, comments, blank lines and ends of lines."""

import numpy as np
import pytest

from tests.files.cases import (
    PLAIN,
    POINTS,
    Case,
    Read,
    Refused,
    array,
    check,
)

CASES = {
    "commas": Case("p.csv", "1.5,-2\n3,.25\n", PLAIN),
    "commas and spaces": Case("p.csv", "1.5, -2\n3, 2.5E-1\n", PLAIN),
    "semicolons": Case("p.csv", "1.5;-2\n3;0.25\n", PLAIN),
    "tabs": Case("p.tsv", "1.5\t-2\n3\t0.25\n", PLAIN),
    "aligned by spaces": Case("p.dat", "  1.5   -2\n  3      0.25\n", PLAIN),
    "numpy.savetxt": Case("p.txt", array(np.array(POINTS), np.savetxt), PLAIN),
    "numpy.savetxt with a header": Case(
        "p.txt",
        array(np.array(POINTS), lambda f, v: np.savetxt(f, v, header="x y")),
        PLAIN,
    ),
    "Excel's first line": Case("p.csv", "sep=;\r\n1,5;-2\r\n3;0,25\r\n", PLAIN),
    "Excel's first line with a tab": Case("p.csv", "sep=\t\n1,5\t-2\n3\t0,25\n", PLAIN),
    "a column of decimal commas": Case(
        "p.csv", "x\n1,5\n2,75\n", Refused("line 2", "decimal comma")
    ),
    "decimal commas without a title": Case(
        "p.csv", "1,5\n2,05\n", Refused("line 2", "'2,05' may also be")
    ),
    "decimal commas around 0": Case(
        "p.csv", "1,5\n-0,5\n", Refused("line 2", "'-0,5' may also be")
    ),
    "two titles above leading zeros": Case("p.csv", "x,y\n1,05\n", Read([[1.0, 5.0]])),
    "two columns of integers": Case(
        "p.csv", "1,5\n-3,0\n", Read([[1.0, 5.0], [-3.0, 0.0]])
    ),
    "one column": Case("p.txt", "1.5\n3\n-2", Read([[1.5], [3.0], [-2.0]])),
    "one column under a title with a number": Case(
        "p.csv", "step 2\n1.5\n3\n", Read([[1.5], [3.0]])
    ),
    "one column under a title": Case(
        "p.csv", "height (cm)\n1.5\n3\n", Read([[1.5], [3.0]])
    ),
    "one row": Case("p.csv", "1.5,3\n", Read([[1.5, 3.0]])),
    "CRLF": Case("p.csv", "x,y\r\n1.5,-2\r\n3,0.25\r\n", PLAIN),
    "CRLF written as text": Case("p.txt", "1.5\r\r\n3\r\r\n", Read([[1.5], [3.0]])),
    "CR alone": Case("p.csv", "1.5,-2\r3,0.25\r", PLAIN),
    "quotes": Case("p.csv", '"x","y, in m"\n"1.5","-2"\n"3","0.25"\n', PLAIN),
    "a quote that is not closed": Case(
        "p.csv", '1.5,2\n"3,4\n5,6\n', Refused("line 2", "quotation marks")
    ),
    "trailing commas": Case("p.csv", "x,y,\n1.5,-2,\n3,0.25,\n", PLAIN),
    "trailing commas but in the header": Case(
        "p.csv", "x,y\n1.5,-2,,\n3,0.25,,\n", PLAIN
    ),
    "a trailing comma of one line": Case(
        "p.csv", "1.5,-2,\n", Refused("line 1, column 3", "is empty")
    ),
    "trailing commas without a header": Case("p.csv", "1.5,-2,\n3,0.25,\n", PLAIN),
    "trailing commas with a title": Case(
        "p.csv",
        "x,y,z\n1.5,-2,\n3,0.25,\n",
        Refused("line 2, column 3 ('z')", "is empty"),
    ),
    "blank lines and comments": Case(
        "p.csv", "# by us\n\nx,y\n1.5,-2\n  \n# more\n3,0.25\n\n", PLAIN
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)
