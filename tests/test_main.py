"""The command line: the numbers of `solve`, its matching and its plan."""

import csv
import json

import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools.__main__ import _SOLVERS, main
from tests.checkers import euclidean
from tests.command_line import (
    draw_points,
    printed,
    refusal,
    save,
    save_graphs,
    save_points,
)


@pytest.fixture
def points(rng):
    return draw_points(rng)


@pytest.fixture
def files(tmp_path, points):
    return save_points(tmp_path, points)


@pytest.fixture
def graphs(tmp_path):
    return save_graphs(tmp_path)


SOLVERS = {
    "conditional-gradient": gw.ConditionalGradient(),
    "sinkhorn": gw.Sinkhorn(),
    "sorted": gw.Sorted(),
}


@pytest.mark.parametrize(
    "suffixes", [("csv", "csv"), ("npy", "npy"), ("csv", "npy")], ids="-".join
)
@pytest.mark.parametrize("name", SOLVERS)
def test_prints_the_numbers_of_solve(capsys, files, points, name, suffixes):
    told = printed(
        capsys, files[f"x.{suffixes[0]}"], files[f"y.{suffixes[1]}"], "--solver", name
    )
    assert told == gw.solve(*map(gw.PointCloud, points), SOLVERS[name]).as_dict()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_metric(capsys, files, points, metric):
    told = printed(capsys, files["x.csv"], files["y.csv"], "--metric", metric)
    assert (
        told == gw.solve(*(gw.PointCloud(p, metric=metric) for p in points)).as_dict()
    )


def test_distances(capsys, tmp_path, points):
    matrices = [euclidean(p) for p in points]
    paths = [str(tmp_path / f"{n}.npy") for n in range(2)]
    for path, matrix in zip(paths, matrices, strict=True):
        np.save(path, matrix)
    assert printed(capsys, *paths, "--distances") == gw.solve(*matrices).as_dict()


def test_text_is_that_of_the_result(capsys, files, points):
    assert main([files["x.csv"], files["y.csv"]]) == 0
    assert capsys.readouterr().out.strip() == str(gw.solve(*map(gw.PointCloud, points)))


@pytest.mark.parametrize(
    "text", ["1.5\n2.5\n4\n", "1.5,2.5\n"], ids=["one column", "one row"]
)
def test_one_column_and_one_row(capsys, tmp_path, text, files):
    (tmp_path / "thin.csv").write_text(text)
    values = np.array(
        [[float(cell) for cell in line.split(",")] for line in text.split()]
    )
    told = printed(capsys, str(tmp_path / "thin.csv"), files["y.csv"])
    cloud = gw.PointCloud(np.load(files["y.npy"]))
    assert told == gw.solve(gw.PointCloud(values), cloud).as_dict()


def test_weights(capsys, tmp_path, files, points):
    weights = [
        np.array([0.5, 0.25, 0.125, 0.125, 0.0, 0.0]),
        np.array([0.5, 0.125, 0.125, 0.125, 0.125]),
    ]
    for name, values in zip("ab", weights, strict=True):
        np.savetxt(tmp_path / f"{name}.txt", values)
    options = [
        "--weights-x",
        str(tmp_path / "a.txt"),
        "--weights-y",
        str(tmp_path / "b.txt"),
    ]
    told = printed(capsys, files["x.csv"], files["y.csv"], *options)
    assert told == gw.solve(*map(gw.PointCloud, points, weights)).as_dict()
    swapped = refusal(
        capsys, files["x.csv"], files["y.csv"], "--weights-x", tmp_path / "b.txt"
    )
    assert "b.txt: weights must have one entry for each of the 6 atoms" in swapped


def test_matching_names_nodes(capsys, tmp_path, graphs):
    told = printed(capsys, *graphs, "--edge-length", "weight", "--matching")
    assert told["matching"] == [[node, node, 1.0] for node in ("a", "b", "c", "Ø d")]
    assert main([*graphs, "--edge-length", "weight", "--matching"]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"  {node} -> {node}  1" for node in ("a", "b", "c", "Ø d")
    ]
    out = tmp_path / "m.csv"
    out.write_text("old")
    assert "matching" not in printed(
        capsys, *graphs, "--edge-length", "weight", "--matching-out", str(out)
    )
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["x", "y", "share"],
            *([node, node, "1.0"] for node in ("a", "b", "c", "Ø d")),
        ]


def test_matching_names_rows_and_leaves_atoms_without_weight_out(capsys, tmp_path):
    (tmp_path / "x.csv").write_text("anna,0.5\nben,4.5\nchris,1.5\n")
    path = save(tmp_path / "y.npy", np.array([[1.5], [0.5], [4.5]]))
    (tmp_path / "w.csv").write_text("ben,0.5\nanna,0.0\nchris,0.5\n")
    assert printed(capsys, str(tmp_path / "x.csv"), path, "--matching")["matching"] == [
        ["anna", 1, 1.0],
        ["ben", 2, 1.0],
        ["chris", 0, 1.0],
    ]
    told = printed(
        capsys,
        str(tmp_path / "x.csv"),
        path,
        "--matching",
        "--weights-x",
        str(tmp_path / "w.csv"),
    )
    assert [pair[0] for pair in told["matching"]] == ["ben", "chris"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_plans_are_those_of_solve(capsys, tmp_path, files, points, solver):
    result = gw.solve(*map(gw.PointCloud, points), SOLVERS[solver])
    expected = result.plan.dense()
    arguments = [files["x.csv"], files["y.csv"], "--solver", solver]
    for suffix in ("npy", "npz", "csv"):
        path = tmp_path / f"plan.{suffix}"
        path.write_text("an old file")
        assert printed(capsys, *arguments, "--plan", str(path)) == result.as_dict()
    np.testing.assert_array_equal(np.load(tmp_path / "plan.npy"), expected)
    np.testing.assert_array_equal(
        sp.load_npz(tmp_path / "plan.npz").toarray(), expected
    )
    titles, *rows = list(csv.reader((tmp_path / "plan.csv").read_text().splitlines()))
    assert titles == ["x", "y", "mass"]
    found = np.zeros(expected.shape)
    for i, j, mass in rows:
        found[int(i), int(j)] = float(mass)
    np.testing.assert_array_equal(found, expected)
    assert [(int(i), int(j)) for i, j, _ in rows] == sorted(
        (int(i), int(j)) for i, j, _ in rows
    )


def test_a_criterion_that_is_not_met_is_said_in_one_line(capsys, files, monkeypatch):
    monkeypatch.setitem(
        _SOLVERS,
        "sinkhorn",
        lambda: gw.Sinkhorn(epsilon=1e-3, proximal=False, max_iterations=1),
    )
    assert main([files["x.csv"], files["y.csv"], "--solver", "sinkhorn", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"gwtools: {gw.Status.MAX_ITERATIONS.value}\n"
    assert json.loads(captured.out)["status"] == "MAX_ITERATIONS"


def test_work_that_does_not_fit_into_memory_is_said(capsys, files, monkeypatch):
    def solve(*_, **__):
        raise MemoryError

    monkeypatch.setattr(gw, "solve", solve)
    assert "memory" in refusal(capsys, files["x.csv"], files["y.csv"])
