"""The k largest logits of every position, with the statistics of their full rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.reduction import read_logits
from fusion.logits.rows import Reading, Rows

KINDS = ("none", "center", "logprob", "softmax", "zscore")
NORMALISED = ("logprob", "softmax")  # by the log-sum-exp at their temperature


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

    Raises
    ------
    TypeError, ValueError
        If values are not floating-point numbers of three axes, ids or the mask do not
        fit them, ``standardize`` is unknown or the temperature is not positive.

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

    values: Tensor  # (B, T, k)
    ids: Tensor  # (B, T, k)
    mask: Tensor  # (B, T)
    logsumexp: Tensor | None  # (B, T)
    mean: Tensor | None  # (B, T)
    std: Tensor | None  # (B, T)
    vocabulary: int
    standardize: str = "none"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        # Empty, since a batch may have no pair of positions.
        _check.tensor(self.values, "values", 3, empty=True)
        shape = self.values.shape
        if self.ids.shape != shape:
            raise ValueError(
                f"ids must have the shape {tuple(shape)} of the values, "
                f"but have {tuple(self.ids.shape)}: pass the token of each value."
            )
        if self.mask.shape != shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be a boolean tensor of shape {tuple(shape[:2])}, "
                f"but is {self.mask.dtype} of shape {tuple(self.mask.shape)}: "
                "pass one entry for each position."
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
        """Return some positions of each sequence, in a given order.

        Parameters
        ----------
        index : int64 tensor of shape (B, P)
            The positions; they may repeat.
        mask : bool tensor of shape (B, P)
            Which of them are valid, where they are so here.

        Returns
        -------
        TopKLogits
            Of B sequences of P positions.

        Raises
        ------
        ValueError
            If an index is out of range or a shape does not fit.
        """
        B, T, _ = self.values.shape
        _check.indices(index, "index", torch.Size([B]), T)

        def at_index(statistic: Tensor) -> Tensor:
            return statistic.gather(1, index)

        mask = mask & self.mask.gather(1, index)  # (B, P)
        index_of_rows = index[:, :, None].expand(-1, -1, self.k)  # (B, P, k)
        values = self.values.gather(1, index_of_rows)
        values = torch.where(mask[:, :, None], values, 0.0)
        ids = self.ids.gather(1, index_of_rows)
        selected = replace(self, values=values, ids=ids, mask=mask)
        return selected._with_statistics(at_index)

    def first(self, k: int) -> TopKLogits:
        """Return the k largest of each position's logits.

        Parameters
        ----------
        k : int
            How many, at most as many as were kept.

        Returns
        -------
        TopKLogits
            With the statistics of the same full rows.

        Raises
        ------
        ValueError
            If fewer were kept.
        """
        _check.count(k, "k", self.k)
        values = self.values[..., :k]  # in descending order
        ids = self.ids[..., :k]
        return replace(self, values=values, ids=ids)

    def detach(self) -> TopKLogits:
        """Return the same logits outside any gradient graph.

        Returns
        -------
        TopKLogits
            Values and statistics without gradient.
        """
        values = self.values.detach()
        detached = replace(self, values=values)
        return detached._with_statistics(Tensor.detach)

    def to(self, device: torch.device | str) -> TopKLogits:
        """Return the same logits on another device.

        Parameters
        ----------
        device : torch.device or str
            Where all tensors are to be.

        Returns
        -------
        TopKLogits
            On that device.
        """

        def on_device(part: Tensor) -> Tensor:
            return part.to(device)

        values = on_device(self.values)
        ids = on_device(self.ids)
        mask = on_device(self.mask)
        moved = replace(self, values=values, ids=ids, mask=mask)
        return moved._with_statistics(on_device)

    def _with_statistics(self, change: Callable[[Tensor], Tensor]) -> TopKLogits:
        """Change those statistics that were kept."""
        changed: dict[str, Any] = {}
        for name in ("logsumexp", "mean", "std"):
            statistic = getattr(self, name)
            if statistic is not None:
                changed[name] = change(statistic)
        return replace(self, **changed)

    def standardized(self, kind: str, temperature: float = 1.0) -> TopKLogits:
        """Return raw logits as another quantity, by the statistics of their full rows.

        Parameters
        ----------
        kind : {"none", "center", "logprob", "softmax", "zscore"}
            Which quantity; see :func:`top_k`.
        temperature : float
            What logits are divided by.

        Returns
        -------
        TopKLogits
            These logits themselves where they hold that quantity already.

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
                f"logits must be raw or {kind!r} at temperature {temperature:g}, "
                f"but are {self.standardize!r} at {self.temperature:g}: "
                "keep the raw ones, or read them so."
            )
        if kind in NORMALISED and temperature != 1:
            # The log-sum-exp at another temperature is no function of that at 1.
            raise ValueError(
                f"{kind} at temperature {temperature:g} must be made from full rows, "
                f"but only {self.k} logits a row are kept: "
                "pass standardize and temperature to top_k, or use temperature 1."
            )
        sums = {}
        if self.logsumexp is not None:
            sums[1.0] = self.logsumexp
        return self._standardized(kind, temperature, sums)

    def _standardized(
        self,
        kind: str,
        temperature: float,
        sums: Mapping[float, Tensor],  # log-sum-exps (B, T) by temperature
    ) -> TopKLogits:
        """Standardise raw values."""
        if kind == "zscore":
            # The same at every temperature.
            values = self._zscores()
        elif kind == "center":
            mean = _column(self.mean, "mean", kind)
            values = (self.values - mean) / temperature
        else:
            values = self.values
            if temperature != 1:
                values = values / temperature
        if kind in NORMALISED:
            logsumexp = _column(sums.get(temperature), "logsumexp", kind)
            values = values - logsumexp
        if kind == "softmax":
            values = values.exp()
        # Masked positions are zero, whatever their quantity would be.
        valid = self.mask[..., None]
        values = torch.where(valid, values, 0.0)
        return replace(
            self,
            values=values,
            standardize=kind,
            temperature=float(temperature),
        )

    def _zscores(self) -> Tensor:
        """Return z-scores (B, T, k)."""
        std = _column(self.std, "std", "zscore")
        mean = _column(self.mean, "mean", "zscore")
        centred = self.values - mean
        # A constant row has no z-scores: they are defined as zero. The divisor of 1
        # keeps NaN from its gradient.
        varies = std > 0
        divisor = torch.where(varies, std, 1.0)
        return torch.where(varies, centred / divisor, 0.0)


