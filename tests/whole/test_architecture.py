"""The direction of the arrows: who may import whom.

Also that gwtools works without what it must not need.
"""

import ast
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gwtools

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gwtools"
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for package in ("gwtools", "fusion")
    for path in (ROOT / package).rglob("*.py")
}

# The rooms of each package, a file or a folder at its top, in the order in which data
# passes them: a room imports from those before it, and from itself.
ROOMS = {
    "gwtools": (
        *(
            "_array",
            "_compiled",
            "_stacks",
            "_words",
            "_html",
            "_check",
            "_check_graphs",
            "_check_plans",
            "_check_proofs",
            "_check_landmarks",
            "_check_pairs",
            "_check_lists",
            "_check_saved",
            "_check_spaces",
            "_check_fused",
            "_check_free",
            "_check_plot",
            "_check_losses",
            "_memory",
            "history",
            "plans",
            "pairings",
            "glued_plans",
            "marginals",
            "spaces",
            "transport",
            "linear",
            "preparation",
            "linear_terms",
            "losses",
            "distortions",
            "problems",
            "lifted_problems",
            "free_marginals",
            "free_problems",
            "channel_problems",
            "unbalanced_problems",
            "envelopes",
            "fused",
            "potentials",
            "branch_proofs",
            "proofs",
            "excess",
            "start_records",
            "saved_results",
            "verdicts",
            "results",
            "bounds",
            "certify",
            "stability",
            "solvers",
            "certified_results",
            "free_results",
            "solve",
            "block_descent",
            "barycenter_starts",
            "barycenter",
            "linear_embedding",
            "gaussian_distance",
            "batch",
            "pair_batches",
            "pair_stores",
            "pairwise",
            "nearest_spaces",
        ),
        "sklearn",
        "plot",
        "files",
        "__main__",
    ),
    "fusion": (
        *(
            "_extras",
            "_check",
            "text",
            "logits",
            "losses",
            "models",
            "fingerprints",
            "teachers",
            "tasks",
            "evaluate",
            "answers",
            "training",
        ),
        *("command_settings", "commands", "examples", "__main__"),
    ),
}

# Array libraries are reached through _array; plans and rows keep sparse sums and blocks
# for NumPy.
KNOWS_COMPAT = {
    "gwtools._array.compressed",
    "gwtools._array.libraries",
    "gwtools._array.matrices",
    "gwtools._array.precision",
    "gwtools.glued_plans",
    "gwtools.plans",
}
# Where a file of GraphML is read, and where figures are drawn.
KNOWN = {"gwtools.files.graphs": {"networkx"}, "gwtools.plot": {"matplotlib"}}
FORBIDDEN = {
    "torch",
    "jax",
    "cupy",
    "array_api_strict",
    "fusion",
    "simulations",
    "tests",
    "matplotlib",
    "networkx",
}


def imports(path):
    """Absolute names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (
                    inner
                    if inner in MODULES or f"{inner}.__init__" in MODULES
                    else node.module
                )


def local(name):
    return f"{name}.__init__" if f"{name}.__init__" in MODULES else name


def place(module):
    """Package and place of the room of a module.

    A package itself stands behind all its rooms.
    """
    package, room = module.split(".")[:2]
    rooms = ROOMS[package]
    return package, len(rooms) if room == "__init__" else rooms.index(room)


def arrows(module):
    """The modules of the same package that a module imports.

    What is imported from a package itself is public.
    """
    package = module.partition(".")[0]
    return {
        n
        for n in map(local, imports(MODULES[module]))
        if n in MODULES and n.startswith(f"{package}.")
    }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_one_way(module):
    for name in arrows(module):
        # These use the public names, as everybody does.
        last = module.endswith("__main__") or ".examples." in module
        assert place(name) <= place(module) or last, f"{module} imports {name}"


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_is_there(package):
    found = {
        module.split(".")[1] for module in MODULES if module.startswith(f"{package}.")
    }
    assert found - {"__init__"} == set(ROOMS[package])


def test_no_module_imports_itself_round_a_corner():
    TopologicalSorter(
        {m: arrows(m) for m in MODULES if not m.endswith("__main__")}
    ).prepare()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_folders_hold_no_code_of_their_own(module):
    if module.endswith(".__init__") and module.count(".") > 1:
        nodes = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
        assert not any(
            isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes
        )


GWTOOLS = sorted(module for module in MODULES if module.startswith("gwtools."))


@pytest.mark.parametrize("module", GWTOOLS)
def test_gwtools_knows_no_array_library(module):
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not roots & (FORBIDDEN - KNOWN.get(module, set()))
    assert "array_api_compat" not in roots or module in KNOWS_COMPAT


REJECTIONS = ("ValueError", "TypeError", "MemoryError")


def rejects(path):
    """Yield the lines where a file raises an error in words of its own.

    The error is about an argument and outside handlers of errors.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    handled = {node for handler in handlers for node in ast.walk(handler)}
    for node in ast.walk(tree):
        called = (
            node.exc if isinstance(node, ast.Raise) and node not in handled else None
        )
        if isinstance(called, ast.Call) and ast.unparse(called.func) in REJECTIONS:
            yield f"{path.name}, line {node.lineno}"


