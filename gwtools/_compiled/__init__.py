"""Loops compiled by numba, the optional extra ``fast``; everything works without it.

Every kernel has a path in array operations beside it, tested equal: where
:func:`available` is false, callers take that.
"""

from gwtools._compiled.compilation import available, compiled

__all__ = ["available", "compiled"]
