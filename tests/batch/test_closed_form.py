"""Many problems by sorting: every result is that of the single call.

In float32 and in extreme units too.
"""

import pytest

import gwtools as gw
from tests import checkers
from tests.batch.test_solve import agree, made, matrices, problems
from tests.libraries import to_numpy
from tests.strategies import KINDS

SORTED = [
    gw.Sorted(),
    gw.Sorted(p=3.0),
    gw.Sorted(kind="norm"),
    gw.Sorted(kind="spectral"),
]


@pytest.mark.parametrize("solver", SORTED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_each_result_is_that_of_the_single_solve(kind, solver):
    xs, ys = problems(kind)
    for found, x, y in zip(
        gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True
    ):
        agree(found, gw.solve(x.space(), y.space(), solver))
        checkers.check_result(found, x.matrix, x.weights, y.matrix, y.weights)


@pytest.mark.parametrize("kind", ["euclidean", "gram"])
def test_certificates_hold_for_the_stored_values_of_float32(kind):
    torch = pytest.importorskip("torch")
    xs, ys = problems(kind, "float32")
    xs, ys = (
        [s.space(lambda v: torch.asarray(v, dtype=torch.float32)) for s in side]
        for side in (xs, ys)
    )
    for found, x, y in zip(gw.solve_batch(xs, ys, gw.Sorted()), xs, ys, strict=True):
        expected = gw.certify(x, y, found.plan)
        assert found.certificate.lower == pytest.approx(
            expected.lower, rel=1e-8, abs=1e-10
        )
        # A solver's objective is rounded up to float32.
        assert found.certificate.upper <= expected.upper * (1 + 2.0**-22)
        assert found.certificate.upper >= checkers.objective(
            *matrices(x, y), to_numpy(found.plan.dense())
        )


@pytest.mark.parametrize("solver", [gw.Sorted(), gw.Sorted(kind="spectral")], ids=str)
@pytest.mark.parametrize("factor", [1e152, 1e150, 1e-150, 1e-300])
def test_extreme_units_are_solved_by_themselves(factor, solver):
    xs, ys = problems("dense")
    xs[1] = xs[1].scaled(factor)
    ys[1] = ys[1].scaled(factor)
    together = gw.solve_batch(made(xs), made(ys), solver)
    alone = [
        gw.solve(x.space(), y.space(), solver) for x, y in zip(xs, ys, strict=True)
    ]
    for found, expected in zip(together, alone, strict=True):
        assert float(found.distance) == pytest.approx(
            float(expected.distance), rel=1e-10, abs=1e-200
        )
        assert found.certificate.lower == pytest.approx(
            expected.certificate.lower, rel=1e-8, abs=1e-8
        )
