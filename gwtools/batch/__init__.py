"""Ragged batches: many pairs of small spaces, padded and computed together."""

from gwtools.batch.bounds import first, norm, row_means, second, spectral
from gwtools.batch.solve import solve_batch

__all__ = ["first", "norm", "row_means", "second", "solve_batch", "spectral"]
