"""Figures drawn again: every recorded one has a drawer, and it runs nothing."""

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


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        redraw.main(["nothing_of_the_kind"])
    assert "NAME must be one of" in capsys.readouterr().err
