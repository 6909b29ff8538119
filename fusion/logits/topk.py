"""The k largest logits of every position, with what is needed to know the rest of the row: log-sum-exp, mean, deviation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.reduction import read_logits
from fusion.logits.rows import Reading, Rows

KINDS = ("none", "center", "logprob", "softmax", "zscore")


@final
@dataclass(frozen=True, eq=False)
class TopKLogits:
    """The k largest logits of B sequences of T positions each.

    Parameters
    ----------
    values : tensor of shape (B, T, k)
        Standardised logits in descending order, at least float32; zero at masked
        positions.
    ids : int64 tensor of shape (B, T, k)
        Their tokens.
    mask : bool tensor of shape (B, T)
        True at valid positions.
    logsumexp, mean, std : tensors of shape (B, T), or None
        Of the full row of raw logits at temperature 1, in logits; entries of −inf have
        no part in the last two. None where they were not read.
    vocabulary : int
        Number V of logits in a full row.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        What ``values`` hold; see :func:`top_k`.
    temperature : float
        What logits were divided by.

    Examples
    --------
    Raw logits become another quantity by the statistics of their full rows: here
    log-probabilities among three tokens.

    >>> import torch, fusion
    >>> topk = fusion.top_k(torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]]), k=2)
    >>> topk.batch, topk.k, topk.vocabulary
    (1, 2, 3)
    >>> topk.standardized("logprob").values
    tensor([[[-0.4076, -1.4076],
             [-0.0949, -3.0949]]])
    """

    values: Tensor
    ids: Tensor
    mask: Tensor
    logsumexp: Tensor | None
    mean: Tensor | None
    std: Tensor | None
    vocabulary: int
    standardize: str = "none"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check.tensor(self.values, "values", 3, empty=True)  # a batch may have no pairs
        if self.ids.shape != self.values.shape:
            raise ValueError(
                f"ids must have the shape {tuple(self.values.shape)} of the values, but have {tuple(self.ids.shape)}: "
                "pass the token of each value."
            )
        if self.mask.shape != self.values.shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be a boolean tensor of shape {tuple(self.values.shape[:2])}, "
                f"but is {self.mask.dtype} of shape {tuple(self.mask.shape)}: pass one entry for each position."
            )
        _check.choice(self.standardize, "standardize", KINDS)
        _check.number(self.temperature, "temperature", above=0)

    @property
    def k(self) -> int:
        """Number of logits kept a position."""
        return int(self.values.shape[2])

    @property
    def batch(self) -> int:
        """Number of sequences B."""
        return int(self.values.shape[0])

    def select(self, index: Tensor, mask: Tensor) -> TopKLogits:
        """Return the positions ``index`` (B, P) of each sequence, of which those with ``mask`` (B, P) are valid.

        Raises
        ------
        ValueError
            If an index is out of range or a shape does not fit.
        """
        _check.indices(index, "index", torch.Size([self.batch]), self.values.shape[1])

        mask = mask & self.mask.gather(1, index)
        wide_index = index[:, :, None].expand(-1, -1, self.k)
        values = torch.where(mask[:, :, None], self.values.gather(1, wide_index), 0.0)
        kept = replace(
            self, values=values, ids=self.ids.gather(1, wide_index), mask=mask
        )
        return kept._with_statistics(lambda statistic: statistic.gather(1, index))

    def first(self, k: int) -> TopKLogits:
        """Return the k largest of each position's logits."""
        _check.count(k, "k", self.k)
        return replace(self, values=self.values[..., :k], ids=self.ids[..., :k])

    def detach(self) -> TopKLogits:
        """Return the same values outside any gradient graph."""
        return replace(self, values=self.values.detach())._with_statistics(
            Tensor.detach
        )

    def to(self, device: torch.device | str) -> TopKLogits:
        """Return the same values on another device."""
        values, ids, mask = (
            part.to(device) for part in (self.values, self.ids, self.mask)
        )
        moved = replace(self, values=values, ids=ids, mask=mask)
        return moved._with_statistics(lambda statistic: statistic.to(device))

    def _with_statistics(self, change: Callable[[Tensor], Tensor]) -> TopKLogits:
        kept = (self.logsumexp, self.mean, self.std)
        logsumexp, mean, std = (
            None if statistic is None else change(statistic) for statistic in kept
        )
        return replace(self, logsumexp=logsumexp, mean=mean, std=std)

    def standardized(self, kind: str, temperature: float = 1.0) -> TopKLogits:
        """Return raw logits as another quantity, by the statistics of the full row; see :func:`top_k` for the kinds.

        What holds that quantity already is returned as it is.

        Raises
        ------
        ValueError
            If these are neither that nor raw logits at temperature 1, or the kind needs
            a statistic that was not kept: for "logprob" and "softmax" at another
            temperature that is the log-sum-exp at it, which only full rows give.
        """
        _check.choice(kind, "kind", KINDS)
        _check.number(temperature, "temperature", above=0)
        if (self.standardize, self.temperature) == (kind, temperature):
            return self
        if (self.standardize, self.temperature) != ("none", 1.0):
            raise ValueError(
                f"logits must be raw or {kind!r} at temperature {temperature:g}, but are "
                f"{self.standardize!r} at {self.temperature:g}: keep the raw ones, or read them so."
            )
        if kind in ("logprob", "softmax") and temperature != 1:
            raise ValueError(
                f"{kind} at temperature {temperature:g} must be made from full rows, but only {self.k} logits a row are "
                "kept: pass standardize and temperature to top_k, or use temperature 1."
            )
        return self._standardized(
            kind, temperature, {} if self.logsumexp is None else {1.0: self.logsumexp}
        )

    def _standardized(
        self, kind: str, temperature: float, sums: Mapping[float, Tensor]
    ) -> TopKLogits:
        """Standardise raw values; ``sums`` are log-sum-exps by temperature."""
        values = self.values
        if kind == "zscore":
            std = _needed(self.std, "std", kind)
            centred = values - _needed(self.mean, "mean", kind)[..., None]
            # A constant row has no z-scores: they are defined as zero.
            values = torch.where(
                std[..., None] > 0,
                centred / torch.where(std > 0, std, 1.0)[..., None],
                0.0,
            )
        elif kind == "center":
            values = (
                values - _needed(self.mean, "mean", kind)[..., None]
            ) / temperature
        else:
            values = values / temperature if temperature != 1 else values
        if kind in ("logprob", "softmax"):
            values = (
                values - _needed(sums.get(temperature), "logsumexp", kind)[..., None]
            )
            values = values.exp() if kind == "softmax" else values
        values = torch.where(self.mask[..., None], values, 0.0)
        return replace(
            self, values=values, standardize=kind, temperature=float(temperature)
        )


