"""Sphinx: the guides are MyST, the example is executed at build, the reference is read from the docstrings."""

import fairyring

project = "fairyring"
author = "the fairyring authors"
copyright = author
version = release = fairyring.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "fairyring"
html_static_path = ["_static"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d6f77", "color-brand-content": "#1d6f77"},
    "dark_css_variables": {"color-brand-primary": "#67c1c8", "color-brand-content": "#67c1c8"},
}
default_role = "code"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
