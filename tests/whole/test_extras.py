"""What is said where an optional package is missing, and what works without any.

One sentence names the extra.
"""

import ast
import json
import re
import sys
import tomllib
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

import fusion
from fusion import _extras
from tests import hidden
from tests.hidden import CORE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
BARE = "nothing but the core"
COMMANDS = {
    "models": ["fetch", "smollm2", "folder"],
    "generate": ["teacher=x", "data=x", "out=x"],
    "capture": ["teacher=x", "data=x", "store=x"],
    "import": ["source=x", "store=x"],
    "report": ["stores.a=x", "data=x"],
    "train": ["student=x", "data=x"],
    "evaluate": ["model=x", "data=x"],
}
# Those whose absence alone says something: the others come with these.
SEPARATE = ("torch", "transformers", "accelerate")


def sentence(user, package):
    name, extra = _extras.PACKAGES[package]
    return (
        f"{user} needs {name}, which is not installed: "
        f"run pip install 'gwfusion[{extra}]'."
    )


def without(package, *arguments, folder, paths=()):
    if package != BARE and find_spec(package) is None:
        pytest.skip(f"{package} is not installed here at all")
    packages = hidden.all_but_core() if package == BARE else [package]
    return hidden.run(packages, *arguments, folder=folder, paths=paths)


def on_command_line(package, *words, folder):
    return without(package, "-m", "fusion", *words, folder=folder)


def refused(done, user, package):
    """Exit code 2 and the sentence, nothing else."""
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"fusion: {sentence(user, package)}\n",
    )


NAMES = """
import json, fusion
found = {}
for name in fusion.__all__:
    try:
        getattr(fusion, name)
    except ImportError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.mark.parametrize("package", [BARE, *SEPARATE])
def test_every_public_name_works_or_says_which_extra_it_needs(package, tmp_path):
    done = without(package, "-c", NAMES, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, message in found.items():
        assert message in {
            sentence(f"fusion.{name}", each) for each in _extras.PACKAGES
        }
        assert package == BARE or message == sentence(f"fusion.{name}", package)
    trainer = {"FusionConfig", "FusionTrainer"}
    texts = {"Example", "encode", "read_examples"}
    assert (
        set(found)
        == {
            BARE: set(fusion.__all__) - {"align"},
            "torch": set(fusion.__all__) - {"align"} - texts,
            "transformers": trainer | texts | {"TeacherStore"},
            "accelerate": trainer,
        }[package]
    )


def test_a_name_is_refused_in_one_sentence(tmp_path):
    done = without(BARE, "-c", "from fusion import top_k", folder=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1]
        == f"fusion._extras.MissingExtraError: {sentence('fusion.top_k', 'torch')}"
    )
    assert "ModuleNotFoundError" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_which_extra_it_needs(command, tmp_path):
    refused(
        on_command_line(BARE, command, *COMMANDS[command], folder=tmp_path),
        f"fusion {command}",
        "torch",
    )


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "models"])
def test_help_of_a_command_says_which_extra_it_needs(command, tmp_path):
    refused(
        on_command_line(BARE, command, "--help", folder=tmp_path),
        f"fusion {command}",
        "torch",
    )


PARTS = {
    "torch": ("evaluate", "fusion evaluate", COMMANDS["evaluate"]),
    "transformers": ("capture", "fusion capture", COMMANDS["capture"]),
    "accelerate": ("train", "fusion train", COMMANDS["train"]),
    "matplotlib": ("report", "fusion report with out=", [*COMMANDS["report"], "out=x"]),
    "gguf": ("models", "fusion.models.fetch", COMMANDS["models"]),
    "reasoning_gym": (
        "evaluate",
        "fusion.tasks.reasoning_gym_problems",
        ["model=x", "data=reasoning-gym:gcd:2"],
    ),
}


@pytest.mark.parametrize("package", PARTS)
def test_a_command_says_which_one_package_is_missing(package, tmp_path):
    command, user, words = PARTS[package]
    refused(on_command_line(package, command, *words, folder=tmp_path), user, package)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "sitecustomize.py",
        "__pycache__",
    }


def test_help_of_all_commands_needs_nothing(tmp_path):
    for words in (["--help"], ["models", "--help"]):
        done = on_command_line(BARE, *words, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    done = on_command_line(BARE, "--help", folder=tmp_path)
    assert set(COMMANDS) <= set(re.findall(r"\w+", done.stdout))


def test_the_script_is_the_module(tmp_path):
    module, _, function = PROJECT["scripts"]["fusion"].partition(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    refused(
        without(BARE, "-c", code, "train", folder=tmp_path), "fusion train", "torch"
    )


def test_adapters_say_which_extra_they_need(monkeypatch):
    trainer = pytest.importorskip("fusion.training.trainer")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError) as caught:
        trainer.prepared(None, SimpleNamespace(lora={"r": 2}))
    assert str(caught.value) == sentence("lora", "peft")


def test_heatmaps_say_which_extra_they_need(tmp_path):
    code = (
        "from fusion.teachers.report import Report, heatmap; "
        "heatmap(Report((), ()), 'x.png')"
    )
    done = without("matplotlib", "-c", code, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f" {sentence('fusion.teachers.report.heatmap', 'matplotlib')}"
    )


@pytest.mark.parametrize(
    "code",
    ["import nowhere_to_be_found", "import torch.nowhere", "from torch import nowhere"],
)
def test_what_fails_within_an_installed_package_is_not_called_missing(code, tmp_path):
    broken = tmp_path / "broken"
    (broken / "torch").mkdir(parents=True)
    (broken / "torch" / "__init__.py").write_text(f"{code}\n")
    packages = hidden.all_but_core() - {"torch"}
    done = hidden.run(
        packages, "-m", "fusion", "train", folder=tmp_path, paths=[broken]
    )
    assert done.returncode == 1
    assert "nowhere" in done.stderr.splitlines()[-1]
    assert "is not installed" not in done.stderr


def test_extras_are_those_of_the_project():
    for module, (name, extra) in _extras.PACKAGES.items():
        listed = [
            re.split(r"[<>=!~\[; ]", each)[0].lower()
            for each in PROJECT["optional-dependencies"][extra]
        ]
        assert {module.replace("_", "-"), name.lower()} & set(listed), module


def test_every_extra_is_told_where_one_starts():
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    assert [
        extra
        for extra in PROJECT["optional-dependencies"]
        if f"| `{extra}` |" not in text
    ] == []


def test_everything_that_fusion_imports_has_its_extra():
    known = {*CORE, *_extras.PACKAGES, *sys.stdlib_module_names, "fusion", "gwtools"}
    for path in (ROOT / "fusion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= known, path.name


GWTOOLS = """
import importlib, pkgutil
import numpy as np, gwtools as gw
for module in pkgutil.walk_packages(gw.__path__, "gwtools."):
    if not module.name.endswith(("__main__", ".sklearn")):
        importlib.import_module(module.name)
