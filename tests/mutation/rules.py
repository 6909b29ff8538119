"""The seven rules of mutants: what each puts into a slot in place of its node."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from tests.mutation.patterns import (
    COMPARISONS,
    DIRECTED,
    ENLARGED,
    GAMMA,
    HELPERS,
    INDEX,
    INDEX_FUNCTIONS,
    LOGIC,
    NEGATIONS,
    OPPOSITES,
    RADIUS,
    RADIUS_ARGUMENTS,
    RADIUS_CLASSES,
    RADIUS_DICTIONARIES,
    RADIUS_FUNCTIONS,
    SHAPES,
)
from tests.mutation.slots import (
    Slot,
    assigned,
    calls,
    calls_within,
    changed,
    is_negative,
    matches,
    minus,
    name_of,
    renamed_call,
    replaced,
    times,
)

# What a rule yields: the nodes to put into a slot; one, but for statements.
Changes = Iterator[list[Any]]

# Rule 1


def _gamma_is_zero(slot: Slot, names: set[str]) -> Changes:
    if calls(slot.node, GAMMA):
        yield [times(0, slot.node)]


# Rule 2


def _radius_is_tenth(slot: Slot, names: set[str]) -> Changes:
    yield from _assigned_tenth(slot)
    yield from _returned_tenth(slot)
    yield from _keyword_tenth(slot)
    yield from _argument_tenth(slot)
    yield from _entry_tenth(slot)


def _is_number(node: Any) -> bool:
    """Tell whether an expression may be a number whose tenth is another."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            return False
        return isinstance(node.value, int | float) and node.value != 0
    containers = ast.List | ast.Dict | ast.Set | ast.Tuple
    comprehensions = ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp
    others = ast.Lambda | ast.BoolOp | ast.Compare
    return not isinstance(node, containers | comprehensions | others)


def _assigned_tenth(slot: Slot) -> Changes:
    for name, value, assign in assigned(slot.node):
        if not matches(RADIUS, name):
            continue
        if value is None:
            yield assign(times(0.1, ast.Name(name, ast.Load())))
        elif _is_number(value):
            yield assign(times(0.1, value))


def _returned_tenth(slot: Slot) -> Changes:
    node = slot.node
    if not isinstance(node, ast.Return) or node.value is None:
        return
    if not matches(RADIUS_FUNCTIONS, slot.innermost_function):
        return
    value = node.value
    if isinstance(value, ast.Tuple):
        for i, part in enumerate(value.elts):
            if _is_number(part):
                parts = replaced(value.elts, i, times(0.1, part))
                yield [changed(node, value=changed(value, elts=parts))]
    if _is_number(value):
        yield [changed(node, value=times(0.1, value))]


def _keyword_tenth(slot: Slot) -> Changes:
    node = slot.node
    if not isinstance(node, ast.keyword) or not _is_number(node.value):
        return
    # All fields of some classes are radii, but for the indices.
    of_radii = bool(node.arg) and calls(slot.holder, RADIUS_CLASSES)
    is_field = of_radii and not matches(INDEX, node.arg)
    if is_field or matches(RADIUS, node.arg):
        yield [changed(node, value=times(0.1, node.value))]


def _argument_tenth(slot: Slot) -> Changes:
    node = slot.node
    if not isinstance(node, ast.Call):
        return
    for i in RADIUS_ARGUMENTS.get(name_of(node.func), ()):
        if i < len(node.args) and _is_number(node.args[i]):
            tenth = times(0.1, node.args[i])
            yield [changed(node, args=replaced(node.args, i, tenth))]


def _entry_tenth(slot: Slot) -> Changes:
    if not slot.is_entry or len(slot.above) < 2 or not _is_number(slot.node):
        return
    statement = slot.above[-2].node
    targets = [name for name, _, _ in assigned(statement)]
    if not any(matches(RADIUS_DICTIONARIES, name) for name in targets):
        return
    key = slot.entry_key
    if isinstance(key, ast.Constant) and not matches(INDEX, str(key.value)):
        yield [times(0.1, slot.node)]


# Rule 3


def _extremes_swapped(slot: Slot, names: set[str]) -> Changes:
    node = slot.node
    if isinstance(node, ast.Call):
        other = OPPOSITES.get(name_of(node.func))
        if other is not None:
            yield [renamed_call(node, other)]
    if isinstance(node, ast.keyword) and node.arg in OPPOSITES:
        function = getattr(slot.holder, "func", None)
        if name_of(function) == "clip":
            yield [changed(node, arg=OPPOSITES[node.arg])]
    if is_negative(node) and _is_infinity(node.operand):
        yield [node.operand]
    if _is_infinity(node) and not is_negative(slot.holder):
        yield [minus(node)]


def _is_infinity(node: Any) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "inf"
    if not isinstance(node, ast.Call) or name_of(node.func) != "float":
        return False
    if len(node.args) != 1 or not isinstance(node.args[0], ast.Constant):
        return False
    return node.args[0].value in ("inf", "infinity")


# Rule 4


def _term_dropped(slot: Slot, names: set[str]) -> Changes:
    node = slot.node
    if _is_place(slot) or slot.inside(_is_place_or_shape):
        return
    if not isinstance(getattr(node, "op", None), ast.Add | ast.Sub):
        return
    if isinstance(node, ast.AugAssign):
        yield [ast.Pass()]
    if isinstance(node, ast.BinOp):
        if _is_sequence(node.left) or _is_sequence(node.right):
            return
        yield [node.left]
        if isinstance(node.op, ast.Add):
            yield [node.right]


