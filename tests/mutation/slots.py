"""Places in a syntax tree: where a node stands, what it is called, what it assigns."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# What is no arithmetic: types, decorators and the text of errors.
SKIPPED_FIELDS = {
    "annotation",
    "returns",
    "decorator_list",
    "type_params",
    "bases",
    "ctx",
}
SKIPPED_NODES = (ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr)


class Slot(NamedTuple):
    """A node of a tree and where it stands: in a field of its holder."""

    node: Any
    holder: Any
    field: str
    place: int | None  # of the node, where the field is a list
    above: tuple[Slot, ...]  # the slots that it is in, the outermost first

    def put(self, *nodes: Any) -> None:
        """Put other nodes here: one, but for statements."""
        if self.place is None:
            setattr(self.holder, self.field, nodes[0])
        else:
            siblings = getattr(self.holder, self.field)
            siblings[self.place : self.place + 1] = nodes

    def taken_back(self, *nodes: Any) -> None:
        """Undo :meth:`put`."""
        if self.place is None:
            setattr(self.holder, self.field, self.node)
        else:
            siblings = getattr(self.holder, self.field)
            siblings[self.place : self.place + len(nodes)] = [self.node]

    def inside(self, found: Callable[[Slot], bool]) -> bool:
        """Tell whether a slot above this one is as is asked."""
        return any(map(found, self.above))

    @property
    def is_entry(self) -> bool:
        """Whether the node is a value of a dictionary that is written out."""
        return isinstance(self.holder, ast.Dict) and self.field == "values"

    @property
    def entry_key(self) -> Any:
        """The key of such a value."""
        return self.holder.keys[self.place or 0]

    @property
    def line(self) -> int:
        """The first line of the innermost node that has one."""
        for slot in reversed([*self.above, self]):
            if hasattr(slot.node, "lineno"):
                return int(slot.node.lineno)
        return 0

    @property
    def function(self) -> str:
        """The qualified name of the function that the slot is in."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        names = [slot.node.name for slot in self.above if isinstance(slot.node, kinds)]
        return ".".join(names) or "<module>"

    @property
    def innermost_function(self) -> str:
        """The name of the innermost function that the slot is in, else nothing."""
        for slot in reversed(self.above):
            if isinstance(slot.node, ast.FunctionDef):
                return str(slot.node.name)
        return ""


def slots(node: ast.AST, above: tuple[Slot, ...] = ()) -> Iterator[Slot]:
    """Yield every node below one that may be arithmetic, with where it stands."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS:
            continue
        children: Any = [(None, value)]
        if isinstance(value, list):
            children = enumerate(value)
        for place, child in children:
            if isinstance(child, ast.AST) and not isinstance(child, SKIPPED_NODES):
                slot = Slot(child, node, field, place, above)
                yield slot
                yield from slots(child, (*above, slot))


# What a node is called


def name_of(node: Any) -> str:
    """Return the last part of a dotted name, else nothing."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    return ""


def matches(pattern: re.Pattern[str], name: str | None) -> bool:
    """Tell whether a whole name matches, without leading underscores."""
    return bool(name and pattern.fullmatch(name.lstrip("_")))


def calls(node: Any, pattern: re.Pattern[str]) -> bool:
    """Tell whether a node calls a function of such a name."""
    return isinstance(node, ast.Call) and matches(pattern, name_of(node.func))


def calls_within(node: ast.AST, pattern: re.Pattern[str]) -> list[ast.AST]:
    """Return the calls of functions of such a name in a node and below it."""
    return [part for part in ast.walk(node) if calls(part, pattern)]


# Changes of a node


def times(factor: float, node: Any) -> ast.BinOp:
    return ast.BinOp(ast.Constant(factor), ast.Mult(), node)


def minus(node: Any) -> ast.UnaryOp:
    return ast.UnaryOp(ast.USub(), node)


def is_negative(node: Any) -> bool:
    """Tell whether a node is another one with a minus before it."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def changed(node: Any, **fields: Any) -> Any:
    """Copy a node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def replaced(items: Sequence[Any], index: int, item: Any) -> list[Any]:
    """Return the items of a list, one of them replaced."""
    return [*items[:index], item, *items[index + 1 :]]


def renamed_call(node: ast.Call, name: str) -> Any:
    """Return a call with the last part of the function's name replaced."""
    field = "attr" if isinstance(node.func, ast.Attribute) else "id"
    return changed(node, func=changed(node.func, **{field: name}))


# What a statement assigns


class Assigned(NamedTuple):
    """A name that a statement assigns, and how to assign a changed value to it."""

    name: str
    value: Any  # nothing if a value is unpacked
    assign: Callable[[Any], list[Any]]


def assigned(statement: Any) -> Iterator[Assigned]:
    """Yield what a statement assigns."""

    def assign(new: Any) -> list[Any]:
        return [changed(statement, value=new)]

    if isinstance(statement, ast.AugAssign | ast.AnnAssign):
        if statement.value is not None:
            yield Assigned(name_of(statement.target), statement.value, assign)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Tuple):
                yield from _unpacked(statement, target)
            else:
                yield Assigned(name_of(target), statement.value, assign)


def _unpacked(statement: ast.Assign, target: ast.Tuple) -> Iterator[Assigned]:
    """Yield what is assigned to each part of a tuple."""
    value = statement.value
    if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
        for i, part in enumerate(target.elts):
            yield Assigned(
                name_of(part), value.elts[i], _part_assigned(statement, value, i)
            )
    else:
        for part in target.elts:
            yield Assigned(name_of(part), None, _changed_after(statement, part))


def _part_assigned(
    statement: ast.Assign, value: ast.Tuple, index: int
) -> Callable[[Any], list[Any]]:
    """Return how to put another value into the tuple that is assigned."""

    def assign(new: Any) -> list[Any]:
        parts = ast.Tuple(replaced(value.elts, index, new), ast.Load())
        return [changed(statement, value=parts)]

    return assign


def _changed_after(statement: ast.Assign, part: ast.expr) -> Callable[[Any], list[Any]]:
    """Return how to change a name after a value was unpacked into it."""

    def assign(new: Any) -> list[Any]:
        return [statement, changed(statement, targets=[part], value=new)]

    return assign
