"""Stored notebooks are whole runs of themselves, name no machine and stay small.

The quick run of CI leaves them alone.
"""

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[2] / "notebooks"
PICTURES = FOLDER.parent / "docs" / "pictures"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(
    r"/(tmp|work|home|root|Users|mnt|opt|usr|var)/|[A-Z]:\\\\|"
    r"site-packages|0x[0-9a-f]{6,}"
)
MOST_BYTES = 2 * 2**20  # of a notebook


def code_cells(path):
    return [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell.outputs]


def shows(source):
    """Tell whether a cell prints, displays or draws at its top level.

    One that captures its output shows nothing.
    """
    calls = re.search(
        r"^(for .*:\n\s+|    )*(print|display|plt\.show)\(", source, flags=re.MULTILINE
    )
    return not source.startswith("%%capture") and calls is not None


def texts(output):
    """Return every text of an output.

    What was printed, and what is shown but for images.
    """
    data = {
        kind: value
        for kind, value in output.get("data", {}).items()
        if not kind.startswith("image/png")
    }
    return [
        output.get("text", ""),
        *map(str, data.values()),
        *output.get("traceback", []),
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_as_they_ran(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not shows(cell.source) or cell.outputs, cell.source
        assert cell.outputs == [] or "%%capture" not in cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_go_from_a_question_to_what_was_shown(path):
    cells = nbformat.read(path, as_version=4).cells
    assert re.search(r"\*\*[^*]+\?\*\*", cells[0].source)
    assert "## What was shown, and what not\n" in cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_hold_no_error_no_warning_and_no_trace_of_a_machine(path):
    for output in outputs(path):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        for text in texts(output):
            assert "Warning" not in text
            assert MACHINE.search(text) is None, MACHINE.search(text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_pictures_and_stay_small(path):
    images = [
        base64.b64decode(output["data"]["image/png"])
        for output in outputs(path)
        if "image/png" in output.get("data", {})
    ]
    assert images
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_gallery_shows_a_picture_that_is_stored_in_the_notebook(path):
    tagged = [c for c in code_cells(path) if "gallery" in c.metadata.get("tags", [])]
    shown = [
        base64.b64decode(output["data"]["image/png"])
        for cell in tagged
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    picture = PICTURES / f"{path.stem}.png"
    assert picture.exists() == bool(tagged)
    if tagged:
        assert picture.read_bytes() == shown[0]


@pytest.mark.parametrize(("words", "stored"), [([], None), (["--write"], "full")])
def test_only_a_full_run_is_stored(words, stored, tmp_path):
    pytest.importorskip("ipykernel")
    source = (
        "import os, sys\n"
        "print('quick' if os.environ.get('GWFUSION_QUICK') else 'full')\n"
        "print(sys.path, file=sys.stderr)"
    )
    path = tmp_path / "one.ipynb"
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path
    )
    before = path.read_bytes()
    command = [sys.executable, FOLDER / "execute.py", *words, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if stored is None:
        assert path.read_bytes() == before
    else:
        assert [texts(output)[0] for output in outputs(path)] == [f"{stored}\n"]
