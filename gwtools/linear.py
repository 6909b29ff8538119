"""The former place of sorts and linear programs, for scripts that import them from here: see :mod:`gwtools.transport`."""

from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.programs import _simplex, exact

__all__ = ["_simplex", "exact", "sorting_plan"]
