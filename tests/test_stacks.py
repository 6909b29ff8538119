"""One problem and stacks of problems: the same functions compute on both.

They give each padded problem of a stack what it is given alone.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _stacks
from gwtools.batch import sinkhorn as batches
from gwtools.problems import GWProblem
from gwtools.transport.sinkhorn import attainable, sinkhorn
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import couplings, spaces, values, weights

NOWHERE = -1e30


@st.composite
def kernels(draw):
    """Logarithms of kernels of unequal sizes and sharpness, with their marginals."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        n, m = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        a, b = draw(weights(n)), draw(weights(m))
        epsilon = draw(st.sampled_from([1.0, 0.1, 1e-2, 1e-3]))
        found.append(
            (np.log(np.outer(a, b)) - draw(values((n, m), True)) / epsilon, a, b)
        )
    return found


def padded(arrays, value):
    """Stack arrays of unequal sizes with a constant behind the smaller ones."""
    size = np.max([array.shape for array in arrays], axis=0)
    result = np.full((len(arrays), *size), value)
    for here, array in zip(result, arrays, strict=True):
        here[tuple(slice(0, n) for n in array.shape)] = array
    return result


def stacked(problems):
    logs, a, b = zip(*problems, strict=True)
    return padded(logs, NOWHERE), padded(a, 0.0), padded(b, 0.0)


@given(kernels(), st.sampled_from([1e-3, 1e-9]), st.integers(0, 40))
def test_a_kernel_ends_alone_as_padded_inside_a_stack(problems, tolerance, most):
    """Also where steps run out, and beside kernels that are done earlier or later."""
    alone = [
        sinkhorn(
            k,
            a,
            b,
            np.zeros(len(a)),
            np.zeros(len(b)),
            max(tolerance, attainable(k)),
            most,
        )
        for k, a, b in problems
    ]
    log_kernel, a, b = stacked(problems)
    tolerances = np.array([max(tolerance, attainable(k)) for k, _, _ in problems])
    together = sinkhorn(
        log_kernel, a, b, np.zeros_like(a), np.zeros_like(b), tolerances, most
    )
    for i, (expected, (kernel, *_)) in enumerate(zip(alone, problems, strict=True)):
        n, m = kernel.shape
        # Newton steps halve the error's digits: a stop at another step would show in
        # them.
        close = 1e-9 + 1e-12 * np.abs(kernel).max()
        assert together.error[i] == pytest.approx(expected.error, rel=1e-3, abs=close)
        assert np.abs(together.plan[i, :n, :m] - expected.plan).max() <= close
        apart = (
            together.u[i, :n, None]
            + together.v[i, None, :m]
            - expected.u[:, None]
            - expected.v[None, :]
        )
        assert np.abs(apart[expected.plan > 1e-9]).max(initial=0.0) <= 1e4 * close
        for padding in (
            together.u[i, n:],
            together.v[i, m:],
            together.plan[i, n:],
            together.plan[i, :, m:],
        ):
            assert np.all(padding == 0.0)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_stacks_of_every_library_are_scaled(library):
    rng = np.random.default_rng(0)
    problems = []
    for n, m in ((3, 5), (6, 2), (4, 4)):
        a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
        problems.append(
            (np.log(np.outer(a, b)) + 3 * rng.standard_normal((n, m)), a, b)
        )
    log_kernel, a, b = (library.array(values) for values in stacked(problems))
    tolerance = library.array(np.full(3, 1e-5))
    found = sinkhorn(
        log_kernel,
        a,
        b,
        library.array(np.zeros((3, 6))),
        library.array(np.zeros((3, 5))),
        tolerance,
    )
    assert all(library.owns(values) for values in found)
    assert np.all(to_numpy(found.error) <= 1e-5)
    for i, (kernel, a, b) in enumerate(problems):
        n, m = kernel.shape
        alone = sinkhorn(kernel, a, b, np.zeros(n), np.zeros(m), 1e-5)
        assert np.abs(to_numpy(found.plan)[i, :n, :m] - alone.plan).max() <= 1e-4


