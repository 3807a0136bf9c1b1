"""Sphinx: Markdown by MyST, notebooks as they ran, pages of methods and papers made from the code (generate.py)."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

from stvit.version import __version__  # noqa: E402

project, author, copyright = "stvit", "the stvit developers", "2026, the stvit developers"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "mathml"]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["wide.css"]
html_title = f"stvit {__version__}"
html_show_sphinx = False
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]  # README's parts begin below a title; widgets

generate.write(HERE)


def arguments_as_lists(app, what, name, obj, options, lines: list[str]) -> None:
    if what in ("function", "method", "class"):
        lines[:] = generate.arguments_as_list(lines)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", arguments_as_lists)
