"""Public names of fusion: listed, documented, and loaded when they are asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import fusion

ROOT = Path(__file__).parent.parent.parent


def test_losses_need_neither_transformers_nor_what_the_trainer_needs():
    code = """
import sys
import fusion
fusion.FusionLoss, fusion.top_k, fusion.graph_loss, fusion.read
assert callable(fusion.align)
others = {'transformers', 'datasets', 'accelerate', 'matplotlib'}
print(sorted(others & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_listed_and_documented():
    assert sorted(fusion.__all__) == list(fusion.__all__)
    assert set(fusion.__all__) <= set(dir(fusion))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fusion.nothing
    for name in ("FusionLoss", "TopKLogits", "graph_loss", "read", "top_k", "uld_loss"):
        assert getattr(fusion, name).__doc__
