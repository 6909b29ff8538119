"""Optional packages of fusion: where one is missing, the error names its extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# The module that is imported, what people call it, and the extra of pyproject.toml that
# installs it.
PACKAGES = {
    "torch": ("PyTorch", "fusion"),
    "transformers": ("transformers", "fusion"),
    "accelerate": ("accelerate", "fusion"),
    "datasets": ("datasets", "fusion"),
    "safetensors": ("safetensors", "fusion"),
    "tqdm": ("tqdm", "fusion"),
    "yaml": ("PyYAML", "fusion"),
    "matplotlib": ("Matplotlib", "plots"),
    "gguf": ("gguf", "models"),
    "peft": ("PEFT", "peft"),
    "reasoning_gym": ("reasoning-gym", "tasks"),
}


class MissingExtraError(ImportError):
    """A package that an extra installs is not there."""


@contextmanager
def needed_by(user: str) -> Iterator[None]:
    """Say of an import that fails inside which extra ``user`` needs.

    Other failures, such as those within an installed package, are left alone.

    Parameters
    ----------
    user : str
        What the message says needs the package.

    Raises
    ------
    MissingExtraError
        If the import fails because one of ``PACKAGES`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = _missing(error)
        # A module of ours, or one that an installed package lacks: no extra brings it.
        if package is None:
            raise
        name, extra = PACKAGES[package]
        # The sentence says all: where in the imports it failed is of no use.
        raise MissingExtraError(
            f"{user} needs {name}, which is not installed: "
            f"run pip install 'gwfusion[{extra}]'."
        ) from None


def require(user: str, package: str) -> None:
    """Import a package before the work that needs it begins.

    Parameters
    ----------
    user : str
        What the message says needs the package.
    package : str
        Name of the module that is imported.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    with needed_by(user):
        import_module(package)


def _missing(error: BaseException | None) -> str | None:
    """The package of ``PACKAGES`` whose absence made an import fail, or None."""
    # transformers loads its parts lazily: its error has that of the missing module as
    # its cause.
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
            return error.name
        error = error.__cause__
    return None
