"""Check the documentation: code of its pages runs, and the built site is whole.

``python -m tests.pages build/docs`` is part of ``make docs``. It runs README's code and
that of the pages in ``docs/``, Python and commands, each in an empty folder, and
compares what is shown. Of the built site it checks that links and pictures lead to
something, that titles are unique in the site and headings in a page, that tables and
powers are typeset, that nothing is loaded from a network, and that every public name
has a place.

``python -m tests.pages --seconds PAGE`` runs the code of one page, and prints the
seconds of a CPU that each of its sections took.
"""

from __future__ import annotations

import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from tests.docstrings import MODULES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
FENCE = re.compile(
    r"^```(?P<kind>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITHOUT_TITLE = {"index.html", "search.html"}  # a forwarding page, and Sphinx's own
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src")}

# Second names of functions that are on a page by their first.
ALIASES = {
    "gwtools.batch.solve_batch",
    "gwtools.bounds.flb",
    "gwtools.bounds.slb",
    "gwtools.bounds.tlb",
}

CODE = {"pre", "code", "script", "style", "math"}

# Below the head of a table in Markdown; typesetting makes dashes of hyphens.
RULE = re.compile(r"^\|(\s*:?[-–—]+:?\s*\|)+$", re.MULTILINE)


@dataclass
class Page(HTMLParser):
    """What is checked of a page of the site."""

    path: Path
    anchors: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    headings: list[tuple[str, str]] = field(default_factory=list)
    heading: str = ""
    title: str = ""
    in_title: bool = False
    in_code: int = 0
    has_raw_table: bool = False
    raw_powers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep anchors, links, and what the page loads."""
        self.in_code += tag in CODE
        # The first one: pictures within the page have titles, too.
        self.in_title = tag == "title" and not self.title
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.append(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        for name in ("src", "href"):
            if (tag, name) in LOADED and name in values:
                self.loaded.append(values[name])
        if tag in {"h1", "h2", "h3"}:
            self.heading = tag
            self.headings.append((tag, ""))

    def handle_data(self, data: str) -> None:
        """Gather titles and headings, and find tables that are left as Markdown."""
        if self.in_title:
            self.title += data
        if not self.in_code:
            self.has_raw_table |= bool(RULE.search(data))
            self.raw_powers += re.findall(r"\S*\^\S*", data)
        if self.heading:
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)

    def handle_endtag(self, tag: str) -> None:
        """End a heading, or code."""
        if tag == "title":
            self.in_title = False
        self.in_code -= tag in CODE
        if tag == self.heading:
            self.heading = ""


@cache
def read_page(path: Path) -> Page:
    """Return a page, read once."""
    return Page(path)


def faults_of_page(page: Page) -> Iterator[str]:
    """Yield what is wrong with one page of the site."""
    for target in [*page.links, *page.loaded]:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            if target in page.loaded and parts.scheme != "data":
                yield f"loads {target} from a network"
            continue
        file = page.path
        if parts.path:
            file = (page.path.parent / unquote(parts.path)).resolve()
        if not file.is_file():
            yield f"leads to {target}, which is not there"
        elif parts.fragment and file.suffix == ".html":
            if unquote(parts.fragment) not in read_page(file).anchors:
                yield f"leads to {target}, a place that the page does not have"
        elif file.stat().st_size == 0 and file.suffix in {".png", ".svg", ".html"}:
            yield f"shows {target}, which is empty"
    for anchor, count in Counter(page.anchors).items():
        if count > 1:
            yield f"has {count} places called {anchor}"
    for heading, count in Counter(text for _, text in page.headings).items():
        if count > 1:
            yield f"has {count} headings {heading!r}"
    titles = [text for tag, text in page.headings if tag == "h1"]
    if len(titles) != 1 and page.path.name not in WITHOUT_TITLE:
        yield f"has {len(titles)} titles"
    if page.has_raw_table:
        yield "shows a table of Markdown as text"
    for power in page.raw_powers:
        yield f"shows {power!r} as text"


def faults_of_site(site: Path) -> Iterator[str]:
    """Yield what is wrong with the built site."""
    anchors = set()
    titled: dict[str, str] = {}
    for path in sorted(site.resolve().rglob("*.html")):
        page = read_page(path)
        anchors.update(page.anchors)
        name = path.relative_to(site.resolve()).as_posix()
        if first := titled.get(page.title):
            yield f"{name} has the title of {first}, {page.title!r}"
        titled[page.title] = name
        for fault in faults_of_page(page):
            yield f"{name} {fault}"
    for module in MODULES:
        for name in import_module(module).__all__:
            path = f"{module}.{name}"
            if path not in anchors and path not in MODULES and path not in ALIASES:
                yield f"{path} is on no page: add it to docs/api"


def faults_of_code(path: Path, seconds: Counter[str] | None = None) -> Iterator[str]:
    """Yield the examples of a page that fail, all of them run in one namespace.

    The seconds of a CPU that each section took are added to ``seconds``.
    """
    names: dict[str, object] = {}
    text = path.read_text(encoding="utf-8")
    path = path.resolve()
    with TemporaryDirectory() as folder, chdir(folder):
        for block in FENCE.finditer(text):
            before = sum(os.times()[:4])  # of this process and of commands
            if not block["kind"]:
                yield f"{path.name} has a block of code that says no language"
            elif block["kind"] == "pycon":
                line = text.count("\n", 0, block.start("code"))
                yield from faults_of_python(block["code"], names, path, line)
            elif block["kind"] == "console":
                yield from faults_of_commands(block["code"], path)
            if seconds is not None:
                section = re.findall(r"^## (.*)", text[: block.start()], re.MULTILINE)
                seconds[section[-1] if section else ""] += sum(os.times()[:4]) - before


def faults_of_python(
    code: str, names: dict[str, object], path: Path, line: int
) -> Iterator[str]:
    """Yield what differs between a block of Python and what it shows."""
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    parsed = doctest.DocTestParser().get_doctest(
        code, names, path.name, str(path), line
    )
    told: list[str] = []
    runner.run(parsed, out=told.append, clear_globs=False)
    names.update(parsed.globs)
    if told:
        yield "".join(told)


def faults_of_commands(code: str, path: Path) -> Iterator[str]:
    """Yield the commands, lines that begin with "$", that fail or print otherwise."""
    for each in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, shown = each.partition("\n")
        words = shlex.split(command)
        assert words[0] == "python", f"{path.name}: {words[0]} is not run here"
        done = subprocess.run(
            [sys.executable, *words[1:]],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        same = doctest.OutputChecker().check_output(shown, done.stdout, OPTIONS)
        if done.returncode or not same:
            yield f"{path.name}: {command}\n{done.stdout}{done.stderr}"


def unnamed_results() -> Iterator[str]:
    """Yield the pages of results that no page of the documentation leads to."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES.rglob("*.md")]
    linked = "".join(texts).replace("../", "")
    for path in sorted((ROOT / "simulations" / "results").glob("*/*.md")):
        name = path.relative_to(ROOT).as_posix()
        quick = path.parent.name.endswith("-quick")
        if not quick and f"({name})" not in linked:
            yield f"{name} is on no page: add it to docs/benchmarks.md"


def faults_of_readme() -> Iterator[str]:
    """Yield what differs between the code of README and what it shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for code, shown in re.findall(
        r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)+)", text, re.MULTILINE | re.DOTALL
    ):
        told = io.StringIO()
        with redirect_stdout(told):
            exec(code, {})
        if not doctest.OutputChecker().check_output(shown, told.getvalue(), OPTIONS):
            yield f"README.md: the code shows\n{told.getvalue()}"


def print_seconds(path: Path) -> int:
    """Print what is wrong in a page, and the seconds that its sections took."""
    seconds: Counter[str] = Counter()
    faults = list(faults_of_code(path, seconds))
    print(*faults, sep="\n")
    for section, taken in seconds.items():
        print(f"{taken:6.1f} s  {section}")
    return int(bool(faults))


def main(argv: list[str]) -> int:
    """Print what is wrong; the exit status is 1 where anything is."""
    if argv[1:2] == ["--seconds"]:
        return print_seconds(Path(argv[2]))
    site = Path(argv[1] if len(argv) > 1 else "build/docs")
    pages = sorted(PAGES.rglob("*.md"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faults = [fault for path in pages for fault in faults_of_code(path)]
        faults += faults_of_readme()
    faults += [*faults_of_site(site), *unnamed_results()]
    print(*faults, sep="\n")
    count = len(list(site.rglob("*.html")))
    print(
        f"{len(pages)} pages with their code, {count} of the site, {len(faults)} faults"
    )
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
