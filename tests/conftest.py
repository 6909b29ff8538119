"""Hypothesis profiles, and the array libraries that the suite runs over."""

import gc
import os
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from gwtools.bounds import float_error
from tests.libraries import LIBRARIES, Library

_COMMON = {
    "deadline": None,
    "derandomize": True,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("default", max_examples=200, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
# Whether a mutant is killed, not by how small an example.
settings.register_profile(
    "mutants", max_examples=60, phases=[Phase.explicit, Phase.generate], **_COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _compile_quickly():
    """Let JAX compile its thousands of tiny programs without making them fast.

    A flag that XLA does not know ends the process: only versions that know these.
    """
    try:
        known = version("jaxlib").startswith("0.10.")
    except PackageNotFoundError:
        known = False
    if known:
        os.environ.setdefault(
            "XLA_FLAGS",
            "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
            "--xla_llvm_disable_expensive_passes=true",
        )


_compile_quickly()


def pytest_collection_finish():
    """Leave what is imported to no garbage collection: each training makes one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng():
    return np.random.default_rng(20250)


@pytest.fixture
def coarse(monkeypatch):
    """Round as a machine of six digits would.

    At the true unit a term of a radius drowns in the value that it is taken off.
    """
    monkeypatch.setattr(float_error, "UNIT", 2.0**-20)
    monkeypatch.setattr(float_error, "UNDERFLOW", 2.0**-22)
    monkeypatch.setattr(float_error, "UNDERFLOW_OF_ROOTS", 2.0**-14)


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request):
    chosen: Library = request.param
    with chosen.active():
        yield chosen
