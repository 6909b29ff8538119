"""Single precision for steps that are not the last: products at half the time.

The float error of a gradient rarely changes which vertex its linear program ends at, so
that the vertices are mostly those of double precision. Weights, plans, potentials and
sums over atoms stay in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from gwtools._array import Array, NumpyArray
from gwtools._stacks import Numbers
from gwtools.plans import Plan, SparsePlan
from gwtools.problems import GWProblem
from gwtools.spaces.base import BLOCK_ENTRIES
from gwtools.spaces.double_centering import DenseResidual, Residual

RESOLVED = 1e-6  # share of `GWProblem.variation`: less may be float error
_MANY = 700**2  # n m from which the products R π S take most of the time


@dataclass(frozen=True, eq=False)
class SingleProblem(GWProblem):
    """A problem whose matrices R π S are computed, and held, in single precision.

    R and S are held in double precision, and converted by blocks of rows, so that no
    second copy of them is in memory.

    Parameters
    ----------
    whole : GWProblem
        The problem in double precision.
    """

    whole: Any = None

    @classmethod
    def of(cls, problem: GWProblem) -> SingleProblem | None:
        """Return a problem in single precision, or None where it is small or unlike.

        Taken are problems without features, between symmetric matrices of float64.
        """
        n, m = problem.shape
        if n * m < _MANY or type(problem) is not GWProblem or not problem.is_plain:
            return None
        weights = problem.x.weights
        if not isinstance(weights, np.ndarray) or weights.dtype != np.float64:
            return None
        are_matrices = isinstance(problem.left, DenseResidual)
        if not are_matrices or not isinstance(problem.right, DenseResidual):
            return None
        return cls(problem.x, problem.y, whole=problem)

    @cached_property
    def left(self) -> Residual:
        """R, in double precision."""
        return cast(Residual, self.whole.left)

    @cached_property
    def right(self) -> Residual:
        """S, in double precision."""
        return cast(Residual, self.whole.right)

    @cached_property
    def norms(self) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        """(‖α‖, ‖R‖) and (‖β‖, ‖S‖), in double precision."""
        return cast(GWProblem, self.whole).norms

    def _whole_cross(self, plan: Plan) -> Array:
        """Return R π S, in single precision where the plan is sparse."""
        if not isinstance(plan, SparsePlan):
            return super()._whole_cross(plan)
        rows = np.arange(self.shape[0])
        return _product(self.left.dense(), self._applied(rows, plan))

    def _change(
        self, rows: NumpyArray, plan: SparsePlan, previous: SparsePlan
    ) -> NumpyArray:
        """Return R (π − π') S of plans that differ in these rows alone."""
        moved = self._applied(rows, plan)
        moved -= self._applied(rows, previous)
        return _product(self.left.dense(), moved, rows)

    def _applied(self, rows: NumpyArray, plan: SparsePlan) -> NumpyArray:
        """Return these rows of π S."""
        right = self.right.dense()
        values = np.empty((len(rows), right.shape[1]), dtype=np.float32)
        for block in _blocks(*values.shape):
            values[block] = plan.apply_rows(rows[block], right)
        return values


def _product(
    left: NumpyArray, values: NumpyArray, columns: NumpyArray | None = None
) -> NumpyArray:
    """Return the product of R, or of these columns of it, and values."""
    n = left.shape[0]
    product = np.empty((n, values.shape[1]), dtype=np.float32)
    for block in _blocks(n, n):
        of_rows = left[block] if columns is None else left[block, columns]
        np.matmul(of_rows.astype(np.float32), values, out=product[block])
    return product


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Yield slices of rows of a given width, of about two million entries each."""
    step = max(1, BLOCK_ENTRIES // width)
    for start in range(0, count, step):
        yield slice(start, start + step)
