"""How much teachers count: the scale of their likelihoods, and their mean weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fusion.teachers.report import Store
from fusion.training.batches import Collator, WeightByTeacher, nats_per_byte

# So many examples tell a median: reading the rows of all may take minutes.
SAMPLED = 1000
# Differences below it, in nats a byte, are of rounding: one model captured in bfloat16
# and in float32 differs by about as much, and no scale makes more of it.
LEAST_SCALE = 1e-3


def likelihood_scale(stores: Mapping[str, Store], keys: Sequence[str]) -> float:
    """Return the temperature by which likelihoods tell these teachers apart.

    It is the median difference, in nats a byte, between the best teacher of an example
    and the worst: where they differ as they typically do, the best weighs e times as
    much as the worst. Examples that one teacher alone has seen have no say, nor have
    those whose teachers are equal. The median lets no outlier set the scale.

    Parameters
    ----------
    stores : mapping of str to Store
        By the teachers' names.
    keys : sequence of str
        Of all training examples. If several teachers have seen more than 1,000 of them,
        1,000 of these are read, at equal distances: the number is the same on every
        rank and after every interruption.

    Returns
    -------
    float
        At least 0.001; 1 where no example tells teachers apart, as any number would do.
    """
    shared = []
    for key in keys:
        seen = sum(key in store for store in stores.values())
        if seen > 1:
            shared.append(key)
    spreads = []
    for key in sampled(shared):
        nll = [nats_per_byte(store[key]) for store in stores.values() if key in store]
        spread = max(nll) - min(nll)
        if spread > 0:
            spreads.append(spread)
    if not spreads:
        return 1.0
    return max(LEAST_SCALE, float(np.median(spreads)))


def mean_weights(collator: Collator, keys: Sequence[str]) -> WeightByTeacher:
    """Return each teacher's mean weight, as the collator sets it.

    Parameters
    ----------
    collator : Collator
        What weighs the teachers.
    keys : sequence of str
        Of the examples; of more than 1,000, so many at equal distances are read.

    Returns
    -------
    dict of str to float
        By teacher. The sum is 1 where every example has been seen by some teacher.
    """
    totals = dict.fromkeys(collator.stores, 0.0)
    chosen = sampled(keys)
    for key in chosen:
        for name, weight in collator.weights_of(key).items():
            totals[name] += weight
    count = max(1, len(chosen))
    return {name: total / count for name, total in totals.items()}


def sampled(keys: Sequence[str], count: int = SAMPLED) -> list[str]:
    """Return at most ``count`` of the keys, at equal distances from the first on."""
    n = len(keys)
    if n <= count:
        return list(keys)
    return [keys[i * n // count] for i in range(count)]
