"""Code in cells of tables: it may go on in the next line behind a dot or a bracket.

Else a browser breaks long names in the midst of words, or makes their columns wide.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

_JOINT = re.compile(r"(?<=[._=,/(:\[])(?=\w)")


class BreakCodeInCells(SphinxPostTransform):
    """Mark where code in a table may be broken."""

    default_priority = 910
    formats = ("html",)

    def run(self, **_: object) -> None:
        """Put a mark behind each joint of a name or a call."""
        for entry in list(self.document.findall(nodes.entry)):
            for code in list(entry.findall(nodes.literal)):
                first, *others = _JOINT.split(code.astext())
                parts: list[nodes.Node] = [nodes.Text(first)]
                for text in others:
                    parts += [nodes.raw("", "<wbr>", format="html"), nodes.Text(text)]
                code.children.clear()
                code += parts


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the transform."""
    app.add_post_transform(BreakCodeInCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
