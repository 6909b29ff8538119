"""What each setting must be, as its field says: checked before any work begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fusion import _check

# What values of these types are called, and one of them, for remedies.
_NAMES = {
    bool: ("true or false", "true"),
    int: ("an integer", "8"),
    float: ("a number", "0.5"),
    str: ("text", "TEXT"),
    list: ("a list", "[A, B]"),
    dict: ("a mapping", "{NAME: VALUE}"),
    NoneType: ("null", "null"),
}
# Values of other types, which no word and no file can give, are left to their users.
_OF_WORDS = (bool, int, float, str, list, dict, NoneType)
# What transformers' own command line reads as booleans.
_BOOLEANS = {
    **dict.fromkeys(("yes", "true", "t", "y", "1"), True),
    **dict.fromkeys(("no", "false", "f", "n", "0"), False),
}


def setting(
    help: str,
    *,
    choices: Iterable[Any] = (),
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    necessary: bool = False,
    **default: Any,
) -> Any:
    """Make the field of a setting, with all that its command's help says of it.

    Parameters
    ----------
    help : str
        What it means.
    choices : iterable
        The values that it may have; any of its type where there are none.
    above, least, most : float, optional
        Bounds of a number, or of those in a mapping; the first is not reached.
    necessary : bool
        Whether a command needs it though the class has a default.
    **default
        As of `dataclasses.field`: ``default`` or ``default_factory``.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices),
        "bounds": {"above": above, "least": least, "most": most},
        "necessary": necessary,
    }
    return field(metadata=metadata, **default)


def necessary(entry: Field[Any]) -> bool:
    """Tell whether a command needs a setting to be given."""
    if entry.metadata.get("necessary", False):
        return True
    return entry.default is MISSING and entry.default_factory is MISSING


def from_words(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings of words and files the values that their fields take.

    Booleans may be the words that transformers' own command line reads as such (yes,
    no, t, f, y, n, 1 and 0), but not on and off. What is null where its type has no
    null is left out: it keeps its default.

    Parameters
    ----------
    kind : type
        The data class of the settings.
    settings : mapping of str to Any
        What was given.
    """
    hints = _hints(kind)
    found = {}
    for name, value in settings.items():
        types = _members(hints[name])
        if value is None and not types & {NoneType, Any}:
            continue
        found[name] = value
        word = str(value).lower()
        if bool in types and not types & {str, int, float} and word in _BOOLEANS:
            found[name] = _BOOLEANS[word]
    return found


def check_settings(kind: type, settings: Mapping[str, Any]) -> None:
    """Require settings of the types, choices and bounds that their fields name.

    Parameters
    ----------
    kind : type
        The data class of the settings.
    settings : mapping of str to Any
        Their values; fields that are not among them are not looked at.

    Raises
    ------
    ValueError
        If one is not as its field says.
    """
    hints = _hints(kind)
    for entry in fields(kind):
        if not entry.init or entry.name not in settings:
            continue
        value = settings[entry.name]
        # Defaults are right, whatever their class says of their types.
        if not _is_default(entry, value):
            _check_type(entry.name, value, hints[entry.name])
            _check_value(entry, value, hints[entry.name])


def described(entry: Field[Any], hint: Any) -> str:
    """Say which values a setting may have: its choices, or its type and bounds.

    Parameters
    ----------
    entry : Field
        The setting.
    hint : Any
        Its type.
    """
    choices = entry.metadata.get("choices", ())
    if choices:
        return " | ".join("null" if word is None else str(word) for word in choices)
    # Where null is the default, it says that the setting is not given.
    text = _expected(hint)
    if entry.default is None:
        text = text.removesuffix(" or null")
    bounds = entry.metadata.get("bounds", {})
    words = {"above": "above", "least": "at least", "most": "at most"}
    limits = []
    if _mapping_of(hint) is float:
        text = "a mapping to numbers"
    for name, word in words.items():
        if bounds.get(name) is not None:
            limits.append(f"{word} {bounds[name]:g}")
    return " ".join([text, " and ".join(limits)]).strip()


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a data class's fields."""
    return get_type_hints(kind)


