"""Numbers in errors: as many digits as tell a number from the limit that it misses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools import _words as words


@given(
    st.floats(1e-300, 1e300),
    st.integers(1, 4000),
    st.sampled_from([1, -1]),
    st.sampled_from([3, 6]),
)
def test_numbers_are_told_from_the_limit_that_they_miss(limit, ulps, side, digits):
    """The number shown lies on the side of the limit shown on which the number is."""
    value = limit * (1 + side * ulps * 2.0**-48)
    found, shown = map(float, words.distinguishable(value, limit, digits))
    assert (found < shown, found > shown) == (value < limit, value > limit)
    assert found == pytest.approx(value, rel=10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "1.5"), (1.0000001, "1.0000001"), (0.999999, "0.999999"), (2.0, "2")],
)
def test_no_more_digits_are_shown_than_needed(value, text):
    assert words.distinguishable(value, 1.0, 6) == (text, "1")
