"""No file and no function is longer than a reader can hold in mind."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 60  # of code: without its docstring, comments and empty lines


def tracked():
    """Python files of the repository, by what git knows of them."""
    command = ["git", "ls-files", "-z", "*.py"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode != 0:
        pytest.skip("the files are in no repository of git")
    names = done.stdout.decode().split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.exists()]


def without_code(text):
    """Numbers of the lines of a file that are empty or hold nothing but a comment."""
    numbered = enumerate(text.splitlines(), 1)
    return {number for number, line in numbered if line.strip()[:1] in ("", "#")}


def lines_of_code(function, empty):
    """Number of lines of a function; those of nested functions count as its own."""
    lines = set(range(function.lineno, function.end_lineno + 1)) - empty
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= set(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def too_long(text):
    """Yield the functions of a file that are too long, as "name: lines"."""
    empty = without_code(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = lines_of_code(node, empty)
            if lines > LINES_OF_A_FUNCTION:
                yield f"{node.name}: {lines}"


def test_no_file_is_too_long():
    found = {}
    for path in tracked():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LINES_OF_A_FILE:
            found[path.relative_to(ROOT).as_posix()] = lines
    assert found == {}


def test_no_function_is_too_long():
    found = {}
    for path in tracked():
        functions = list(too_long(path.read_text(encoding="utf-8")))
        if functions:
            found[path.relative_to(ROOT).as_posix()] = functions
    assert found == {}


@pytest.mark.parametrize("inside", ["", "    def inner():\n        pass\n"])
def test_lines_of_code_are_counted(inside):
    head = f'async def f():\n    """Two lines\n\n    of it."""\n\n{inside}'
    body = "    # A comment.\n    x = 1\n"
    count = LINES_OF_A_FUNCTION - 1 - inside.count("\n")
    assert list(too_long(head + body * count)) == []
    longer = list(too_long(head + body * (count + 1)))
    assert longer == [f"f: {LINES_OF_A_FUNCTION + 1}"]