@st.composite
def planned(draw):
    """Two spaces and a coupling of them, a few times."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(spaces()), draw(spaces())
        found.append((x, y, draw(couplings(x.weights, y.weights))))
    return found


@given(planned())
def test_objectives_of_padded_problems_are_those_of_each(problems):
    xs, ys, plans = zip(*problems, strict=True)
    stack = batches.problems([x.space() for x in xs], [y.space() for y in ys])
    plan = gw.DensePlan.__new__(gw.DensePlan)
    object.__setattr__(plan, "matrix", padded(plans, 0.0))
    cross = stack.cross(plan)
    found = {
        name: getattr(stack, name)
        for name in ("slope_range", "variation", "float_error")
    }
    found["relative_objective"], found["value"] = (
        stack.relative_objective(plan, cross),
        stack.value(plan, cross),
    )
    for i, (x, y, matrix) in enumerate(problems):
        alone, single = GWProblem(x.space(), y.space()), gw.DensePlan(matrix)
        expected = {
            name: getattr(alone, name)
            for name in ("slope_range", "variation", "float_error")
        }
        known = alone.cross(single)
        expected["relative_objective"] = alone.relative_objective(single, known)
        expected["value"] = alone.value(single, known)
        size = max(1e-300, *(np.abs(s.matrix).max() ** 2 for s in (x, y)))
        for name, number in expected.items():
            # Norms are roots of sums that cancel.
            unit = np.finfo(float).eps if name == "float_error" else 1.0
            assert found[name][i] == pytest.approx(
                float(number), abs=1e-6 * unit * size
            ), name
        n, m = matrix.shape
        assert (
            np.abs(stack.gradient(cross)[i, :n, :m] - alone.gradient(known)).max()
            <= 1e-12 * size
        )
        assert float(number) == pytest.approx(
            checkers.objective(x.matrix, y.matrix, matrix), abs=1e-12 * size
        )


class Counted(NamedTuple):
    """Numbers that are halved, and how often."""

    value: np.ndarray
    steps: np.ndarray


def halved(counted):
    return Counted(counted.value / 2, counted.steps + 1)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(0, 14))
def test_problems_leave_a_stack_when_they_are_done(exponents, most):
    """Each after as many steps as it needs, and no more than are allowed."""
    values = Counted(2.0 ** np.array(exponents), np.zeros(len(exponents)))
    found, steps = _stacks.repeated(
        halved, lambda c: c.value <= 1, values, lambda c: c, most
    )
    wanted = [min(exponent, most) for exponent in exponents]
    assert steps == found.steps.tolist() == wanted
    assert found.value.tolist() == [
        2.0 ** (e - k) for e, k in zip(exponents, wanted, strict=True)
    ]
    for exponent, count in zip(exponents, wanted, strict=True):
        single = _stacks.repeated(
            halved, lambda c: c.value <= 1, Counted(2.0**exponent, 0), lambda c: c, most
        )
        assert single == (Counted(2.0 ** (exponent - count), count), [count])


@pytest.mark.parametrize(
    "mask", [[True, False, True], [True] * 3, [False] * 3], ids=str
)
def test_masks_choose_and_replace_problem_by_problem(mask):
    first = Counted(np.arange(6.0).reshape(3, 2), np.arange(3.0))
    second = Counted(-first.value, -first.steps)
    here = np.array(mask)
    rows = zip(mask, first.value.tolist(), second.value.tolist(), strict=True)
    wanted = [one if holds else other for holds, one, other in rows]
    assert _stacks.chosen(here, first, second).value.tolist() == wanted
    assert _stacks.chosen(here, first.value, second.value).tolist() == wanted
    found = _stacks.replaced(
        here, second, lambda values, source: values._replace(value=source), first.value
    )
    assert found.value.tolist() == wanted
    assert found.steps.tolist() == second.steps.tolist()
    for holds in (True, False):
        assert _stacks.chosen(holds, first, second) is (first if holds else second)
        single = _stacks.replaced(holds, second, lambda values, source: source, first)
        assert single is (first if holds else second)