def _needed(statistic: Tensor | None, name: str, kind: str) -> Tensor:
    if statistic is None:
        raise ValueError(
            f"{kind} needs the {name} of the full rows, but it was not kept: read rows with their statistics, or use 'none'."
        )
    return statistic


def top_k(
    logits: Tensor,
    k: int = 10,
    mask: Tensor | None = None,
    standardize: str = "none",
    temperature: float = 1.0,
    statistics: bool = True,
) -> TopKLogits:
    """Return the k largest logits of every position, standardised by their full row.

    Parameters
    ----------
    logits : tensor of shape (B, T, V)
        Full rows of logits; −inf is allowed outside the k largest and stands for a
        token that cannot occur. Computed in at least float32.
    k : int
        Logits kept a position, at most V.
    mask : bool tensor of shape (B, T), optional
        True at valid positions; all by default. Rows of other positions are not read,
        whatever they hold.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        With x the row divided by the temperature: x itself, x less its mean, x less its
        log-sum-exp, the exponential of that, or x less its mean over its standard
        deviation (1/V; zero for constant rows). Raw logits carry an arbitrary constant
        a position, which no probability depends on but ULD and every graph do: "none"
        reproduces the paper, any other kind removes the constant.
    temperature : float
        Positive. z-scores do not depend on it.
    statistics : bool
        Keep log-sum-exp, mean and standard deviation; False reads only those that
        ``standardize`` needs, which is faster.

    Returns
    -------
    TopKLogits
        Differentiable in the logits.

    Raises
    ------
    TypeError, ValueError
        If the logits are not floating-point numbers of shape (B, T, V), k is not in 1 …
        V, no position is valid, or a valid row holds NaN, +inf or fewer than k finite
        logits.

    Examples
    --------
    Two positions of three logits each, of which the second is masked.

    >>> import torch, fusion
    >>> logits, mask = (
    ...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]),
    ...     torch.tensor([[True, False]]),
    ... )
    >>> topk = fusion.top_k(logits, k=2, mask=mask)
    >>> topk.values.tolist(), topk.ids[0, 0].tolist()
    ([[[2.0, 1.0], [0.0, 0.0]]], [0, 2])
    """
    _check.tensor(logits, "logits", 3)
    B, T, V = logits.shape
    if mask is None:
        mask = torch.ones((B, T), dtype=torch.bool, device=logits.device)
    else:
        _check.mask(mask, logits.shape[:2])
    reading = planned(k, V, standardize, temperature, statistics)
    index = mask.flatten().nonzero()[:, 0]
    rows = read_logits(
        logits.reshape(B * T, V), index, index.new_zeros(len(index), 0), reading
    )
    return assembled(rows, reading, mask, V, standardize, temperature)


def planned(
    k: int, V: int, standardize: str, temperature: float, statistics: bool
) -> Reading:
    """Check what top-k logits are to hold, and say what must be read of every row for it."""
    _check.count(k, "k", V)
    _check.choice(standardize, "standardize", KINDS)
    _check.number(temperature, "temperature", above=0)
    temperatures = {1.0} if statistics else set()
    if standardize in ("logprob", "softmax"):
        temperatures |= {float(temperature)}
    return Reading(
        k,
        tuple(sorted(temperatures)),
        statistics or standardize in ("center", "zscore"),
    )


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Put values of the valid positions (n, …) into place, shape (B, T, …), with zeros elsewhere."""
    if len(values) == mask.numel():
        return values.reshape(*mask.shape, *values.shape[1:])
    return values.new_zeros(*mask.shape, *values.shape[1:]).index_put((mask,), values)


def assembled(
    rows: Rows,
    reading: Reading,
    mask: Tensor,
    V: int,
    standardize: str = "none",
    temperature: float = 1.0,
) -> TopKLogits:
    """Check what was read of the valid positions, put it into place and standardise it."""
    _check.finite(torch.cat([rows.values, rows.logsumexp], dim=1).detach(), reading.k)
    sums = {
        t: spread(rows.logsumexp[:, i], mask)
        for i, t in enumerate(reading.temperatures)
    }
    mean, std = (
        spread(rows.moments[:, i], mask) if reading.moments else None for i in (0, 1)
    )
    values, ids = spread(rows.values, mask), spread(rows.ids, mask)
    raw = TopKLogits(values, ids, mask, sums.get(1.0), mean, std, V)
    return (
        raw
        if standardize == "none" and temperature == 1
        else raw._standardized(standardize, temperature, sums)
    )
