"""The directive ``command-help``: what ``python -m PACKAGE --help`` prints."""

import os
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]


class CommandHelp(Directive):
    """Show the help of a package's command line."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Run the command and keep what it prints, wrapped as on a terminal."""
        command = [sys.executable, "-m", self.arguments[0], "--help"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command,
            env=os.environ | {"COLUMNS": "88", "NO_COLOR": "1", "PYTHONPATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        shown = f"$ python -m {self.arguments[0]} --help\n{done.stdout}"
        return [nodes.literal_block(shown, shown, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
