"""Figures and tables again: every recorded figure has a drawer, and it runs nothing."""

import pytest

pytest.importorskip("torch")

from simulations import redraw

NOT_RECORDED = {"loss_fields"}  # its gradients are too many


def test_every_figure_of_the_results_can_be_drawn_again():
    drawn = {path.parent.name for path in redraw.RESULTS.glob("*/*.png")}
    kept = {name for name in drawn if not name.endswith("-quick")}
    assert kept - NOT_RECORDED == set(redraw.FIGURES)


def test_a_figure_is_drawn_from_what_is_recorded(tmp_path, monkeypatch):
    recorded = redraw.RESULTS / "closing_interval"
    folder = tmp_path / "closing_interval"
    folder.mkdir()
    rows = (recorded / "intervals.csv").read_text()
    (folder / "intervals.csv").write_text(rows)
    monkeypatch.setattr(redraw, "RESULTS", tmp_path)
    assert redraw.main(["closing_interval"]) == 0
    assert (folder / "closing_interval.png").stat().st_size > 1000
    assert (folder / "intervals.csv").read_text() == rows


def test_every_table_is_laid_out_as_its_script_lays_it_out():
    for path in redraw.pages():
        text = path.read_text()
        assert redraw.lay_out_tables(text) == text, f"{path}: redraw --tables"


def test_tables_have_words_to_the_left_and_numbers_to_the_right(tmp_path, monkeypatch):
    page = tmp_path / "some" / "some.md"
    page.parent.mkdir()
    page.write_text("# Some\n\n|a|b|c|\n|-|-|-|\n|two words|1.5|0 of 5|\n|x||3 of 5|\n")
    monkeypatch.setattr(redraw, "RESULTS", tmp_path)
    assert redraw.main(["--tables"]) == 0
    assert page.read_text().splitlines()[2:] == [
        "| a         |   b |      c |",
        "|-----------|----:|-------:|",
        "| two words | 1.5 | 0 of 5 |",
        "| x         |     | 3 of 5 |",
    ]


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        redraw.main(["nothing_of_the_kind"])
    assert "NAME must be one of" in capsys.readouterr().err
