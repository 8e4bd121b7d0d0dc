"""How the site is built; `make docs` calls Sphinx with it.

The sources are the Markdown pages of this folder, which also read well on a code host. extensions/pages.py adds the
pages of the root folder, extensions/signatures.py the types of the API reference.
"""

import sys
from pathlib import Path

import goproc

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))

project = "goproc"
author = "The goproc authors"
copyright = author
version = release = goproc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "pages",
    "signatures",
]
exclude_patterns = ["extensions", "static", "plots"]

# --- The pages
myst_heading_anchors = 4  # with the names that a code host gives them
myst_enable_extensions = ["colon_fence"]
root_pages = {
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "security": "SECURITY.md",
    "releasing": "RELEASING.md",
}
root_pages_end = {"index": "## Documents"}  # what follows is the site's own list of pages
listing_pages = ["design/README"]  # pages whose table is the table of contents of their folder
source_url = "https://github.com/goproc/goproc"

highlight_language = "none"  # of blocks that name none

# --- The API reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
# A list in the repository, in the first version of Sphinx's format, which is text: building needs no network.
intersphinx_mapping = {"python": ("https://docs.python.org/3", "python.inv")}
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"[A-Z]|BaseProcess"),  # type variables, and what Python's documentation lacks
    ("py:.*", r"multiprocessing\.(pool|context|process|queues|synchronize|reduction|connection)\..*"),
]

# --- What links are looked at by `make docs-links`
linkcheck_ignore = [rf"{source_url}/.*"]  # `make docs` has looked for these files
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]

# --- The looks
html_theme = "furo"
pygments_dark_style = "github-dark"  # the theme's own underlines the names of modules, as if they were links
html_title = "goproc"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "source_repository": f"{source_url}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = "$ "
