"""The maker of mutants: what each rule changes, what is killed and listed."""

import ast
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import mutate
from tests.mutation import mutants, results, server

ROOT = Path(__file__).parent.parent
MODULE = "toy/module.py"
TOY = '''
"""A module of three functions."""


def upper(value):
    return value + 1


def same(value):
    return max(value, value)


def steps(count):
    while count:
        count -= 1
    return count
'''
CHECKS = """
from toy import module

def test_upper():
    assert module.upper(2.0) == 3.0

def test_same():
    assert module.same(2) == 2

def test_steps():
    assert module.steps(3) == 0

def test_that_does_not_matter():
    raise AssertionError
"""
MAIN = """
import sys
from pathlib import Path
from tests import mutate
checks = ["checks/test_absent.py"]
checks += [f"checks/test_toy.py::test_{name}" for name in ("upper", "s")]
code = mutate.main(
    sys.argv[2:],
    root=Path(sys.argv[1]),
    tests={"toy/module.py": checks},
    preload=["no_such_library"],
)
sys.exit(code)
"""


def changes(source, rule):
    """What one rule makes of a source."""
    return [mutant.after for mutant in mutants.mutants(source) if mutant.rule == rule]


@pytest.mark.parametrize(
    ("rule", "source", "expected"),
    [
        (
            1,
            "a = 2 * gamma(n) + x.gamma(3)",
            [
                "a = 2 * (0 * gamma(n)) + x.gamma(3)",
                "a = 2 * gamma(n) + 0 * x.gamma(3)",
            ],
        ),
        (1, "def gamma(k): return k", []),
        (2, "off = a", ["off = 0.1 * a"]),
        (2, "off += a", ["off += 0.1 * a"]),
        (2, "other, total_error = a, b", ["other, total_error = (a, 0.1 * b)"]),
        (
            2,
            "other, shift_x = f(x)",
            ["other, shift_x = f(x); shift_x = 0.1 * shift_x"],
        ),
        (2, "off = 0.0", []),
        (2, "Radii(size=n, mean=a, spare=b)", ["mean=0.1 * a", "spare=0.1 * b"]),
        (2, "f(size=n, mean=a, spare=b)", ["mean=0.1 * a"]),
        (2, "fields = {'weights': 2, 'spare': a}", ["'spare': 0.1 * a"]),
        (2, "others = {'mean': a}", []),
        (2, "a = lower_end(value, far)", ["a = lower_end(value, 0.1 * far)"]),
        (2, "def root_radius(x):\n    return x", ["return 0.1 * x"]),
        (2, "def _missed(x):\n    return x, 0.0", ["return (0.1 * x, 0.0)"]),
        (2, "def value(x):\n    return x", []),
        (3, "a = max(b, c)", ["a = min(b, c)"]),
        (
            3,
            "a = np.minimum(b, c).max()",
            ["a = np.minimum(b, c).min()", "a = np.maximum(b, c).max()"],
        ),
        (3, "a = xp.clip(b, min=c)", ["max=c"]),
        (
            3,
            "a, b = math.inf, -np.inf",
            ["a, b = (-math.inf, -np.inf)", "a, b = (math.inf, np.inf)"],
        ),
        (4, "a = b + c", ["a = b", "a = c"]),
        (4, "a = b - c", ["a = b"]),
        (4, "a -= b", ["pass"]),
        (4, "a = b[c + 1] @ ones((d + 1, d)) + ['e']", []),
        (4, "def f(x: a + b): raise E('a' + x)", []),
        (
            5,
            "a = gamma(2 * n + b[1])",
            ["a = gamma(1 * n + b[1])", "a = gamma(3 * n + b[1])"],
        ),
        (
            5,
            "of_terms = 0 if f(axis=1) else n",
            ["of_terms = -1 if f(axis=1) else n", "of_terms = 1 if f(axis=1) else n"],
        ),
        (5, "terms, a = n + 1, 2", ["terms, a = (n + 0, 2)", "terms, a = (n + 2, 2)"]),
        (5, "f(terms=1, a=2)", ["terms=0", "terms=2"]),
        (
            5,
            "a = [gamma(k) for k in (n + 3, n)]",
            [f"a = [gamma(k) for k in (n + {i}, n)]" for i in (2, 4)],
        ),
        (5, "a = [f(k) for k in (n + 3, n)]", []),
        (5, "def terms(n):\n    return 4 * n", ["return 3 * n", "return 5 * n"]),
        (6, "a = b < c == d", ["a = b <= c == d", "a = b < c != d"]),
        (6, "a = b and c", ["a = b or c"]),
        (6, "a = b & c", ["a = b | c"]),
        (6, "if a == b:\n    c", ["if a != b:"]),
        (
            6,
            "if a is None or b:\n    c",
            ["if not (a is None or b):", "if a is None and b:"],
        ),
        (6, "a = b if not c else d", ["a = b if c else d"]),
        (6, "a = [b for b in c if b]", ["a = [b for b in c if not b]"]),
        (7, "a = math.nextafter(b, -c)", ["a = math.nextafter(b, c)"]),
        (7, "a = b * (1 + 2 * gamma(3))", ["a = b * (1 - 2 * gamma(3))"]),
        (7, "a = 1.01 * b", ["a = 0.99 * b"]),
        (7, "def rounded_up(a): return rounded_down(a)", ["return rounded_up(a)"]),
        (7, "a = rounded_down(b)", []),
    ],
)
def test_rules(rule, source, expected):
    assert sorted(changes(source, rule)) == sorted(expected)


