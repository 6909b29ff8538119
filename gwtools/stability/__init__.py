"""Stability: how far GW distances move when a space is perturbed.

A space may be perturbed, quantized, converted to another dtype, truncated or sampled.

Every function returns a bound δ of |GW(C, D) − GW(C′, D)| that holds for every space D
(theorem 6 of THEORY.md), hence also a bound of GW(C, C′). It is in units of C, is
computed in float64 and rounded up, and holds for the stored values and the exactly
normalised weights, over the whole range of float64.

It bounds the move of the *distance*; the objective GW_2² then moves by at most
δ (2 GW_2 + δ). Where the atoms stay, the roots of the bounds of theorems 1, 3, 4 and 7
move by no more. What holds for p = 2 holds for every p in [1, 2]. Weights are not
perturbed.

Examples
--------
By how much storing a cloud in float32 instead of float64 can change any distance from
it.

>>> import numpy as np, gwtools as gw
>>> points = np.array([[0.0, 0.1], [0.7, 0.0], [1.3, 0.9]])
>>> x = gw.PointCloud(points, weights=np.array([0.5, 0.25, 0.25]))
>>> bound = gw.stability.rounding(x, "float32")
>>> stored = gw.PointCloud(points.astype("float32").astype("float64"), x.weights)
>>> 0 < gw.stability.perturbation(x, stored) <= bound < 1e-6
True
"""

from gwtools.stability.draws import row_means_sampling, sampling, subsampling
from gwtools.stability.perturbations import perturbation, row_means_perturbation
from gwtools.stability.stored_values import quantization, rounding, truncation

__all__ = [
    "perturbation",
    "quantization",
    "rounding",
    "row_means_perturbation",
    "row_means_sampling",
    "sampling",
    "subsampling",
    "truncation",
]
