"""Ragged batches: many pairs of small spaces, padded and computed together.

The bounds take two lists of spaces and return one differentiable value for each pair.
Inner products and squared distances are computed from factors and points, whose numbers
of rows may differ from space to space; a matrix over the atoms is formed only where it
is the smaller one. Roots have the subgradient 0 at 0; at ties, sorts have that of the
order in which the library's sort puts them.

Examples
--------
A loss over two sequences with logits H (T, k), whose k columns are the atoms:

>>> import numpy as np, gwtools as gw
>>> rng = np.random.default_rng(0)
>>> weights = np.full(4, 1 / 4)
>>> def spaces(lengths):
...     logits = [rng.standard_normal((T, 4)) for T in lengths]
...     return [gw.GramSpace(H / len(H) ** 0.5, weights) for H in logits]
>>> gw.batch.norm(spaces([5, 9]), spaces([6, 8])).shape
(2,)
"""

from gwtools.batch.bounds import first, norm, row_means, second, spectral
from gwtools.batch.solve import solve_batch

__all__ = ["first", "norm", "row_means", "second", "solve_batch", "spectral"]
