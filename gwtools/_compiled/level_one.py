"""A step of Douglas-Rachford splitting for theorem 15, in one pass over the memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._array import NumpyArray
from gwtools._compiled.compilation import compiled


@compiled
def douglas_rachford_step(
    w: NumpyArray,
    roots: tuple[NumpyArray, NumpyArray],
    costs: tuple[NumpyArray, NumpyArray, NumpyArray, NumpyArray],
    corrections: tuple[NumpyArray, NumpyArray, NumpyArray, NumpyArray],
    numbers: tuple[Any, Any],
    sums: tuple[NumpyArray, NumpyArray],
) -> None:
    """Do what :func:`gwtools.bounds.level_one.Search.step` says, in place.

    All arrays are float32 of C order, and so are the numbers.

    Parameters
    ----------
    w : numpy array of shape (n, m, n, m)
        The iterate, which is overwritten.
    roots : pair
        √a, (n,), and √b, (m,).
    costs : tuple
        −2 M ‖N‖ / ν, (n, n); N / ‖N‖, (m, m); √a α (√b β)ᵀ · 2 / ν, (n, m); √a √bᵀ,
        (n, m); with the penalty ν.
    corrections : tuple
        g¹_jkl, (m, n, m), and g²_ikl, (n, n, m); the same as arrays [i, j, l] of
        g¹_lij, (n, m, m), and [i, j, k] of g²_kij, (n, m, n).
    numbers : pair
        What the total mass misses of 1, and the relaxation.
    sums : pair
        Σ_i √a_i |w|, (m, n, m), and Σ_j √b_j |w|, (n, n, m), which are overwritten.
    """
    root_a, root_b = roots
    M, N, deviations, product = costs
    first, second, first_inner, second_inner = corrections
    missing_mass, relaxation = numbers
    sum_first, sum_second = sums
    n, m = product.shape
    zero = np.float32(0)
    sum_first[:] = zero
    sum_second[:] = zero
    for i in range(n):
        for j in range(m):
            a_i = root_a[i]
            b_j = root_b[j]
            S_j = N[j]
            inner_j = first_inner[i, j]
            # Factors of √a_k √b_l and of the deviations of k and l.
            of_product = deviations[i, j] + missing_mass * product[i, j]
            of_deviations = product[i, j]
            for k in range(n):
                row = w[i, j, k]
                R_ik = M[i, k]
                first_jk = first[j, k]
                second_ik = second[i, k]
                deviations_k = deviations[k]
                product_k = product[k]
                a_k = root_a[k]
                inner_k = second_inner[i, j, k]
                sum_first_jk = sum_first[j, k]
                sum_second_ik = sum_second[i, k]
                for ell in range(m):
                    old = row[ell]
                    cost = (
                        R_ik * S_j[ell]
                        - of_product * product_k[ell]
                        - of_deviations * deviations_k[ell]
                    )
                    outside = (
                        a_i * first_jk[ell]
                        + b_j * second_ik[ell]
                        + a_k * inner_j[ell]
                        + root_b[ell] * inner_k
                    )
                    projected = abs(old) - outside - cost
                    new = old + relaxation * (projected - max(old, zero))
                    row[ell] = new
                    size = abs(new)
                    sum_first_jk[ell] += a_i * size
                    sum_second_ik[ell] += b_j * size
