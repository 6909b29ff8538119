"""What fusion needs beyond its core, by extra: where a package is missing, one sentence says which extra brings it."""

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
    """Say of an import that fails inside which extra ``user`` needs; leave alone what fails within an installed package.

    Raises
    ------
    MissingExtraError
        If the import fails because one of ``PACKAGES`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = _missing(error)
        if package is None:
            raise
        name, extra = PACKAGES[package]
        raise MissingExtraError(
            f"{user} needs {name}, which is not installed: run pip install 'gwfusion[{extra}]'."
        ) from None


def require(user: str, package: str) -> None:
    """Import a package before the work that needs it begins.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    with needed_by(user):
        import_module(package)


def _missing(error: BaseException | None) -> str | None:
    """The package of ``PACKAGES`` that was not found; transformers loads its parts lazily, and tells that as the cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
            return error.name
        error = error.__cause__
    return None