def test_input_is_rejected_by_the_checks_alone():
    checks = {module for module in MODULES if module.startswith("gwtools._check")}
    assert [
        place
        for module in GWTOOLS
        if module not in checks
        for place in rejects(MODULES[module])
    ] == []
    assert all(list(rejects(MODULES[module])) for module in checks)


def test_pot_is_reached_through_programs_alone():
    knowing = [
        m for m in GWTOOLS if "ot" in {n.split(".")[0] for n in imports(MODULES[m])}
    ]
    assert knowing == ["gwtools.transport.programs"]


def test_warnings_while_pot_is_compiled_are_no_errors():
    escape = '"\\d"'
    compile(escape, "/site-packages/ot/datasets.py", "exec")
    with pytest.raises(SyntaxError, match="invalid escape sequence"):
        compile(escape, "/gwtools/datasets.py", "exec")


def test_certificates_know_no_solver():
    paths = [MODULES[module] for module in MODULES if "gwtools.certify" in module]
    assert paths
    for path in paths:
        assert not any("solvers" in name for name in imports(path))


def run(code, **environment):
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("POT_BACKEND")
    }
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command,
        env=clean | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_loads_no_optional_library():
    code = (
        "import sys, gwtools; print(sorted(set(sys.modules) & "
        "{'torch', 'jax', 'ot', 'matplotlib', 'networkx'}))"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("solver", ["ConditionalGradient", "Sinkhorn", "Sorted"])
def test_works_without_torch_and_jax(solver):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(FORBIDDEN | {"tensorflow"})!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np, gwtools as gw
print(float(gw.solve(1 - np.eye(2), 1 - np.eye(4), gw.{solver}()).objective))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout) - 0.25) < 1e-3


def theorems():
    """Title, functions and tests of every theorem.

    `::name` continues the path before it.
    """
    text = (PACKAGE / "THEORY.md").read_text(encoding="utf-8")
    for entry in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        functions = re.search(
            r"\*\*Function\*\*(.*?)\*\*Test\*\*", entry, flags=re.DOTALL
        )
        tests = re.search(r"\*\*Test\*\*(.*?)(?:\n\n|\Z)", entry, flags=re.DOTALL)
        if functions and tests:
            path, named = "", []
            for found, name in re.findall(
                r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", tests[1]
            ):
                path = found or path
                named.append((path, name))
            dotted = re.findall(r"`gwtools\.([\w.]+)", functions[1])
            yield pytest.param(dotted, named, id=entry.splitlines()[0].split(".")[0])


def exists(dotted):
    target = gwtools
    for part in dotted.split("."):
        target = getattr(target, part, None)
    return target is not None


@pytest.mark.parametrize(("functions", "tests"), list(theorems()))
def test_every_theorem_names_functions_and_tests_that_exist(functions, tests):
    assert [name for name in functions if not exists(name)] == []
    assert tests
    for path, name in tests:
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), name


TESTS = ROOT / "tests"

