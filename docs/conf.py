"""Configuration of Sphinx. ``make docs`` builds the documentation."""

from __future__ import annotations

from capsule_kernel import __version__

project = "Capsule"
author = "The Capsule developers"
copyright = author  # noqa: A001  # the name is Sphinx's
version = release = __version__

extensions = ["myst_parser", "sphinx_copybutton", "sphinxcontrib.mermaid"]
myst_fence_as_directive = ["mermaid"]  # so that forges draw it as well
myst_heading_anchors = 3
smartquotes = False  # options begin with two hyphens

html_theme = "furo"
html_title = f"Capsule {release}"
html_favicon = "../kernelspec/logo-32x32.png"