def test_mutants_are_whole_modules_with_one_change():
    source = (ROOT / "gwtools/bounds/float_error.py").read_text(encoding="utf-8")
    plain = ast.unparse(ast.parse(source))
    made = mutants.mutants(source, "gwtools/bounds/float_error.py", 7)
    assert {mutant.rule for mutant in made} >= {1, 2, 3, 4}
    assert [mutant.number for mutant in made] == list(range(7, 7 + len(made)))
    assert len({mutant.source for mutant in made} | {plain}) == len(made) + 1
    assert len({mutant.identity for mutant in made}) == len(made)
    for mutant in made:
        ast.parse(mutant.source)
        changed = set(mutant.source.splitlines()) ^ set(plain.splitlines())
        assert 1 <= len(changed) <= 3, mutant.text


def test_mutants_are_named_after_their_place():
    source = """class A:
    def f(self, a):
        if a: return max(a)
        return a
        if a: return max(a)
"""
    found = [
        (m.function, m.line, m.nth, m.before)
        for m in mutants.mutants(source)
        if m.rule == 3
    ]
    assert found == [("A.f", 3, 1, "return max(a)"), ("A.f", 5, 2, "return max(a)")]


@pytest.fixture
def toy(tmp_path):
    for name, text in (
        (MODULE, TOY),
        ("toy/__init__.py", ""),
        ("checks/test_toy.py", CHECKS),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "tests").mkdir()
    return tmp_path


