"""Public names: they are listed, described, and shown by examples that run."""

import doctest
import importlib
import inspect
from importlib import metadata
from importlib.util import find_spec

import pytest

import gwtools
from fusion._extras import PACKAGES
from tests.whole.test_architecture import MODULES, run


def test_public_names_exist_and_are_listed():
    assert sorted(gwtools.__all__) == list(gwtools.__all__)
    for name in gwtools.__all__:
        public = getattr(gwtools, name)
        assert public.__doc__, name


def skip_where_extras_are_missing(module):
    for name, package in {"sklearn": "sklearn", "plot": "matplotlib"}.items():
        if module == f"gwtools.{name}":
            pytest.importorskip(package)
    needed = [package for package, (_, extra) in PACKAGES.items() if extra == "fusion"]
    missing = [package for package in needed if find_spec(package) is None]
    if module.startswith("fusion") and missing:
        pytest.skip(
            f"the examples of fusion need its extra: {', '.join(missing)} not installed"
        )


WITH_EXAMPLES = sorted(
    m for m, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module, tmp_path, monkeypatch):
    skip_where_extras_are_missing(module)
    monkeypatch.chdir(tmp_path)  # where stores and students are written
    found = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert found.failed == 0, module
    assert found.attempted > 0, module


@pytest.mark.parametrize(
    "module",
    ["gwtools", "gwtools.bounds", "gwtools.batch", "gwtools.stability", "fusion"],
)
def test_every_public_name_has_an_example(module):
    skip_where_extras_are_missing(module)
    public = importlib.import_module(module)
    assert ">>> " in public.__doc__
    sections = {
        name: (getattr(public, name).__doc__ or "").partition("Examples\n")[2]
        for name in public.__all__
    }
    assert [name for name, examples in sections.items() if ">>> " not in examples] == []


@pytest.mark.parametrize("module", ["bounds", "batch", "stability"])
def test_all_lists_every_public_function_and_class(module):
    public = getattr(gwtools, module)
    defined = {
        name
        for name, value in vars(public).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and name[0] != "_"
    }
    own = {
        name
        for name in defined
        if vars(public)[name].__module__.startswith(public.__name__)
    }
    assert own == set(public.__all__)
    assert sorted(public.__all__) == list(public.__all__)


def test_version_is_that_of_the_distribution():
    assert gwtools.__version__ == metadata.version("gwfusion")
    code = """
from importlib import metadata
def absent(name):
    raise metadata.PackageNotFoundError(name)
metadata.version = absent
import gwtools
print(gwtools.__version__)
"""
    done = run(code)
    assert (done.returncode, done.stdout.strip()) == (0, "0+unknown"), done.stderr
