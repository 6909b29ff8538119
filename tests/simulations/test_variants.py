"""The pairs held against POT: both terms count, and objectives are those of plans."""

import numpy as np
import pytest

from simulations import variants
from tests import checkers


@pytest.mark.parametrize("number", range(6))
def test_objectives_are_sums_over_quadruples(number):
    drawn = variants.pair(0, number)
    plan = np.outer(drawn.a, drawn.b)
    structure = checkers.objective(drawn.C, drawn.D, plan)
    linear = float((drawn.features * plan).sum())
    expected = (1 - drawn.alpha) * linear + drawn.alpha * structure
    assert variants.objective(drawn, plan) == pytest.approx(expected, rel=1e-10)
    # Neither term is negligible beside the other.
    assert 0.05 < linear / structure < 20


def test_every_share_and_kind_is_drawn():
    drawn = [variants.pair(0, number) for number in range(15)]
    assert {p.alpha for p in drawn} == set(variants.SHARES)
    assert {(p.kind, p.alpha) for p in drawn} == {
        (kind, share) for kind in variants.KINDS for share in variants.SHARES
    }
    assert all(len(p.a) != len(p.b) for p in drawn)


def test_a_quick_run_is_published_and_resumed(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "variants"), "--quick", "--pairs", "2"]
    assert variants.main(arguments) == 0
    folder = tmp_path / "variants-quick"
    trials = (folder / "trials.csv").read_text()
    assert variants.main(arguments) == 0
    assert (folder / "trials.csv").read_text() == trials
    assert "of 2 pairs" in (folder / "variants.md").read_text()
    assert (folder / "meta.json").exists()
