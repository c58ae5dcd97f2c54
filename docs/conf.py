"""The docs site: Sphinx reads the pages where they lie, from the repository's root.

    sphinx-build -c docs . build/site/en

``docs/make_site.py`` builds the three languages. Pages are Markdown that GitHub shows as well; what only the site needs
is made from it in ``docs/docs_site/``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

project = "instil"
html_title = "instil"
root_doc = "docs/index"
extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "docs_site.shelves",
    "docs_site.search",
    "docs_site.formulas",
    "docs_site.languages",
]
include_patterns = ["docs/**", "course/**", "ARCHITECTURE.md", "benchmarks/RESULTS.md"]
exclude_patterns = ["docs/locale", "docs/docs_site", "**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb"}
nitpicky = True

# Pages link to headings as on GitHub, where h1 to h6 have an anchor.
myst_heading_anchors = 6
myst_enable_extensions = ["dollarmath"]
# Why: two hyphens would become a dash, and an option that is copied from the text would be wrong.
smartquotes = False
# A shell session or an error as a whole is no program: Pygments colours what it can.
suppress_warnings = ["misc.highlighting_failure"]

# One catalogue a page: a translator has one page open.
locale_dirs = [str(DOCS / "locale")]
gettext_compact = False
gettext_uuid = False
gettext_location = False

# The lessons' outputs: `make docs EXECUTE=1` runs each lesson once, for all languages, on the embedded model and without
# the network. Without it the pages show the code. Exercises and checks are not run; solutions are, at the end.
nb_execution_mode = "cache" if os.environ.get("DOCS_EXECUTE") else "off"
nb_execution_cache_path = str(ROOT / "build" / "jupyter-cache")
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
# What a cell prints line by line is one block, not a box for each line.
nb_merge_streams = True
if nb_execution_mode != "off":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "course")])
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.pop("INSTIL_CORPUS", None)
# Why: by default a page with a widget loads two scripts from other hosts; no page may.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["docs_site/static"]
html_css_files = ["site.css"]
templates_path = ["docs_site/templates"]
html_show_copyright = False
html_copy_source = False
html_use_index = False
html_sidebars = {
    "**": [
        "sidebar/scroll-start.html",
        "sidebar/brand.html",
        "sidebar/languages.html",
        "sidebar/search.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
copybutton_exclude = ".linenos, .gp, .go"
