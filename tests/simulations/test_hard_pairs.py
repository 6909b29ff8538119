"""The study of search: levels, factors, and a quick run of two pairs that resumes."""

import json

import numpy as np
import pytest

from simulations import _report as report
from simulations import hard_pairs, search_families, search_peers
from simulations.hard_pairs import Known

PAIRS = [
    Known("own families", "star of 75 against 45 of it", 200, 0.3, 8.0, True),
    Known("given", "hypercube 64 relabelled", 100, 0.0, 3.0),
]
METHODS = {
    "ConditionalGradient",
    "Sinkhorn",
    "solve",
    "POT",
    "POT, 3 starts",
    "epsilon tuned",
    "epsilon tuned, then CG",
}
TUNED = {"epsilon tuned", "epsilon tuned, then CG"}  # on first pairs alone


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "pairs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hard_pairs, "known_pairs", lambda quick: PAIRS)
        patch.setattr(hard_pairs, "find_spec", lambda name: None)
        assert hard_pairs.main(["--out", str(out), "--quick"]) == 0
    return out.with_name("pairs-quick")


def test_all_outputs_are_written(finished):
    assert {path.name for path in finished.iterdir()} == {
        "trials.csv",
        "summary.csv",
        "meta.json",
        "hard_pairs.md",
        "hard_pairs.png",
    }
    assert json.loads((finished / "meta.json").read_text())["OTT"] == "not installed"
    text = (finished / "hard_pairs.md").read_text()
    assert "OTT-JAX is not installed" in text


def test_every_method_has_a_row_of_every_pair(finished):
    trials = report.read_rows(finished / "trials.csv")
    for pair in PAIRS:
        rows = [row for row in trials if row["family"] == pair.family]
        methods = METHODS if pair.is_first else METHODS - TUNED
        assert {row["method"] for row in rows} == methods
        single = next(row for row in rows if row["method"] == hard_pairs.SINGLE)
        assert single["ratio"] == 1
        for row in rows:
            assert row["objective"] >= pair.best * (1 - 1e-9)
            assert row["ratio"] == pytest.approx(row["seconds"] / single["seconds"])


def test_interrupted_pairs_are_measured_again_and_whole_ones_are_not(
    tmp_path, monkeypatch, finished
):
    monkeypatch.setattr(hard_pairs, "known_pairs", lambda quick: PAIRS)
    monkeypatch.setattr(hard_pairs, "find_spec", lambda name: None)
    folder = tmp_path / "pairs-quick"
    folder.mkdir()
    lines = (finished / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(lines[: 1 + len(METHODS) + 3]))
    calls = []
    measure = hard_pairs.measure

    def counted(known, quick):
        calls.append(known.family)
        return measure(known, quick)

    monkeypatch.setattr(hard_pairs, "measure", counted)
    assert hard_pairs.main(["--out", str(tmp_path / "pairs"), "--quick"]) == 0
    assert calls == [PAIRS[1].family] * 2  # the first loads libraries
    rows = report.read_rows(folder / "trials.csv")
    assert len(rows) == 2 * len(METHODS) - len(TUNED)


@pytest.mark.parametrize(
    ("objective", "best", "above"),
    [
        (1.009, 1.0, (0, 0)),
        (1.011, 1.0, (1, 0)),
        (2.1, 1.0, (1, 1)),
        (0.009, 0.0, (0, 0)),
        (0.011, 0.0, (1, 0)),
        (0.11, 0.0, (1, 1)),
    ],
)
def test_levels(objective, best, above):
    known = Known("given", "family", 0, best, 100.0)
    row = hard_pairs._row(known, "solve", objective, 2.0, 0.5)
    assert (row["above_1"], row["above_2"]) == above
    assert row["ratio"] == 4


def test_factors_count_what_is_small_as_zero():
    rows = [
        {"objective": objective, "best": best, "product": 100.0}
        for objective, best in ((3.0, 1.0), (0.0, 0.0), (0.005, 0.0), (0.05, 0.0))
    ]
    assert [hard_pairs.factor(row) for row in rows] == pytest.approx([3, 1, 1, 5])


def test_summary_counts_pairs_and_names_the_slowest_family():
    rows = []
    values = (("one", 1.0, 2.0, 0), ("one", 1.0, 4.0, 1), ("two", 0.9, 9.0, 1))
    for family, objective, ratio, above in values:
        row = {"set": "given", "method": "solve", "family": family, "best": 1.0}
        row |= {"objective": objective, "ratio": ratio, "product": 5.0}
        rows.append(row | {"above_1": above, "above_2": 0})
    (summary,) = hard_pairs.summarise(rows)
    assert (summary["pairs"], summary["above_1"], summary["above_2"]) == (3, 2, 0)
    assert (summary["ratio"], summary["largest_ratio"]) == (6, 9)
    assert summary["slowest_family"] == "two"
    assert summary["lower"] == 1


def test_references_hold_both_kinds_of_families():
    pairs = hard_pairs.known_pairs(False)
    assert sum(pair.group == "given" for pair in pairs) == 204
    for pair in hard_pairs.known_pairs(True):
        assert pair.seed == 200
        x, y = search_families.spaces(search_families.draw(pair.family, pair.seed))
        assert min(x.size, y.size) >= 30


def test_objectives_are_those_of_rounded_plans():
    pair = search_families.draw("star of 75 against 45 of it", 200)
    product = np.outer(*search_families.weights(pair))
    value = hard_pairs.rounded_objective(pair, product)
    assert hard_pairs.rounded_objective(pair, 0 * product) == pytest.approx(value)
    assert search_peers.objective(pair, product) == pytest.approx(value)
