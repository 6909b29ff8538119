"""Former module of sorts and linear programs, kept for scripts that import it: see :mod:`gwtools.transport`."""

from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.programs import _simplex, exact

__all__ = ["_simplex", "exact", "sorting_plan"]
