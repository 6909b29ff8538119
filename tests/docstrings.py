"""Validate the docstrings of public names: numpydoc's checks, errors and sources.

``python -m tests.docstrings`` is part of ``make lint``. Public are the names in
``__all__`` of the modules below, and what their classes define without an underscore.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType

from numpydoc.docscrape import get_doc_object
from numpydoc.validate import ERROR_MSGS, validate

MODULES = (
    "gwtools",
    "gwtools.bounds",
    "gwtools.batch",
    "gwtools.plot",
    "gwtools.stability",
    "fusion",
)

# Checks of numpydoc that are not asked for, and why.
LEFT_OUT = {
    "GL01": "text starts behind the quotes, as the linter has it",
    "GL08": "the linter asks for docstrings",
    "SS05": "a quantity is described by a noun",
    "ES01": "one line may say all",
    "SA01": "names are linked where they are spoken of",
    "EX01": "a test asks for an example of every public name, and runs it",
    "PR06": "an array's entries are integers, whatever type holds them",
}
CHECKS = set(ERROR_MSGS) - set(LEFT_OUT)

# "Name 2011", "Name (2011)" and "Name, 2011" cite a source.
CITED = re.compile(r"\b[A-Z]\w+,? \(?(?:19|20)\d\d\b")
IDENTIFIED = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+")


def public_names() -> Iterator[tuple[str, object]]:
    """Yield import path and object of public functions, classes and members."""
    for module in MODULES:
        package = importlib.import_module(module)
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, ModuleType):
                continue
            yield f"{module}.{name}", value
            if inspect.isclass(value):
                yield from members(f"{module}.{name}", value)


def members(path: str, cls: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that a class describes.

    One that overrides a member of a base class is described there.
    """
    for name, value in vars(cls).items():
        if name.startswith("_") or not getattr(value, "__doc__", None):
            continue
        if any(hasattr(base, name) for base in cls.__mro__[1:]):
            continue
        if inspect.isfunction(value) or isinstance(value, property):
            yield f"{path}.{name}", value


def faults(path: str, value: object) -> Iterator[str]:
    """Yield what is wrong with the docstring of one public name."""
    attributes = bool(get_doc_object(value)["Attributes"])
    for code, text in validate(get_doc_object(value))["errors"]:
        # A result, which no user makes, describes its attributes.
        if code == "PR01" and (attributes or is_enumeration(value)):
            continue
        if code in CHECKS:
            yield f"{code} {text}"
    docstring = inspect.getdoc(value) or ""
    if refuses(value) and not get_doc_object(value)["Raises"]:
        yield "raises errors, but has no Raises section"
    if CITED.search(docstring) and not IDENTIFIED.search(docstring):
        yield "cites a source without an arXiv number or a DOI"


def is_enumeration(value: object) -> bool:
    """Whether a class has members, not parameters."""
    return inspect.isclass(value) and issubclass(value, enum.Enum)


def refuses(value: object) -> bool:
    """Whether the body of a function, or the checks of a class's fields, raise errors.

    Errors of functions that are called count where they stand in a module of checks.
    """
    if inspect.isclass(value):
        made = dataclasses.is_dataclass(value)
        body = vars(value).get("__post_init__" if made else "__init__")
        bodies = [] if body is None else [body]
    elif isinstance(value, property):
        bodies = [value.fget]
    else:
        bodies = [value]
    return any(raises(body) for body in bodies)


def raises(function: object) -> bool:
    """Whether a function's source holds ``raise``, or calls a module of checks."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and not is_abstract(node):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id.startswith("_check"):
                return True
    return False


def is_abstract(node: ast.Raise) -> bool:
    """Whether an error says only that a class does not implement a member."""
    return "NotImplementedError" in ast.unparse(node)


def main() -> int:
    """Print what is wrong, a line a fault; the exit status is 1 where anything is."""
    checked = 0
    found = 0
    for path, value in public_names():
        checked += 1
        for fault in faults(path, value):
            found += 1
            print(f"{path}: {fault}")
    print(f"{checked} public names, {found} faults in their docstrings")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
