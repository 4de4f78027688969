"""Sphinx settings. Build: python -m sphinx -W -b html docs docs/_build/html (no network needed)."""

from bayesclust import __version__

project = "bayesclust"
author = "The bayesclust developers"
copyright = "The bayesclust developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
# A reference list need not be cited by number in the text of its own docstring.
suppress_warnings = ["ref.citation", "ref.footnote"]

# Reference pages are written by autosummary into docs/generated/.
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {
    "members": True,
    # scikit-learn makes these; their texts point into scikit-learn's own guide
    "exclude-members": ", ".join(
        f"set_{method}_request"
        for method in ("fit", "partial_fit", "predict", "transform", "score")
    ),
}
autodoc_typehints = "none"  # numpydoc's Parameters say it, with shapes
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"bayesclust {__version__}"
html_theme_options = {"show_prev_next": False, "footer_start": ["copyright"], "footer_end": []}
html_show_sourcelink = False
html_sidebars = {"**": []}  # the guide is one level deep: the header holds all of it
