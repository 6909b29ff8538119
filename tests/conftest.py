"""Hypothesis profiles, and the array libraries that the suite runs over."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.libraries import LIBRARIES, Library

_COMMON = {
    "deadline": None,
    "derandomize": True,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("default", max_examples=200, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def rng():
    return np.random.default_rng(20250)


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request):
    chosen: Library = request.param
    with chosen.active():
        yield chosen
