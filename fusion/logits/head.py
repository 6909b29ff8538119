"""Negative log-likelihoods and top-k logits of a head, in one pass and one gradient.

Either from stored logits, or from hidden states and the head's weight, in chunks: then
never more than chunk × V logits are alive, and the gradient makes them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.reduction import read_head, read_logits
from fusion.logits.rows import Reading, Rows
from fusion.logits.topk import (
    TopKLogits,
    assembled,
    planned,
    read_columns,
    spread,
)

IGNORED = -100


@final
@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What was read of a head.

    Parameters
    ----------
    nll : tensor of shape (B, T)
        −log p of the label in nats, at least float32; zero at masked positions.
    topk : TopKLogits
        The k largest logits.
    logprobs_at : tensor of shape (B, T, K), or None
        Log-probabilities, at the temperature, of the tokens asked for; zero at masked
        positions.

    Examples
    --------
    >>> import torch, fusion
    >>> logits, labels = (
    ...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]]),
    ...     torch.tensor([[0, -100]]),
    ... )
    >>> output = fusion.read(logits, labels, k=2)
    >>> output.nll
    tensor([[0.4076, 0.0000]])
    >>> output.mean_nll
    tensor(0.4076)
    >>> output.topk.values[0, 0]
    tensor([2., 1.])
    """

    nll: Tensor  # (B, T)
    topk: TopKLogits
    logprobs_at: Tensor | None  # (B, T, K)

    @property
    def mean_nll(self) -> Tensor:
        """Mean over valid positions, in nats."""
        count = self.topk.mask.sum()
        return self.nll.sum() / count


def read(
    logits: Tensor,
    labels: Tensor,
    k: int = 10,
    *,
    ids: Tensor | None = None,
    standardize: str = "none",
    temperature: float = 1.0,
    statistics: bool = False,
    vocabulary: int | None = None,
) -> HeadOutput:
    """Read negative log-likelihoods and top-k logits of stored logits.

    Rows are read once for both, and their gradients are added up in one array.

    Parameters
    ----------
    logits : tensor of shape (B, T, V)
        Full rows of logits.
    labels : int64 tensor of shape (B, T)
        The token that each position predicts (the next one: shift before), or −100
        where there is none. Such positions are masked, and their rows are never read.
    k : int
        Logits kept a position, at most V.
    ids : int64 tensor of shape (B, T, K), optional
        Tokens whose log-probabilities are wanted as well, as :func:`kl_loss` needs
        them.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        What the top-k logits become, as in :func:`top_k`.
    temperature : float
        Divides the logits of the top k and of the log-probabilities; negative
        log-likelihoods are at temperature 1.
    statistics : bool
        As in :func:`top_k`.
    vocabulary : int, optional
        As in :func:`top_k`.

    Returns
    -------
    HeadOutput
        Negative log-likelihoods, top-k logits and, where ids were given, their
        log-probabilities; differentiable in the logits.

    Raises
    ------
    TypeError, ValueError
        As :func:`top_k`; or if labels or ids are not int64, do not fit the logits'
        shape or are no tokens.

    Examples
    --------
    The negative log-likelihoods are those of the cross entropy; what is kept besides
    costs no second pass over the logits.

    >>> import torch, fusion
    >>> logits, labels = (
    ...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]]),
    ...     torch.tensor([[0, -100]]),
    ... )
    >>> output = fusion.read(logits, labels, k=2, ids=torch.tensor([[[1, 2], [0, 0]]]))
    >>> output.mean_nll, torch.nn.functional.cross_entropy(logits[0], labels[0])
    (tensor(0.4076), tensor(0.4076))
    >>> output.logprobs_at[0, 0]
    tensor([-2.4076, -1.4076])
    """
    _check.tensor(logits, "logits", 3)
    B, T, columns = logits.shape
    V = read_columns(vocabulary, columns)
    reading = _planned(k, V, standardize, temperature, statistics)
    mask, wanted = _wanted(labels, ids, logits.shape[:2], V)
    index = mask.flatten().nonzero()[:, 0]  # (n,), the valid positions
    all_rows = logits.reshape(B * T, columns)
    rows = read_logits(all_rows, index, wanted, reading)
    topk = assembled(rows, reading, mask, V, standardize, temperature)
    return _output(rows, reading, topk, temperature, ids is not None)


