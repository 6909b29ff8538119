"""The order of examples: the same on one process and on several, each example once.

Data-parallel ranks take batches in turns. Where their number does not divide, they
would be given examples a second time: places without an example stand there instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import final

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

STRATEGIES = ("random", "sequential", "group_by_length")

# The places 0 … n − 1 of n examples, in some order.
Order = Callable[[torch.Generator], Iterable[int]]


@final
class EpochSampler(Sampler[int | None]):
    """Places of examples in an order that the seed and the epoch alone decide.

    Parameters
    ----------
    length : int
        Number n of examples.
    order : callable
        Returns the places 0 … n − 1 in some order, drawn with the generator given.
    multiple : int
        The places are filled up with None to a multiple of this number.
    seed : int
        The generator's at epoch 0; at epoch e it is larger by e.

    Examples
    --------
    Five examples for two ranks that take two at a time:

    >>> from fusion.training.sampling import EpochSampler, in_order
    >>> list(EpochSampler(5, in_order(5), multiple=4))
    [0, 1, 2, 3, 4, None, None, None]
    """

    def __init__(
        self,
        length: int,
        order: Order,
        multiple: int = 1,
        seed: int = 0,
    ) -> None:
        self._length = length
        self._order = order
        self._multiple = multiple
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of places, those without an example included."""
        return self._length + self._filling()

    def __iter__(self) -> Iterator[int | None]:
        """Yield the places of one epoch."""
        generator = torch.Generator()
        generator.manual_seed(self._seed + self._epoch)
        yield from self._order(generator)
        yield from [None] * self._filling()

    def _filling(self) -> int:
        """How many places are without an example."""
        return -self._length % self._multiple


def in_order(length: int) -> Order:
    """Return the order of the examples themselves."""
    return lambda generator: range(length)


def shuffled(length: int) -> Order:
    """Return an order in which every permutation is equally likely."""
    return lambda generator: torch.randperm(length, generator=generator).tolist()


def by_length(lengths: Sequence[int], batch_size: int) -> Order:
    """Return an order whose batches are of similar lengths, as little is padded then.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each example.
    batch_size : int
        Examples of a whole step.
    """

    def order(generator: torch.Generator) -> Iterable[int]:
        return LengthGroupedSampler(
            batch_size,
            lengths=list(lengths),
            generator=generator,
        )

    return order
