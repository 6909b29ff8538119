"""The command line as a program: its help, progress, pipes and signals."""

import json
import os
import signal
import subprocess
import sys
from importlib import metadata

import pytest

import gwtools as gw
from gwtools.__main__ import main
from tests.command_line import (
    draw_points,
    printed,
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
