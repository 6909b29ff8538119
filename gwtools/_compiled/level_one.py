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
    sums: tuple[NumpyArray, NumpyArray, NumpyArray],
) -> None:
    """Do what :func:`gwtools.bounds.level_one.Search.step` says, in place.

    The iterate is symmetric, w_ijkl = w_klij, so that i ≤ k is enough. All arrays are
    float32 of C order, and so are the numbers.

    Parameters
    ----------
    w : numpy array of shape (n (n + 1) / 2, m, m)
        The iterate, which is overwritten: [j, l] of w_ijkl for one i ≤ k after another.
    roots : pair
        √a, (n,), and √b, (m,).
    costs : tuple
        −2 M ‖N‖ / ν, (n, n); N / ‖N‖, (m, m); √a α (√b β)ᵀ · 2 / ν, (n, m); √a √bᵀ,
        (n, m); with the penalty ν.
    corrections : tuple
        [k, j, l] of g¹_jkl, (n, m, m); g²_ikl, (n, n, m); [i, j, l] of g¹_lij, (n, m,
        m); [i, j, k] of g²_kij, (n, m, n).
    numbers : pair
        What the total mass misses of 1, and the relaxation.
    sums : tuple
        Overwritten. Σ_i √a_i |w_ijkl| is the first, (n, m, m), at [k, j, l], plus the
        second, (n, m, m), at [k, l, j]; Σ_j √b_j |w_ijkl| is the third, (n, n, m).
    """
    root_a, root_b = roots
    M, N, deviations, product = costs
    first, second, first_inner, second_inner = corrections
    missing_mass, relaxation = numbers
    sum_first, sum_mirrored, sum_second = sums
    n, m = product.shape
    zero = np.float32(0)
    sum_first[:] = zero
    sum_mirrored[:] = zero
    sum_second[:] = zero
    place = 0
    for i in range(n):
        for k in range(i, n):
            block = w[place]
            place += 1
            R_ik = M[i, k]
            a_i = root_a[i]
            a_k = root_a[k]
            # Where i < k, each entry stands for w_klij too.
            mirrored = a_k if i < k else zero
            second_ik = second[i, k]
            deviations_k = deviations[k]
            product_k = product[k]
            sum_second_ik = sum_second[i, k]
            for j in range(m):
                row = block[j]
                S_j = N[j]
                b_j = root_b[j]
                first_jk = first[k, j]
                inner_j = first_inner[i, j]
                inner_k = second_inner[i, j, k]
                # Factors of √a_k √b_l and of the deviations of k and l.
                of_product = deviations[i, j] + missing_mass * product[i, j]
                of_deviations = product[i, j]
                sum_first_jk = sum_first[k, j]
                sum_mirrored_ij = sum_mirrored[i, j]
                of_row = zero
                for ell in range(m):
                    old = row[ell]
                    cost = R_ik * S_j[ell] - of_product * product_k[ell]
                    cost -= of_deviations * deviations_k[ell]
                    outside = a_i * first_jk[ell] + b_j * second_ik[ell]
                    outside += a_k * inner_j[ell] + root_b[ell] * inner_k
                    projected = abs(old) - outside - cost
                    new = old + relaxation * (projected - max(old, zero))
                    row[ell] = new
                    size = abs(new)
                    sum_first_jk[ell] += a_i * size
                    sum_second_ik[ell] += b_j * size
                    sum_mirrored_ij[ell] += mirrored * size
                    of_row += root_b[ell] * size
                if i < k:
                    sum_second[k, i, j] += of_row
