"""Rejects what no matrix of distances is made of: lists, stores, numbers of workers."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gwtools import _words


def neighbours(k: int, count: int) -> None:
    """Require at most as many neighbours as there are spaces."""
    if k > count:
        raise ValueError(
            f"k must be at most the number of spaces, {count}, but is {k}: "
            "lower it or pass more spaces."
        )


def start(init: Any) -> None:
    """Require a start that every pair has: a word, no coupling of one pair."""
    if not isinstance(init, str):
        raise TypeError(
            f"solver must start each pair by a word, but its init is "
            f"{_words.shown(init)}: pass a solver without a plan to start from."
        )


def workers(n_jobs: Any) -> None:
    """Require a number of workers as joblib counts them, or None."""
    is_count = isinstance(n_jobs, int) and not isinstance(n_jobs, bool)
    if n_jobs is not None and (not is_count or n_jobs == 0):
        raise ValueError(
            f"n_jobs must be an integer other than 0, or None, but is "
            f"{_words.shown(n_jobs)}: pass a number of workers, or -1 for one a "
            "processor."
        )


def joblib(n_jobs: int | None) -> None:
    """Require joblib, where several workers are asked for."""
    if n_jobs not in (None, 1) and find_spec("joblib") is None:
        raise ImportError(
            f"n_jobs must be 1 where joblib is not installed, but is {n_jobs}: "
            "run pip install 'gwfusion[distributed]'."
        )


def shown(progress: Any) -> None:
    """Require True, False or None, and for True that tqdm is installed."""
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(
            f"progress must be True, False or None, but is {_words.shown(progress)}: "
            "pass one of these."
        )
    if progress and find_spec("tqdm") is None:
        raise ImportError(
            "progress must be False where tqdm is not installed, but is True: "
            "run pip install 'gwfusion[distributed]'."
        )


def folder(store: Any) -> Path:
    """Require the name of a folder; what is there already must be one."""
    if not isinstance(store, str | os.PathLike):
        raise TypeError(
            f"store must be the name of a folder, but is {_words.shown(store)}: "
            "pass a str or a pathlib.Path."
        )
    path = Path(store)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"store must be a folder, but {path} is a file: choose another name."
        )
    return path


def same_work(found: Any, asked: dict[str, Any], path: Path) -> None:
    """Require that a folder holds parts of the matrix that is asked for."""
    if found == asked:
        return
    known = found if isinstance(found, dict) else {}
    differing = [name for name, value in asked.items() if known.get(name) != value]
    raise ValueError(
        f"store must hold parts of the same matrix, but {path} differs in "
        f"{', '.join(differing) or 'what it says'}: choose another folder or delete "
        "this one."
    )
