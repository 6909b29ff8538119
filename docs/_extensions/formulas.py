"""Formulas in plain text: their indices and their bars, as a page shows them.

Formulas in THEORY.md and in docstrings are Unicode. Indices that it lacks are written
with "_" and "^" as in TeX: ``E_π``, ``GW_2^2``. They are set as subscripts and
superscripts in the text of pages, not in code. Bars, as in |C_ik|, would begin a
substitution in a docstring. Formulas of notebooks, written in TeX, become MathML, which
browsers show without a script.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator

# A base: one letter or two capitals, TLB, or the end of a bracket or norm; then one
# index or more. Words with an underscore have longer bases, or stand in code.
_LETTERS = r"(?<![A-Za-z_./-])(?:TLB|[A-ZΓΔΣΠ]{1,2}|[a-zα-ωΑ-Ω∇])"
_BASE = rf"{_LETTERS}|[‖)\]}}⟩|′\u0302\u0303\u0304]"
_ONE = r"\{[^{}]*\}|\([^()\s]{1,12}\)|[0-9A-Za-zα-ωΑ-Ωℓ∞∗*⊗+′]+"
_INDEX = re.compile(rf"(?P<base>{_BASE})(?P<parts>(?:[_^](?:{_ONE}))+)")
_NAME = re.compile(r"[a-z]_(?![ijkl]+$)[a-z]{3,}$")  # as n_jobs
_PART = re.compile(
    r"(?P<sign>[_^])(?:\{(?P<group>[^{}]*)\}|(?P<plain>\([^()]*\)|[^_^{}]+))"
)


def typeset(text: str) -> list[nodes.Node]:
    """Return the nodes of a text, its indices lowered and raised."""
    found: list[nodes.Node] = []
    end = 0
    for match in _INDEX.finditer(text):
        if _NAME.match(match[0]):
            continue
        found.append(nodes.Text(text[end : match.end("base")]))
        for part in _PART.finditer(match["parts"]):
            kind = nodes.subscript if part["sign"] == "_" else nodes.superscript
            inner = part["group"] if part["group"] is not None else part["plain"]
            if inner.startswith("(") and inner.endswith(")"):
                inner = inner[1:-1]
            found.append(kind("", inner))
        end = match.end()
    if not found:
        return []
    if end < len(text):
        found.append(nodes.Text(text[end:]))
    return found


class TypesetIndices(SphinxPostTransform):
    """Set the indices of all text that is neither code nor a link's address."""

    default_priority = 900
    formats = ("html",)
    _KEPT = (
        nodes.literal,
        nodes.literal_block,
        nodes.doctest_block,
        nodes.raw,
        nodes.FixedTextElement,
        nodes.title,
        nodes.math,
        nodes.math_block,
    )

    def run(self, **_: object) -> None:
        """Replace the texts of the page that hold an index."""
        for text in list(self.document.findall(nodes.Text)):
            if text.parent is None or self._is_kept(text.parent):
                continue
            replaced = typeset(text.astext())
            if replaced:
                text.parent.replace(text, replaced)

    def _is_kept(self, node: nodes.Node | None) -> bool:
        while node is not None:
            # Signatures and code keep their underscores.
            if isinstance(node, self._KEPT) or node.tagname.startswith("desc_sig"):
                return True
            if node.tagname in {"desc_signature", "desc_parameterlist"}:
                return True
            node = node.parent
        return False


_CODE = re.compile(r"(``.*?``|`[^`]*`)")


def keep_bars(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Write the bars of a docstring's formulas so that they stay bars."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = _CODE.split(line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[number] = "".join(parts)


def show_formula(page: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula in TeX as MathML."""
    block = isinstance(node, nodes.math_block)
    text = node.astext().replace(r"\top", r"{\mathsf T}")
    markup = tex2mathml(text, as_block=block)
    page.body.append(f'<div class="formula">{markup}</div>' if block else markup)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the transform, the change of docstrings before numpydoc's, and MathML."""
    app.connect("autodoc-process-docstring", keep_bars, priority=100)
    renderers = ((show_formula, None), (show_formula, None))
    app.add_html_math_renderer("mathml", *renderers)
    app.add_post_transform(TypesetIndices)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
