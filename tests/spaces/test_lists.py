"""Lists of spaces: read in their order, refused by the place at fault."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.spaces.lists import read_spaces, require_one_kind

C = 1 - np.eye(3)


def test_spaces_and_square_arrays_are_read_in_their_order():
    space = gw.PointCloud(np.eye(2))
    found = read_spaces((space, C), "spaces")
    assert found[0] is space
    assert found[1].distances is C
    stack = np.stack([C, 2 * C])
    assert [s.largest() for s in read_spaces(stack, "spaces")] == [1.0, 2.0]
    assert read_spaces([], "spaces") == []


def test_what_is_no_list_or_no_space_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"xs must be a list .*list\(xs\)"):
        read_spaces(iter([C]), "xs")
    with pytest.raises(TypeError, match=r"xs\[1\] must be a gwtools space"):
        read_spaces([C, [[0.0]]], "xs")


def test_the_first_space_of_another_kind_is_named():
    wide, narrow = gw.as_space(C), gw.as_space(C.astype(np.float32))
    require_one_kind({"xs": [wide, wide], "ys": [wide]})
    require_one_kind({"xs": []})
    with pytest.raises(
        TypeError, match=r"ys\[1\] must have the same array dtype as xs"
    ):
        require_one_kind({"xs": [wide], "ys": [wide, narrow, narrow]})
