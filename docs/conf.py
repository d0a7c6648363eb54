"""How Sphinx builds the documentation. Nothing is fetched: no intersphinx, no web fonts."""

from remora import __version__

project = "Remora"
author = "The Remora developers"
copyright = author  # noqa: A001  the name Sphinx reads
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"Remora {version}"
html_show_copyright = False
