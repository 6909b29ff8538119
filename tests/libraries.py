"""Array libraries × dtypes: how to make an array of each and how to read it back."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Library:
    name: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}-{self.dtype}"

    @property
    def rtol(self) -> float:
        """Agreement asked with NumPy in float64."""
        return 1e-10 if self.dtype == "float64" else 1e-4

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """JAX has float64 only where it is switched on."""
        if self.name != "jax":
            yield
            return
        jax = pytest.importorskip("jax")
        with jax.enable_x64(self.dtype == "float64"):
            yield

    def array(self, values: Any) -> Any:
        module = importlib.import_module({"jax": "jax.numpy"}.get(self.name, self.name))
        return module.asarray(
            np.array(values, dtype=self.dtype), dtype=getattr(module, self.dtype)
        )

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is an array of this library and dtype."""
        kinds = {
            "numpy": "numpy",
            "torch": "torch",
            "jax": "jaxlib",
            "array_api_strict": "array_api_strict",
        }
        return type(value).__module__.startswith(kinds[self.name]) and str(
            value.dtype
        ).endswith(self.dtype)


LIBRARIES = [
    Library(name, dtype)
    for name in ("numpy", "torch", "jax", "array_api_strict")
    for dtype in ("float64", "float32")
]


EAGER = [library for library in LIBRARIES if library.name != "jax"]


def tried(values: Iterable[Any], few: Collection[Any]) -> list[Any]:
    """Pairs of a library and a value: all of them, but only a few of JAX.

    JAX compiles every operation for every shape anew.
    """
    pairs = itertools.product(LIBRARIES, values)
    return [
        pytest.param(library, value, id=f"{library}-{value}")
        for library, value in pairs
        if library.name != "jax" or value in few
    ]


def to_numpy(value: Any) -> np.ndarray:
    """Read an array of any library into float64, without gwtools' own conversion."""
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    elif type(value).__module__.startswith("array_api_strict"):
        value = np.from_dlpack(value)
    return np.array(value, dtype=float)
