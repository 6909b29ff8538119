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

# Pages whose indented blocks are formulas, not code.
_OF_FORMULAS = {"gwtools/THEORY", "docs/index"}

# What an index belongs to: a letter or two, the end of a bracket, a norm, an accent.
# Names with an underscore have longer words before it, or stand in code.
_LETTER = r"[a-zß-öø-ÿā∇]|[A-ZΓΔΣΠ\u211d]{1,2}|(?:TLB|SLB|DMW)|[A-Z]\*"
_BASE = (
    rf"(?<![A-Za-z_.-])(?:{_LETTER})|[α-ωΑ-Ω]|(?<=_[a-z])[A-Z]"
    r"|[‖)\]}⟩|′¹²\u0302\u0303\u0304]"
)
_BRACKET = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\)){1,40}\)"
# An index without brackets ends where letters of another kind, a factor, begin.
_PLAIN = r"(?:[0-9]*[a-zℓ]+|[A-ZĈ]+|[0-9]+|[α-ω]+|[\u0391-Ω]|[∞∗*⊗]|\+(?!\w))′?"
_ONE = rf"\{{[^{{}}]*\}}|{_BRACKET}|[½⊥]|{_PLAIN}"
_INDEX = re.compile(
    rf"(?P<base>{_BASE})(?P<parts>(?:[_^](?:{_ONE}))+)"
    # Powers of any word or number, and operators over what is in braces.
    rf"|(?P<word>[\w±])(?P<power>\^(?:{_ONE})|_\{{[^{{}}]*\}})"
    # Entries of what has a name: cost_ij.
    r"|(?P<name>\b(?:cost|matrix|min))(?P<entry>_[ijkl]{1,2})\b"
)
_NAME = re.compile(r"[a-z]_(?![ijkl]+$)[a-z]{3,}$")  # as n_jobs
_PART = re.compile(
    rf"(?P<sign>[_^])(?:\{{(?P<group>[^{{}}]*)\}}|(?P<plain>{_BRACKET}|[^_^{{}}]+))"
)


def typeset(text: str) -> list[nodes.Node]:
    """Return the nodes of a text, its indices lowered and raised."""
    found: list[nodes.Node] = []
    end = 0
    for match in _INDEX.finditer(text):
        if _NAME.match(match[0]):
            continue
        base = next(name for name in ("base", "word", "name") if match[name])
        found.append(nodes.Text(text[end : match.end(base)]))
        for part in _PART.finditer(text[match.end(base) : match.end()]):
            kind = nodes.subscript if part["sign"] == "_" else nodes.superscript
            inner = part["group"] if part["group"] is not None else part["plain"]
            if inner.startswith("(") and inner.endswith(")"):
                inner = inner[1:-1]
            found.append(kind("", "", *(typeset(inner) or [nodes.Text(inner)])))
        end = match.end()
    if not found:
        return []
    if end < len(text):
        found.append(nodes.Text(text[end:]))
    return found


class TypesetIndices(SphinxPostTransform):
    """Set the indices of all text that is neither code nor a link's address.

    Blocks of some pages are formulas, not code.
    """

    default_priority = 900
    formats = ("html",)
    _KEPT = (
        nodes.literal,
        nodes.doctest_block,
        nodes.raw,
        nodes.FixedTextElement,
        nodes.title,
        nodes.math,
        nodes.math_block,
    )

    def run(self, **_: object) -> None:
        """Replace the texts of the page that hold an index."""
        self._blocks_are_kept = self.env.docname not in _OF_FORMULAS
        for text in list(self.document.findall(nodes.Text)):
            if text.parent is None or self._is_kept(text.parent):
                continue
            replaced = typeset(text.astext())
            if replaced:
                text.parent.replace(text, replaced)

    def _is_kept(self, node: nodes.Node | None) -> bool:
        while node is not None:
            # Signatures and code keep their underscores.
            if isinstance(node, nodes.literal_block):
                return self._blocks_are_kept
            if isinstance(node, self._KEPT) or node.tagname.startswith("desc_sig"):
                return True
            if node.tagname in {"desc_signature", "desc_parameterlist"}:
                return True
            node = node.parent
        return False


# Part (b) of a statement or a proof, or a word such as *Proof*, on a line of its own.
_PART_OF_THEOREM = re.compile(r"(?<=[.:;∎])\n(?=\((?:[a-z]|[ivx]+)\) |\*[A-Z])")


def begin_parts(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let each part of a theorem that begins a line begin a paragraph."""
    if docname in _OF_FORMULAS:
        source[0] = _PART_OF_THEOREM.sub("\n\n", source[0])


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
    """Add the transforms, the change of docstrings before numpydoc's, and MathML."""
    app.connect("source-read", begin_parts)
    app.connect("autodoc-process-docstring", keep_bars, priority=100)
    renderers = ((show_formula, None), (show_formula, None))
    app.add_html_math_renderer("mathml", *renderers)
    app.add_post_transform(TypesetIndices)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
