"""The warning of degenerate graphs, silenced and forgotten between tests."""

import warnings

import pytest

from fusion.losses import graphs


@pytest.fixture(autouse=True)
def quiet():
    """Ignore that graphs of few positions are degenerate, unless a test asks for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "graph_loss of kind", UserWarning)
        yield
    graphs._warn_degenerate.cache_clear()