def run(toy, *arguments):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST")
    }
    command = [sys.executable, "-c", MAIN, str(toy), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def numbers(*rules):
    return ",".join(
        str(mutant.number) for mutant in mutants.mutants(TOY) if mutant.before in rules
    )


def test_survivors_are_new_until_they_are_listed_and_stale_once_they_are_killed(toy):
    results = toy / "results.csv"
    arguments = (
        "--out",
        str(results),
        "--jobs",
        "2",
        "--only",
        numbers("return value + 1", "return max(value, value)"),
    )
    done = run(toy, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 mutants" in done.stdout
    assert "1 survive, 1 of them new" in done.stdout
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert len(rows) == len(mutants.mutants(TOY))  # the others without verdict
    found = {
        row["after"]: (row["verdict"], row["killer"]) for row in rows if row["verdict"]
    }
    upper = ("killed", "checks/test_toy.py::test_upper")
    same = ("survived", "")
    assert found == {
        "return value": upper,
        "return 1": upper,
        "return min(value, value)": same,
    }

    # With a proof it is accepted, from the verdicts that there are.
    entry = done.stdout[done.stdout.index("[[survivor]]") :]
    (toy / mutate.SURVIVORS).write_text(
        entry.replace('proof = ""', 'proof = "both values are the same"')
    )
    again = run(toy, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "as they are" not in again.stdout
    assert "1 survive, 0 of them new" in again.stdout
    assert "STALE" not in again.stdout

    # Other tests, verdicts of their own; and an entry whose place is gone.
    (toy / "checks/test_toy.py").write_text(
        CHECKS + "\ndef test_steps_of_none():\n    assert module.steps(0) == 0\n"
    )
    (toy / MODULE).write_text(TOY.replace("max(value, value)", "value"))
    last = run(
        toy, "--only", numbers("return value + 1"), "--rule", "4", "--out", str(results)
    )
    assert last.returncode == 0, last.stdout + last.stderr
    assert "4 tests of the modules as they are" in last.stdout
    assert (
        "STALE (no longer exists) toy/module.py same rule 3 (1): "
        "return max(value, value)" in last.stdout
    )


def test_mutants_that_never_end_are_killed(toy):
    done = run(
        toy,
        "--only",
        numbers("count -= 1"),
        "--rule",
        "4",
        "--timeout",
        "1",
        "--out",
        str(toy / "out.csv"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed (timeout)" in (toy / "out.csv").read_text()


def test_modules_must_pass_as_they_are(toy):
    done = run(toy, "--tests", "checks/test_toy.py")
    assert done.returncode == 1
    assert "The tests fail on the modules as they are" in done.stdout


def test_verdicts_hold_for_tests_what_they_import_and_other_modules(toy):
    (toy / "checks/test_toy.py").write_text("import shared.values\n" + CHECKS)
    (toy / "toy/other.py").write_text("a = 1  # a comment\n")
    (toy / "shared").mkdir()
    marks = []
    for name, text in (
        ("shared/values.py", "a = 1"),
        ("checks/test_toy.py", "import shared.values"),
        ("toy/other.py", "a = 2"),
        ("toy/other.py", "a = 2  # another comment"),
        (MODULE, "a = 3"),
    ):
        (toy / name).write_text(text)
        marks.append(
            results.fingerprint(toy, MODULE, ["checks/test_toy.py::test_upper"])
        )
    assert len(set(marks)) == 3
    assert marks[2] == marks[3] == marks[4]


def outcomes(made, *verdicts):
    return {
        mutant.number: server.Outcome(verdict, 1.0)
        for mutant, verdict in zip(made, verdicts, strict=True)
    }


def test_listed_survivors_that_are_killed_are_stale(capsys):
    made = mutants.mutants("a = max(b, c)\nd = min(b, c)", MODULE)
    proofs = {mutant.identity: "proof" for mutant in made} | {
        ("other.py", "f", 3, "a", "b", 1): "of another module"
    }
    assert results.report(made, outcomes(made, "survived", "killed (crash)"), proofs)
    printed = capsys.readouterr().out
    assert printed.count("STALE") == 1
    assert (
        "STALE (killed (crash)) toy/module.py <module> rule 3 (1): "
        "d = min(b, c)  ->  d = max(b, c)" in printed
    )
    assert not results.report(
        made, outcomes(made, "survived", "survived"), {made[0].identity: "proof"}
    )
    assert not results.report(made, outcomes(made, "killed", "error"), {})


def test_mutants_are_listed(capsys, toy):
    assert mutate.main(["--list", "--rule", "3"], root=toy, tests={MODULE: ()}) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        "toy/module.py:10 same rule 3: "
        "return max(value, value)  ->  return min(value, value)"
    )


@pytest.mark.parametrize(
    ("count", "proof", "message"),
    [(2, "one line", "twice"), (1, "", "one line"), (1, "a\\nb", "one")],
)
def test_every_accepted_survivor_has_one_proof(tmp_path, count, proof, message):
    entry = f"""[[survivor]]
module = "m"
function = "f"
rule = 1
before = "a"
after = "b"
proof = "{proof}"
"""
    (tmp_path / "list.toml").write_text(entry * count)
    with pytest.raises(ValueError, match=message):
        results.accepted(tmp_path / "list.toml")


def test_the_list_of_survivors_is_of_modules_that_are_mutated():
    assert {
        identity[0] for identity in results.accepted(ROOT / mutate.SURVIVORS)
    } <= set(mutate.TESTS)
    assert all((ROOT / module).exists() for module in mutate.TESTS)
