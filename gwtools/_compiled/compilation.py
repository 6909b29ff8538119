"""Functions of arrays compiled by numba where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType, ModuleType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

# What makes the machine code of each compiled function.
_KERNELS: dict[Callable[..., Any], Callable[[], Callable[..., Any]]] = {}


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
    A compiled function may call others of its file by name.
    """

    @cache
    def kernel() -> Callable[..., Any]:
        numba = _numba()
        if numba is None:
            # Slow, but the same: callers ask ``available`` first.
            return function
        fast = {"reassoc", "contract", "nsz"}  # infinities and NaN keep their meaning
        linked = _with_kernels(function)
        try:
            made = numba.njit(cache=True, fastmath=fast, nogil=True)(linked)
        except RuntimeError:  # no folder that may be written to
            made = numba.njit(cache=False, fastmath=fast, nogil=True)(linked)
        return cast(Callable[..., Any], made)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return kernel()(*arguments)

    _KERNELS[call] = kernel
    return cast(Function, call)


def _with_kernels(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with kernels in the place of the compiled functions it calls.

    Numba calls no function of Python, which these are until their first call.
    """
    kernels = {}
    for name in function.__code__.co_names:
        called: Any = function.__globals__.get(name)
        if callable(called) and called in _KERNELS:
            kernels[name] = _KERNELS[called]()
    if not kernels:
        return function
    names = function.__globals__ | kernels
    return FunctionType(function.__code__, names, function.__name__)
