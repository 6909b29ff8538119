"""Configuration of the documentation, which ``make docs`` builds.

Sphinx reads docstrings as the command-line help and editors do, and numpydoc checks
them already. MyST reads the Markdown files, so that THEORY.md, the change log, results
and notebooks are pages as they stand, without copies.

Formulas are written in Unicode, in THEORY.md as in docstrings: a browser shows them
without TeX, script or network. ``formulas`` sets what follows "_" and "^" as
indices, and writes the TeX of notebooks as MathML.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that is imported here may look for models or data on a network.
os.environ["HF_HUB_OFFLINE"] = "1"

# The sources are the repository: pages link to files, and to one another, as on disk.
project = "gwfusion"
author = copyright = "the gwfusion authors"
try:
    version = release = metadata.version("gwfusion")
except metadata.PackageNotFoundError:
    version = release = ""
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/**/*.md",
    "notebooks/*.ipynb",
    "simulations/results/*/*.md",
    "gwtools/THEORY.md",
    "fusion/SERVERS.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
]
# The paper is read by the journal's own tools.
exclude_patterns = ["docs/paper.md", "simulations/results/*-quick", ".venv*", "build"]

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "command_help",
    "formulas",
    "code_joints",
]

# Docstrings: a name in backticks is a link where it is one.
default_role = "autolink"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say the types, with shapes and units
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_class_members_toctree = False
nitpicky = True  # every function and class that a docstring links to is on a page
nitpick_ignore_regex = [("py:obj", ".*")]  # what single backticks name may be a field
# A log of a server is cut short by "[...]", which is no JSON.
suppress_warnings = ["misc.highlighting_failure"]

# Markdown: links to headings as GitHub makes them; notebooks are shown as they ran.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables that a notebook shows are tables

html_math_renderer = "mathml"
smartquotes = False  # quotes are those of values, to be typed as they stand
html_theme = "furo"
html_title = "gwfusion"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_extra_path = ["_root"]  # the page at the root, which leads to the first page
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
# Icons and styles are local; furo names no other host.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
pygments_style = "friendly"
