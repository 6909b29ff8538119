"""What is read of rows of logits, and the gradient back, without a second array of their size.

A row of V logits becomes its k largest entries with their ids, its entries at given
ids, its log-sum-exp and its moments: all losses of this package are made of these few
numbers. Rows are read and differentiated in blocks that stay in the processor's cache;
rows of a head are made chunk by chunk, and made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK_ENTRIES = 2**20
_CANDIDATES = 64


@dataclass(frozen=True)
class Reading:
    """What to read of every row: k largest entries, log-sum-exps at some temperatures, mean and standard deviation or not."""

    k: int
    temperatures: tuple[float, ...] = (1.0,)
    moments: bool = True


class Rows(NamedTuple):
    """What was read of n rows: values and ids (n, k), log-sum-exps (n, temperatures), moments (n, 2 or 0), at (n, K).

    Moments are the mean and the standard deviation of the finite entries; ``at`` holds
    the entries at given ids.
    """

    values: Tensor
    logsumexp: Tensor
    moments: Tensor
    at: Tensor
    ids: Tensor


def read_logits(logits: Tensor, index: Tensor, at: Tensor, reading: Reading) -> Rows:
    """Read the rows ``index`` (n,) of logits (N, V), and their entries at the ids ``at`` (n, K)."""
    found: tuple[Tensor, ...] = _ReadLogits.apply(logits, index, at, reading)  # type: ignore[no-untyped-call]
    return Rows(*found)


def read_head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    at: Tensor,
    reading: Reading,
    chunk: int,
) -> Rows:
    """Read the rows of logits that a head (V, d) makes of hidden states (n, d), ``chunk`` rows at a time."""
    found: tuple[Tensor, ...] = _ReadHead.apply(
        hidden, weight, bias, at, reading, chunk
    )  # type: ignore[no-untyped-call]
    return Rows(*found)


def top_ids(rows: Tensor, k: int) -> Tensor:
    """Return the ids of the k largest entries of each row (n, V) in descending order; NaN counts as largest.

    The k largest entries lie in the k strided groups with the largest maxima, so that
    one pass and a short list do.
    """
    (n, V), size = rows.shape, 1
    while 4 * size * size * k <= V and size < _CANDIDATES:  # size grows
        size *= 2
    if size < 4:
        return rows.topk(k, dim=1).indices
    count = V // size
    tops = rows[:, : size * count].view(n, size, count).amax(dim=1)
    chosen = tops.topk(k, dim=1, sorted=False).indices
    steps = torch.arange(size, device=rows.device) * count
    rest = torch.arange(size * count, V, device=rows.device).expand(n, -1)
    ids = torch.cat([(chosen[:, :, None] + steps).flatten(1), rest], dim=1)
    return ids.gather(1, rows.gather(1, ids).topk(k, dim=1).indices)


def wide(values: Tensor) -> Tensor:
    """Convert half precision to float32, in which sums are made; wider values stay as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of as many rows of this width as fit the cache."""
    return _chunks(count, max(1, _BLOCK_ENTRIES // width))


def _chunks(count: int, chunk: int) -> Iterator[slice]:
    for start in range(0, count, chunk):
        yield slice(start, min(start + chunk, count))


def _read(rows: Tensor, at: Tensor, reading: Reading) -> Rows:
    """Read rows (n, V) that fit the cache."""
    ids = top_ids(rows, reading.k)
    rows = wide(rows)
    sums = [
        torch.logsumexp(rows / t if t != 1 else rows, dim=1)
        for t in reading.temperatures
    ]
    moments = _moments(rows) if reading.moments else rows.new_zeros(len(rows), 0)
    logsumexp = torch.stack(sums, dim=1) if sums else rows.new_zeros(len(rows), 0)
    return Rows(rows.gather(1, ids), logsumexp, moments, rows.gather(1, at), ids)


def _moments(rows: Tensor) -> Tensor:
    """Mean and standard deviation of the finite entries of each row, shape (n, 2)."""
    mean = rows.mean(dim=1, keepdim=True)
    if bool(mean.isfinite().all()):
        spread = (rows - mean).square_().mean(dim=1, keepdim=True)
        return torch.cat([mean, spread.sqrt()], dim=1)
    finite = rows.isfinite()
    count = finite.sum(dim=1, keepdim=True)
    mean = torch.where(finite, rows, 0.0).sum(dim=1, keepdim=True) / count
    spread = (
        torch.where(finite, rows - mean, 0.0).square_().sum(dim=1, keepdim=True) / count
    )
    return torch.cat([mean, spread.sqrt()], dim=1)


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _gradient(
    rows: Tensor, at: Tensor, found: Rows, grads: Rows, reading: Reading
) -> Tensor:
    """Return the gradient with respect to rows (n, V) that fit the cache, from those of what was read of them."""
    rows = wide(rows)
    total: Tensor | None = None
    if grads.logsumexp is not None:
        for i, t in enumerate(reading.temperatures):
            scaled = rows if t == 1 else rows / t
            part = (
                (scaled - found.logsumexp[:, i, None])
                .exp_()
                .mul_(grads.logsumexp[:, i, None] / t)
            )
            total = part if total is None else total.add_(part)
    if grads.moments is not None:
        part = _moment_gradient(rows, found.moments, grads.moments)
        total = part if total is None else total.add_(part)
    if total is None:
        total = torch.zeros_like(rows)
    for index, grad in ((found.ids, grads.values), (at, grads.at)):
        if grad is not None:
            total.scatter_add_(1, index, grad)
    return total


def _moment_gradient(rows: Tensor, moments: Tensor, grad: Tensor) -> Tensor:
    """Gradient of mean and standard deviation; zero subgradient of the latter at constant rows."""
    finite = rows.isfinite()
    count = finite.sum(dim=1, keepdim=True)
    mean, std = moments[:, :1], moments[:, 1:]
    slope = (
        torch.where(std > 0, grad[:, 1:] / torch.where(std > 0, std, 1.0), 0.0) / count
    )
    return torch.where(finite, slope * (rows - mean) + grad[:, :1] / count, 0.0)


def _part(rows: Rows, block: slice) -> Rows:
    """Cut out a block of what was read, or of its gradients, of which some are None."""
    parts: list[Any] = [None if value is None else value[block] for value in rows]
    return Rows(*parts)


class _ReadLogits(torch.autograd.Function):
    """Read some rows of stored logits; the gradient is one array of their shape."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, at: Tensor, reading: Reading
    ) -> tuple[Tensor, ...]:
        all_rows = len(index) == len(logits)  # then blocks are views
        blocks = list(_blocks(len(index), logits.shape[1]))
        found = _joined(
            [
                _read(logits[b] if all_rows else logits[index[b]], at[b], reading)
                for b in blocks
            ]
        )
        ctx.reading, ctx.all_rows = reading, all_rows
        ctx.save_for_backward(logits, index, at, *found)
        ctx.mark_non_differentiable(found.ids)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        logits, index, at, *saved = ctx.saved_tensors
        found, given = Rows(*saved), Rows(*grads)
        if given.logsumexp is None and given.moments is None:
            return _scattered(logits, index, at, found, given), None, None, None
        gradient = (
            torch.empty_like(logits) if ctx.all_rows else torch.zeros_like(logits)
        )
        for b in _blocks(len(index), logits.shape[1]):
            chosen: Any = b if ctx.all_rows else index[b]
            gradient[chosen] = _gradient(
                logits[chosen], at[b], _part(found, b), _part(given, b), ctx.reading
            ).to(logits.dtype)
        return gradient, None, None, None


