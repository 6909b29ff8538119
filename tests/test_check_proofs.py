"""Budgets and proofs are refused in sentences that say what to do."""

import pytest

from gwtools import _check_proofs


def test_budgets_are_seconds_for_quartic():
    _check_proofs.budget(None, "linear")
    _check_proofs.budget(2.5, "quartic")
    with pytest.raises(ValueError, match=r"budget must be left out .* but is 2\.5"):
        _check_proofs.budget(2.5, "cubic")
    for value in (0.0, -1.0, float("nan"), float("inf"), True, "5"):
        with pytest.raises((TypeError, ValueError), match="budget must be"):
            _check_proofs.budget(value, "quartic")


def test_proofs_must_be_kept():
    _check_proofs.kept(object())
    with pytest.raises(ValueError, match="keep_proof=True"):
        _check_proofs.kept(None)


def test_spaces_must_have_the_sizes_of_the_proof():
    _check_proofs.same_sizes((3, 4), (3, 4), "atoms")
    message = "have 4 and 3 atoms where its proof has 3 and 4: pass the spaces"
    with pytest.raises(ValueError, match=message):
        _check_proofs.same_sizes((3, 4), (4, 3), "atoms")