def _column(
    statistic: Tensor | None,  # (B, T)
    name: str,
    kind: str,
) -> Tensor:
    """Require a statistic of full rows, and return it as a column (B, T, 1)."""
    if statistic is None:
        raise ValueError(
            f"{kind} needs the {name} of the full rows, but it was not kept: "
            "read rows with their statistics, or use 'none'."
        )
    return statistic[..., None]


def top_k(
    logits: Tensor,
    k: int = 10,
    mask: Tensor | None = None,
    standardize: str = "none",
    temperature: float = 1.0,
    statistics: bool = True,
    vocabulary: int | None = None,
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
        What values are, with x the row divided by the temperature: x ("none"), x −
        mean(x) ("center"), x − log-sum-exp(x) ("logprob"), the exponential of that
        ("softmax"), or (x − mean(x)) / std(x) ("zscore"), with std² = Σ (x − mean(x))²
        / V, and zero for constant rows. A constant added to the logits of a position
        changes no probability, but it changes ULD and every graph: "none" keeps it, as
        InfiGFusion does, any other kind removes it.
    temperature : float
        Positive. z-scores do not depend on it.
    statistics : bool
        Keep log-sum-exp, mean and standard deviation; False reads only those that
        ``standardize`` needs, which is faster.
    vocabulary : int, optional
        How many of a row's first entries are of tokens. Heads are often padded with
        further ones, which then have no part in anything that is read, and no gradient;
        all V by default.

    Returns
    -------
    TopKLogits
        Differentiable in the logits.

    Raises
    ------
    TypeError, ValueError
        If the logits are not floating-point numbers of shape (B, T, V), the vocabulary
        is not in 1 … V or k not in 1 … vocabulary, no position is valid, or a valid row
        holds NaN, +inf or fewer than k finite logits.

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
    B, T, columns = logits.shape
    V = read_columns(vocabulary, columns)
    if mask is None:
        mask = torch.ones((B, T), dtype=torch.bool, device=logits.device)
    else:
        _check.mask(mask, logits.shape[:2])
    reading = planned(k, V, standardize, temperature, statistics)
    index = mask.flatten().nonzero()[:, 0]  # (n,), the valid positions
    no_ids = index.new_zeros(len(index), 0)
    full_rows = logits.reshape(B * T, columns)
    rows = read_logits(full_rows, index, no_ids, reading)
    return assembled(rows, reading, mask, V, standardize, temperature)


def planned(
    k: int,
    V: int,
    standardize: str,
    temperature: float,
    statistics: bool,
) -> Reading:
    """Check the options of :func:`top_k`, and say what they need of every row."""
    _check.count(k, "k", V)
    _check.choice(standardize, "standardize", KINDS)
    _check.number(temperature, "temperature", above=0)
    temperatures = set()
    if statistics:
        temperatures.add(1.0)
    if standardize in NORMALISED:
        temperatures.add(float(temperature))
    moments = statistics or standardize in ("center", "zscore")
    return Reading(k, tuple(sorted(temperatures)), moments, V)


def read_columns(vocabulary: int | None, columns: int) -> int:
    """How many of the columns of logits are of tokens: all where that is not said."""
    if vocabulary is None:
        return columns
    _check.count(vocabulary, "vocabulary", columns)
    return vocabulary


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Put values of the valid positions (n, …) at their places, shape (B, T, …).

    There are zeros elsewhere.
    """
    shape = (*mask.shape, *values.shape[1:])
    if len(values) == mask.numel():
        # All are valid: no array has to be filled.
        return values.reshape(shape)
    return values.new_zeros(shape).index_put((mask,), values)


def assembled(
    rows: Rows,  # of the n valid positions
    reading: Reading,
    mask: Tensor,  # (B, T)
    V: int,
    standardize: str = "none",
    temperature: float = 1.0,
) -> TopKLogits:
    """Check what was read, put it into place and standardise it."""
    numbers = torch.cat([rows.values, rows.logsumexp], dim=1)
    _check.finite(numbers.detach(), reading.k)
    sums = _logsumexps(rows, reading, mask)
    mean = None
    std = None
    if reading.moments:
        mean = spread(rows.moments[:, 0], mask)
        std = spread(rows.moments[:, 1], mask)
    raw = TopKLogits(
        values=spread(rows.values, mask),
        ids=spread(rows.ids, mask),
        mask=mask,
        logsumexp=sums.get(1.0),
        mean=mean,
        std=std,
        vocabulary=V,
    )
    if standardize == "none" and temperature == 1:
        return raw
    return raw._standardized(standardize, temperature, sums)


def _logsumexps(
    rows: Rows,
    reading: Reading,
    mask: Tensor,  # (B, T)
) -> dict[float, Tensor]:
    """Return the log-sum-exps (B, T) that were read, by temperature."""
    sums = {}
    for i, temperature in enumerate(reading.temperatures):
        column = rows.logsumexp[:, i]
        sums[temperature] = spread(column, mask)
    return sums
