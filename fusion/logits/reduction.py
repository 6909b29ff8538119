"""Rows of logits reduced to the few numbers that losses need, in little memory.

All losses of this package are made of the largest entries of a row, its entries at
given ids, its log-sum-exp and its moments. Rows are read and differentiated in blocks
that stay in the processor's cache, without a second array of their size; rows of a head
are made chunk by chunk, and made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fusion.logits.rows import Reading, Rows, block_gradient, read_block, wide

Gradients = tuple[Tensor | None, ...]

_BLOCK_ENTRIES = 2**20  # 4 MiB in float32


def read_logits(
    logits: Tensor,
    index: Tensor,
    at: Tensor,
    reading: Reading,
) -> Rows:
    """Read some rows of stored logits.

    Parameters
    ----------
    logits : tensor of shape (N, V)
        Any number of rows.
    index : int64 tensor of shape (n,)
        The rows to read, ascending and without repetition.
    at : int64 tensor of shape (n, K)
        For each of these rows, ids whose entries are wanted too.
    reading : Reading
        What else to read.

    Returns
    -------
    Rows
        Differentiable in the logits, but for the ids.
    """
    return _applied(_ReadLogits, logits, index, at, reading)


def read_head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    at: Tensor,
    reading: Reading,
    chunk: int,
) -> Rows:
    """Read the rows of logits that a head makes of hidden states, chunk by chunk.

    Parameters
    ----------
    hidden : tensor of shape (n, d)
        Hidden states.
    weight, bias : tensors of shapes (V, d) and (V,)
        The head; its bias may be None.
    at : int64 tensor of shape (n, K)
        For each row, ids whose entries are wanted too.
    reading : Reading
        What else to read.
    chunk : int
        How many rows of logits are alive at once.

    Returns
    -------
    Rows
        Differentiable in hidden states, weight and bias, but for the ids.
    """
    return _applied(_ReadHead, hidden, weight, bias, at, reading, chunk)


def read_relative(logits: Tensor, at: Tensor, reading: Reading) -> tuple[Tensor, Rows]:
    """Read rows of logits relative to the largest of each; no gradient passes.

    The difference comes first, so that nothing else that is read depends on a number
    that is added to a row.

    Parameters
    ----------
    logits : tensor of shape (n, V)
        The rows.
    at : int64 tensor of shape (n, K)
        For each of them, ids whose entries are wanted too.
    reading : Reading
        What else to read.

    Returns
    -------
    shift : tensor of shape (n,)
        The largest entry of each row, at least float32.
    rows : Rows
        What was read of the rows less their shift.
    """
    shifts = []
    parts = []
    logits = logits[:, : reading.vocabulary].detach()
    for block in _blocks(*logits.shape):
        rows = wide(logits[block])
        shift = rows.amax(dim=1, keepdim=True)
        part = read_block(rows - shift, at[block], reading)
        shifts.append(shift[:, 0])
        parts.append(part)
    return torch.cat(shifts), _joined(parts)


def _applied(function: Any, *arguments: Any) -> Rows:
    """Apply one of the autograd functions below, whose outputs are fields of rows."""
    fields = function.apply(*arguments)
    return Rows(*fields)


class _ReadLogits(torch.autograd.Function):
    """Read some rows of stored logits; the gradient is one array of their shape."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,  # (N, V)
        index: Tensor,  # (n,)
        at: Tensor,  # (n, K)
        reading: Reading,
    ) -> tuple[Tensor, ...]:
        all_rows = len(index) == len(logits)
        parts = []
        read = logits[:, : reading.vocabulary]
        V = read.shape[1]
        for block in _blocks(len(index), V):
            # A slice of all rows is a view, an index makes a copy.
            chosen: Any = block if all_rows else index[block]
            part = read_block(read[chosen], at[block], reading)
            parts.append(part)
        found = _joined(parts)
        ctx.reading = reading
        ctx.all_rows = all_rows
        ctx.save_for_backward(logits, index, at, *found)
        ctx.mark_non_differentiable(found.ids)
        # What no loss uses has the gradient None, and costs nothing in backward.
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Gradients:
        logits, index, at, *saved = ctx.saved_tensors
        found = Rows(*saved)
        given = Rows(*grads)
        if given.logsumexp is None and given.moments is None:
            # Losses used single entries alone: no row has to be read again.
            gradient = _scattered(logits, index, at, found, given)
            return gradient, None, None, None
        read = logits[:, : ctx.reading.vocabulary]
        V = read.shape[1]
        # The gradient of all entries is overwritten; that of what is not read is zero.
        overwritten = ctx.all_rows and logits.shape[1] == V
        allocated = torch.empty_like if overwritten else torch.zeros_like
        gradient = allocated(logits)
        for block in _blocks(len(index), V):
            chosen: Any = block if ctx.all_rows else index[block]
            part = block_gradient(
                read[chosen],
                at[block],
                _cut(found, block),
                _cut(given, block),
                ctx.reading,
            )
            gradient[chosen, :V] = part.to(logits.dtype)
        return gradient, None, None, None