# Modules without a file of tests of their own: where they are tested, and why there.
TESTED_ELSEWHERE = {
    "fusion.__main__": (
        "tests/fusion/test_commands.py",
        "every command is called through it",
    ),
    "fusion._check": (
        "tests/fusion/logits/test_topk.py",
        "each refusal beside the function that makes it",
    ),
    "fusion._extras": (
        "tests/whole/test_extras.py",
        "each extra is missed by both packages",
    ),
    "fusion.examples.plain_loop": (
        "tests/fusion/test_commands.py",
        "it runs on the models and files of the commands",
    ),
    "gwtools._array.compressed": (
        "tests/whole/test_array_libraries.py",
        "what it hides shows in every library at once",
    ),
    "gwtools._array.gradients": (
        "tests/whole/test_array_libraries.py",
        "what it hides shows in every library at once",
    ),
    "gwtools._array.libraries": (
        "tests/whole/test_array_libraries.py",
        "what it hides shows in every library at once",
    ),
    "gwtools._array.matrices": (
        "tests/whole/test_array_libraries.py",
        "what it hides shows in every library at once",
    ),
    "gwtools._array.precision": (
        "tests/whole/test_array_libraries.py",
        "what it hides shows in every library at once",
    ),
    "gwtools.certified_results": (
        "tests/test_solve.py",
        "every result of solve is made by it",
    ),
    "gwtools.spaces.padded": (
        "tests/batch/test_sinkhorn.py",
        "spaces are padded where they are solved together",
    ),
    "gwtools._html": (
        "tests/test_results.py",
        "what it draws beside the results that are drawn",
    ),
    "gwtools._check_graphs": (
        "tests/spaces/test_graph.py",
        "each refusal beside what a graph may be",
    ),
    "gwtools._check_saved": (
        "tests/test_saved_results.py",
        "each refusal beside what may be saved",
    ),
    "gwtools.batch.results": (
        "tests/batch/test_solve.py",
        "results of every solver are cut by it",
    ),
    "gwtools.bounds.enclosures": (
        "tests/certify/test_objectives.py",
        "each enclosure beside the certificate that it is part of",
    ),
    "gwtools.verdicts": (
        "tests/certify/test_intervals.py",
        "certificates beside the intervals that they tell of",
    ),
    "gwtools.pairings": (
        "tests/test_results.py",
        "pairs beside the results that name their atoms",
    ),
    "gwtools.bounds.memory": ("tests/test_memory.py", "estimates beside what is held"),
}
# Files of tests that mirror no module of a room, and what they test.
TESTS_OF_A_ROOM = {
    "tests/bounds/test_every_bound.py": "what holds for each bound",
}


def mirrored(module):
    """The file of tests of a module, without leading underscores.

    Its path within gwtools, or with fusion.
    """
    package, *rooms, name = module.split(".")
    folders = rooms if package == "gwtools" else [package, *rooms]
    return TESTS.joinpath(*folders, f"test_{name.strip('_')}.py")


def has_code(module):
    nodes = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes)


def test_every_module_is_tested_at_its_mirrored_path():
    missing = {
        module
        for module in MODULES
        if has_code(module) and not mirrored(module).exists()
    }
    assert missing == set(TESTED_ELSEWHERE)
    assert [
        path for path, _ in TESTED_ELSEWHERE.values() if not (ROOT / path).exists()
    ] == []


def mirrors(path):
    """Tell whether a file of tests has the name of a module or of a helper of tests.

    The name stands alone or with what of it is tested.
    """
    folder = path.parent.relative_to(TESTS)
    beside = (PACKAGE / folder, ROOT / folder, TESTS / folder)
    names = {
        file.stem.strip("_")
        for place in beside
        for file in place.glob("*.py")
        if not file.match("test_*")
    }
    subject = path.stem.removeprefix("test_")
    return any(subject == name or subject.startswith(f"{name}_") for name in names)


def test_every_file_of_tests_mirrors_a_module():
    files = [path for path in TESTS.rglob("test_*.py") if path.parent.name != "whole"]
    assert {
        path.relative_to(ROOT).as_posix() for path in files if not mirrors(path)
    } == set(TESTS_OF_A_ROOM)


def test_the_picture_of_the_rooms_is_drawn_from_the_imports():
    from tests import rooms  # which reads the imports by this module

    text = rooms.CONTRIBUTING.read_text(encoding="utf-8")
    assert rooms.with_picture(text) == text, "python -m tests.rooms draws it again"
