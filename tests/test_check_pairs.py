"""What no matrix of distances is made of: packages that are missing, and folders."""

import pytest

from gwtools import _check_pairs


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(_check_pairs, "find_spec", lambda name: None)


@pytest.mark.usefixtures("alone")
def test_what_is_not_installed_is_asked_for():
    for n_jobs in (None, 1):
        _check_pairs.joblib(n_jobs)
    with pytest.raises(ImportError, match=r"'gwfusion\[distributed\]'"):
        _check_pairs.joblib(2)
    for progress in (None, False):
        _check_pairs.shown(progress)
    with pytest.raises(ImportError, match=r"'gwfusion\[distributed\]'"):
        _check_pairs.shown(True)


def test_a_file_is_no_store(tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ValueError, match="file is a file: choose another name"):
        _check_pairs.folder(path)
    assert _check_pairs.folder(str(tmp_path)) == tmp_path


def test_a_manifest_of_something_else_is_no_store(tmp_path):
    for found in (None, [1], {"solver": "Sorted()"}):
        with pytest.raises(ValueError, match="differs in solver: choose"):
            _check_pairs.same_work(found, {"solver": "auto"}, tmp_path)
    _check_pairs.same_work({"solver": "auto"}, {"solver": "auto"}, tmp_path)
