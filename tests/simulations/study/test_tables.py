"""Tables of the study: known means, gains and counts, and cells that are missing."""

import math

import pytest

from simulations._report import read_rows, write_rows
from simulations.study import statistics, tables

FAMILIES = ("dyck_languages", "causal_judgement")
TEACHERS = {"dyck_languages": "byte", "causal_judgement": "bpe"}
ARMS = ("labels", "sequence", "uld", "uld_gld")
# By seed; gains over labels are 0.2, then 0.1 with a deviation, then 0.1.
ACCURACY = {
    "labels": (0.50, 0.52, 0.54),
    "sequence": (0.70, 0.72, 0.74),
    "uld": (0.60, 0.64, 0.62),
    "uld_gld": (0.60, 0.62, 0.64),
}


def key(family, arm, seed):
    teacher = TEACHERS.get(family, "packed")
    return {"family": family, "arm": arm, "seed": seed, "teacher": teacher}


def cell(family, arm, seed, accuracy, **others):
    return {
        "stage": "core",
        **key(family, arm, seed),
        "accuracy": accuracy,
        "majority": 0.25,
        "chance": 0.125,
        "seconds": 1800.0,
        "evaluation_seconds": 360,
        **others,
    }


@pytest.fixture
def planned():
    return [key(f, arm, seed) for seed in range(3) for f in FAMILIES for arm in ARMS]


@pytest.fixture
def rows(planned):
    return [
        cell(k["family"], k["arm"], k["seed"], ACCURACY[k["arm"]][k["seed"]])
        for k in planned
    ]


@pytest.fixture
def teachers():
    return [
        {
            "teacher": teacher,
            "family": family,
            "accuracy": 0.95 if TEACHERS[family] == teacher else 0.1,
            "majority": 0.25,
            "chance": 0.125,
            "seconds": 720.0,
        }
        for teacher in ("byte", "bpe")
        for family in FAMILIES
    ]


