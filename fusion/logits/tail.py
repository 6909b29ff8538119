"""Draws from the tail that top-k logits leave out, so that sums over it have no bias.

With p the probabilities of a position and f any function of tokens, draws v_1 … v_m
from the tail in proportion to p estimate its part of the sum Σ_v p_v f(v) as

    (p_tail / m) Σ_j f(v_j),

where p_tail is the tail's probability. The expectation is exact whatever m is, and for
independent draws the variance is p_tail² / m times that of f under p within the tail.
With f(v) = log(p_v / q_v) that is KL(p ‖ q) without bias, and in its gradient
q − p the tail of p is replaced by the shares of the draws, whose sum is p_tail.

This holds for sums that weigh tokens by p. Losses that compare sorted logits rank by
rank weigh all ranks alike: sorted draws are no sorted tail
(simulations/results/sparse_logits/sparse_logits.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.rows import wide
from fusion.logits.topk import TopKLogits, spread

_BLOCK_ENTRIES = 2**20  # 8 MiB in float64


@final
@dataclass(frozen=True, eq=False)
class TailSample:
    """Tokens drawn from the tails of B sequences of T positions each.

    Parameters
    ----------
    ids : int64 tensor of shape (B, T, m)
        The tokens of m draws; the same one may come several times. Where the tail has
        no probability they are the most likely token.
    logprobs : tensor of shape (B, T, m)
        Their log-probabilities in the whole row; zero at masked positions.
    mass : tensor of shape (B, T)
        Probability of the whole tail; zero at masked positions.
    ranks : int64 tensor of shape (B, T, m), or None
        Places of the draws in the row in descending order, of which the tail's are k …
        V − 1; zero where it has no probability. None where rows were not sorted.

    Examples
    --------
    Probabilities (1/2, 1/4, 1/8, 1/8), of which the largest is kept: every draw is
    one of three tokens with a half of the probability together.

    >>> import torch, fusion
    >>> from fusion.logits.tail import sample_tail
    >>> logits = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
    >>> tail = sample_tail(logits, fusion.top_k(logits, k=1), draws=4)
    >>> tail.ids, tail.mass
    (tensor([[[1, 1, 2, 3]]]), tensor([[0.5000]]))
    """

    ids: Tensor  # (B, T, m)
    logprobs: Tensor  # (B, T, m)
    mass: Tensor  # (B, T)
    ranks: Tensor | None = None  # (B, T, m)

    @property
    def draws(self) -> int:
        """Number m of draws a position."""
        return int(self.ids.shape[2])

    def estimate(self, values: Tensor) -> Tensor:
        """Estimate Σ_v p_v f(v) over the tail of every position, without bias.

        Parameters
        ----------
        values : tensor of shape (B, T, m)
            f of the drawn tokens, such as the log-ratio of two models.

        Returns
        -------
        tensor of shape (B, T)
            Differentiable in the values; zero where the tail has no probability,
            whatever the values are there.

        Raises
        ------
        TypeError, ValueError
            If the values are not floating-point numbers, one for each draw.

        Examples
        --------
        KL(teacher ‖ student) on the tokens that are kept, and what four draws say of
        the others.

        >>> import torch, fusion
        >>> from fusion.logits.tail import sample_tail
        >>> teacher = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
        >>> student = torch.tensor([[[0.25, 0.25, 0.25, 0.25]]]).log()
        >>> topk = fusion.top_k(teacher, k=1, standardize="logprob")
        >>> tail = sample_tail(teacher, topk, draws=4)
        >>> ids = torch.cat([topk.ids, tail.ids], dim=2)
        >>> at_ids = fusion.read(student, torch.tensor([[0]]), ids=ids, k=1).logprobs_at
        >>> kept = topk.values.exp() * (topk.values - at_ids[..., :1])
        >>> kept.sum(dim=2) + tail.estimate(tail.logprobs - at_ids[..., 1:])
        tensor([[0.1733]])
        >>> torch.nn.functional.kl_div(
        ...     student, teacher, log_target=True, reduction="sum"
        ... )
        tensor(0.1733)
        """
        _check.tensor(values, "values", 3, empty=True)
        if values.shape != self.ids.shape:
            raise ValueError(
                f"values must have the shape {tuple(self.ids.shape)} of the draws, "
                f"but have {tuple(values.shape)}: pass one for each drawn token."
            )
        # What stands at positions without a tail may be infinite.
        present = self.mass > 0  # (B, T)
        counted = torch.where(present[..., None], values, 0.0)
        return self.mass * counted.mean(dim=2)


def sample_tail(
    logits: Tensor,
    topk: TopKLogits,
    draws: int,
    *,
    stratified: bool = True,
    ranked: bool = False,
    generator: torch.Generator | None = None,
) -> TailSample:
    """Draw tokens that top-k logits leave out, in proportion to their probability.

    Parameters
    ----------
    logits : tensor of shape (B, T, V)
        The full rows that the top-k logits were read from. Computed in float64.
    topk : TopKLogits
        Which tokens are kept, and which positions are valid. Probabilities are the
        softmax of the logits over its temperature.
    draws : int
        How many a position, with replacement.
    stratified : bool
        Take one draw from each of m parts of the tail of equal probability. Estimates
        stay without bias, and have at most the variance of independent draws, which
        False takes.
    ranked : bool
        Sort every row: the result has the ranks of draws, and stratified ones go from
        the likeliest tokens to the least likely. By default parts go by token id.
    generator : torch.Generator, optional
        Of the random numbers, of whatever device; by default torch's own.

    Returns
    -------
    TailSample
        Without gradient, on the device of the logits.

    Raises
    ------
    TypeError, ValueError
        If the logits are not floating-point numbers of the shape that the top-k logits
        were read from, there is no draw, or a valid row holds NaN, +inf, or −inf among
        the tokens that are kept.

    Notes
    -----
    O(V) a position, in blocks of rows: 4 ms for V = 151,936 on one core; sorted, 16 ms.

    References
    ----------
    Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in
    LLMs", 2025, arXiv:2503.16870, who sample whole rows. Here the largest k are exact,
    so that only the tail adds variance.

    Examples
    --------
    Draws do not repeat what is kept, and their probability is that of the tail.

    >>> import torch, fusion
    >>> from fusion.logits.tail import sample_tail
    >>> logits = torch.randn(2, 5, 100, generator=torch.Generator().manual_seed(0))
    >>> topk = fusion.top_k(logits, k=10, standardize="softmax")
    >>> tail = sample_tail(logits, topk, draws=8, ranked=True)
    >>> tail.ids.shape, bool((tail.ranks >= 10).all())
    (torch.Size([2, 5, 8]), True)
    >>> torch.allclose(topk.values.sum(dim=2) + tail.mass, torch.ones(2, 5))
    True
    """
    _check.tensor(logits, "logits", 3)
    _check.count(draws, "draws")
    expected = (*topk.mask.shape, topk.vocabulary)
    if logits.shape != expected:
        raise ValueError(
            f"logits must have the shape {expected} that the top-k logits were read "
            f"from, but have {tuple(logits.shape)}: pass the same full rows."
        )
    index = topk.mask.flatten().nonzero()[:, 0]  # (n,), the valid positions
    full_rows = logits.detach().flatten(0, 1)
    kept = topk.ids.flatten(0, 1)[index]  # (n, k)
    uniforms = _uniforms(len(index), draws, stratified, generator)
    uniforms = uniforms.to(logits.device)
    # Empty parts, since there may be no valid position.
    parts = [_no_rows(kept, draws)]
    size = max(1, _BLOCK_ENTRIES // topk.vocabulary)
    for start in range(0, len(index), size):
        block = slice(start, start + size)
        rows = full_rows[index[block]].double() / topk.temperature
        _check_rows(rows, kept[block])
        parts.append(_drawn(rows, kept[block], uniforms[block], ranked))
    ids, logprobs, mass, ranks = map(torch.cat, zip(*parts, strict=True))
    dtype = wide(logits[:0]).dtype
    return TailSample(
        ids=spread(ids, topk.mask),
        logprobs=spread(logprobs.to(dtype), topk.mask),
        mass=spread(mass.to(dtype), topk.mask),
        ranks=spread(ranks, topk.mask) if ranked else None,
    )


def _uniforms(
    n: int,
    draws: int,
    stratified: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """Return numbers (n, m) in [0, 1], independent or one in each m-th of it."""
    # On the generator's device, so that a seed means the same on every other one.
    device: Any = "cpu" if generator is None else generator.device
    numbers = torch.rand(
        (n, draws), dtype=torch.float64, device=device, generator=generator
    )
    if not stratified:
        return numbers
    part = torch.arange(draws, dtype=torch.float64, device=device)
    return (part + numbers) / draws


def _check_rows(rows: Tensor, kept: Tensor) -> None:
    """Require rows (n, V) of which neither NaN nor +inf nor too many −inf are read."""
    values = rows.gather(1, kept)
    logsumexp = rows.logsumexp(dim=1, keepdim=True)
    _check.finite(torch.cat([values, logsumexp], dim=1), kept.shape[1])


def _no_rows(kept: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Return what is drawn of no rows."""
    ids = kept.new_zeros((0, draws))
    logprobs = ids.double()
    return ids, logprobs, logprobs.sum(dim=1), ids


