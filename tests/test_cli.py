"""The command line: the numbers of `solve`, and one sentence for bad files."""

import json
import subprocess
import sys

import numpy as np
import pytest

import gwtools as gw
from gwtools.__main__ import main
from tests.checkers import euclidean


@pytest.fixture
def points(rng):
    return rng.standard_normal((6, 2)), rng.standard_normal((5, 3))


@pytest.fixture
def files(tmp_path, points):
    """The same points as text and as arrays."""
    paths = {}
    for name, values in zip("xy", points, strict=True):
        np.savetxt(tmp_path / f"{name}.csv", values, delimiter=",", fmt="%.17g")
        np.save(tmp_path / f"{name}.npy", values)
        for suffix in ("csv", "npy"):
            paths[f"{name}.{suffix}"] = str(tmp_path / f"{name}.{suffix}")
    return paths


def printed(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


SOLVERS = {"conditional-gradient": gw.ConditionalGradient(), "sinkhorn": gw.Sinkhorn(), "sorted": gw.Sorted()}


@pytest.mark.parametrize("suffixes", [("csv", "csv"), ("npy", "npy"), ("csv", "npy")], ids="-".join)
@pytest.mark.parametrize("name", SOLVERS)
def test_prints_the_numbers_of_solve(capsys, files, points, name, suffixes):
    told = printed(capsys, files[f"x.{suffixes[0]}"], files[f"y.{suffixes[1]}"], "--solver", name)
    assert told == gw.solve(*map(gw.PointCloud, points), SOLVERS[name]).as_dict()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_metric(capsys, files, points, metric):
    told = printed(capsys, files["x.csv"], files["y.csv"], "--metric", metric)
    assert told == gw.solve(*(gw.PointCloud(p, metric=metric) for p in points)).as_dict()


def test_distances(capsys, tmp_path, points):
    matrices = [euclidean(p) for p in points]
    paths = [str(tmp_path / f"{n}.npy") for n in range(2)]
    for path, matrix in zip(paths, matrices, strict=True):
        np.save(path, matrix)
    assert printed(capsys, *paths, "--distances") == gw.solve(*matrices).as_dict()


def test_text_is_that_of_the_result(capsys, files, points):
    assert main([files["x.csv"], files["y.csv"]]) == 0
    assert capsys.readouterr().out.strip() == str(gw.solve(*map(gw.PointCloud, points)))


def test_a_line_of_names_is_skipped(capsys, tmp_path, points):
    for header in ("", "first,second\n"):
        (tmp_path / "named.csv").write_text(header + "0,1\n2,3\n1e1,-2.5\n")
        told = printed(capsys, str(tmp_path / "named.csv"), str(tmp_path / "named.csv"))
        assert told["objective"] == 0.0
        assert told["upper"] < 1e-9
    assert float(euclidean(np.array([[0, 1], [10, -2.5]]))[0, 1]) > 0


@pytest.mark.parametrize("text", ["1.5\n2.5\n4\n", "1.5,2.5\n"], ids=["one column", "one row"])
def test_one_column_and_one_row(capsys, tmp_path, text, files):
    (tmp_path / "thin.csv").write_text(text)
    values = np.array([[float(cell) for cell in line.split(",")] for line in text.split()])
    told = printed(capsys, str(tmp_path / "thin.csv"), files["y.csv"])
    cloud = gw.PointCloud(np.load(files["y.npy"]))
    assert told == gw.solve(gw.PointCloud(values), cloud).as_dict()


BAD_FILES = {
    "missing": (None, "x.csv", "No such file"),
    "other suffix": ("1,2\n", "x.txt", "must end in .csv or .npy"),
    "empty": ("", "x.csv", "is empty"),
    "blank": ("\n \n", "x.csv", "is empty"),
    "words": ("1,2\n3,four\n", "x.csv", "must hold comma-separated numbers"),
    "ragged": ("1,2\n3\n", "x.csv", "must hold comma-separated numbers"),
    "NaN": ("1,nan\n2,3\n", "x.csv", "must be finite"),
    "names only": ("first,second\n", "x.csv", "must"),
    "no array": ("1,2\n", "x.npy", "x.npy"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(capsys, tmp_path, files, case):
    text, name, words = BAD_FILES[case]
    path = tmp_path / "bad" / name
    path.parent.mkdir()
    if text is not None:
        path.write_text(text)
    assert main([str(path), files["y.csv"]]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gwtools: ")
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1


BAD_ARRAYS = {
    "integers": (np.ones((3, 3), dtype=int), "floating-point"),
    "vector": (np.zeros(3), "must have 2 axes"),
    "asymmetric": (np.array([[0.0, 1.0], [2.0, 0.0]]), "must be symmetric"),
    "not square": (np.zeros((2, 3)), "square"),
    "no atoms": (np.zeros((0, 0)), "must not be empty"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(capsys, tmp_path, case):
    values, words = BAD_ARRAYS[case]
    np.save(tmp_path / "x.npy", values)
    assert main([str(tmp_path / "x.npy"), str(tmp_path / "x.npy"), "--distances"]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_pickles_are_not_loaded(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main([str(tmp_path / "x.npy"), str(tmp_path / "x.npy")]) == 2
    assert "gwtools: " in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--solver", "simplex"], ["--metric", "cosine"], ["--effort", "all"], ["--fast"]])
def test_unknown_options(capsys, files, option):
    with pytest.raises(SystemExit) as stopped:
        main([files["x.csv"], files["y.csv"], *option])
    assert stopped.value.code == 2
    assert "usage: python -m gwtools" in capsys.readouterr().err


def test_runs_as_a_module(files):
    command = [sys.executable, "-W", "error", "-m", "gwtools", files["x.csv"], files["y.csv"], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] in ("bracket", "global")
    assert done.stderr == ""
