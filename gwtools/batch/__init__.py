"""Ragged batches: many pairs of small spaces, padded and computed together.

The bounds take two lists of spaces and return one differentiable value for each pair.
Inner products and squared distances are used by their factors and points, whose heights
may differ from space to space; a matrix over the atoms is formed only where it is the
smaller one. Roots have a zero subgradient at zero, and ties in sorts that of the order
the library's sort gives.

Examples
--------
A loss over B sequences with logits H_b (T_b, k), whose k columns are the atoms:

>>> import numpy as np, gwtools as gw
>>> rng = np.random.default_rng(0)
>>> student, teacher = (
...     [rng.standard_normal((t, 4)) / t**0.5 for t in heights]
...     for heights in ([5, 9], [6, 8])
... )
>>> a = np.full(4, 1 / 4)
>>> values = gw.batch.norm(
...     [gw.GramSpace(h, a) for h in student], [gw.GramSpace(h, a) for h in teacher]
... )
>>> values.shape
(2,)
"""

from gwtools.batch.bounds import first, norm, row_means, second, spectral
from gwtools.batch.solve import solve_batch

__all__ = ["first", "norm", "row_means", "second", "solve_batch", "spectral"]