def _scattered(
    logits: Tensor, index: Tensor, at: Tensor, found: Rows, grads: Rows
) -> Tensor:
    """Gradient of single entries: zero but for them."""
    gradient = torch.zeros_like(logits)
    for ids, grad in ((found.ids, grads.values), (at, grads.at)):
        if grad is not None:
            gradient.index_put_(
                (index[:, None].expand_as(ids), ids),
                grad.to(logits.dtype),
                accumulate=True,
            )
    return gradient


class _ReadHead(torch.autograd.Function):
    """Read rows of logits that are made in chunks and never kept; the gradient makes each chunk again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        at: Tensor,
        reading: Reading,
        chunk: int,
    ) -> tuple[Tensor, ...]:
        parts = []
        for c in _chunks(len(hidden), chunk):
            logits, ids = _logits(hidden[c], weight, bias), at[c]
            parts += [_read(logits[b], ids[b], reading) for b in _blocks(*logits.shape)]
        found = _joined(parts)
        ctx.reading, ctx.chunk = reading, chunk
        ctx.save_for_backward(hidden, weight, bias, at, *found)
        ctx.mark_non_differentiable(found.ids)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, at, *saved = ctx.saved_tensors
        found, given = Rows(*saved), Rows(*grads)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        # Chunks add up in at least float32, whatever the head is stored in.
        to_weight = (
            torch.zeros_like(weight, dtype=wide(weight[:0]).dtype)
            if needs_weight
            else None
        )
        to_bias = (
            torch.zeros_like(bias, dtype=wide(bias[:0]).dtype) if needs_bias else None
        )
        for c in _chunks(len(hidden), ctx.chunk):
            logits, ids, read, back = (
                _logits(hidden[c], weight, bias),
                at[c],
                _part(found, c),
                _part(given, c),
            )
            for b in _blocks(*logits.shape):
                logits[b] = _gradient(
                    logits[b], ids[b], _part(read, b), _part(back, b), ctx.reading
                ).to(logits.dtype)
            if to_hidden is not None:
                to_hidden[c] = logits @ weight
            if to_weight is not None:
                _add_product(to_weight, logits, hidden[c])
            if to_bias is not None:
                to_bias += logits.sum(dim=0, dtype=to_bias.dtype)
        to_weight = None if to_weight is None else to_weight.to(weight.dtype)
        to_bias = None if to_bias is None else to_bias.to(bias.dtype)
        return to_hidden, to_weight, to_bias, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.linear(hidden, weight, bias)


def _add_product(total: Tensor, logits: Tensor, hidden: Tensor) -> None:
    """Add logits' hidden to the gradient of the head."""
    if total.dtype == logits.dtype:
        total.addmm_(logits.T, hidden)
    else:
        total += logits.T @ hidden
