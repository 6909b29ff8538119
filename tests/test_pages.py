"""The check of the documentation: it finds the faults it is for, and no others."""

import pytest

pages = pytest.importorskip("tests.pages", reason="numpydoc is missing")

WHOLE = """<html><body><h1>Title</h1><h2 id="part">Part</h2><h2>Another</h2>
<a href="#part">down</a> <a href="other.html#place">there</a>
<a href="https://example.org">elsewhere</a> <img src="picture.png"></body></html>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "other.html").write_text('<h1 id="place">Other</h1>')
    (tmp_path / "picture.png").write_bytes(b"png")
    pages.read_page.cache_clear()
    return tmp_path


def faults(site, text):
    path = site / "page.html"
    path.write_text(text)
    return list(pages.faults_of_page(pages.read_page(path.resolve())))


def test_a_whole_page_has_no_fault(site):
    assert faults(site, WHOLE) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("#part", "#gone", "leads to #gone, a place that the page does not have"),
        ("other.html#place", "gone.html", "leads to gone.html, which is not there"),
        (
            "other.html#place",
            "other.html#gone",
            "leads to other.html#gone, a place that the page does not have",
        ),
        ("picture.png", "gone.png", "leads to gone.png, which is not there"),
        (
            "picture.png",
            "https://example.org/a.png",
            "loads https://example.org/a.png from a network",
        ),
        (">Another<", ">Part<", "has 2 headings 'Part'"),
        ("<h2>Another", '<h2 id="part">Another', "has 2 places called part"),
        ("h1", "h3", "has 0 titles"),
        ("</body>", "<p>| n |\n|—:|\n| 1 |</p>", "shows a table of Markdown as text"),
        ("</body>", "<p>of order n^(1/2) <code>2^n</code>", "shows 'n^(1/2)' as text"),
    ],
)
def test_each_fault_of_a_page_is_found(site, right, wrong, fault):
    assert faults(site, WHOLE.replace(right, wrong)) == [fault]


def test_an_empty_picture_is_found(site):
    (site / "picture.png").write_bytes(b"")
    assert faults(site, WHOLE) == ["shows picture.png, which is empty"]


def test_pages_of_one_title_are_found(site):
    for name in ("page.html", "last.html"):
        text = f"<title>One</title>{WHOLE}<svg><title>Picture</title></svg>"
        (site / name).write_text(text)
    faults = [fault for fault in pages.faults_of_site(site) if "title of" in fault]
    assert faults == ["page.html has the title of last.html, 'One'"]


def test_a_public_name_without_a_place_is_found(site):
    names = list(pages.faults_of_site(site))
    assert "gwtools.solve is on no page: add it to docs/api" in names


def code(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return list(pages.faults_of_code(path))


def test_code_of_a_page_runs_in_one_namespace(tmp_path):
    text = "```pycon\n>>> a = 1\n```\n\n```pycon\n>>> a + 1\n2\n```\n"
    assert code(tmp_path, text) == []


def test_an_example_that_shows_another_value_is_found(tmp_path):
    (fault,) = code(tmp_path, "```pycon\n>>> 1 + 1\n3\n```\n")
    assert "Expected:\n    3\nGot:\n    2" in fault


def test_code_without_a_language_is_found(tmp_path):
    (fault,) = code(tmp_path, "```\nls\n```\n")
    assert fault == "page.md has a block of code that says no language"
