"""How the documentation is built: `make docs`."""

import sys
from pathlib import Path

from producer_pool import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "Producer Pool"
author = "Producer Pool contributors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build", "examples"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# In docstrings, `name` is a name of Python where there is one of that name, and else just code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autoclass_content = "both"
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"Producer Pool {release}"
html_static_path: list[str] = []
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
