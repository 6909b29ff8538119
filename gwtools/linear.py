"""Former module of sorts and linear programs; see :mod:`gwtools.transport`.

It is kept for scripts that import it.
"""

from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.programs import _simplex, exact

__all__ = ["_simplex", "exact", "sorting_plan"]
