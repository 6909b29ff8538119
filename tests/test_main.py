"""The command line: the numbers of `solve`, and one sentence for bad files."""

import csv
import json
import os
import signal
import subprocess
import sys
from importlib import metadata

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools.__main__ import _SOLVERS, main
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


def test_a_line_of_names_is_skipped(capsys, tmp_path, points):
    for header in ("", "first,second\n"):
        (tmp_path / "named.csv").write_text(header + "0,4\n2,3\n1e1,-2.5\n")
        told = printed(capsys, str(tmp_path / "named.csv"), str(tmp_path / "named.csv"))
        assert told["objective"] == 0.0
        assert told["upper"] < 1e-9


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


@pytest.mark.parametrize(
    "option",
    [["--solver", "simplex"], ["--metric", "cosine"], ["--effort", "all"], ["--fast"]],
)
def test_unknown_options(capsys, files, option):
    with pytest.raises(SystemExit) as stopped:
        main([files["x.csv"], files["y.csv"], *option])
    assert stopped.value.code == 2
    assert "usage: python -m gwtools" in capsys.readouterr().err


def test_runs_as_a_module(files):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "gwtools",
        files["x.csv"],
        files["y.csv"],
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] in ("bracket", "global")
    assert done.stderr == ""


def refusal(capsys, *arguments):
    """What is said of arguments that are refused, in one line on stderr."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("gwtools: ")


def save(path, values):
    np.save(path, values)
    return str(path)


@pytest.fixture
def graphs(tmp_path):
    """One path whose edges tell its nodes apart, as a list of edges and as GraphML, in two orders of its nodes."""
    (tmp_path / "g.edges").write_text("a,b,1\nb,c,2\nc,Ø d,4\n", encoding="utf-8")
    graph = nx.Graph()
    graph.add_weighted_edges_from([("Ø d", "c", 4.0), ("a", "b", 1.0), ("c", "b", 2.0)])
    nx.write_graphml(graph, tmp_path / "h.graphml")
    return str(tmp_path / "g.edges"), str(tmp_path / "h.graphml")


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


def test_progress_is_shown_on_terminals_alone(capsys, files, points, monkeypatch):
    pytest.importorskip("tqdm")
    expected = gw.solve(*map(gw.PointCloud, points)).as_dict()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("gwtools.__main__._DELAY", 0.0)
    assert main([files["x.csv"], files["y.csv"], "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == expected
    assert "steps" in captured.err
    monkeypatch.setattr("gwtools.__main__.find_spec", lambda name: None)
    assert printed(capsys, files["x.csv"], files["y.csv"]) == expected


def test_help_and_version(capsys):
    for option, words in (
        (
            "--help",
            [
                ".graphml",
                "units:",
                "examples:",
                "default: euclidean",
                "integers and booleans",
            ],
        ),
        ("--version", [f"gwfusion {metadata.version('gwfusion')}"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([option])
        assert stopped.value.code == 0
        told = capsys.readouterr().out
        assert all(word in told for word in words)


def started(*arguments, **environment):
    command = [sys.executable, "-W", "error", "-m", "gwtools", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment
    )


@pytest.mark.parametrize("arguments", [["--json", "--matching"], [], ["--help"]])
def test_a_reader_that_goes_away_ends_it_quietly(files, arguments):
    with started(files["x.csv"], files["y.csv"], *arguments) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 1)  # argparse finds nothing wrong with it


def test_names_that_the_terminal_cannot_show(graphs):
    with started(
        *graphs, "--edge-length", "weight", "--matching", PYTHONIOENCODING="ascii"
    ) as process:
        out, err = process.communicate()
    assert err == ""
    assert r"\xd8 d -> \xd8 d" in out


def test_ctrl_c_is_no_traceback(tmp_path, rng):
    path = save(tmp_path / "x.npy", rng.standard_normal((3, 2)))
    # A process in the background may ignore the signal: the handler is that of a
    # terminal.
    program = f"""
import signal, sys, time, gwtools.__main__ as m
signal.signal(signal.SIGINT, signal.default_int_handler)
def solve(*arguments, **options):
    print("ready", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)
m.gw.solve = solve
sys.argv = ["gwtools", {path!r}, {path!r}]
sys.exit(m._command())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert err == "gwtools: stopped by Ctrl-C.\n"
    assert process.returncode == 130
