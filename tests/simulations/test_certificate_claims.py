"""The claims of certificates: run in their quick form, resumed and summarised."""

import pytest

from simulations import _report as report
from simulations import certificate_claims


def test_the_quick_form_runs_resumes_and_publishes(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "out"), "--quick"]
    assert certificate_claims.main(arguments) == 0
    folder = tmp_path / "out-quick"
    trials = report.read_rows(folder / "trials.csv")
    assert {row["family"] for row in trials} == {"euclidean_2", "squared_2"}
    assert all(0 < row["lower"] <= row["objective"] for row in trials)
    assert certificate_claims.main(arguments) == 0
    assert report.read_rows(folder / "trials.csv") == trials
    text = capsys.readouterr().out
    # How much is proved in half a second is the machine's, and that of its extras.
    missed = sum(row["share"] < row["least"] for row in trials)
    assert f"Missed: {missed} of 2." in text
    assert (folder / "certificate_claims.md").read_text().strip() in text


def test_every_group_has_cases_of_instances_that_are_known_or_drawn_here():
    every = list(certificate_claims.cases([*certificate_claims.MINUTES], quick=False))
    assert {case.group for case in every} == set(certificate_claims.MINUTES)
    assert len({case.key for case in every}) == len(every)


def test_means_are_held_against_what_is_asked():
    def row(seed, share):
        case = certificate_claims.Case("sixty", "rbf", 60, "uniform", seed, 5.0, 0.65)
        numbers = {"seconds": 1.0, "lower": share, "objective": 1.0, "share": share}
        return case._asdict() | numbers | {"bound": "reformulation"}

    (met,) = certificate_claims.summarise([row(0, 0.6), row(1, 0.701)])
    assert met["share"] == pytest.approx(0.6505)
    assert met["least share"] == 0.6
    assert met["met"] == 1
    (missed,) = certificate_claims.summarise([row(0, 0.6), row(1, 0.69)])
    assert missed["met"] == 0


def test_trees_are_judged_by_their_kind():
    case = certificate_claims.Case("trees", "plane", 6, "uniform", 0, 20.0, 0.999999)
    measured = certificate_claims.measure(case)
    assert measured["share"] >= case.least
    assert measured["bound"] in ("branch_and_bound", "permutations")
