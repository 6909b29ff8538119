"""The order of examples: the same on one process and on several, each example once.

Data-parallel ranks take batches in turns. Where their number does not divide, they
would be given examples a second time: places without an example stand there instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch.utils.data import Sampler
from transformers import TrainingArguments
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


def strategy(args: TrainingArguments) -> str:
    """Return how training examples are ordered; older versions know two ways only."""
    grouped = getattr(args, "group_by_length", False)
    default = "group_by_length" if grouped else "random"
    return str(getattr(args, "train_sampling_strategy", default))


def examples_at_once(args: TrainingArguments, batch: int) -> int:
    """Return how many examples all ranks take together, of ``batch`` each."""
    accelerator: Any = args.accelerator_config
    # Ranks take a batch each, or a part of one.
    ranks = 1 if accelerator.split_batches else int(args.world_size)
    return batch * ranks


def batches_an_epoch(args: TrainingArguments, examples: Any, batch: int) -> int:
    """Return how many batches each rank has an epoch, of training examples."""
    at_once = examples_at_once(args, batch)
    n = len(examples)
    # An incomplete one is left out, or filled up.
    return n // at_once if args.dataloader_drop_last else -(-n // at_once)


def training_sampler(
    args: TrainingArguments, examples: Any, batch: int
) -> EpochSampler:
    """Return the places of training examples, in an order that all ranks agree on.

    Parameters
    ----------
    args : TrainingArguments
        All settings.
    examples : EncodedExamples
        The examples.
    batch : int
        Examples of a forward pass on one rank.
    """
    n = len(examples)
    how = strategy(args)
    if how == "sequential":
        order = in_order(n)
    elif how == "group_by_length":
        step = batch * args.world_size * args.gradient_accumulation_steps
        order = by_length(examples.lengths(), step)
    else:
        order = shuffled(n)
    multiple = 1
    # An incomplete batch is left out instead of filled up where that is asked for.
    if args.world_size > 1 and not args.dataloader_drop_last:
        multiple = examples_at_once(args, batch)
    seed = args.seed if args.data_seed is None else args.data_seed
    return EpochSampler(n, order, multiple, seed)


def held_out_sampler(args: TrainingArguments, examples: Any) -> EpochSampler:
    """Return the places of held-out examples, each once over all ranks.

    Parameters
    ----------
    args : TrainingArguments
        All settings.
    examples : EncodedExamples
        The examples.
    """
    n = len(examples)
    multiple = 1
    # Where incomplete batches are left out, there must be none.
    if args.world_size > 1 or args.dataloader_drop_last:
        multiple = examples_at_once(args, args.eval_batch_size)
    return EpochSampler(n, in_order(n), multiple)