def _drawn(
    rows: Tensor,  # (n, V), float64
    kept: Tensor,  # (n, k)
    uniforms: Tensor,  # (n, m)
    ranked: bool,
) -> tuple[Tensor, ...]:
    """Return ids and log-probabilities (n, m), the tails' masses (n,), and ranks."""
    logprobs = rows.log_softmax(dim=1)
    # 1. The tail, by token or in descending order: what is kept has no probability.
    tail = logprobs.exp().scatter(1, kept, 0.0)
    order = None
    if ranked:
        tail, order = tail.sort(dim=1, descending=True, stable=True)
    # 2. A draw is the first place whose cumulative probability is above its share.
    cumulative = tail.cumsum(dim=1)
    mass = cumulative[:, -1:]  # (n, 1)
    places = torch.searchsorted(cumulative, uniforms * mass, right=True)  # (n, m)
    #    By rounding a share may be the mass itself, or a sum in parallel below the one
    #    before it: what has no probability is not drawn even then.
    places = places.clamp(max=tail.shape[1] - 1)
    possible = tail.gather(1, places) > 0
    likeliest = tail.argmax(dim=1, keepdim=True)
    places = torch.where(possible, places, likeliest)
    ids = places if order is None else order.gather(1, places)
    # 3. Where nothing has probability, the most likely token stands in.
    empty = mass == 0
    ids = torch.where(empty, kept[:, :1], ids)
    ranks = torch.where(empty, 0, places + kept.shape[1])
    return ids, logprobs.gather(1, ids), mass[:, 0], ranks
