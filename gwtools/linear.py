"""The former place of sorts and linear programs, for scripts that import them from here: see :mod:`gwtools.transport`."""

from gwtools.transport.one_dimensional import Line, comonotone, line, sorting_plan, total
from gwtools.transport.programs import Program, _simplex, exact

__all__ = ["Line", "Program", "_simplex", "comonotone", "exact", "line", "sorting_plan", "total"]