def _is_place(slot: Slot) -> bool:
    """Tell whether a slot is what stands in brackets after an array."""
    return slot.field == "slice"


def _is_place_or_shape(slot: Slot) -> bool:
    return _is_place(slot) or calls(slot.node, SHAPES)


def _is_sequence(node: Any) -> bool:
    """Tell whether an expression is a list, a tuple or text, which + joins."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.List | ast.Tuple | ast.ListComp | ast.JoinedStr)


# Rule 5


def _index_moved(slot: Slot, names: set[str]) -> Changes:
    node = slot.node
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        return
    if not _is_index(slot) and not slot.inside(_is_index):
        return
    # The positions of items and axes are no indices of γ.
    if _is_place(slot) or slot.inside(_is_place_or_axis):
        return
    for value in (node.value - 1, node.value + 1):
        if value >= 0:
            yield [ast.Constant(value)]
        else:
            yield [minus(ast.Constant(-value))]


def _is_place_or_axis(slot: Slot) -> bool:
    return _is_place(slot) or getattr(slot.node, "arg", "") == "axis"


def _is_index(slot: Slot) -> bool:
    """Tell whether integers below a slot count roundings."""
    node = slot.node
    holder = slot.holder
    if calls(holder, GAMMA):
        return slot.field == "args"
    is_part_of_loop = isinstance(holder, ast.comprehension)
    if calls_within(node, GAMMA) and not is_part_of_loop:
        return False  # a value, whatever its name
    if isinstance(node, ast.keyword):
        return matches(INDEX, node.arg)
    if slot.is_entry and isinstance(slot.entry_key, ast.Constant):
        return matches(INDEX, str(slot.entry_key.value))
    if isinstance(node, ast.Return):
        return matches(INDEX_FUNCTIONS, slot.innermost_function)
    if is_part_of_loop:
        return slot.field == "iter" and _gamma_of_each(slot)
    return _is_assigned_to_index(slot)


def _is_assigned_to_index(slot: Slot) -> bool:
    """Tell whether a value, or a part of a tuple, is assigned to an index of γ."""
    holder = slot.holder
    assignments = ast.Assign | ast.AugAssign | ast.AnnAssign
    if slot.field == "value" and isinstance(holder, assignments):
        targets = [name for name, _, _ in assigned(holder)]
        return bool(targets) and all(matches(INDEX, name) for name in targets)
    if not isinstance(holder, ast.Tuple) or not slot.above:
        return False
    tuple_slot = slot.above[-1]
    if tuple_slot.field != "value":
        return False
    parts = assigned(tuple_slot.holder)
    names = [part.name for part in parts if part.value is slot.node]
    return any(matches(INDEX, name) for name in names)


def _gamma_of_each(slot: Slot) -> bool:
    """Tell whether a comprehension takes γ of each of several indices."""
    if len(slot.above) < 2:
        return False
    loop = slot.above[-2].node
    targets = ast.walk(slot.holder.target)
    over = {node.id for node in targets if isinstance(node, ast.Name)}
    for call in calls_within(loop, GAMMA):
        for node in ast.walk(call):
            if isinstance(node, ast.Name) and node.id in over:
                return True
    return False


# Rule 6


def _condition_changed(slot: Slot, names: set[str]) -> Changes:
    node = slot.node
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in COMPARISONS:
                other = COMPARISONS[type(op)]()
                yield [changed(node, ops=replaced(node.ops, i, other))]
    if isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign):
        logic = LOGIC.get(type(node.op))
        if logic is not None:
            yield [changed(node, op=logic())]
    conditional = ast.If | ast.IfExp | ast.While | ast.comprehension
    if slot.field in ("test", "ifs") and isinstance(slot.holder, conditional):
        yield [_negated(node)]


def _negated(node: Any) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = NEGATIONS.get(type(node.ops[0]))
        if other is not None:
            return changed(node, ops=[other()])
    return ast.UnaryOp(ast.Not(), node)


# Rule 7


def _direction_swapped(slot: Slot, names: set[str]) -> Changes:
    node = slot.node
    if isinstance(node, ast.Call):
        yield from _rounded_elsewhere(node, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        # 1 + θ and 1 − θ
        one = isinstance(node.left, ast.Constant) and node.left.value == 1
        if one and calls_within(node.right, GAMMA):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield [changed(node, op=other)]
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        constant = ENLARGED.get(node.value)
        if constant is not None:
            yield [ast.Constant(constant)]


def _rounded_elsewhere(node: ast.Call, names: set[str]) -> Changes:
    """Yield a call that rounds the other way."""
    function = name_of(node.func)
    i = DIRECTED.get(function, len(node.args))
    if i < len(node.args):
        towards: Any = node.args[i]
        other = towards.operand if is_negative(towards) else minus(towards)
        yield [changed(node, args=replaced(node.args, i, other))]
    # A module that knows both ways may have taken the wrong one.
    helper = HELPERS.get(function)
    if helper is not None and helper in names:
        yield [renamed_call(node, helper)]


CHANGES: dict[int, Callable[[Slot, set[str]], Changes]] = {
    1: _gamma_is_zero,
    2: _radius_is_tenth,
    3: _extremes_swapped,
    4: _term_dropped,
    5: _index_moved,
    6: _condition_changed,
    7: _direction_swapped,
}
