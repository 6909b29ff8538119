"""Saved results: what is loaded is what was saved, or a sentence says why not."""

import dataclasses
import json
import math
import os
import stat
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import saved_results
from tests.libraries import EAGER, Library, to_numpy
from tests.solvers.test_base import QUIET
from tests.strategies import pairs
from tests.test_check import refused
from tests.test_history import clouds

SOLVERS = [
    gw.ConditionalGradient(),
    gw.Sinkhorn(),
    gw.Sinkhorn(epsilon=0.3, proximal=False),
    gw.Sinkhorn(max_iterations=2),
    gw.Sorted(),
]
RESULT = gw.solve(*clouds())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "result.npz"


def same(value, other):
    """Whether two values are of one type and equal to the last digit, NaN too."""
    if type(value) is not type(other):
        return False
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype == other.dtype and np.array_equal(value, other, True)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, float) and math.isnan(value):
        return math.isnan(other)
    if isinstance(value, dict):
        return list(value) == list(other) and all(
            same(value[key], other[key]) for key in value
        )
    if dataclasses.is_dataclass(value):
        return all(
            same(getattr(value, field.name), getattr(other, field.name))
            for field in dataclasses.fields(value)
        )
    return value == other


@QUIET
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(null=True))
def test_every_field_is_what_it_was(tmp_path_factory, solver, pair):
    path = tmp_path_factory.mktemp("saved") / "result.npz"
    result = gw.solve(*(side.space() for side in pair), solver)
    result.save(path)
    loaded = gw.GWResult.load(path)
    assert same(loaded, result)
    assert str(loaded) == str(result)
    assert repr(loaded) == repr(result)
    assert loaded.as_dict() == result.as_dict()
    assert loaded.matching() == result.matching()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_dtypes_stay(path, dtype):
    spaces = [gw.DenseSpace(s.dense().astype(dtype)) for s in clouds()]
    result = gw.solve(*spaces, gw.Sorted())
    result.save(path)
    assert same(gw.GWResult.load(path), result)


def with_certificate(**changed):
    certificate = dataclasses.replace(RESULT.certificate, **changed)
    return dataclasses.replace(RESULT, certificate=certificate)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, None, 5e-324, 0.1])
@pytest.mark.parametrize("kind", gw.Kind)
@pytest.mark.parametrize("status", gw.Status)
def test_every_verdict_and_number_stays(path, number, kind, status):
    changed = {"a_priori": number, "kind": kind, "bounds": {"norm": number, "ü": 1.5}}
    result = dataclasses.replace(
        with_certificate(**changed),
        status=status,
        frank_wolfe_gap=number,
        regularized=np.float64(2.5),
        history=(gw.Step(1, 0.1, number, number, 1e-7), gw.Step(2, 0.0, 0.5, None, 3)),
    )
    result.save(path)
    assert same(gw.GWResult.load(path), result)


def test_numbers_of_numpy_in_a_certificate_are_those_of_python(path):
    with_certificate(lower=np.float64(0.125), tolerance=np.float32(0.5)).save(path)
    certificate = gw.GWResult.load(path).certificate
    assert same(certificate.lower, 0.125)
    assert same(certificate.tolerance, 0.5)


plain = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
)
names = st.one_of(plain, st.tuples(plain, plain), st.tuples(st.tuples(plain), plain))


@given(x=st.lists(names, min_size=9, max_size=9), y=st.lists(names).map(tuple))
def test_names_stay(tmp_path_factory, x, y):
    path = tmp_path_factory.mktemp("saved") / "result.npz"
    dataclasses.replace(RESULT, names=(x, y)).save(path)
    assert same(gw.GWResult.load(path).names, (x, y))


def test_nodes_of_graphs_stay(path):
    grid = gw.GraphSpace(nx.grid_2d_graph(2, 3))
    path_graph = gw.GraphSpace(
        nx.relabel_nodes(nx.path_graph(3), dict(enumerate("abc")))
    )
    result = gw.solve(grid, path_graph)
    result.save(path)
    loaded = gw.GWResult.load(path)
    assert loaded.names == (tuple(grid.nodes), ("a", "b", "c"))
    assert same(loaded.matching(), result.matching())


