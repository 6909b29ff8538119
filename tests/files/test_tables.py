"""Tables of numbers: every number is the one that was written."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools.files.tables import Hints, read_table
from tests.test_check import refused

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