def _members(hint: Any) -> set[Any]:
    """The types of a union, or the type itself, without those of their entries."""
    if get_origin(hint) in (Union, UnionType):
        found: set[Any] = set()
        for member in get_args(hint):
            found |= _members(member)
        return found
    return {get_origin(hint) or hint}


def _is_default(entry: Field[Any], value: Any) -> bool:
    """Tell whether a value is the default, or what its name alone stands for."""
    for usual in (entry.default, entry.metadata.get("const", MISSING)):
        if usual is not MISSING and type(value) is type(usual) and value == usual:
            return True
    return False


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Require a value of a type; entries of mappings are named by their keys."""
    if not isinstance(value, _OF_WORDS):
        return
    if isinstance(value, dict):
        mapping = _mapping_of(hint)
        if mapping is not None:
            for key, entry in value.items():
                _check_type(f"{name}.{key}", entry, mapping)
            return
    if not _fits(value, hint):
        raise ValueError(
            f"{name} must be {_expected(hint)}, but is {value!r}: "
            f"write {_remedy(name, hint)}."
        )


def _mapping_of(hint: Any) -> Any:
    """The type of a mapping's entries, or None where the type has no mapping."""
    if get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            found = _mapping_of(member)
            if found is not None:
                return found
    if hint is dict:
        return Any
    if get_origin(hint) is dict:
        return get_args(hint)[1]
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type."""
    if hint is Any or not isinstance(value, _OF_WORDS):
        return True
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        members = get_args(hint)
        words = _words(hint)
        # The text that stands beside an enumeration is the value of one of its members.
        if words and isinstance(value, str):
            return value in words
        return any(_fits(value, member) for member in members)
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        (entries,) = get_args(hint)
        return isinstance(value, list) and all(_fits(one, entries) for one in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    kind = origin or hint
    return not isinstance(kind, type) or isinstance(value, kind)


def _words(hint: Any) -> list[str]:
    """The values of the enumerations in a union."""
    words = []
    for member in get_args(hint):
        if isinstance(member, type) and issubclass(member, Enum):
            words += [str(one.value) for one in member]
    return words


def _expected(hint: Any) -> str:
    """What a value of a type is called."""
    words = _words(hint)
    if words:
        return f"one of {', '.join(words)}"
    if get_origin(hint) in (Union, UnionType):
        members = sorted(get_args(hint), key=lambda member: member is NoneType)
        return " or ".join(dict.fromkeys(_expected(member) for member in members))
    if get_origin(hint) is Literal:
        return " or ".join(str(value).lower() for value in get_args(hint))
    kind = get_origin(hint) or hint
    name, _ = _NAMES.get(kind, (f"a {getattr(kind, '__name__', kind)}", ""))
    return name


def _remedy(name: str, hint: Any) -> str:
    """An argument that would do."""
    words = _words(hint)
    if words:
        return f"{name}={words[0]}"
    if _mapping_of(hint) is not None:
        return f"{name}.NAME=…"
    for kind, (_, example) in _NAMES.items():
        if kind in _members(hint):
            return f"{name}={example}"
    return f"{name}=…"


def _check_value(entry: Field[Any], value: Any, hint: Any) -> None:
    """Require one of the choices, or numbers within the bounds."""
    choices = entry.metadata.get("choices", ())
    # Those of transformers are its own to check.
    bounds = entry.metadata.get("bounds")
    if bounds is None or value is None:
        return
    if choices:
        _check.choice(value, entry.name, choices)
    if not any(bound is not None for bound in bounds.values()):
        return
    numbers = {entry.name: value}
    if isinstance(value, Mapping):
        numbers = {f"{entry.name}.{key}": one for key, one in value.items()}
    for name, number in numbers.items():
        if int in _members(hint) and bounds["least"] == 1:
            _check.count(number, name)
        else:
            given = {key: bound for key, bound in bounds.items() if bound is not None}
            _check.number(number, name, **given)
