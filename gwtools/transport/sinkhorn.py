"""Sinkhorn's algorithm in the log domain, with Newton steps: one kernel, or a stack.

Every kernel of a stack keeps its own tolerance, Newton steps and line search, and
leaves the stack when it is done.

References
----------
R. Sinkhorn and P. Knopp, *Concerning nonnegative matrices and doubly stochastic
matrices*, 1967, doi:10.2140/pjm.1967.21.343.

B. Schmitzer, *Stabilized sparse scaling algorithms for entropy regularized transport
problems*, 2016, arXiv:1610.06519.
"""

from __future__ import annotations

from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Mask,
    Numbers,
    at_atoms,
    chosen,
    is_stack,
    numbers,
    opposite,
    repeated,
    replaced,
    some,
)
from gwtools.transport.newton import newton
from gwtools.transport.scaling import (
    Kernel,
    Scaling,
    largest_entry,
    log_domain_sweep,
    scaled,
    sweep,
)

# Entries left out of a kernel hold together at most this share of the tolerance.
_LEFT_OUT = 1e-9
# How far scalings may move, in total, until entries that were left out may count again.
_REACH = 30.0


def sinkhorn(
    log_kernel: Array,
    a: Array,
    b: Array,
    u: Array,
    v: Array,
    tolerance: Numbers,
    max_newton: int = 30,
) -> Scaling:
    """Scale exp(log_kernel) to the marginals a and b, in the log domain.

    A few of Sinkhorn's sweeps, then Newton steps on the concave dual: the number of
    sweeps that are needed grows as the kernel sharpens, that of Newton steps hardly.
    The systems of one large problem are solved by conjugate gradients.

    Parameters
    ----------
    log_kernel : array of shape (…, n, m)
        Any finite values.
    a, b : arrays of shape (…, n) and (…, m)
        Positive weights with equal sums; in a stack, 0 at padding.
    u, v : arrays of shape (…, n) and (…, m)
        Scalings to start from; in a stack, 0 at padding.
    tolerance : float or array of shape (…)
        Total marginal error at which to stop; no step goes below :func:`attainable`.
    max_newton : int
        Newton steps at most.

    Returns
    -------
    Scaling
        Finite for every finite kernel; its plan has the marginals up to ``error`` only:
        see :func:`gwtools.round_plan`. Scalings and masses are 0 at padding.
    """
    xp = _array.namespace(log_kernel)
    # log 1 = 0 at padding.
    log_a = xp.log(at_atoms(a, a, 1.0))
    log_b = xp.log(at_atoms(b, b, 1.0))
    kernel = Kernel(log_kernel, a, b, log_a, log_b, tolerance)
    u, v = log_domain_sweep(kernel, u)
    state = scaled(kernel, u, v)
    steps = 0
    is_whole = is_stack(tolerance)  # stacks are not compressed
    # Every turn counts at least one step; a turn with the whole kernel is the last one.
    while steps < max_newton and some(state.error > tolerance):
        # 1. Entries that hold no notable mass are left out until scalings have moved.
        part = kernel
        if not is_whole:
            part = _without_empty_entries(kernel, state.plan)
            is_whole = part is kernel
        start = state if is_whole else scaled(part, state.u, state.v)
        # 2. Sweeps, which come near to the marginals from anywhere.
        if steps == 0:
            missed = start.error > tolerance
            start = replaced(missed, start, sweep, part)
        # 3. Newton steps, which meet them.
        following, taken = _ascend(part, start, max_newton - steps)
        steps += max(1, taken)
        # 4. The whole kernel judges what a part of it came to.
        if not is_whole:
            following = scaled(kernel, following.u, following.v)
            is_whole = following.error > max(tolerance, state.error / 2)
        better = following.error < state.error
        state = chosen(better, following, state)
    return state


def attainable(log_kernel: Array) -> Numbers:
    """Estimate the marginal error that float errors of the exponents cause.

    These are relative to the largest exponent.

    Parameters
    ----------
    log_kernel : array of shape (…, n, m)
        The exponents.

    Returns
    -------
    float or array of shape (…)
        Twice the spacing of 1.0 times the largest |exponent|.
    """
    xp = _array.namespace(log_kernel)
    sizes = xp.abs(log_kernel)
    largest = numbers(xp.max(sizes, axis=(-2, -1)))
    return 2 * _array.epsilon(log_kernel) * largest


def _without_empty_entries(kernel: Kernel, plan: Array) -> Kernel:
    """Drop the entries without mass where few are left; else return the same kernel."""
    share = _LEFT_OUT * kernel.tolerance
    exponent = _array.without_small_masses(kernel.exponent, plan, share)
    # The same object where too many entries have mass for compression to pay.
    if exponent is kernel.exponent:
        return kernel
    return kernel._replace(exponent=exponent)


class _Ascent(NamedTuple):
    """A kernel, the current scalings of Newton's iteration, and the best ones yet."""

    kernel: Kernel
    state: Scaling
    best: Scaling


def _ascend(kernel: Kernel, start: Scaling, most: int) -> tuple[Scaling, int]:
    """Take Newton steps until the marginals are met, ``most`` steps at most.

    A compressed kernel is left as soon as its scalings have moved far, as entries that
    it lacks may then count.
    """
    is_compressed = _array.is_compressed(kernel.exponent)

    def is_done(ascent: _Ascent) -> Mask:
        met = ascent.best.error <= ascent.kernel.tolerance
        if not is_compressed:
            return met
        return met or _distance(start, ascent.state) > _REACH

    def best_of(ascent: _Ascent) -> Scaling:
        return ascent.best

    first = _Ascent(kernel, start, start)
    best, steps = repeated(_newton_or_sweep, is_done, first, best_of, most)
    return best, max(steps)


def _distance(first: Scaling, second: Scaling) -> float:
    """Return the distance between two scalings of one kernel."""
    du = largest_entry(second.u - first.u)
    dv = largest_entry(second.v - first.v)
    return float(du + dv)


def _newton_or_sweep(ascent: _Ascent) -> _Ascent:
    """Take one Newton step, or sweeps where no step is found."""
    kernel, state, best = ascent
    following, moved = newton(kernel, state)
    state = replaced(opposite(moved), following, sweep, kernel)
    # The dual grows at every step; the error need not fall.
    better = state.error < best.error
    best = chosen(better, state, best)
    return _Ascent(kernel, state, best)
