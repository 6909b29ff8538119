"""Check the documentation: code of its pages runs, and the built site is whole.

``python -m tests.pages build/docs`` is part of ``make docs``. It runs the code of the
pages in ``docs/`` and compares what is shown. Of the built site it checks that links
and pictures lead to something, that headings are unique in a page, that nothing is
loaded from a network, and that every public name has a place.
"""

from __future__ import annotations

import doctest
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
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


@dataclass
class Page(HTMLParser):
    """What is checked of a page of the site."""

    path: Path
    anchors: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    headings: list[tuple[str, str]] = field(default_factory=list)
    heading: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep anchors, links, and what the page loads."""
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
        """Gather the text of a heading."""
        if self.heading:
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)

    def handle_endtag(self, tag: str) -> None:
        """End a heading."""
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


def faults_of_site(site: Path) -> Iterator[str]:
    """Yield what is wrong with the built site."""
    anchors = set()
    for path in sorted(site.resolve().rglob("*.html")):
        page = read_page(path)
        anchors.update(page.anchors)
        for fault in faults_of_page(page):
            yield f"{path.relative_to(site.resolve())} {fault}"
    for module in MODULES:
        for name in import_module(module).__all__:
            path = f"{module}.{name}"
            if path not in anchors and path not in MODULES and path not in ALIASES:
                yield f"{path} is on no page: add it to docs/api"


def faults_of_code(path: Path) -> Iterator[str]:
    """Yield the examples of a page that fail, all of them run in one namespace."""
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    names: dict[str, object] = {}
    text = path.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if not block["kind"]:
            yield f"{path.name} has a block of code that says no language"
        if block["kind"] != "pycon":
            continue
        line = text.count("\n", 0, block.start("code"))
        parsed = doctest.DocTestParser().get_doctest(
            block["code"], names, path.name, str(path), line
        )
        told: list[str] = []
        runner.run(parsed, out=told.append, clear_globs=False)
        names = parsed.globs
        if told:
            yield "".join(told)


def unnamed_results() -> Iterator[str]:
    """Yield the pages of results that no page of the documentation leads to."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES.rglob("*.md")]
    linked = "".join(texts).replace("../", "")
    for path in sorted((ROOT / "simulations" / "results").glob("*/*.md")):
        name = path.relative_to(ROOT).as_posix()
        quick = path.parent.name.endswith("-quick")
        if not quick and f"({name})" not in linked:
            yield f"{name} is on no page: add it to docs/benchmarks.md"


def main(argv: list[str]) -> int:
    """Print what is wrong; the exit status is 1 where anything is."""
    site = Path(argv[1] if len(argv) > 1 else "build/docs")
    pages = sorted(PAGES.rglob("*.md"))
    found = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in pages:
            for fault in faults_of_code(path):
                found += 1
                print(fault)
    for fault in [*faults_of_site(site), *unnamed_results()]:
        found += 1
        print(fault)
    count = len(list(site.rglob("*.html")))
    print(f"{len(pages)} pages with their code, {count} of the site, {found} faults")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
