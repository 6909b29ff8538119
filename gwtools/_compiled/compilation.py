"""Functions of arrays compiled by numba where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def _numba() -> ModuleType | None:
    """Import numba where it is installed and supports this version of NumPy."""
    try:
        import numba  # takes a second, so only when a kernel is wanted
    except ImportError:
        return None
    return numba


def available() -> bool:
    """Tell whether kernels can be compiled."""
    return _numba() is not None


def compiled(function: Function) -> Function:
    """Compile a function of numbers and NumPy arrays at its first call.

    Floats may be summed in another order than written, for speed: results are the same
    up to float error. The machine code is kept in the ``__pycache__`` of the package.
    """

    @cache
    def kernel() -> Callable[..., Any]:
        numba = _numba()
        if numba is None:
            # Slow, but the same: callers ask ``available`` first.
            return function
        fast = {"reassoc", "contract", "nsz"}  # infinities and NaN keep their meaning
        try:
            made = numba.njit(cache=True, fastmath=fast, nogil=True)(function)
        except RuntimeError:  # no folder that may be written to
            made = numba.njit(cache=False, fastmath=fast, nogil=True)(function)
        return cast(Callable[..., Any], made)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return kernel()(*arguments)

    return cast(Function, call)
