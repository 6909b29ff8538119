"""Mutants: change the modules that round outward, one place at a time, and list the changes that no test notices.

``make mutants`` makes every change that the seven rules allow, runs the tests that
matter on each, and prints those that survive. Survivors that are proved harmless are
listed in ``tests/survivors.toml``; any other is a gap in the tests.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import copy
import csv
import dataclasses
import gc
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
SURVIVORS = Path("tests/survivors.toml")

# What is mutated, and the tests that matter of it: a file, or a file and the first
# letters of the names of tests.
_CERTIFICATES = (
    "tests/bounds/test_float_error.py",
    "tests/bounds/test_certified.py",
    "tests/certify/test_certificates.py",
    "tests/certify/test_certificates_efforts.py::test_closed_gaps",
    "tests/certify/test_certificates_float_error.py::test_theorem_13",
    "tests/certify/test_intervals.py",
    "tests/certify/test_matchings.py",
    "tests/certify/test_objectives.py",
    "tests/certify/test_plans.py",
    "tests/test_oracle.py",
)
TESTS: Mapping[str, tuple[str, ...]] = {
    "gwtools/bounds/float_error.py": _CERTIFICATES,
    "gwtools/bounds/certified.py": _CERTIFICATES,
    "gwtools/certify/certificates.py": _CERTIFICATES,
    "gwtools/certify/intervals.py": _CERTIFICATES,
    "gwtools/certify/matchings.py": _CERTIFICATES,
    "gwtools/certify/objectives.py": _CERTIFICATES,
    "gwtools/certify/plans.py": _CERTIFICATES,
    "gwtools/bounds/enclosures.py": (
        *_CERTIFICATES,
        "tests/batch/test_certificates.py",
    ),
    "gwtools/batch/certificates.py": (
        "tests/batch/test_certificates.py",
        "tests/batch/test_solve.py::test_certif",
        "tests/batch/test_solve.py::test_values",
        "tests/test_oracle.py",
    ),
}

# Imported once, before the first mutant: whatever the tests import but the package and
# the tests themselves.
PRELOADED = (
    "numpy",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "scipy.special",
    "ot",
    "torch",
    "array_api_compat.torch",
    "array_api_extra",
    "array_api_strict",
    "hypothesis.extra.numpy",
)

# The names that the rules know. Patterns match whole names, without leading
# underscores.
GAMMA = re.compile(r"gamma")
# Rule 2: variables, keyword arguments and fields that are radii or errors,
RADIUS = re.compile(
    r"radius|off|skew|errors?|\w+_error|missed|below|above|excess|tilted|shift\w*|moved|scale|tolerance|slack|curvature|stored"
    r"|loss|reach|sums|top|spectrum|entries|row_means|mean|deviations|residual|largest|length|widest"
)
# classes and dictionaries all of whose fields are,
RADIUS_CLASSES = re.compile(r"Radii")
RADIUS_DICTIONARIES = re.compile(r"fields")
# functions that return them,
RADIUS_FUNCTIONS = re.compile(
    r"gamma|floor|ceiling|norm|root_radius|\w*error|missed|(largest_)?eigenvalue_product(_of_kinds)?|interval_width|rounding|radius|tolerance|slack|loss"
)
# and functions that take them, by position.
RADIUS_ARGUMENTS = {
    "lower_end": (1,),
    "enlarged": (1,),
    "_lower_by_root": (1,),
    "_plus_square": (2,),
    "_spectral_bound": (3,),
    "_dual_value": (4,),
    "dual_value": (5,),
    "root_radius": (0,),
    "around": (0,),
    "length": (1,),
}
# Rule 3.
OPPOSITES = {
    "max": "min",
    "maximum": "minimum",
    "argmax": "argmin",
    "amax": "amin",
    "nanmax": "nanmin",
    "fmax": "fmin",
}
OPPOSITES |= {low: high for high, low in OPPOSITES.items()}
# Rule 4: calls whose arguments are shapes.
SHAPES = re.compile(r"reshape|zeros|ones|empty|full|eye|arange|broadcast_to")
# Rule 5: indices of γ.
INDEX = re.compile(r"\w*terms|omega|\w*operations|lists|size|weights|count|height")
INDEX_FUNCTIONS = re.compile(r"\w*terms")
# Rule 7: functions that are told a direction, by position; constants that stand for 1 +
# θ and for 1 − θ; opposite helpers.
DIRECTED = {"nextafter": 1}
ENLARGED = {1.01: 0.99, 0.51: 0.49, 0.99: 1.01}
HELPERS = {"floor": "ceiling"}
HELPERS |= {up: down for down, up in HELPERS.items()}

RULES = {
    1: "γ is 0",
    2: "a radius is a tenth",
    3: "max and min, and the signs of infinity",
    4: "a term is dropped",
    5: "an index of γ is one less or more",
    6: "comparisons, conditions, and and or",
    7: "a direction of rounding",
}

# What is no arithmetic: types, decorators and the text of errors.
_SKIPPED_FIELDS = {
    "annotation",
    "returns",
    "decorator_list",
    "type_params",
    "bases",
    "ctx",
}
_SKIPPED_NODES = (ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr)
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_NEGATIONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_LOGIC: dict[type[ast.AST], type[ast.AST]] = {
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
}
_LOGIC |= {ast.BitOr: ast.BitAnd}


class Slot(NamedTuple):
    """A node of a tree and where it stands: in a field of its holder, below other slots."""

    node: Any
    holder: Any
    field: str
    index: int | None
    above: tuple[Slot, ...]

    def put(self, *nodes: Any) -> None:
        """Put other nodes here: one, but for statements."""
        if self.index is None:
            setattr(self.holder, self.field, nodes[0])
        else:
            getattr(self.holder, self.field)[self.index : self.index + 1] = nodes

    def taken_back(self, *nodes: Any) -> None:
        """Undo :meth:`put`."""
        if self.index is None:
            setattr(self.holder, self.field, self.node)
        else:
            getattr(self.holder, self.field)[self.index : self.index + len(nodes)] = [
                self.node
            ]

    def inside(self, found: Callable[[Slot], bool]) -> bool:
        return any(found(slot) for slot in self.above)


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
    def identity(self) -> tuple[str, str, int, str, str, int]:
        """What tells a mutant from others however its module moves around it."""
        return self.module, self.function, self.rule, self.before, self.after, self.nth

    def __str__(self) -> str:
        again = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.number} {self.module}:{self.line} {self.function} rule {self.rule}{again}: {self.text}"

    @property
    def text(self) -> str:
        return f"{self.before}  ->  {self.after}"


# Sites


def slots(node: ast.AST, above: tuple[Slot, ...] = ()) -> Iterator[Slot]:
    """Yield every node below one that may be arithmetic, with where it stands."""
    for field, value in ast.iter_fields(node):
        if field in _SKIPPED_FIELDS:
            continue
        for index, child in (
            enumerate(value) if isinstance(value, list) else [(None, value)]
        ):
            if isinstance(child, ast.AST) and not isinstance(child, _SKIPPED_NODES):
                slot = Slot(child, node, field, index, above)
                yield slot
                yield from slots(child, (*above, slot))


def _name(node: Any) -> str:
    """Return the last part of a dotted name, else nothing."""
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def _matches(pattern: re.Pattern[str], name: str | None) -> bool:
    return bool(name and pattern.fullmatch(name.lstrip("_")))


def _calls(node: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(node, ast.Call) and _matches(pattern, _name(node.func))


def _times(factor: float, node: Any) -> ast.BinOp:
    return ast.BinOp(ast.Constant(factor), ast.Mult(), node)


def _changed(node: Any, **fields: Any) -> Any:
    """Copy a node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _with(items: Sequence[Any], index: int, item: Any) -> list[Any]:
    return [*items[:index], item, *items[index + 1 :]]


