"""Rational arithmetic on arrays of objects: sums of fractions are exact."""

from fractions import Fraction

import numpy as np


def fraction(value):
    return Fraction(float(value))


# The same for every number of an array.
rational = np.vectorize(fraction, otypes=[object])


def exact_weights(weights):
    """Stored weights, exactly normalised."""
    a = rational(weights)
    return a / a.sum()
