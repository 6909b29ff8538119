"""Kernels with numba, without it, and where it does not start."""

import builtins
import sys
import types

import numpy as np
import pytest

from gwtools import _compiled
from gwtools._compiled import compilation


def added(values, other):
    """Add a number to an array, in place."""
    for i in range(len(values)):
        values[i] += other


@pytest.fixture
def fresh():
    """Whether numba is there is asked once: forget the answer."""
    compilation._numba.cache_clear()
    yield
    compilation._numba.cache_clear()


def test_functions_do_the_same_with_and_without(monkeypatch):
    for numba in (compilation._numba(), None):
        monkeypatch.setattr(compilation, "_numba", lambda found=numba: found)
        assert _compiled.available() == (numba is not None)
        kernel = _compiled.compiled(added)
        assert (kernel.__name__, kernel.__doc__) == ("added", added.__doc__)
        values = np.arange(3.0)
        kernel(values, 2.0)
        kernel(values, 0.5)
        assert values.tolist() == [2.5, 3.5, 4.5]


def test_numba_that_cannot_be_imported_is_none(monkeypatch, fresh):
    imported = builtins.__import__

    def refusing(name, *arguments, **options):
        if name == "numba":
            raise ImportError("Numba needs NumPy 1.0 or less")
        return imported(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(builtins, "__import__", refusing)
    assert not _compiled.available()
    values = np.arange(3.0)
    _compiled.compiled(added)(values, 1.0)
    assert values.tolist() == [1.0, 2.0, 3.0]


def numba_of(njit):
    return types.SimpleNamespace(njit=njit)


def test_kernels_are_kept_and_know_infinities(monkeypatch):
    asked = []

    def njit(**options):
        asked.append(options)
        return lambda function: function

    monkeypatch.setattr(compilation, "_numba", lambda: numba_of(njit))
    kernel = _compiled.compiled(added)
    assert asked == []  # at the first call only
    for _ in range(2):
        kernel(np.arange(3.0), 1.0)
    (options,) = asked
    assert options["cache"]
    assert options["nogil"]
    assert not {"ninf", "nnan", "fast"} & set(options["fastmath"])


def test_kernels_are_compiled_anew_where_nothing_can_be_kept(monkeypatch):
    """As in an installation that only others may write to."""
    kept = []

    def njit(cache, **options):
        def compile_it(function):
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            kept.append(cache)
            return function

        return compile_it

    monkeypatch.setattr(compilation, "_numba", lambda: numba_of(njit))
    values = np.arange(3.0)
    _compiled.compiled(added)(values, 1.0)
    assert values.tolist() == [1.0, 2.0, 3.0]
    assert kept == [False]
