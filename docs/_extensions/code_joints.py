"""Code within text: it may go on in the next line behind a dot or a bracket.

Else a browser breaks long names in the midst of words, or makes columns of tables wide.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_SHOWN = re.compile(r">[^<>]+<")
_JOINT = re.compile(r"(?<=[._=,/(:\[])(?=\w)")


def begin_code(page: HTML5Translator, node: nodes.literal) -> None:
    """Begin code, and remember where."""
    HTML5Translator.visit_literal(page, node)
    node["begin"] = len(page.body)


def end_code(page: HTML5Translator, node: nodes.literal) -> None:
    """Mark where the code may be broken, and end it."""
    begin = node["begin"]
    shown = "".join(page.body[begin:])
    page.body[begin:] = [_SHOWN.sub(lambda text: _JOINT.sub("<wbr>", text[0]), shown)]
    HTML5Translator.depart_literal(page, node)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write code in this way."""
    app.add_node(nodes.literal, override=True, html=(begin_code, end_code))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
