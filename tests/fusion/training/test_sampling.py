"""The order of examples: each once an epoch, and decided by seed and epoch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.training.sampling import EpochSampler, by_length, in_order, shuffled

sizes = st.integers(1, 40)


@given(sizes, st.integers(1, 12), st.integers(0, 5), st.integers(0, 5))
def test_every_example_comes_once_and_the_rest_is_filled_up(n, multiple, seed, epoch):
    sampler = EpochSampler(n, shuffled(n), multiple, seed)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    assert len(found) % multiple == 0
    assert len(found) - n < multiple
    assert sorted(found[:n]) == list(range(n))
    assert found[n:] == [None] * (len(found) - n)
    assert list(sampler) == found


def test_epochs_have_other_orders_and_so_have_seeds():
    first, other = (EpochSampler(50, shuffled(50), seed=seed) for seed in (3, 4))
    orders = []
    for epoch in range(3):
        first.set_epoch(epoch)
        orders.append(list(first))
    assert orders[0] != orders[1] != orders[2]
    # The generator's seed is the sum of both.
    assert list(other) == orders[1]
    assert list(EpochSampler(5, in_order(5))) == list(range(5))


@pytest.mark.parametrize("epoch", [0, 7])
def test_batches_by_length_are_of_similar_lengths(epoch):
    n = 400
    lengths = [(37 * i) % n for i in range(n)]
    sampler = EpochSampler(n, by_length(lengths, 4), seed=1)
    sampler.set_epoch(epoch)
    places = list(sampler)
    assert sorted(places) == list(range(n))
    assert places != sorted(places, key=lengths.__getitem__, reverse=True)
    spreads = []
    for start in range(0, n, 4):
        batch = [lengths[place] for place in places[start : start + 4]]
        spreads.append(max(batch) - min(batch))
    # Lengths of four examples at random are 240 apart on average.
    assert sum(spreads) / len(spreads) < 30
