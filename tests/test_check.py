"""Bad input: one sentence that says what is required, what was received, what to do."""

import sys
from fractions import Fraction

import numpy as np
import pytest

import gwtools as gw
from gwtools import _check, _check_spaces

GOOD = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.5], [2.0, 2.5, 0.0]])
SPACE = gw.DenseSpace(GOOD)
BOUNDS = ("row_means", "first", "norm", "spectral")


def refused(call, error, *words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    requirement, _, rest = message.partition(", but ")
    received, _, remedy = rest.partition(": ")
    assert type(caught.value) is error
    assert " must " in requirement, message
    assert received, message
    assert remedy.endswith("."), message
    assert ". " not in message, message
    for word in words:
        assert word in message, message


def pair_entries():
    entries = {
        "solve": gw.solve,
        "certify": gw.certify,
        "GWProblem": lambda x, y: gw.GWProblem(gw.as_space(x), gw.as_space(y)),
        "sinkhorn": lambda x, y: gw.solve(x, y, gw.Sinkhorn()),
        "sorted": lambda x, y: gw.solve(x, y, gw.Sorted()),
    }
    return entries | {name: getattr(gw.bounds, name) for name in BOUNDS}


@pytest.mark.parametrize("entry", pair_entries())
def test_mixed_dtypes(entry):
    narrow = GOOD.astype(np.float32)
    refused(
        lambda: pair_entries()[entry](GOOD, narrow),
        TypeError,
        "same array dtype",
        "float64",
        "float32",
    )


@pytest.mark.parametrize("entry", pair_entries())
@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_mixed_libraries(entry, name):
    other = pytest.importorskip(name).asarray(GOOD)
    refused(
        lambda: pair_entries()[entry](GOOD, other),
        TypeError,
        "same array library",
        "numpy",
        name,
    )


@pytest.mark.parametrize("entry", pair_entries())
def test_mixed_devices(entry):
    strict = pytest.importorskip("array_api_strict")
    there = strict.asarray(GOOD, device=strict.Device("device1"))
    refused(
        lambda: pair_entries()[entry](strict.asarray(GOOD), there),
        TypeError,
        "same array device",
        "device1",
    )


OPTIONS = {
    "metric": (lambda v: gw.PointCloud(GOOD, metric=v), "'euclidean', 'sqeuclidean'"),
    "kind": (lambda v: gw.Sorted(kind=v), "'row_means', 'norm', 'spectral'"),
    "effort": (lambda v: gw.certify(GOOD, GOOD, effort=v), "'linear'"),
    "effort of solve": (lambda v: gw.solve(GOOD, GOOD, effort=v), "'linear'"),
    "init": (lambda v: gw.ConditionalGradient(init=v), "'product'"),
    "init of Sinkhorn": (lambda v: gw.Sinkhorn(init=v), "'product'"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_unknown_options(option):
    call, allowed = OPTIONS[option]
    refused(
        lambda: call("cosine"),
        ValueError,
        option.split()[0],
        "must be one of",
        allowed,
        "'cosine'",
    )


@pytest.mark.parametrize("option", [o for o in OPTIONS if "init" not in o])
@pytest.mark.parametrize("value", [None, 1, ["linear"]], ids=["None", "number", "list"])
def test_options_of_another_type(option, value):
    if option == "effort" and value is None:
        # The default of certify, which depends on the budget.
        assert gw.certify(GOOD, GOOD, effort=None) == gw.certify(
            GOOD, GOOD, effort="linear"
        )
        return
    refused(lambda: OPTIONS[option][0](value), ValueError, "must be one of")


NUMBERS = {
    "tolerance": (
        lambda v: gw.ConditionalGradient(tolerance=v),
        [-1e-9, np.nan, np.inf, "1e-3", None, True],
    ),
    "tolerance of Sinkhorn": (
        lambda v: gw.Sinkhorn(tolerance=v),
        [-1e-9, np.nan, np.inf, "1e-3", None],
    ),
    "max_iterations": (
        lambda v: gw.ConditionalGradient(max_iterations=v),
        [0, -1, 0.5, np.nan, "10", None, 2.5],
    ),
    "max_iterations of Sinkhorn": (
        lambda v: gw.Sinkhorn(max_iterations=v),
        [0, -1, np.inf, "10", None, 2.5],
    ),
    "epsilon": (lambda v: gw.Sinkhorn(epsilon=v), [0.0, -1.0, np.nan, np.inf, "small"]),
    "cooling": (lambda v: gw.Sinkhorn(cooling=v), [0.0, 1.0, 2.0, -0.5, np.nan]),
    "p": (
        lambda v: gw.bounds.row_means(GOOD, GOOD, p=v),
        [0.5, 0.0, -1.0, np.nan, np.inf, "2", None],
    ),
    "p of first": (
        lambda v: gw.bounds.first(GOOD, GOOD, p=v),
        [0.5, np.nan, np.inf, "2"],
    ),
    "p of Sorted": (lambda v: gw.Sorted(p=v), [0.5, np.nan, np.inf, "2"]),
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, bad) in NUMBERS.items() for v in bad], ids=str
)
def test_bad_numbers(name, value):
    refused(
        lambda: NUMBERS[name][0](value),
        ValueError,
        name.split()[0],
        "must be a",
        repr(value),
    )


@pytest.mark.parametrize(
    "value",
    [np.int64(3), np.float64(3.0), np.float32(3.0), 3],
    ids=lambda v: type(v).__name__,
)
def test_numpy_numbers_are_numbers(value):
    assert float(gw.bounds.row_means(GOOD, 2 * GOOD, p=value)) == float(
        gw.bounds.row_means(GOOD, 2 * GOOD, p=3.0)
    )
    if value == int(value) and not isinstance(value, np.floating):
        assert gw.ConditionalGradient(max_iterations=value).max_iterations == 3


@pytest.mark.parametrize(
    "solver",
    ["sinkhorn", gw.Sinkhorn, 3, ["sorted"]],
    ids=["text", "class", "number", "list"],
)
def test_what_is_no_solver(solver):
    refused(
        lambda: gw.solve(GOOD, GOOD, solver),
        TypeError,
        "solver",
        "gwtools.ConditionalGradient()",
    )


def test_bad_input_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(
        sys.modules["gwtools.solve"],
        "prepared_for",
        lambda *_: pytest.fail("work was done"),
    )
    refused(lambda: gw.solve(GOOD, GOOD, effort="cubic?"), ValueError, "effort")
    refused(lambda: gw.solve(GOOD, GOOD, "sinkhorn"), TypeError, "solver")


def test_limits_are_told_from_what_misses_them():
    refused(
        lambda: _check_spaces.in_range(1.6800001e153, 1.68e153, GOOD),
        ValueError,
        "at most 1.68e+153",
        "reach 1.6800001e+153",
    )
    refused(
        lambda: _check.representable(2.2250738e-308, "epsilon", GOOD),
        ValueError,
        "2.2250739e-308",
        "is 2.2250738e-308",
    )


@pytest.mark.parametrize(
    "make",
    [np.ma.masked_equal, lambda values, _: np.ma.masked_array(values)],
    ids=["mask", "none"],
)
def test_masked_arrays_are_refused_wherever_arrays_are_taken(make):
    masked = make(GOOD, 0.0)
    for build in (
        gw.DenseSpace,
        gw.PointCloud,
        gw.GramSpace,
        gw.DensePlan,
        gw.as_space,
    ):
        refused(
            lambda build=build: build(masked),
            TypeError,
            "without a mask",
            ".filled(value)",
        )
    refused(
        lambda: gw.DenseSpace(GOOD, make(np.full(3, 1 / 3), 0.0)),
        TypeError,
        "weights",
        "weights.filled(value)",
    )


@pytest.mark.parametrize("name", ["matrix", "own"])
def test_other_subclasses_of_arrays_are_refused(name):
    class Own(np.ndarray):
        pass

    view = GOOD.view({"matrix": np.matrix, "own": Own}[name])
    refused(lambda: gw.PointCloud(view), TypeError, "points", "numpy.asarray(points")


def test_sparse_tensors_are_refused():
    torch = pytest.importorskip("torch")
    refused(
        lambda: gw.PointCloud(torch.asarray(GOOD).to_sparse()),
        TypeError,
        "points",
        "points.to_dense()",
    )
    refused(
        lambda: gw.PointCloud(torch.asarray(GOOD).long()),
        TypeError,
        "points",
        "points.double()",
    )


def test_pandas_tables_are_refused_with_their_own_conversion():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(GOOD)
    for build, name in (
        (gw.as_space, "space"),
        (gw.PointCloud, "points"),
        (gw.DensePlan, "matrix"),
    ):
        refused(
            lambda build=build: build(table), TypeError, f"{name}.to_numpy(dtype=float)"
        )
    assert gw.as_space(table.to_numpy(dtype=float)).size == 3


LONG = 10**400  # an integer that is no float


def test_integers_beyond_the_floats_are_refused_as_numbers():
    x = np.zeros((3, 3))
    refused(lambda: gw.solve(x, x, memory_limit=LONG), ValueError, "memory_limit must")
    refused(lambda: gw.certify(x, x, tolerance=LONG), ValueError, "tolerance must")
    refused(lambda: gw.Sinkhorn(epsilon=-LONG), ValueError, "epsilon must")


@pytest.mark.parametrize("weight", ["weight", "length"])
def test_lengths_of_any_real_type_are_read(weight):
    nx = pytest.importorskip("networkx")

    def lengths(value):
        graph = nx.Graph([(0, 1, {weight: value}), (1, 2, {weight: 1})])
        return gw.GraphSpace(graph, weight=weight).dense()[0].tolist()

    for value in (3, np.int8(3), np.float32(3), Fraction(3), True + 2):
        assert lengths(value) == [0.0, 3.0, 4.0]
    refused(lambda: lengths(LONG), ValueError, "adjacency must be finite")
    graph = nx.Graph([(0, 1, {"weight": Fraction(1, 3)}), (1, 2, {"weight": 1})])
    with pytest.warns(UserWarning, match=r"from 0\.333 to 1,"):
        gw.GraphSpace(graph)


def _torch_without_numbers():
    torch = pytest.importorskip("torch")
    matrix = torch.as_tensor(GOOD)
    yield matrix.to("meta"), "the meta device"
    yield (
        torch.nested.nested_tensor([matrix[0], matrix[1]], layout=torch.jagged),
        "a nested tensor",
    )
    yield matrix.to(torch.float8_e5m2), "at least 16 bits"


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
def test_tensors_whose_numbers_cannot_be_read_are_refused():
    torch = pytest.importorskip("torch")
    for tensor, says in _torch_without_numbers():
        for call in (
            gw.DenseSpace,
            gw.PointCloud,
            gw.GramSpace,
            lambda t: gw.solve(t, t),
            gw.DensePlan,
        ):
            refused(lambda call=call, tensor=tensor: call(tensor), TypeError, says)
    stack = torch.as_tensor(np.stack([GOOD, GOOD]))
    refused(
        lambda: torch.vmap(lambda C: gw.bounds.norm(C, C))(stack),
        TypeError,
        "within torch.vmap",
        "solve_batch",
    )


def test_dtypes_of_other_packages_in_numpy_are_no_floats():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, np.dtypes.StringDType()):
        refused(
            lambda dtype=dtype: gw.DenseSpace(GOOD.astype(dtype)),
            TypeError,
            "distances must hold floating-point",
        )
