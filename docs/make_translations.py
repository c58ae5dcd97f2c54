"""Update the catalogues of translations from the English pages: ``python docs/make_translations.py``.

A page has a catalogue for each language, ``docs/locale/LANGUAGE/LC_MESSAGES/PAGE.po``. A sentence that is new has no
translation there; one that changed keeps its old translation, marked *fuzzy*, which the site does not show.
Translate what is empty, correct what is fuzzy and remove the mark.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import polib
from docs_site.languages import TRANSLATIONS, is_fully_translated
from sphinx.cmd.build import build_main
from sphinx_intl.basic import update

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LOCALE = DOCS / "locale"
TITLE_AND_SUMMARY = 2
"""The messages of a page whose text stays English: its title, and its first paragraph."""

HEADER = {
    "Project-Id-Version": "instil",
    "MIME-Version": "1.0",
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Transfer-Encoding": "8bit",
}


def write_templates(folder: Path) -> None:
    """Write the messages of each page into a folder, as gettext templates."""
    shutil.rmtree(folder, ignore_errors=True)
    # Why no strict build: a template needs no link to be right, and the site's build checks them all.
    code = build_main(["--quiet", "-b", "gettext", "-c", str(DOCS), "-d", f"{folder}-doctrees", str(ROOT), str(folder)])
    if code:
        sys.exit(code)
    for path in sorted(folder.rglob("*.pot")):
        page = path.relative_to(folder).with_suffix("").as_posix()
        template = polib.pofile(str(path))
        template.header, template.metadata, template.metadata_is_fuzzy = "", HEADER, False
        if not is_fully_translated(page):
            del template[TITLE_AND_SUMMARY:]
        template.save()


def catalogues(language: str) -> list[Path]:
    """Return the catalogues of pages in a language; `sphinx.po` has the words of the site's frame instead."""
    folder = LOCALE / language / "LC_MESSAGES"
    return sorted(path for path in folder.rglob("*.po") if path.name != "sphinx.po")


def main() -> None:
    """Update every catalogue, and remove those of pages that are gone."""
    templates = ROOT / "build" / "gettext"
    write_templates(templates)
    update(str(LOCALE), str(templates), TRANSLATIONS, jobs=1)
    for language in TRANSLATIONS:
        for path in catalogues(language):
            page = path.relative_to(LOCALE / language / "LC_MESSAGES")
            if not (templates / page).with_suffix(".pot").exists():
                path.unlink()
                print(f"Remove: {path}, the page is gone")


if __name__ == "__main__":
    main()