@pytest.mark.parametrize("name", [1 + 2j, b"a", frozenset("a"), np.int64(3), ("a", {})])
def test_names_that_the_file_cannot_hold_are_refused_before_it_is_written(path, name):
    RESULT.save(path)
    before = path.read_bytes()
    result = dataclasses.replace(RESULT, names=(range(9), ["b", name]))
    kind = type(name).__name__
    refused(lambda: result.save(path), TypeError, "atoms of y", kind, "replace(result")
    assert path.read_bytes() == before
    odd = dataclasses.replace(RESULT, names=({"a": 1}, range(12)))
    refused(lambda: odd.save(path), TypeError, "atoms of x", "a list or a tuple")
    assert path.read_bytes() == before


@pytest.mark.parametrize("library", EAGER, ids=str)
@pytest.mark.parametrize("solver", SOLVERS[1:3], ids=str)
def test_arrays_are_loaded_for_the_library_that_is_asked_for(path, library, solver):
    spaces = [
        gw.PointCloud(library.array(s.points), weights=library.array(s.weights))
        for s in clouds()
    ]
    result = gw.solve(*spaces, solver)
    result.save(path)
    in_numpy = gw.GWResult.load(path)
    loaded = gw.GWResult.load(path, like=spaces[0].points)
    for found, expected, plain in zip(
        arrays(loaded), arrays(result), arrays(in_numpy), strict=True
    ):
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        assert np.array_equal(to_numpy(found), to_numpy(expected))
        assert isinstance(plain, np.ndarray | np.generic)
        assert np.array_equal(to_numpy(plain), to_numpy(expected))
    assert same(loaded.certificate, result.certificate)
    assert same(loaded.history, result.history)
    # It can be gone on with.
    gw.certify(*spaces, loaded.plan)


def arrays(result):
    found = [result.objective, result.distance, result.estimate, *result.potentials]
    if result.regularized is not None:
        found.append(result.regularized)
    plan = result.plan
    sparse = isinstance(plan, gw.SparsePlan)
    return [*found, *((plan.rows, plan.cols, plan.mass) if sparse else [plan.matrix])]


def test_the_dtype_of_like_is_taken(path):
    RESULT.save(path)
    like = Library("torch", "float32").array([0.0])
    loaded = gw.GWResult.load(path, like=like)
    assert {str(value.dtype) for value in arrays(loaded)} == {
        "torch.float32",
        "torch.int64",
    }
    assert loaded.objective.shape == ()


def test_gradients_are_left_out(path):
    torch = pytest.importorskip("torch")
    points = torch.tensor(clouds()[0].points, requires_grad=True)
    result = gw.solve(gw.PointCloud(points), gw.PointCloud(points.detach()[:5]))
    result.save(path)
    loaded = gw.GWResult.load(path, like=points)
    assert not loaded.objective.requires_grad
    assert float(loaded.objective) == float(result.objective.detach())


def test_the_file_is_one_of_numpy_and_json(path):
    RESULT.save(path)
    with np.load(path, allow_pickle=False) as archive:
        text = archive["result.json"].tobytes().decode()
        assert same(archive["plan.mass"], RESULT.plan.mass)
        assert same(archive["potentials.1"], RESULT.potentials[1])
    assert json.loads(text)["fields"]["status"] == {"Status": "STATIONARY"}


def rewritten(path, change):
    """Save the result with another document."""
    RESULT.save(path)
    with np.load(path) as archive:
        entries = dict(archive)
    document = json.loads(entries["result.json"].tobytes())
    change(document)
    text = json.dumps(document).encode()
    entries["result.json"] = np.frombuffer(text, dtype=np.uint8)
    np.savez(path, **entries)


def test_fields_may_be_more_or_fewer_than_those_of_this_version(path):
    def change(document):
        document["fields"]["of a later version"] = {"Unknown": [1]}
        del document["fields"]["history"], document["fields"]["potentials"]

    rewritten(path, change)
    loaded = gw.GWResult.load(path)
    assert (loaded.history, loaded.potentials) == ((), None)
    assert same(loaded.plan, RESULT.plan)


