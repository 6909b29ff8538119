"""The picture of the rooms: each file, its first line and the rooms that it uses.

``python -m tests.rooms`` writes it from the imports into CONTRIBUTING.md, between two
marks.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.whole import test_architecture as architecture

CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"
MARKS = "<!-- rooms -->\n", "<!-- end of rooms -->\n"


def picture() -> str:
    """Return the rooms of both packages in their order, as lists in Markdown."""
    lines = []
    for package, rooms in architecture.ROOMS.items():
        lines.append(
            f"`{package}/`, each file with what it holds and the rooms that it uses:\n"
        )
        for room in rooms:
            lines += [entry(module) for module in modules(f"{package}.{room}")]
        lines.append("")
    return "\n".join(lines)


def modules(room: str) -> list[str]:
    """Return the modules of a room that hold code."""
    inside = [
        name
        for name in sorted(architecture.MODULES)
        if name == room or name.startswith(f"{room}.")
    ]
    return [name for name in inside if not name.endswith("__init__")]


def entry(module: str) -> str:
    """Return the line of one module."""
    path = architecture.MODULES[module]
    first_line = (
        ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    ).partition("\n")[0]
    own_room = module.split(".")[1]
    used = {name.split(".")[1] for name in architecture.arrows(module)} - {
        own_room,
        "__init__",
    }
    rooms = architecture.ROOMS[module.split(".")[0]]
    uses = ", ".join(sorted(used, key=rooms.index))
    name = path.relative_to(architecture.ROOT).as_posix().partition("/")[2]
    return f"- `{name}`: {first_line}" + (f" ← {uses}" if uses else "")


def with_picture(text: str) -> str:
    """Return a text with the picture between its marks."""
    start, end = MARKS
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{picture()}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    CONTRIBUTING.write_text(
        with_picture(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8"
    )
