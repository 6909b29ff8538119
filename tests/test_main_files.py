"""The command line: what it reads, and what it refuses in one sentence."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.__main__ import main
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


def test_a_line_of_names_is_skipped(capsys, tmp_path, points):
    for header in ("", "first,second\n"):
        (tmp_path / "named.csv").write_text(header + "0,4\n2,3\n1e1,-2.5\n")
        told = printed(capsys, str(tmp_path / "named.csv"), str(tmp_path / "named.csv"))
        assert told["objective"] == 0.0
        assert told["upper"] < 1e-9


BAD_FILES = {
    "missing": (None, "x.csv", "x.csv must be a file that can be read"),
    "other suffix": ("1,2\n", "x.xlsx", "x.xlsx must end in .csv"),
    "empty": ("", "x.csv", "x.csv must hold numbers, but is empty"),
    "words": ("1,2\n3,four\n", "x.csv", "x.csv, line 2, column 2 must hold a number"),
    "ragged": ("1,2\n3\n", "x.csv", "x.csv, line 2 must have 2 cells"),
    "NaN": ("1,nan\n2,3\n", "x.csv", "x.csv, line 1, column 2 must hold a number"),
    "no array": ("1,2\n", "x.npy", "x.npy must hold a NumPy array"),
    "distances": ("0,1.5\n1.5,0\n", "x.csv", "pass --distances if"),
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
    "vector": (np.zeros(3), "square"),
    "asymmetric": (np.array([[0.0, 1.0], [2.0, 0.0]]), "must be symmetric"),
    "not square": (np.zeros((2, 3)), "square"),
    "no atoms": (np.zeros((0, 0)), "shape (0, 0)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(capsys, tmp_path, case):
    values, words = BAD_ARRAYS[case]
    np.save(tmp_path / "x.npy", values)
    assert main([str(tmp_path / "x.npy"), str(tmp_path / "x.npy"), "--distances"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"gwtools: {tmp_path / 'x.npy'}")
    assert words in captured.err
    assert captured.out == ""


def test_pickles_are_not_loaded(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main([str(tmp_path / "x.npy"), str(tmp_path / "x.npy")]) == 2
    assert "gwtools: " in capsys.readouterr().err


def test_files_of_unlike_meaning(capsys, tmp_path, points, graphs):
    distances = euclidean(points[0])
    path = save(tmp_path / "d.npy", distances)
    cloud = save(tmp_path / "p.npy", points[1])
    told = printed(
        capsys, path, cloud, "--x-holds", "distances", "--metric", "sqeuclidean"
    )
    assert (
        told
        == gw.solve(distances, gw.PointCloud(points[1], metric="sqeuclidean")).as_dict()
    )
    assert printed(capsys, path, graphs[0], "--x-holds", "distances")["lower"] >= 0
    assert "g.edges must be read as a graph" in refusal(
        capsys, path, graphs[0], "--distances"
    )
    (tmp_path / "g.csv").write_text("source,target\na,b\nb,c\n")
    told = printed(capsys, str(tmp_path / "g.csv"), str(tmp_path / "g.csv"), "--edges")
    assert told["objective"] == 0.0


REFUSED_MEANINGS = {
    "a graph, of both": (
        "g.edges p.csv --points",
        "--points is given: say --x-holds points or --y-holds points of the other",
        "g.edges p.csv --y-holds points",
    ),
    "a graph, points": (
        "g.edges p.csv --x-holds points",
        "--x-holds points is given: say --x-holds edges instead.",
        "g.edges p.csv --x-holds edges",
    ),
    "a graph, distances": (
        "p.csv g.edges --y-holds distances",
        "--y-holds distances is given: say --y-holds edges instead.",
        "p.csv g.edges --y-holds edges",
    ),
    "a graph, against what is said of both": (
        "g.edges p.csv --points --x-holds distances",
        "--x-holds distances is given: say --x-holds edges instead.",
        "g.edges p.csv --points --x-holds edges",
    ),
    "an array, of both": (
        "g.edges p.npy --edges",
        "--edges is given: write",
        None,
    ),
    "an array": (
        "p.csv p.npy --y-holds edges",
        "--y-holds edges is given: write",
        None,
    ),
    "no matrix, of both": (
        "p.csv p.csv --distances",
        "leave --distances out if these are points",
        "p.csv p.csv",
    ),
    "no matrix": (
        "p.csv p.csv --x-holds distances",
        "say --x-holds points if these are points",
        "p.csv p.csv --x-holds points",
    ),
    "no matrix, against what is said of both": (
        "d.csv p.csv --distances --y-holds distances",
        "say --y-holds points if these are points",
        "d.csv p.csv --distances --y-holds points",
    ),
}


@pytest.mark.parametrize("case", REFUSED_MEANINGS)
def test_refused_meanings_name_the_option_that_was_given(
    capsys, tmp_path, monkeypatch, case
):
    given, words, advised = REFUSED_MEANINGS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.edges").write_text("a b\nb c\n")
    (tmp_path / "p.csv").write_text("1.5,2\n3,4\n2,7\n")
    (tmp_path / "d.csv").write_text("0,1.5\n1.5,0\n")
    save(tmp_path / "p.npy", np.array([[1.5], [2.0]]))
    assert words in refusal(capsys, *given.split())
    if advised is not None:
        assert printed(capsys, *advised.split())["lower"] >= 0


def test_options_that_would_change_nothing_are_refused(
    capsys, tmp_path, points, graphs, files
):
    path = save(tmp_path / "d.npy", euclidean(points[0]))
    assert "--metric must" in refusal(
        capsys, path, path, "--distances", "--metric", "euclidean"
    )
    assert "these hold edges" in refusal(capsys, *graphs, "--metric", "sqeuclidean")
    assert "--index-column must" in refusal(
        capsys, files["x.npy"], graphs[0], "--index-column", "yes"
    )
    assert "--edge-length must" in refusal(
        capsys, files["x.npy"], graphs[0], "--edge-length", "km"
    )
    (tmp_path / "g.csv").write_text("a,b\n")
    edges = tmp_path / "g.csv"
    assert "--index-column must" in refusal(
        capsys, edges, edges, "--edges", "--index-column", "yes"
    )
    assert "--header must" in refusal(
        capsys, files["x.npy"], graphs[1], "--header", "no"
    )


def test_header_and_index_can_be_said(capsys, tmp_path):
    (tmp_path / "p.csv").write_text("id,0\n1,2.5\n2,7\n3,1\n")
    assert "--header yes" in refusal(capsys, tmp_path / "p.csv", tmp_path / "p.csv")
    assert "--index-column yes" in refusal(
        capsys, tmp_path / "p.csv", tmp_path / "p.csv", "--header", "yes"
    )
    values = np.array([[1.0, 2.5], [2.0, 7.0], [3.0, 1.0]])
    for answer, taken in (("yes", values[:, 1:]), ("no", values)):
        path = str(tmp_path / "p.csv")
        other = save(tmp_path / "q.npy", np.array([[0.0], [3.0]]))
        told = printed(capsys, path, other, "--header", "yes", "--index-column", answer)
        assert (
            told
            == gw.solve(
                gw.PointCloud(taken), gw.PointCloud(np.array([[0.0], [3.0]]))
            ).as_dict()
        )


@pytest.mark.parametrize("option", ["--plan", "--matching-out"])
def test_files_that_cannot_be_written_are_refused_before_any_work(
    capsys, tmp_path, files, option, monkeypatch
):
    monkeypatch.setattr(gw, "solve", lambda *_, **__: pytest.fail("worked"))
    monkeypatch.setattr(
        "gwtools.files.formats.read_space", lambda *_, **__: pytest.fail("read")
    )
    (tmp_path / "folder.csv").mkdir()
    inputs = files["x.csv"], files["y.csv"]
    for path, words in (
        (tmp_path / "absent" / "out.csv", "No such file or directory"),
        (tmp_path / "folder.csv", "Is a directory"),
        (tmp_path / "out.xlsx", "must end in"),
        (tmp_path / ".." / tmp_path.name / "x.csv", "is one of them"),
    ):
        message = refusal(capsys, *inputs, option, path)
        assert message.startswith(f"{path} must ")
        assert words in message
    assert np.loadtxt(files["x.csv"], delimiter=",").shape == (6, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "folder.csv",
        "x.csv",
        "x.npy",
        "y.csv",
        "y.npy",
    ]


def test_plan_and_matching_need_two_files(capsys, tmp_path, files):
    out = tmp_path / "out.csv"
    assert "is one of them" in refusal(
        capsys, files["x.csv"], files["y.csv"], "--plan", out, "--matching-out", out
    )


def test_trying_to_write_changes_no_file(capsys, tmp_path, files):
    kept, absent, bad = (
        tmp_path / "kept.npy",
        tmp_path / "absent.csv",
        tmp_path / "bad.csv",
    )
    kept.write_text("kept")
    bad.write_text("1,NA\n")
    assert "line 1" in refusal(
        capsys, bad, files["y.csv"], "--plan", kept, "--matching-out", absent
    )
    assert kept.read_text() == "kept"
    assert not absent.exists()