def _scattered(
    logits: Tensor,  # (N, V)
    index: Tensor,  # (n,)
    at: Tensor,  # (n, K)
    found: Rows,
    grads: Rows,
) -> Tensor:
    """Gradient of single entries of logits: zero but at them."""
    gradient = torch.zeros_like(logits)
    if grads.values is not None:
        _add_entries(gradient, index, found.ids, grads.values)
    if grads.at is not None:
        _add_entries(gradient, index, at, grads.at)
    return gradient


def _add_entries(
    gradient: Tensor,  # (N, V)
    index: Tensor,  # (n,)
    ids: Tensor,  # (n, K)
    grad: Tensor,  # (n, K)
) -> None:
    """Add to the entries with the ids of the rows at the index."""
    rows = index[:, None].expand_as(ids)
    grad = grad.to(gradient.dtype)
    # Accumulated, since the ids that were asked for may repeat.
    gradient.index_put_((rows, ids), grad, accumulate=True)


class _ReadHead(torch.autograd.Function):
    """Read rows of logits that are made in chunks and never kept.

    The gradient makes each chunk again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,  # (n, d)
        weight: Tensor,  # (V, d)
        bias: Tensor | None,  # (V,)
        at: Tensor,  # (n, K)
        reading: Reading,
        chunk: int,
    ) -> tuple[Tensor, ...]:
        parts = []
        for rows in _chunks(len(hidden), chunk):
            logits = _logits(hidden[rows], weight, bias)
            ids = at[rows]
            for block in _blocks(*logits.shape):
                part = read_block(logits[block], ids[block], reading)
                parts.append(part)
        found = _joined(parts)
        ctx.reading = reading
        ctx.chunk = chunk
        ctx.save_for_backward(hidden, weight, bias, at, *found)
        ctx.mark_non_differentiable(found.ids)
        # What no loss uses has the gradient None, and costs nothing in backward.
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Gradients:
        hidden, weight, bias, at, *saved = ctx.saved_tensors
        found = Rows(*saved)
        given = Rows(*grads)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = _zero_sum(weight) if needs_weight else None
        to_bias = _zero_sum(bias) if needs_bias else None
        for rows in _chunks(len(hidden), ctx.chunk):
            logits = _logits(hidden[rows], weight, bias)
            # In place, so that no second array of a chunk is alive: from here on these
            # logits hold the gradient with respect to themselves.
            _replace_by_gradient(
                logits,
                at[rows],
                _cut(found, rows),
                _cut(given, rows),
                ctx.reading,
            )
            if to_hidden is not None:
                to_hidden[rows] = logits @ weight
            if to_weight is not None:
                _add_product(to_weight, logits, hidden[rows])
            if to_bias is not None:
                to_bias += logits.sum(dim=0, dtype=to_bias.dtype)
        if to_weight is not None:
            to_weight = to_weight.to(weight.dtype)
        if to_bias is not None:
            to_bias = to_bias.to(bias.dtype)
        return to_hidden, to_weight, to_bias, None, None, None


def _logits(
    hidden: Tensor,  # (n, d)
    weight: Tensor,  # (V, d)
    bias: Tensor | None,  # (V,)
) -> Tensor:
    """Apply a head to hidden states."""
    return torch.nn.functional.linear(hidden, weight, bias)


def _zero_sum(like: Tensor) -> Tensor:
    """Zeros to which the gradients of chunks are added, in at least float32."""
    # The dtype alone: of an array without entries nothing is copied.
    dtype = wide(like[:0]).dtype
    return torch.zeros_like(like, dtype=dtype)


def _replace_by_gradient(
    logits: Tensor,  # (n, V)
    at: Tensor,  # (n, K)
    found: Rows,
    grads: Rows,
    reading: Reading,
) -> None:
    """Overwrite a chunk of logits by the gradient with respect to them."""
    for block in _blocks(*logits.shape):
        gradient = block_gradient(
            logits[block],
            at[block],
            _cut(found, block),
            _cut(grads, block),
            reading,
        )
        logits[block] = gradient.to(logits.dtype)


def _add_product(
    total: Tensor,  # (V, d)
    to_logits: Tensor,  # (n, V)
    hidden: Tensor,  # (n, d)
) -> None:
    """Add a chunk's part of the gradient of the head."""
    if total.dtype == to_logits.dtype:
        # In place, without an array for the product.
        total.addmm_(to_logits.T, hidden)
    else:
        total += to_logits.T @ hidden


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of as many rows of this width as fit the cache."""
    fitting = _BLOCK_ENTRIES // width
    return _chunks(count, max(1, fitting))


def _chunks(count: int, chunk: int) -> Iterator[slice]:
    """Slices of ``chunk`` rows of ``count``; the last may be shorter."""
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        yield slice(start, stop)


def _joined(parts: Sequence[Rows]) -> Rows:
    """Put together what was read of successive blocks."""
    fields = zip(*parts, strict=True)
    joined = [torch.cat(field) for field in fields]
    return Rows(*joined)


def _cut(rows: Rows, block: slice) -> Rows:
    """Take the rows of one block."""
    fields: list[Any] = []
    for field in rows:
        # Gradients may be None.
        part = None if field is None else field[block]
        fields.append(part)
    return Rows(*fields)