def chunked_head(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    k: int = 10,
    *,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
    standardize: str = "none",
    temperature: float = 1.0,
    statistics: bool = False,
    chunk: int = 128,
    vocabulary: int | None = None,
) -> HeadOutput:
    """Read negative log-likelihoods and top-k logits of a head, chunk by chunk.

    The head is never applied to more than ``chunk`` positions at once.

    Parameters
    ----------
    hidden : tensor of shape (B, T, d)
        Hidden states that the head is applied to; converted to the head's dtype.
    weight : tensor of shape (V, d)
        The head. Models that scale, cap or add to their logits otherwise than by
        ``bias`` need :func:`read`.
    labels : int64 tensor of shape (B, T)
        As in :func:`read`.
    k : int
        Logits kept a position, at most V.
    bias : tensor of shape (V,), optional
        Added to every row.
    ids : int64 tensor of shape (B, T, K), optional
        As in :func:`read`.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        As in :func:`read`.
    temperature : float
        As in :func:`read`.
    statistics : bool
        As in :func:`top_k`.
    chunk : int
        Positions whose logits are alive at once. Their gradient is made from logits
        computed again; that of the head adds up over chunks in at least float32.
    vocabulary : int, optional
        As in :func:`top_k`: the head's first rows alone are applied.

    Returns
    -------
    HeadOutput
        The same as of :func:`read` on hidden @ weight.T + bias, with the same gradient.

    Raises
    ------
    TypeError, ValueError
        As :func:`read`; or if hidden, weight and bias do not fit each other.

    Examples
    --------
    The same numbers as of all logits, with those of no more than two positions in
    memory.

    >>> import torch, fusion
    >>> hidden, labels = (
    ...     torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]),
    ...     torch.tensor([[0, 1, -100]]),
    ... )
    >>> head = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    >>> fusion.chunked_head(hidden, head, labels, k=2, chunk=2).mean_nll
    tensor(0.2887)
    >>> fusion.read(hidden @ head.T, labels, k=2).mean_nll
    tensor(0.2887)
    """
    _check.tensor(hidden, "hidden", 3)
    _check.tensor(weight, "weight", 2)
    _check.count(chunk, "chunk")
    _check_shapes(hidden, weight, bias)
    V = read_columns(vocabulary, len(weight))
    if len(weight) > V:
        weight = weight[:V]
        bias = None if bias is None else bias[:V]
    reading = _planned(k, V, standardize, temperature, statistics)
    mask, wanted = _wanted(labels, ids, hidden.shape[:2], V)
    device = hidden.device.type
    # The head is applied in its own dtype, and sums are made in at least float32.
    with torch.autocast(device, enabled=False):
        valid = hidden[mask]  # (n, d)
        valid = valid.to(weight.dtype)
        rows = read_head(valid, weight, bias, wanted, reading, chunk)
    topk = assembled(rows, reading, mask, V, standardize, temperature)
    return _output(rows, reading, topk, temperature, ids is not None)


def _check_shapes(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Require hidden states, weight and bias that fit each other."""
    V, d = weight.shape
    fits = hidden.shape[2] == d
    shapes = [tuple(hidden.shape), tuple(weight.shape)]
    if bias is not None:
        fits = fits and bias.shape == (V,)
        shapes.append(tuple(bias.shape))
    if not fits:
        raise ValueError(
            "hidden, weight and bias must have shapes (B, T, d), (V, d) and (V,), "
            f"but have {shapes}: pass the hidden states after the last norm, "
            "and the head's weight as it is stored."
        )


def _planned(
    k: int,
    V: int,
    standardize: str,
    temperature: float,
    statistics: bool,
) -> Reading:
    """Plan the reading for top-k logits and log-probabilities."""
    for_topk = planned(k, V, standardize, temperature, statistics)
    # Negative log-likelihoods are at temperature 1, log-probabilities at the given one.
    temperatures = {*for_topk.temperatures, 1.0, float(temperature)}
    return replace(for_topk, temperatures=tuple(sorted(temperatures)))


def _wanted(
    labels: Tensor,
    ids: Tensor | None,
    shape: torch.Size,  # (B, T)
    V: int,
) -> tuple[Tensor, Tensor]:
    """Return the mask (B, T) of the n valid positions, and the tokens wanted there.

    These are the label and further tokens, shape (n, 1 + K).
    """
    if not _check.is_tensor(labels, torch.int64, shape):
        raise ValueError(
            f"labels must be an int64 tensor of shape {tuple(shape)}, "
            f"one token for each position, but is {_check.described(labels)}: "
            f"shift the tokens by one, and put {IGNORED} where nothing is predicted."
        )
    mask = labels != IGNORED
    _check.mask(mask, shape, "labels != −100")
    tokens = labels[mask]  # (n,)
    # Of the marked labels alone: −100 is no token.
    _check.indices(tokens, "labels", tokens.shape, V)
    tokens = tokens[:, None]
    if ids is None:
        return mask, tokens
    _check.indices(ids, "ids", shape, V)
    further = ids[mask]  # (n, K)
    return mask, torch.cat([tokens, further], dim=1)


def _output(
    rows: Rows,
    reading: Reading,
    topk: TopKLogits,
    temperature: float,
    further: bool,  # whether tokens besides the labels were asked for
) -> HeadOutput:
    """Turn the logits that were read at the tokens wanted into log-probabilities.

    The first of them is the label's, the others are those of further tokens.
    """
    columns = rows.logsumexp.unbind(1)  # in the order of the temperatures
    sums = dict(zip(reading.temperatures, columns, strict=True))  # each (n,)
    nll = sums[1.0] - rows.at[:, 0]
    nll = spread(nll, topk.mask)
    if not further:
        return HeadOutput(nll, topk, None)
    scaled = rows.at[:, 1:] / temperature  # (n, K)
    logprobs = scaled - sums[float(temperature)][:, None]
    logprobs = spread(logprobs, topk.mask)
    return HeadOutput(nll, topk, logprobs)
