"""One block of rows of logits: what is read of it, and the gradient back.

A row of V logits becomes its k largest entries with their ids, its entries at given
ids, its log-sum-exp and its moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_LARGEST_GROUP = 64


@dataclass(frozen=True)
class Reading:
    """What to read of every row of logits.

    Attributes
    ----------
    k : int
        How many of its largest entries.
    temperatures : tuple of float
        Those at which its log-sum-exp is wanted.
    moments : bool
        Whether its mean and standard deviation are.
    vocabulary : int or None
        How many of its first entries are of tokens; the others, with which heads are
        padded, are not read. All by default.
    """

    k: int
    temperatures: tuple[float, ...] = (1.0,)
    moments: bool = True
    vocabulary: int | None = None


class Rows(NamedTuple):
    """What was read of n rows; or the gradient of each, None where there is none.

    Attributes
    ----------
    values : tensor of shape (n, k)
        The largest entries, in descending order.
    logsumexp : tensor of shape (n, number of temperatures)
        Of the row divided by each temperature.
    moments : tensor of shape (n, 2), or (n, 0) where they were not wanted
        Mean and standard deviation of the finite entries.
    at : tensor of shape (n, K)
        The entries at given ids.
    ids : int64 tensor of shape (n, k)
        Where the largest entries are.
    """

    values: Tensor  # (n, k)
    logsumexp: Tensor  # (n, temperatures)
    moments: Tensor  # (n, 2), mean and standard deviation
    at: Tensor  # (n, K)
    ids: Tensor  # (n, k)


def top_ids(rows: Tensor, k: int) -> Tensor:
    """Return the ids of the k largest entries of each row, in descending order.

    The k largest entries of a row lie in the k groups with the largest maxima, so that
    one pass for the maxima and a short list of candidates do.

    Parameters
    ----------
    rows : tensor of shape (n, V)
        NaN counts as largest.
    k : int
        At most V.

    Returns
    -------
    int64 tensor of shape (n, k)
    """
    _, V = rows.shape
    size = _group_size(V, k)
    if size < 4:
        # Rows are too short for the candidates to be few.
        largest = rows.topk(k, dim=1)
        return largest.indices
    candidates = _candidates(rows, k, size)
    values = rows.gather(1, candidates)
    largest = values.topk(k, dim=1)
    return candidates.gather(1, largest.indices)


def _group_size(V: int, k: int) -> int:
    """Return how many entries make a group: a power of two, at most 64.

    The largest k are sought among V / size maxima, then among k · size candidates. It
    is the largest size for which the candidates are no more than the maxima.
    """
    size = 1
    # Twice the size s still has k · 2 s ≤ V / (2 s).
    while 4 * size * size * k <= V and size < _LARGEST_GROUP:
        size *= 2
    return size


def _candidates(
    rows: Tensor,  # (n, V)
    k: int,
    size: int,  # of a group
) -> Tensor:
    """Ids among which the k largest entries of each row are, shape (n, candidates)."""
    n, V = rows.shape
    # 1. Groups. Group g has the entries g, g + count, g + 2 count, …, so that maxima
    #    over groups are taken of contiguous rows.
    count = V // size
    covered = size * count
    grouped = rows[:, :covered]
    grouped = grouped.view(n, size, count)
    # 2. Those with the k largest maxima.
    maxima = grouped.amax(dim=1)  # (n, count)
    largest = maxima.topk(k, dim=1, sorted=False)
    groups = largest.indices  # (n, k)
    # 3. Their members, and the entries at the end of the row that fill no group.
    steps = torch.arange(size, device=rows.device)
    offsets = steps * count  # from the first member of a group
    members = groups[:, :, None] + offsets  # (n, k, size)
    members = members.flatten(1)
    rest = torch.arange(covered, V, device=rows.device)
    rest = rest.expand(n, -1)
    return torch.cat([members, rest], dim=1)


def read_block(
    rows: Tensor,  # (n, V)
    at: Tensor,  # (n, K)
    reading: Reading,
) -> Rows:
    """Read rows that fit the cache, and their entries at given ids."""
    # Before they are converted: the order is the same, and half precision faster.
    ids = top_ids(rows, reading.k)
    rows = wide(rows)
    logsumexp = _logsumexps(rows, reading.temperatures)
    moments = _moments(rows) if reading.moments else _no_columns(rows)
    values = rows.gather(1, ids)
    entries = rows.gather(1, at)
    return Rows(values, logsumexp, moments, entries, ids)


def _no_columns(rows: Tensor) -> Tensor:
    """Return what stands for a quantity that is not read, shape (n, 0)."""
    return rows.new_zeros(len(rows), 0)


def wide(values: Tensor) -> Tensor:
    """Convert half precision to float32, in which sums are made; leave wider dtypes."""
    half = values.dtype in _HALF
    return values.float() if half else values


def _logsumexps(
    rows: Tensor,  # (n, V)
    temperatures: Sequence[float],
) -> Tensor:
    """Log-sum-exps of each row, one column for each temperature."""
    if not temperatures:
        return _no_columns(rows)
    columns = []
    for temperature in temperatures:
        scaled = _divided(rows, temperature)
        column = torch.logsumexp(scaled, dim=1)
        columns.append(column)
    return torch.stack(columns, dim=1)


def _divided(rows: Tensor, temperature: float) -> Tensor:
    """Divide rows by a temperature, without a copy where it is 1."""
    return rows if temperature == 1 else rows / temperature


def _moments(rows: Tensor) -> Tensor:
    """Mean and standard deviation of the finite entries of each row, shape (n, 2)."""
    mean = rows.mean(dim=1, keepdim=True)  # (n, 1)
    # A single entry that is not finite makes the mean of its row so.
    all_finite = mean.isfinite().all()
    if bool(all_finite):
        deviations = rows - mean
        squares = deviations.square_()
        variance = squares.mean(dim=1, keepdim=True)
    else:
        # Entries of −inf, for tokens that cannot occur, count for nothing.
        finite = rows.isfinite()
        count = finite.sum(dim=1, keepdim=True)
        entries = torch.where(finite, rows, 0.0)
        total = entries.sum(dim=1, keepdim=True)
        mean = total / count
        deviations = torch.where(finite, rows - mean, 0.0)
        squares = deviations.square_()
        total = squares.sum(dim=1, keepdim=True)
        variance = total / count
    std = variance.sqrt()
    return torch.cat([mean, std], dim=1)


def block_gradient(
    rows: Tensor,  # (n, V)
    at: Tensor,  # (n, K)
    found: Rows,  # what was read of the rows
    grads: Rows,  # the gradients with respect to that
    reading: Reading,
) -> Tensor:
    """Gradient with respect to rows that fit the cache, in at least float32."""
    rows = wide(rows)
    total: Tensor | None = None
    if grads.logsumexp is not None:
        for i, temperature in enumerate(reading.temperatures):
            # The derivative of logsumexp(x / t) is softmax(x / t) / t.
            scaled = _divided(rows, temperature)
            logsumexp = found.logsumexp[:, i, None]
            softmax = (scaled - logsumexp).exp_()
            given = grads.logsumexp[:, i, None]
            factor = given / temperature
            part = softmax.mul_(factor)
            total = _accumulated(total, part)
    if grads.moments is not None:
        part = _moment_gradient(rows, found.moments, grads.moments)
        total = _accumulated(total, part)
    if total is None:
        total = torch.zeros_like(rows)
    # Entries are gathered forward, so their gradients are scattered back.
    if grads.values is not None:
        total.scatter_add_(1, found.ids, grads.values)
    if grads.at is not None:
        total.scatter_add_(1, at, grads.at)
    return total


def _accumulated(
    total: Tensor | None,  # None before the first part
    part: Tensor,
) -> Tensor:
    """Add a part to a total in place; the first part becomes the total."""
    if total is None:
        return part
    return total.add_(part)


def _moment_gradient(
    rows: Tensor,  # (n, V)
    moments: Tensor,  # (n, 2)
    grad: Tensor,  # (n, 2), with respect to the moments
) -> Tensor:
    """Gradient of mean and standard deviation with respect to rows."""
    finite = rows.isfinite()
    count = finite.sum(dim=1, keepdim=True)
    mean = moments[:, :1]  # (n, 1), like what follows
    std = moments[:, 1:]
    grad_mean = grad[:, :1]
    grad_std = grad[:, 1:]
    # dσ / dx = (x − mean) / (count · σ). At constant rows, where σ has a kink, zero is
    # a subgradient.
    varies = std > 0
    divisor = torch.where(varies, std, 1.0)
    slope = torch.where(varies, grad_std / divisor, 0.0)
    slope = slope / count
    deviations = rows - mean
    gradient = slope * deviations + grad_mean / count
    return torch.where(finite, gradient, 0.0)