rng = np.random.default_rng(0)
spaces = [gw.PointCloud(rng.standard_normal((n, 2))) for n in (200, 210, 220, 230)]
for solver in (gw.Sorted(kind="spectral"), gw.Sinkhorn()):
    results = gw.solve_batch(spaces, spaces[::-1], solver)
    assert [r.certificate.lower >= 0 for r in results] == [True] * 4
assert gw.solve(spaces[0], spaces[1]).certificate.lower >= 0
"""


def test_gwtools_needs_the_core_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    done = without(BARE, "-W", "error", "-c", GWTOOLS, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = without(BARE, "-m", "gwtools", "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_transformer_of_scikit_learn_says_which_extra_it_needs(tmp_path):
    code = "import gwtools as gw; gw.sklearn.GromovWassersteinTransformer()"
    done = without(BARE, "-c", code, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: gwtools.sklearn needs scikit-learn, which is not installed: "
        "run pip install 'gwfusion[sklearn]'."
    )


def test_pictures_say_which_extra_they_need(tmp_path):
    code = "import numpy as np, gwtools as gw; gw.plot.distances(np.zeros((1, 1)))"
    done = without(BARE, "-c", code, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: gwtools.plot needs matplotlib, which is not installed: "
        "run pip install 'gwfusion[plots]'."
    )


def test_the_core_is_what_the_project_says():
    names = {
        re.split(r"[<>=!~\[; ]", each)[0].lower().replace("-", "_")
        for each in PROJECT["dependencies"]
    }
    assert names == {"pot" if name == "ot" else name for name in CORE}
