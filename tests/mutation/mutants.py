"""Mutants of a module: the module with one change, and what the change reads like."""

from __future__ import annotations

import ast
import collections
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.mutation.rules import CHANGES
from tests.mutation.slots import Slot, changed, slots

Identity = tuple[str, str, int, str, str, int]


class Mutant(NamedTuple):
    """A module with one change."""

    number: int
    module: str
    function: str
    line: int
    rule: int
    before: str
    after: str
    nth: int  # of the changes in this function that read the same
    source: str

    @property
    def identity(self) -> Identity:
        """What tells a mutant from others however its module moves around it."""
        place = (self.module, self.function, self.rule)
        return (*place, self.before, self.after, self.nth)

    def __str__(self) -> str:
        place = f"{self.module}:{self.line} {self.function}"
        again = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.number} {place} rule {self.rule}{again}: {self.text}"

    @property
    def text(self) -> str:
        return f"{self.before}  ->  {self.after}"


class Change(NamedTuple):
    """One change of a tree: what it reads like, and the whole module with it."""

    slot: Slot
    rule: int
    before: str
    after: str
    source: str


def mutants(source: str, module: str = "", start: int = 1) -> list[Mutant]:
    """Make every mutant of a module.

    Parameters
    ----------
    source : str
        The module as it is.
    module : str
        Its path, which mutants are named after.
    start : int
        The first number.

    Returns
    -------
    list of Mutant
        In the order of their places, then of the rules. Changes that give the same
        module are made once.
    """
    tree = ast.parse(source)
    made: list[Mutant] = []
    seen = {ast.unparse(tree)}
    times = collections.Counter[tuple[str, int, str, str]]()
    for change in changes(tree):
        if change.source in seen:
            continue
        seen.add(change.source)
        function = change.slot.function
        reads = (function, change.rule, change.before, change.after)
        times[reads] += 1
        mutant = Mutant(
            number=start + len(made),
            module=module,
            function=function,
            line=change.slot.line,
            rule=change.rule,
            before=change.before,
            after=change.after,
            nth=times[reads],
            source=change.source,
        )
        made.append(mutant)
    return made


def changes(tree: ast.AST) -> Iterator[Change]:
    """Yield every change that a rule makes anywhere in a tree."""
    names = names_in(tree)
    # Lists, as a tree is not to be walked while it is changed.
    for slot in list(slots(tree)):
        for rule, change in CHANGES.items():
            for nodes in list(change(slot, names)):
                yield Change(slot, rule, *_made(tree, slot, nodes))


def names_in(tree: ast.AST) -> set[str]:
    """Return the names of variables, attributes, functions and imports in a tree."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.alias):
            names.add(node.name)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return names


def _made(tree: ast.AST, slot: Slot, nodes: Sequence[Any]) -> tuple[str, str, str]:
    """Return what a change reads like before and after, and the module with it."""
    readable = _readable(slot)
    before = _text(readable, readable.node)
    slot.put(*nodes)
    try:
        shown = nodes if readable is slot else [readable.node]
        after = "; ".join([_text(readable, node) for node in shown])
        return before, after, ast.unparse(tree)
    finally:
        slot.taken_back(*nodes)


def _readable(slot: Slot) -> Slot:
    """Return the innermost piece to quote: a statement, keyword argument or entry."""
    around = [*slot.above, slot]
    while not around[-1].is_entry:
        if isinstance(around[-1].node, ast.stmt | ast.keyword):
            break
        around.pop()
    return around[-1]


def _text(slot: Slot, node: Any) -> str:
    """Return the source of a node; of a statement with a body, the first line alone."""
    if slot.is_entry:
        return f"{ast.unparse(slot.entry_key)}: {ast.unparse(node)}"
    if not isinstance(node, ast.stmt) or not hasattr(node, "body"):
        return ast.unparse(node)
    after_body = ("orelse", "finalbody", "handlers", "decorator_list")
    empty: dict[str, Any] = {name: [] for name in after_body if hasattr(node, name)}
    head = changed(node, body=[ast.Pass()], **empty)
    return ast.unparse(head).splitlines()[0]