def test_newer_versions_of_the_format_are_refused(path):
    (version,) = (saved_results._FORMAT,)
    rewritten(path, lambda document: document.update({version: 2}))
    refused(
        lambda: gw.GWResult.load(path),
        ValueError,
        str(path),
        "version 1",
        "is in version 2",
        "newer gwtools",
    )


def lacks(*keys):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


def says(value, *keys):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


CHANGES = [
    lacks(saved_results._FORMAT),
    lacks("fields"),
    lacks("fields", "plan"),
    lacks("fields", "plan", "SparsePlan", "rows"),
    says({"Status": "DONE"}, "fields", "status"),
    says({"Plan": {}}, "fields", "plan"),
    says({"array": "nowhere"}, "fields", "objective"),
    says({"array": "plan.mass", "scalar": "objective"}, "fields", "objective"),
    says({}, "fields", "objective"),
    says("one", saved_results._FORMAT),
    # Positions outside the matrix.
    says({"tuple": [2, 2]}, "fields", "plan", "SparsePlan", "size"),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_other_contents_are_refused(path, change):
    rewritten(path, change)
    refuse(path)


def refuse(path):
    refused(
        lambda: gw.GWResult.load(path),
        ValueError,
        str(path),
        "that GWResult.save has written",
        "another file",
    )


def npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def with_objects(path):
    with path.open("wb") as file:
        np.savez(file, **{"result.json": np.array([{}], dtype=object)})


def table(path):
    path.write_text("x,y\n1,2\n")


@pytest.mark.parametrize("write", [npz, npy, with_objects, table, Path.touch])
def test_other_files_are_refused(path, write):
    write(path)
    refuse(path)


@given(data=st.data())
def test_damaged_files_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("saved") / "result.npz"
    RESULT.save(path)
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:position])
    refuse(path)
    # A byte of an array, which the archive's checksums cover.
    mass = RESULT.plan.mass.tobytes()
    start = whole.index(mass)
    position = start + data.draw(st.integers(0, len(mass) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    refuse(path)


def test_a_file_that_cannot_be_written_to_the_end_stays_as_it_was(path, monkeypatch):
    RESULT.save(path)
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"some bytes")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved_results.np, "savez", full)
    refused(lambda: RESULT.save(path), ValueError, str(path), "No space left on device")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

    def interrupted(file, **arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_results.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        RESULT.save(path)
    assert list(path.parent.iterdir()) == [path]


def test_who_reads_the_old_file_meanwhile_reads_it_to_the_end(path):
    path.write_text("of before")
    with path.open() as file:
        RESULT.save(path)
        assert file.read() == "of before"


def test_a_file_is_replaced_and_links_to_it_stay(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    path.write_text("of before")
    RESULT.save(str(link))
    assert link.is_symlink()
    assert same(gw.GWResult.load(path), RESULT)
    assert sorted(tmp_path.iterdir()) == sorted([link, path])


def test_rights_are_those_of_any_new_file(path, tmp_path):
    RESULT.save(path)
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_places_that_are_no_files_are_refused(tmp_path):
    for call in (RESULT.save, gw.GWResult.load):
        refused(
            lambda call=call: call(tmp_path), ValueError, str(tmp_path), "is a folder"
        )
        refused(lambda call=call: call(b"name"), TypeError, "path", "pathlib.Path")
        refused(lambda call=call: call(3), TypeError, "path", "is 3")
    missing = tmp_path / "missing" / "result.npz"
    refused(lambda: RESULT.save(missing), ValueError, "can be written", "the folder")
    refused(lambda: gw.GWResult.load(missing), ValueError, "can be read", "No such")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(lambda: RESULT.save(pipe), ValueError, str(pipe), "is none")
    assert Path(pipe).is_fifo()


@pytest.mark.parametrize("like", [[0.0], "torch", np.arange(3)])
def test_like_is_an_array_of_floating_point_numbers(path, like):
    RESULT.save(path)
    refused(lambda: gw.GWResult.load(path, like=like), TypeError, "like", "device")
