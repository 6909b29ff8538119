"""What cannot be drawn: each refusal has its requirement and its remedy."""

import pytest

from gwtools import _check_plot


def test_matplotlib_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setattr(_check_plot, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'gwfusion\[plots\]'"):
        _check_plot.matplotlib()


def test_refusals_name_what_is_received():
    with pytest.raises(TypeError, match=r"ax must be axes of matplotlib, but is 'x'"):
        _check_plot.axes("x")
    with pytest.raises(TypeError, match=r"it must be a gwtools.str or gwtools.int"):
        _check_plot.instance(0.5, "it", (str, int))
    with pytest.raises(ValueError, match="must have steps, but has none: take some"):
        _check_plot.known(0, "steps", "take some")
    with pytest.raises(ValueError, match="for each of 3, but has 2"):
        _check_plot.labels("ab", 3, "names")


def test_what_can_be_drawn_is_not_refused():
    _check_plot.known(1, "steps", "")
    _check_plot.labels("ab", 2, "names")
    _check_plot.instance(1, "it", (str, int))
