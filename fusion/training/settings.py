"""Settings of commands, from YAML files and ``key=value`` arguments."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import yaml


def read_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Merge YAML files and ``key=value`` arguments; the last one on a key wins.

    Values are YAML, with the numbers and booleans of YAML 1.2: ``1e-4`` is a number,
    and ``no``, ``yes``, ``on`` and ``off`` are words, as in ``save_strategy=no``; only
    ``true`` and ``false`` are booleans. A dotted key reaches into a mapping:
    ``stores.gemma=DIR``. Mappings are merged, and ``null`` unsets one that an earlier
    argument gives; no other value replaces a mapping, or is replaced by one.

    Parameters
    ----------
    arguments : iterable of str
        Paths of YAML files, and ``key=value``.

    Raises
    ------
    ValueError
        If an argument is neither ``key=value`` nor a YAML file that holds a mapping, a
        key is empty, or one is given both a mapping and another value.
    """
    settings: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if equals:
            path = _path(key)
            value = _parsed(text, source=key)
            _merge(settings, _nested(path, value))
        else:
            _merge(settings, _file(Path(argument)))
    return settings


def require_known(settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Require that every key is one of ``names``; the error offers the closest.

    Raises
    ------
    ValueError
        If a key is none of them.
    """
    names = list(names)
    for key in settings:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            remedy = "see --help for the keys."
            if close:
                remedy = f"did you mean {close[0]}?"
            raise ValueError(
                "Every key must be a setting of this command, "
                f"but {key!r} is none: {remedy}"
            )


def _path(key: str) -> list[str]:
    """The names that a dotted key consists of."""
    key = key.strip()
    path = key.split(".")
    for name in path:
        if not name.strip():
            raise ValueError(
                "The key of an argument must be names joined by dots, "
                f"but {key!r} lacks one: write key=value or key.name=value."
            )
    return path


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    """The mapping of mappings in which the keys of ``path`` lead to the value."""
    *outer, last = path
    nested: dict[str, Any] = {last: value}
    for key in reversed(outer):
        nested = {key: nested}
    return nested


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",  # of the keys, in errors
) -> None:
    """Put new settings into others: a value replaces, a mapping is merged by key."""
    for key, value in new.items():
        name = f"{prefix}{key}"
        earlier = into.get(key)
        _check_kind(name, earlier, value)
        if not isinstance(value, Mapping):
            into[key] = value
        elif isinstance(earlier, dict):
            _merge(earlier, value, f"{name}.")
        else:
            # A copy: what is merged later must not change the mapping given.
            into[key] = dict(value)


def _check_kind(name: str, earlier: Any, later: Any) -> None:
    """Require that a mapping is not replaced by a value, nor a value by a mapping."""
    # None is no value: a setting is unset by it, and set again afterwards.
    if earlier is None or later is None:
        return
    if isinstance(earlier, Mapping) != isinstance(later, Mapping):
        raise ValueError(
            f"{name} must be a mapping or a single value throughout, "
            f"but is {earlier!r} first and {later!r} later: leave out one of them."
        )


def _file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file."""
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            "An argument must be key=value or a .yaml file, "
            f"but is {str(path)!r}: write it as one of them."
        )
    text = path.read_text(encoding="utf-8")
    settings = _parsed(text, source=str(path))
    if not _has_text_keys(settings):
        raise ValueError(
            f"{path} must hold a mapping of settings, "
            "but does not: write one `key: value` a line."
        )
    return settings


def _has_text_keys(settings: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether settings are a mapping whose keys are text; YAML allows others.

    Empty text is none.
    """
    if not isinstance(settings, dict):
        return False
    return all(isinstance(key, str) and key.strip() for key in settings)


# A number in scientific notation, with or without a point and a sign of the exponent,
# which is text to YAML 1.1.
_SCIENTIFIC = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_BOOLEAN = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_TAG = "tag:yaml.org,2002:"
# By the first character of a value, the tags that it may have, and their patterns: but
# for booleans, as those of YAML 1.1 include yes, no, on and off.
_RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 with the numbers and booleans of YAML 1.2.
_Loader: Any = type(
    "_Loader",
    (yaml.SafeLoader,),
    {"yaml_implicit_resolvers": _RESOLVERS},
)
_Loader.add_implicit_resolver(f"{_TAG}bool", _BOOLEAN, list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}float", _SCIENTIFIC, list("-+.0123456789"))


def _parsed(text: str, source: str) -> Any:
    """The value of a text in YAML; errors name the source."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())  # on one line
        raise ValueError(
            f"{source} must be valid YAML, but {where}: quote or correct the value."
        ) from error
