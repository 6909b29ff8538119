"""The package itself: what it imports only when it is asked for."""

import pytest

import gwtools as gw
from tests.whole.test_architecture import run


def test_scikit_learn_is_imported_when_it_is_asked_for():
    pytest.importorskip("sklearn")
    code = """
import sys, gwtools as gw
before = "sklearn" in sys.modules
gw.sklearn.GromovWassersteinTransformer
print(before, "sklearn" in sys.modules)
"""
    done = run(code)
    assert done.stdout.strip() == "False True", done.stderr


def test_a_name_that_is_not_there_is_none():
    with pytest.raises(AttributeError, match="'gwtools' has no attribute 'wasserstein"):
        _ = gw.wasserstein
    assert not hasattr(gw, "wasserstein")
