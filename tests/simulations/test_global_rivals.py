"""Global programs beside ours: skipped where absent, read, judged and laid out."""

import sys

import numpy as np
import pytest

from simulations import _report as report
from simulations import global_rivals
from simulations.global_rivals import Case, Outcome

CASE = Case("Global-GW", "squared_2_3", 5, "uniform", 0)


def test_what_cannot_be_imported_is_skipped_with_a_sentence(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        global_rivals, "MODULES", {"gwsdp": "no_such_module_1", "Global-GW": "json"}
    )
    assert global_rivals.missing(sys.executable) == ["gwsdp"]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "gwsdp is skipped" in said
    options = ["--out", str(tmp_path / "out"), "--quick", "--methods", "gwsdp"]
    assert global_rivals.main(options) == 0
    assert "Nothing was run." in capsys.readouterr().out


def test_what_a_rival_prints_is_read():
    code = """\
import sys, numpy as np
data = np.load(sys.argv[1])
print("noise of a solver")
print("lower", data["C"].sum())
print("seconds", 0.5)
"""
    arrays = {"C": np.ones((2, 2))}
    found = global_rivals._run_rival(code, arrays, sys.executable, 60.0)
    assert found == Outcome(0.5, lower=4.0)
    endless = "import time\ntime.sleep(600)"
    assert global_rivals._run_rival(endless, arrays, sys.executable, 0.1) is None


def test_programs_of_rivals_are_python():
    for code in (global_rivals.GWSDP, global_rivals.GLOBAL_GW):
        compile(code, "rival", "exec")


@pytest.mark.parametrize("share", [0.9, 1.1])
@pytest.mark.parametrize("says_gap", [False, True])
def test_lower_ends_above_an_objective_are_false(monkeypatch, share, says_gap):
    def method(x, y, best, *_):
        if says_gap:
            return Outcome(1.0, gap=(1 - share) * best, objective=best)
        return Outcome(1.0, lower=share * best)

    monkeypatch.setitem(global_rivals.METHODS, "Global-GW", method)
    row = global_rivals.measure(CASE, "python", 1.0)
    assert row["finished"] == 1
    assert row["false"] == (share > 1)
    assert row["gap"] == pytest.approx(1 - share)
    assert row["objective"] == row["best"]


def test_runs_resume_and_are_laid_out(tmp_path, monkeypatch):
    calls = []

    def method(x, y, best, python, limit):
        calls.append(x.size)
        return None if x.size == 6 else Outcome(2.0, lower=0.99 * best)

    for name in global_rivals.METHODS:
        monkeypatch.setitem(global_rivals.METHODS, name, method)
    monkeypatch.setattr(global_rivals, "MODULES", {})
    options = ["--out", str(tmp_path / "out"), "--quick"]
    for _ in range(2):
        assert global_rivals.main(options) == 0
        assert len(calls) == len(list(global_rivals.cases(True, 1, 0))) == 20
    summary = report.read_rows(tmp_path / "out-quick" / "summary.csv")
    by_method = {(row["family"], row["n"], row["method"]): row for row in summary}
    assert by_method["squared_2", 6, "Global-GW"]["finished"] == 0
    assert by_method["squared_2", 6, "Global-GW"]["gap"] == ""
    assert by_method["squared_2_3", 5, "BranchAndBound"]["gap"] == pytest.approx(0.01)
    text = (tmp_path / "out-quick" / "global_rivals.md").read_text()
    assert "0 of 1" in text


def test_instances_are_those_of_the_families():
    x, y = CASE.draw()
    again, _ = CASE.draw()
    assert np.array_equal(x.data, again.data)
    assert (x.data.shape, y.data.shape) == ((5, 2), (5, 3))