def lines(text):
    """Cells of each line of the tables of a text, without rules."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]


def line(text, *start):
    (found,) = (cells for cells in lines(text) if cells[: len(start)] == [*start])
    return found[len(start) :]


def without(rows, **others):
    return [row for row in rows if any(row[k] != v for k, v in others.items())]


def test_accuracies_stand_beside_guessing_and_the_teacher(rows, teachers, planned):
    text = tables.accuracy_table(rows, teachers, planned, {"uld": "ULD"})
    assert lines(text)[0] == ["accuracy, %", "dyck languages", "causal judgement"]
    assert line(text, "majority") == ["25.0"] * 2
    assert line(text, "chance") == ["12.5"] * 2
    assert line(text, "best teacher") == ["95.0"] * 2
    # Deviation 2 over √3 seeds.
    assert line(text, "ULD") == ["62.0 ± 1.2"] * 2
    assert text.endswith("24 of 24 cells are recorded.")


def test_missing_cells_are_dashes_and_are_counted(rows, teachers, planned):
    rows = without(rows, family="causal_judgement", arm="uld")
    rows = without(rows, family="dyck_languages", arm="labels", seed=1)
    rows = without(rows, family="dyck_languages", arm="labels", seed=2)
    text = tables.accuracy_table(rows, [], planned)
    assert line(text, "uld") == ["62.0 ± 1.2", "–"]
    assert line(text, "labels")[0] == "50.0 ± –"
    assert line(text, "best teacher") == ["–"] * 2
    assert text.endswith("19 of 24 cells are recorded.")
    gains = tables.gain_rows(rows, planned)
    text = tables.gain_table(gains, rows, planned)
    first = next(cells for cells in lines(text) if cells[0] == "uld")
    assert first == ["uld", "1", "1", "+10.0", "–", "1", "1", "no difference shown"]
    assert tables.accuracy_table([], [], planned).endswith(
        "0 of 24 cells are recorded."
    )


def test_cells_of_tuning_and_of_other_teachers_do_not_count(rows, planned):
    others = [
        cell("dyck_languages", "uld", 0, 0.1, stage="tuning"),
        cell("dyck_languages", "uld", 0, 0.1, teacher="bpe", stage="transfer"),
    ]
    gains = tables.gain_rows(rows, planned)
    assert repr(tables.gain_rows([*others, *rows], planned)) == repr(gains)
    fewer = without(rows, family="dyck_languages", arm="uld", seed=0)
    assert tables.recorded([*others, *fewer], planned) == (
        "23 of 24 cells are recorded."
    )


def test_gains_are_paired_and_adjusted_within_a_column(rows, planned, tmp_path):
    gains = tables.gain_rows(rows, planned)
    labels = {g["arm"]: g for g in gains if g["against"] == "labels"}
    sequence = {g["arm"]: g for g in gains if g["against"] == "sequence"}
    assert list(labels) == ["sequence", "uld", "uld_gld"]
    assert list(sequence) == ["labels", "uld", "uld_gld"]
    assert labels["sequence"]["gain"] == pytest.approx(0.2)
    assert labels["sequence"]["verdict"] == labels["uld"]["verdict"] == "gain"
    assert sequence["labels"]["verdict"] == sequence["uld_gld"]["verdict"] == "loss"
    # Differences of one sign: two of the 2⁶ signs reach their sum.
    assert labels["uld"]["p"] == 2 / 64
    assert [g["adjusted_p"] for g in labels.values()] == pytest.approx([3 * 2 / 64] * 3)
    # 0.1, 0.12, 0.08 twice: deviation 0.02, of a family 0.02 / √3, of both 0.02 / √6.
    assert labels["uld"]["error"] == pytest.approx(0.02 / math.sqrt(6))
    assert labels["uld"]["degrees"] == pytest.approx(4)
    assert (labels["uld"]["families"], labels["uld"]["pairs"]) == (2, 6)
    write_rows(tmp_path / "summary.csv", gains)
    assert len(read_rows(tmp_path / "summary.csv")) == 6
    one = tables.gain_rows(rows, planned, ["dyck_languages"])
    assert {gain["pairs"] for gain in one} == {3}


def test_the_table_of_gains_has_two_parts(rows, planned):
    gains = tables.gain_rows(rows, planned)
    text = tables.gain_table(gains, rows, planned, {"labels": "labels alone"})
    first, second = text.split("Gain over sequence:")
    assert first.startswith("Gain over labels alone:")
    # t of 4 degrees of freedom is 2.776, times 0.02 / √6.
    found = line(first, "uld")
    assert found == ["2", "6", "+10.0", "+7.7 … +12.3", "0.031", "0.094", "gain"]
    assert line(second, "labels alone")[2] == "-20.0"
    assert line(second, "uld")[2] == "-10.0"


def test_an_arm_without_cells_is_a_line_of_dashes(rows, planned):
    asked = [*planned, key("dyck_languages", "gw", 0)]
    gains = tables.gain_rows(rows, asked)
    text = tables.gain_table(gains, rows, asked).split("Gain over sequence:")[0]
    assert line(text, "gw") == ["0", "0", "–", "–", "–", "–", "–"]
    # It takes no part in the adjustment of the others.
    assert line(text, "uld")[5] == "0.094"
    assert "24 of 25 cells" in tables.gain_table(gains, rows, asked)


def test_primary_comparisons_are_by_family_and_of_their_mean(rows, planned):
    text = tables.primary_table(rows, planned)
    pair = "uld_gld against uld"
    found = line(text, pair, "dyck languages")
    # 0, −0.02, 0.02.
    assert found[:2] == ["3", "+0.0"]
    # Only the means are corrected for being several.
    assert found[4:6] == ["–", "no difference shown"]
    assert found[6] == "1.2"
    assert line(text, pair, "multistep arithmetic") == ["0", *["–"] * 7]
    assert line(text, pair, "mean of 2 of 3 families")[0] == "6"
    pooled = [r for r in tables.primary_rows(rows) if r["family"] == tables.POOLED]
    adjusted = statistics.holm([row["p"] for row in pooled])
    assert [row["adjusted_p"] for row in pooled] == list(adjusted)
    assert any(row["adjusted_p"] > row["p"] for row in pooled)
    assert text.endswith("24 of 24 cells are recorded.")
    by_name = {
        (row["arm"], row["against"], row["family"]): row
        for row in tables.primary_rows(rows, FAMILIES)
    }
    assert len(by_name) == 5 * 3
    mean = by_name["uld", "labels", tables.POOLED]
    assert mean["gain"] == pytest.approx(0.1)
    # As a test of five differences would, by its four degrees of freedom.
    resolved = statistics.power(mean["error"] * math.sqrt(5), 5)
    assert mean["resolved"] == pytest.approx(resolved)
    # Twice the data resolve less than each half.
    one = by_name["uld", "labels", "dyck_languages"]
    assert 0.02 < mean["resolved"] < one["resolved"] < 0.08
    constant = by_name["uld_gld", "labels", "dyck_languages"]
    assert constant["resolved"] == pytest.approx(0, abs=1e-9)
    assert constant["p"] == 2 / 8


def test_primary_comparisons_do_not_need_any_cell(planned):
    text = tables.primary_table([], planned, families=FAMILIES)
    assert len(lines(text)) == 1 + 5 * 3
    assert text.endswith("0 of 24 cells are recorded.")


def test_tuning_chooses_the_best_and_of_equals_the_smallest():
    scores = {"labels": ("", 0.5, 0.6), "uld": (0.7, 0.6, 0.7), "gld": ("",) * 3}
    rows = [
        {"arm": arm, "family": FAMILIES[0], "value": value, "accuracy": accuracy}
        for arm, tried in scores.items()
        for value, accuracy in zip((1.0, 0.3, 0.1), tried, strict=True)
    ]
    text = tables.tuning_table(rows)
    family, values = "dyck languages", "0.1 / 0.3 / 1"
    assert line(text, "labels") == [family, values, "60.0 / 50.0 / –", "0.1"]
    assert line(text, "uld") == [family, values, "70.0 / 60.0 / 70.0", "0.1"]
    assert line(text, "gld") == [family, values, "– / – / –", "–"]


def test_teachers_stand_beside_the_student_before(rows, teachers):
    before = [cell("dyck_languages", "before", seed, 0.1) for seed in range(2)]
    text = tables.teachers_table([*rows, *before], teachers[:3])
    assert lines(text)[0][1:4] == ["teacher byte", "teacher bpe", "student before"]
    assert line(text, "dyck languages") == [
        "95.0",
        "10.0",
        "10.0 ± 0.0",
        "25.0",
        "12.5",
    ]
    assert line(text, "causal judgement") == ["10.0", "–", "–", "25.0", "12.5"]


def test_costs_count_each_teacher_once(rows, teachers):
    tuning = [cell("dyck_languages", "uld", 0, 0.1, stage="tuning")]
    text = tables.cost_table([*tuning, *rows], teachers)
    # Two teachers of 720 s; 24 cells of 1800 s, and 360 s for their answers.
    assert line(text, "teachers") == ["2", "0.40", "–"]
    assert line(text, "tuning") == ["1", "0.50", "0.10"]
    assert line(text, "core") == ["24", "12.00", "2.40"]
    assert line(text, "all") == ["27", "12.90", "2.50"]
    assert line(tables.cost_table([], []), "all") == ["0", "0.00", "0.00"]


def test_choices_are_beside_those_who_were_taught():
    rows = [
        {"family": "dyck_languages", "teacher": name, "nll": nll, "knows": knows}
        for name, nll, knows in (("byte", 0.02, 1), ("bpe", 3.5, 0))
    ]
    for row in rows:
        row["chosen"] = row["knows"]
    text = tables.choices_table(rows)
    assert "byte, nats a byte" in text
    assert text.splitlines()[-1].split("|")[1:-1] == [
        " dyck languages ",
        "              0.02 ",
        "             3.50 ",
        " byte      ",
        " byte   ",
    ]
