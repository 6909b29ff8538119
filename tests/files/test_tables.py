"""Tables of numbers: every number is the one that was written, and gaps are refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.files.tables import Hints, read_table
from tests.files.cases import (
    PLAIN,
    Case,
    Refused,
    check,
    read,
)
from tests.test_check import refused

CASES = {
    "a header with a gap": Case(
        "p.csv", "x,,z\n1.5,-2,1\n3,0.25,1\n", Refused("line 1, column 2", "is empty")
    ),
    "a header alone": Case("p.csv", "x,y\n", Refused("", "names alone")),
    "two lines of titles": Case(
        "p.csv", "x,y\nm,m\n1.5,-2\n3,0.25\n", Refused("line 2, column 2 ('y')", "'m'")
    ),
    "a gap in the first line": Case(
        "p.csv", "1.0,,2.0\n1,2,3\n", Refused("line 1, column 2", "is empty")
    ),
    "a gap at its start": Case(
        "p.csv", ",2.5,3.5\n1.5,2,3\n", Refused("line 1, column 1", "is empty")
    ),
    "nan first": Case("p.csv", "nan,1\n2,3\n", Refused("line 1, column 1", "'nan'")),
    "NA alone": Case("p.csv", "NA,NA\n2,3\n", Refused("line 1", "'NA'")),
    "n/a behind a byte-order mark": Case(
        "p.csv", "\ufeff1.0,n/a\n2,3\n", Refused("line 1, column 2", "'n/a'")
    ),
    "a gap in the middle": Case(
        "p.csv", "x,y\n1,2\n\n3,\n4,5\n", Refused("line 4, column 2 ('y')", "is empty")
    ),
    "infinity": Case("p.csv", "1,2\n3,-inf\n", Refused("line 2, column 2", "finite")),
    "beyond the range": Case(
        "p.csv", "1.5,2\n3,1e999\n", Refused("line 2, column 2", "finite")
    ),
    "a gap in one column": Case(
        "p.txt", "x\n\n1.5\n\n2.5\n\n", Refused("line 4, column 1 ('x')", "is empty")
    ),
    "a gap below the first number": Case(
        "p.txt", "1.5\n\n2.5\n", Refused("line 2, column 1", "is empty")
    ),
    "Excel's errors": Case(
        "p.csv", "1.5,2\n3,#DIV/0!\n", Refused("line 2, column 2", "#DIV/0!")
    ),
    "ragged": Case("p.csv", "1.5,2\n3\n", Refused("line 2", "2 cells")),
    "ragged below a header": Case(
        "p.csv", "x,y,z\n1.5,2\n3,4\n", Refused("line 2", "3 cells")
    ),
    "text": Case("p.csv", "1.5,2\n3,four\n", Refused("line 2, column 2", "'four'")),
    "text in the first line": Case(
        "p.csv", "1.5,four\n3,2\n", Refused("line 1, column 2", "--header yes")
    ),
    "names alone by what is said": Case(
        "p.csv",
        "1\n2\n",
        Refused("", "leave --index-column out"),
        {"index": True},
    ),
    "a class behind the numbers": Case(
        "p.csv",
        "x,y,kind\n1,2,a\n3,4,b\n",
        Refused("line 2, column 3 ('kind')", "remove"),
    ),
    "empty": Case("p.csv", "", Refused("", "is empty")),
    "comments alone": Case("p.csv", "# x\n", Refused("", "is empty")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


REMEDIES = {
    "first line": ("1.5,a\n2,3\n", {}, ["--header yes"]),
    "a later line": ("1.5,2\n2,a\n", {}, []),
    "below a header": ("x,y\n2,a\n", {}, []),
    "no header by what is said": ("1.5,a\n2,3\n", {"header": False}, []),
    "empty corner": (",2\n1,3\n", {}, ["--header yes"]),
    "empty corner, no header by what is said": (",2\n1,3\n", {"header": False}, []),
    "first column": ("1.5,2\na,3\n", {}, ["--index-column yes"]),
    "a single column": ("1.5\na\n", {}, []),
    "no index by what is said": ("1.5,2\na,3\n", {"index": False}, []),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_options_are_named_where_they_may_help(case, tmp_path):
    text, said, options = REMEDIES[case]
    with pytest.raises(ValueError, match="must hold a number") as caught:
        read(Case("p.csv", text, PLAIN, said), tmp_path)
    assert re.findall(r"--\S+ yes", str(caught.value)) == options


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


WRITERS = {
    ",": lambda v: repr(v),
    "\t": lambda v: f"{v:.16e}",
    " ": lambda v: f"{v:+.17G}",
    ";": lambda v: repr(v).replace(".", ","),
}


@pytest.mark.parametrize("delimiter", WRITERS)
@given(
    values=st.integers(1, 3).flatmap(
        lambda d: st.lists(
            st.lists(NUMBERS, min_size=d, max_size=d), min_size=1, max_size=4
        )
    )
)
def test_every_number_is_the_one_that_was_written(delimiter, values):
    text = "\n".join(delimiter.join(map(WRITERS[delimiter], row)) for row in values)
    if delimiter == ";" and len(values[0]) == 1:
        text = text.replace(",", ".")  # a decimal comma alone separates two columns
    hints = Hints(header=False, index=False)
    if (
        delimiter == ";"
        and "." not in text
        and (found := re.findall(r"\d+,\d+(?!\d*e)", text))
    ):
        thousands = all(
            re.fullmatch(r"[1-9]\d{0,2},\d{3}", number)
            for number in re.findall(r"\d+,\d+(?:e\S+)?", text)
        )
        if thousands and found:
            refused(
                lambda: read_table(text, "p.csv", hints),
                ValueError,
                "p.csv, line",
                "thousands",
            )
            return
    np.testing.assert_array_equal(read_table(text, "p.csv", hints).values, values)