def _is_entry(slot: Slot) -> bool:
    return isinstance(slot.holder, ast.Dict) and slot.field == "values"


def _line(slot: Slot) -> int:
    """Return the first line of the innermost node that has one."""
    return next(
        (
            s.node.lineno
            for s in reversed([*slot.above, slot])
            if hasattr(s.node, "lineno")
        ),
        0,
    )


def _function(slot: Slot) -> str:
    """Return the qualified name of the function that a slot is in."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return (
        ".".join(s.node.name for s in slot.above if isinstance(s.node, kinds))
        or "<module>"
    )


def _assigned(statement: Any) -> Iterator[tuple[str, Any, Callable[[Any], list[Any]]]]:
    """Yield the names that a statement assigns, what to (nothing if that is unpacked), and how to assign a changed value."""
    if (
        isinstance(statement, ast.AugAssign | ast.AnnAssign)
        and statement.value is not None
    ):
        yield (
            _name(statement.target),
            statement.value,
            lambda new: [_changed(statement, value=new)],
        )
    for target in statement.targets if isinstance(statement, ast.Assign) else ():
        if isinstance(target, ast.Tuple):
            yield from _unpacked(statement, target)
        else:
            yield (
                _name(target),
                statement.value,
                lambda new: [_changed(statement, value=new)],
            )


def _unpacked(
    statement: ast.Assign, target: ast.Tuple
) -> Iterator[tuple[str, Any, Callable[[Any], list[Any]]]]:
    value = statement.value
    for i, part in enumerate(target.elts):
        if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
            parts, ahead = value.elts[:i], value.elts[i + 1 :]

            def assign(
                new: Any, parts: list[Any] = parts, ahead: list[Any] = ahead
            ) -> list[Any]:
                return [
                    _changed(
                        statement, value=ast.Tuple([*parts, new, *ahead], ast.Load())
                    )
                ]

            yield _name(part), value.elts[i], assign
        else:  # the name is changed after it was assigned
            yield (
                _name(part),
                None,
                lambda new, part=part: [
                    statement,
                    _changed(statement, targets=[part], value=new),
                ],
            )


# Rules: each yields what to put into a slot.


def _gamma_is_zero(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    if _calls(slot.node, GAMMA):
        yield [_times(0, slot.node)]


def _is_number(node: Any) -> bool:
    """Tell whether an expression may be a number whose tenth is another."""
    if isinstance(node, ast.Constant):
        return (
            isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
            and node.value != 0
        )
    containers = (
        ast.List
        | ast.Dict
        | ast.Set
        | ast.ListComp
        | ast.DictComp
        | ast.SetComp
        | ast.GeneratorExp
        | ast.Tuple
    )
    return not isinstance(node, containers | ast.Lambda | ast.BoolOp | ast.Compare)


def _radius_is_tenth(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    for name, value, assign in _assigned(node):
        if _matches(RADIUS, name) and (value is None or _is_number(value)):
            new = ast.Name(name, ast.Load()) if value is None else value
            yield assign(_times(0.1, new))
    if isinstance(node, ast.Return) and node.value is not None:
        functions = [
            s.node.name for s in slot.above if isinstance(s.node, ast.FunctionDef)
        ]
        if functions and _matches(RADIUS_FUNCTIONS, functions[-1]):
            value = node.value
            for i, part in enumerate(
                value.elts if isinstance(value, ast.Tuple) else ()
            ):
                if _is_number(part):
                    yield [
                        _changed(
                            node,
                            value=_changed(
                                value, elts=_with(value.elts, i, _times(0.1, part))
                            ),
                        )
                    ]
            if _is_number(value):
                yield [_changed(node, value=_times(0.1, value))]
    if isinstance(node, ast.keyword) and _is_number(node.value):
        # All fields of some classes are radii, but for the indices.
        field = (
            _calls(slot.holder, RADIUS_CLASSES)
            and node.arg
            and not _matches(INDEX, node.arg)
        )
        if field or _matches(RADIUS, node.arg):
            yield [_changed(node, value=_times(0.1, node.value))]
    if isinstance(node, ast.Call):
        for i in RADIUS_ARGUMENTS.get(_name(node.func), ()):
            if i < len(node.args) and _is_number(node.args[i]):
                yield [
                    _changed(node, args=_with(node.args, i, _times(0.1, node.args[i])))
                ]
    if _is_entry(slot) and len(slot.above) > 1 and _is_number(node):
        entry = slot.holder.keys[slot.index or 0]
        fields = any(
            _matches(RADIUS_DICTIONARIES, name)
            for name, _, _ in _assigned(slot.above[-2].node)
        )
        if (
            fields
            and isinstance(entry, ast.Constant)
            and not _matches(INDEX, str(entry.value))
        ):
            yield [_times(0.1, node)]


def _extremes_swapped(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    if isinstance(node, ast.Call):
        other = OPPOSITES.get(_name(node.func))
        if other is not None:
            field = "attr" if isinstance(node.func, ast.Attribute) else "id"
            yield [_changed(node, func=_changed(node.func, **{field: other}))]
    if (
        isinstance(node, ast.keyword)
        and node.arg in OPPOSITES
        and _name(getattr(slot.holder, "func", None)) == "clip"
    ):
        yield [_changed(node, arg=OPPOSITES[node.arg])]
    negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    if negated and _is_infinity(node.operand):
        yield [node.operand]
    if _is_infinity(node) and not (
        isinstance(slot.holder, ast.UnaryOp) and isinstance(slot.holder.op, ast.USub)
    ):
        yield [ast.UnaryOp(ast.USub(), node)]


def _is_infinity(node: Any) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "inf"
    text = (
        isinstance(node, ast.Call)
        and _name(node.func) == "float"
        and len(node.args) == 1
    )
    return (
        text
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in ("inf", "infinity")
    )


def _term_dropped(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    if slot.field == "slice" or slot.inside(
        lambda s: s.field == "slice" or _calls(s.node, SHAPES)
    ):
        return
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        yield [ast.Pass()]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sequences = ast.List | ast.Tuple | ast.ListComp | ast.JoinedStr
        if any(
            isinstance(side, sequences)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        ):
            return
        yield [node.left]
        if isinstance(node.op, ast.Add):
            yield [node.right]


def _index_moved(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        return
    if not _is_index(slot) and not slot.inside(_is_index):
        return
    # The positions of items and axes are no indices of γ.
    if slot.field == "slice" or slot.inside(
        lambda s: s.field == "slice" or getattr(s.node, "arg", "") == "axis"
    ):
        return
    for value in (node.value - 1, node.value + 1):
        yield [
            ast.Constant(value)
            if value >= 0
            else ast.UnaryOp(ast.USub(), ast.Constant(-value))
        ]


def _is_index(slot: Slot) -> bool:
    """Tell whether integers below a slot count roundings."""
    node, holder = slot.node, slot.holder
    if _calls(holder, GAMMA):
        return slot.field == "args"
    if any(_calls(part, GAMMA) for part in ast.walk(node)) and not isinstance(
        holder, ast.comprehension
    ):
        return False  # a value, whatever its name
    if isinstance(node, ast.keyword):
        return _matches(INDEX, node.arg)
    if (
        isinstance(holder, ast.Dict)
        and slot.field == "values"
        and isinstance(holder.keys[slot.index or 0], ast.Constant)
    ):
        return _matches(INDEX, str(holder.keys[slot.index or 0].value))
    if isinstance(node, ast.Return):
        functions = [
            s.node.name for s in slot.above if isinstance(s.node, ast.FunctionDef)
        ]
        return bool(functions) and _matches(INDEX_FUNCTIONS, functions[-1])
    if slot.field == "value" and isinstance(
        holder, ast.Assign | ast.AugAssign | ast.AnnAssign
    ):
        parts = list(_assigned(holder))
        return bool(parts) and all(_matches(INDEX, name) for name, _, _ in parts)
    if isinstance(holder, ast.Tuple) and slot.above and slot.above[-1].field == "value":
        parts = list(_assigned(slot.above[-1].holder))
        return any(value is node and _matches(INDEX, name) for name, value, _ in parts)
    if isinstance(holder, ast.comprehension) and slot.field == "iter":
        # γ of each of several indices
        loop = slot.above[-2].node if len(slot.above) > 1 else None
        over = {n.id for n in ast.walk(holder.target) if isinstance(n, ast.Name)}
        found = (
            [n for n in ast.walk(loop) if _calls(n, GAMMA)]
            if isinstance(loop, ast.AST)
            else []
        )
        return any(
            isinstance(n, ast.Name) and n.id in over
            for call in found
            for n in ast.walk(call)
        )
    return False


def _condition_changed(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in _COMPARISONS:
                yield [_changed(node, ops=_with(node.ops, i, _COMPARISONS[type(op)]()))]
    if (
        isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign)
        and type(node.op) in _LOGIC
    ):
        yield [_changed(node, op=_LOGIC[type(node.op)]())]
    if slot.field in ("test", "ifs") and isinstance(
        slot.holder, ast.If | ast.IfExp | ast.While | ast.comprehension
    ):
        yield [_negated(node)]


def _negated(node: Any) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    if (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and type(node.ops[0]) in _NEGATIONS
    ):
        return _changed(node, ops=[_NEGATIONS[type(node.ops[0])]()])
    return ast.UnaryOp(ast.Not(), node)


def _direction_swapped(slot: Slot, names: set[str]) -> Iterator[list[Any]]:
    node = slot.node
    if isinstance(node, ast.Call):
        i = DIRECTED.get(_name(node.func), len(node.args))
        if i < len(node.args):
            towards = node.args[i]
            back = isinstance(towards, ast.UnaryOp) and isinstance(towards.op, ast.USub)
            other = towards.operand if back else ast.UnaryOp(ast.USub(), towards)
            yield [_changed(node, args=_with(node.args, i, other))]
        other = HELPERS.get(_name(node.func))
        # A module that knows both ways may have taken the wrong one.
        if other in names:
            field = "attr" if isinstance(node.func, ast.Attribute) else "id"
            yield [_changed(node, func=_changed(node.func, **{field: other}))]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        one = isinstance(node.left, ast.Constant) and node.left.value == 1
        if one and any(_calls(part, GAMMA) for part in ast.walk(node.right)):
            yield [
                _changed(
                    node, op=ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
                )
            ]
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, float)
        and node.value in ENLARGED
    ):
        yield [ast.Constant(ENLARGED[node.value])]


_RULES: dict[int, Callable[[Slot, set[str]], Iterator[list[Any]]]] = {
    1: _gamma_is_zero,
    2: _radius_is_tenth,
    3: _extremes_swapped,
    4: _term_dropped,
    5: _index_moved,
    6: _condition_changed,
    7: _direction_swapped,
}


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
    plain = ast.unparse(tree)
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.alias)
    }
    names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    made: list[Mutant] = []
    seen, times = {plain}, collections.Counter[tuple[Any, ...]]()
    for slot in list(slots(tree)):
        for rule, change in _RULES.items():
            for nodes in list(change(slot, names)):
                before, after, text = _made(tree, slot, nodes)
                if text in seen:
                    continue
                seen.add(text)
                identity = (_function(slot), rule, before, after)
                times[identity] += 1
                line = _line(slot)
                made.append(
                    Mutant(
                        start + len(made),
                        module,
                        _function(slot),
                        line,
                        rule,
                        before,
                        after,
                        times[identity],
                        text,
                    )
                )
    return made


def _made(tree: ast.AST, slot: Slot, nodes: Sequence[Any]) -> tuple[str, str, str]:
    """Return what a change reads like before and after, and the whole module with it."""
    around = [*slot.above, slot]
    last = next(i for i in reversed(range(len(around))) if _is_readable(around[i]))
    readable = around[last]
    before = _text(readable, readable.node)
    slot.put(*nodes)
    try:
        after = "; ".join(
            _text(readable, n) for n in (nodes if readable is slot else [readable.node])
        )
        return before, after, ast.unparse(tree)
    finally:
        slot.taken_back(*nodes)


def _is_readable(slot: Slot) -> bool:
    """Tell whether a node is a piece to quote: a statement, a keyword argument or an entry of a dictionary."""
    return isinstance(slot.node, ast.stmt | ast.keyword) or _is_entry(slot)


def _text(slot: Slot, node: Any) -> str:
    if _is_entry(slot):
        return f"{ast.unparse(slot.holder.keys[slot.index or 0])}: {ast.unparse(node)}"
    if hasattr(node, "body") and isinstance(node, ast.stmt):  # the first line alone
        empty = {
            name: []
            for name in ("orelse", "finalbody", "handlers", "decorator_list")
            if hasattr(node, name)
        }
        return ast.unparse(_changed(node, body=[ast.Pass()], **empty)).splitlines()[0]
    return ast.unparse(node)


# Runs


class Outcome(NamedTuple):
    """What came of the tests of a mutant."""

    verdict: (
        str  # "killed", "killed (timeout)", "killed (crash)", "survived" or "error"
    )
    seconds: float
    killer: str = ""  # the first test that failed
    durations: Mapping[str, float] = {}
    log: str = ""


class _Replaced(importlib.machinery.SourceFileLoader):
    """Finds and loads one module with another source."""

    def __init__(self, name: str, path: Path, source: str):
        super().__init__(name, str(path))
        self.source, self.used = source, False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> Any:
        # Never that of the file, nor of a cache of it.
        self.used = True
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _Selected:
    """A plugin of pytest: run the tests that matter, the likeliest to fail first, and note how long each takes."""

    def __init__(self, tests: Sequence[str], cost: Callable[[str], float]):
        self.tests, self.cost = tests, cost
        self.durations: dict[str, float] = {}
        self.killer = ""

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid.startswith(tuple(self.tests))]
        config.hook.pytest_deselected(
            items=[item for item in items if item not in chosen]
        )
        items[:] = sorted(chosen, key=lambda item: self.cost(item.nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.durations[report.nodeid] = (
            self.durations.get(report.nodeid, 0.0) + report.duration
        )
        if report.failed:
            self.killer = self.killer or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.killer = self.killer or report.nodeid


@dataclasses.dataclass
class Child:
    """A process that tests one mutant."""

    pid: int
    folder: Path
    started: float
    mutant: Mutant | None


class Server:
    """Forks a child for each mutant, from a process that has imported everything but the package and its tests.

    Parameters
    ----------
    root : Path
        The folder above the package and the tests.
    jobs : int
        How many children run at once.
    preload : sequence of str
        Modules that are imported first, where they exist.
    """

    def __init__(self, root: Path, jobs: int, preload: Sequence[str]):
        self.root, self.jobs = root, jobs
        self.durations: dict[str, float] = {}
        self.kills: collections.Counter[str] = collections.Counter()
        for name in preload:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        for plugin in importlib.metadata.entry_points(group="pytest11"):
            plugin.load()
        gc.freeze()

    def cost(self, test: str) -> float:
        """Seconds per mutant that a test may be expected to kill."""
        return (self.durations.get(test, 0.0) + 0.01) / (self.kills[test] + 1)

    def run(
        self, queue: Sequence[tuple[Mutant | None, Sequence[str]]], limit: float
    ) -> Iterator[tuple[Mutant | None, Outcome]]:
        """Test mutants, or the modules as they are where there is none, and yield them as they end."""
        waiting, running = list(reversed(queue)), list[Child]()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    running.append(self._start(*waiting.pop()))
                for child in list(running):
                    late = time.monotonic() - child.started > limit
                    if late:
                        self._end(child)
                    pid, status = os.waitpid(child.pid, 0 if late else os.WNOHANG)
                    if pid:
                        running.remove(child)
                        outcome = self._outcome(
                            child, os.waitstatus_to_exitcode(status), late
                        )
                        self.kills[outcome.killer] += 1
                        yield child.mutant, outcome
                time.sleep(0.01)
        finally:
            for child in running:
                self._end(child)
                os.waitpid(child.pid, 0)
                shutil.rmtree(child.folder)

    def _start(self, mutant: Mutant | None, tests: Sequence[str]) -> Child:
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 3
            try:
                code = self._test(mutant, tests, folder)
            finally:
                os._exit(code)
        return Child(pid, folder, time.monotonic(), mutant)

    def _test(self, mutant: Mutant | None, tests: Sequence[str], folder: Path) -> int:
        """What a child does."""
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        # A condition that is turned round may well ask for all the memory there is.
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        os.chdir(self.root)
        sys.path.insert(0, str(self.root))
        loader = None
        if mutant is not None:
            loader = _Replaced(
                dotted(mutant.module), self.root / mutant.module, mutant.source
            )
            assert loader.name not in sys.modules
            sys.meta_path.insert(0, loader)
        selected = _Selected(tests, self.cost)
        files = [
            file
            for file in dict.fromkeys(test.partition("::")[0] for test in tests)
            if Path(file).exists()
        ]
        quiet = [
            "-x",
            "-q",
            "-n0",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            f"--rootdir={self.root}",
        ]
        # What was imported first has no assertions to rewrite.
        quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = int(pytest.main([*quiet, *files], plugins=[selected]))
        unused = loader is not None and not loader.used
        found = {
            "killer": selected.killer,
            "durations": selected.durations,
            "unused": unused,
        }
        (folder / "found").write_text(json.dumps(found), encoding="utf-8")
        sys.stdout.flush()
        return code

    def _end(self, child: Child) -> None:
        for end in (
            os.killpg,
            os.kill,
        ):  # its own children as well, once it leads a group
            with contextlib.suppress(ProcessLookupError):
                end(child.pid, signal.SIGKILL)

    def _outcome(self, child: Child, code: int, late: bool) -> Outcome:
        seconds = time.monotonic() - child.started
        file = child.folder / "found"
        found = (
            json.loads(file.read_text(encoding="utf-8"))
            if file.exists() and not late
            else {}
        )
        log = child.folder / "log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        shutil.rmtree(child.folder)
        if late:
            verdict = "killed (timeout)"
        elif code < 0:
            verdict = "killed (crash)"
        elif code in (1, 2) and found:  # tests that failed, or could not be imported
            verdict = "killed"
        else:
            verdict = (
                "survived" if code == 0 and found and not found["unused"] else "error"
            )
        return Outcome(
            verdict, seconds, found.get("killer", ""), found.get("durations", {}), text
        )


def dotted(module: str) -> str:
    """Return the name that a file is imported by."""
    return ".".join(Path(module).with_suffix("").parts).removesuffix(".__init__")


def fingerprint(root: Path, module: str, tests: Sequence[str]) -> str:
    """Hash what a verdict depends on besides the mutant: tests, what they import, and the code of the other modules."""
    digest = hashlib.sha256(repr(tuple(tests)).encode())
    package = Path(module).parts[0]
    for path in _read_by(root, package, {test.partition("::")[0] for test in tests}):
        digest.update(path.read_bytes())
    for path in sorted((root / package).rglob("*.py")):
        if path != root / module:  # comments change nothing
            digest.update(ast.dump(ast.parse(path.read_bytes())).encode())
    return digest.hexdigest()


def _read_by(root: Path, package: str, tests: Iterable[str]) -> list[Path]:
    """Return the test files that exist and, but for the package, what they import from below the root."""
    waiting = [root / test for test in tests]
    waiting += [
        path.parent / name
        for path in waiting
        for name in ("conftest.py", "__init__.py")
    ]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [
                    node.module,
                    *(f"{node.module}.{alias.name}" for alias in node.names),
                ]
            for name in names:
                if name.partition(".")[0] != package:
                    place = root.joinpath(*name.split("."))
                    waiting += [place.with_suffix(".py"), place / "__init__.py"]
    return sorted(found)


# Results

FIELDS = (
    *("number", "module", "line", "function", "rule", "nth", "before", "after"),
    *("verdict", "seconds", "killer", "key"),
)


def key(mutant: Mutant, mark: str) -> str:
    """Return what a verdict holds for: a mutant among the same tests."""
    return hashlib.sha256(
        f"{mark} {mutant.module} {mutant.source}".encode()
    ).hexdigest()[:24]


def recorded(file: Path | None) -> dict[str, Outcome]:
    """Read the verdicts of an earlier run."""
    if file is None or not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {
        row["key"]: Outcome(row["verdict"], float(row["seconds"]), row["killer"])
        for row in rows
        if row["verdict"] and row["verdict"] != "error"
    }


def write(
    file: Path | None,
    made: Sequence[Mutant],
    keys: Mapping[int, str],
    outcomes: Mapping[int, Outcome],
) -> None:
    """Write all mutants with the verdicts that there are, in one piece."""
    if file is None:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for mutant in made:
        found = outcomes.get(mutant.number)
        result = (
            {
                "verdict": found.verdict,
                "seconds": f"{found.seconds:.2f}",
                "killer": found.killer,
            }
            if found
            else {}
        )
        writer.writerow(mutant._asdict() | result | {"key": keys[mutant.number]})
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(file)


def accepted(file: Path) -> dict[tuple[str, str, int, str, str, int], str]:
    """Read the survivors that are proved harmless, with their proofs.

    Raises
    ------
    ValueError
        If an entry stands twice, or its proof is not one line.
    """
    entries = (
        tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", [])
        if file.exists()
        else []
    )
    proofs: dict[tuple[str, str, int, str, str, int], str] = {}
    for entry in entries:
        identity = (
            *(entry["module"], entry["function"], entry["rule"]),
            *(entry["before"], entry["after"], entry.get("nth", 1)),
        )
        if identity in proofs:
            raise ValueError(f"{file}: this stands twice: {entry}")
        if len(entry.get("proof", "").strip().splitlines()) != 1:
            raise ValueError(f"{file}: a proof is one line: {entry}")
        proofs[identity] = entry["proof"]
    return proofs


def _entry(mutant: Mutant) -> str:
    """Return a survivor as the list has it, without its proof."""
    fields = {"module": mutant.module, "function": mutant.function, "rule": mutant.rule}
    fields |= {"before": mutant.before, "after": mutant.after} | (
        {"nth": mutant.nth} if mutant.nth > 1 else {}
    )
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    ]
    return "\n".join(["[[survivor]]", *lines, 'proof = ""'])


def report(
    made: Sequence[Mutant],
    outcomes: Mapping[int, Outcome],
    proofs: Mapping[tuple[str, str, int, str, str, int], str],
) -> bool:
    """Print what came of a run: counts, new survivors and stale entries. Tell whether nothing is new.

    Entries of other modules than those of ``made`` are left alone; so are entries of
    mutants that were not run.
    """
    numbered = {mutant.number: mutant for mutant in made}
    identities = {mutant.identity: mutant for mutant in made}
    survivors = [
        numbered[n]
        for n, found in sorted(outcomes.items())
        if found.verdict == "survived"
    ]
    errors = [
        numbered[n] for n, found in sorted(outcomes.items()) if found.verdict == "error"
    ]
    new = [mutant for mutant in survivors if mutant.identity not in proofs]
    stale = []
    for identity in proofs:
        if identity[0] in {mutant.module for mutant in made}:
            mutant = identities.get(identity)
            verdict = (
                "no longer exists"
                if mutant is None
                else getattr(outcomes.get(mutant.number), "verdict", "")
            )
            if verdict.startswith(("killed", "no longer")):
                stale.append((identity, verdict))

    for module in dict.fromkeys(mutant.module for mutant in made):
        ran = [m for m in made if m.module == module and m.number in outcomes]
        for rule, meaning in RULES.items():
            verdicts = [outcomes[m.number].verdict for m in ran if m.rule == rule]
            if verdicts:
                alive = verdicts.count("survived")
                print(
                    f"{module} rule {rule} ({meaning}): {len(verdicts)} mutants, {alive} survive"
                )
    total = math.fsum(found.seconds for found in outcomes.values())
    print(
        f"{len(outcomes)} mutants in {total:.0f} s of tests: {len(survivors)} survive, {len(new)} of them new"
    )
    for mutant in errors:
        print(f"\nERROR {mutant}\n{outcomes[mutant.number].log[-2000:]}")
    for mutant in new:
        print(f"\nNEW {mutant}\n{_entry(mutant)}")
    for (module, function, rule, before, after, nth), verdict in stale:
        print(
            f"\nSTALE ({verdict}) {module} {function} rule {rule} ({nth}): {before}  ->  {after}"
        )
    return not new and not errors


def _numbers(text: str) -> set[int]:
    """Read "3,7-9"."""
    ends = [part.split("-") for part in text.split(",")]
    return {number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)}


def _options(
    arguments: Sequence[str] | None, root: Path, tests: Iterable[str]
) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mutate", description=__doc__)
    parser.add_argument(
        "--module", action="append", help=f"repeatable; default: {', '.join(tests)}"
    )
    parser.add_argument(
        "--rule",
        type=int,
        action="append",
        choices=RULES,
        help="repeatable; default: all rules",
    )
    parser.add_argument(
        "--only",
        type=_numbers,
        help="numbers of the same modules' --list, such as 3,7-9",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the mutants and exit"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="mutants at once (default: %(default)s)",
    )
    parser.add_argument(
        "--tests",
        nargs="+",
        help="files, or file::beginning-of-a-name, in place of those that matter",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        help="seconds per mutant (default: 30, and thrice what the tests take)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="CSV of mutants with verdicts; those that it holds are not run again",
    )
    parser.add_argument(
        "--survivors",
        type=Path,
        default=root / SURVIVORS,
        help="TOML (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(
    arguments: Sequence[str] | None = None,
    root: Path = ROOT,
    tests: Mapping[str, Sequence[str]] = TESTS,
    preload: Sequence[str] = PRELOADED,
) -> int:
    """Make mutants, test them and report.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line.
    root : Path
        The folder above the package and the tests.
    tests : mapping of str to sequence of str
        The tests that matter of each module.
    preload : sequence of str
        Modules that every child may have imported already.

    Returns
    -------
    int
        1 if there is a survivor that is not listed, or a mutant without verdict, else
        0.
    """
    options = _options(arguments, root, tests)

    made: list[Mutant] = []
    for module in dict.fromkeys(options.module or tests):
        made += mutants(
            (root / module).read_text(encoding="utf-8"), module, len(made) + 1
        )
    chosen = [
        mutant
        for mutant in made
        if (not options.rule or mutant.rule in options.rule)
        and (not options.only or mutant.number in options.only)
    ]
    if options.list:
        for mutant in chosen:
            print(mutant)
        return 0

    proofs = accepted(options.survivors)
    matter = {
        m.module: tuple(options.tests or tests.get(m.module, _CERTIFICATES))
        for m in made
    }
    marks = {
        module: fingerprint(root, module, names) for module, names in matter.items()
    }
    keys = {mutant.number: key(mutant, marks[mutant.module]) for mutant in made}
    earlier = recorded(options.out)
    outcomes = {
        number: earlier[name] for number, name in keys.items() if name in earlier
    }
    queue = [mutant for mutant in chosen if mutant.number not in outcomes]
    if queue:
        os.environ.setdefault("HYPOTHESIS_PROFILE", "mutants")
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
        )  # which ends the children too
        tqdm.monitor_interval = 0  # a thread, which no fork would survive
        server = Server(root, options.jobs, preload)
        # As they are, the modules pass; how long the tests take says in which order to
        # run them.
        limit = options.timeout or 30.0
        for names in dict.fromkeys(matter[mutant.module] for mutant in queue):
            ((_, plain),) = server.run([(None, names)], math.inf)
            if plain.verdict == "survived":
                print(
                    f"{len(plain.durations)} tests of the modules as they are: {plain.seconds:.1f} s",
                    flush=True,
                )
            else:
                print(f"The tests fail on the modules as they are:\n{plain.log}")
                return 1
            server.durations |= plain.durations
            limit = options.timeout or max(limit, 30 + 3 * plain.seconds)
        alive = 0
        with tqdm(total=len(queue), unit="mutant", mininterval=1.0) as bar:
            for mutant, found in server.run(
                [(mutant, matter[mutant.module]) for mutant in queue], limit
            ):
                assert mutant is not None
                outcomes[mutant.number] = found
                write(options.out, made, keys, outcomes)
                alive += found.verdict == "survived" and mutant.identity not in proofs
                bar.set_postfix(new=alive, refresh=False)
                bar.update()
    write(options.out, made, keys, outcomes)
    ran = {mutant.number for mutant in chosen}
    return (
        0
        if report(made, {n: found for n, found in outcomes.items() if n in ran}, proofs)
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
