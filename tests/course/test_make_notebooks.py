"""Notebooks are made from the lessons and the catalogues of the docs site, by Sphinx's own message ids."""

from __future__ import annotations

import doctest
import os
import runpy
import subprocess
import sys

import nbformat
import polib
import pytest
from tests.course.lesson_runs import LESSONS, ROOT

import make_notebooks
from make_notebooks import messages_of, notebook_of, read_lesson, repository_address, translated, untranslated

UNTRANSLATED: dict[str, set[str]] = {
    "zh": set(),
    "vi": set(),
}
"""Lessons whose text a language does not have yet. It must be empty when the course is complete."""
CONF = """
extensions = ["myst_nb"]
nb_execution_mode = "off"
gettext_compact = False
include_patterns = ["course/[0-9]-*.md"]
exclude_patterns = ["build"]
root_doc = "course/1-chat-templates"
myst_enable_extensions = EXTENSIONS
"""


def test_examples_of_the_module_hold():
    result = doctest.testmod(make_notebooks)
    assert result.attempted >= 2
    assert result.failed == 0


@pytest.mark.parametrize("language", ["zh", "vi"])
def test_no_language_lacks_a_paragraph(language):
    for lesson in LESSONS:
        lacking = untranslated(lesson, language)
        if lesson.name in UNTRANSLATED[language]:
            assert lacking, f"{lesson.name} is complete in {language}: remove it from UNTRANSLATED"
        else:
            assert lacking == [], f"{lesson.name} in {language}"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_message_ids_are_those_that_sphinx_extracts(tmp_path):
    extensions = runpy.run_path(str(ROOT / "docs" / "conf.py"))["myst_enable_extensions"]
    assert set(extensions) == make_notebooks.MARKDOWN_EXTENSIONS
    (tmp_path / "conf.py").write_text(CONF.replace("EXTENSIONS", repr(extensions)), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-b",
        "gettext",
        "-c",
        str(tmp_path),
        str(ROOT),
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, env={**os.environ, "HOME": str(tmp_path)})
    num_messages = 0
    for lesson in LESSONS:
        extracted = {entry.msgid for entry in polib.pofile(str(tmp_path / "out" / "course" / f"{lesson.stem}.pot"))}
        texts = [cell.source for cell in read_lesson(lesson).cells if cell.cell_type == "markdown"]
        ours = {message for text in texts for message in messages_of(text)}
        assert ours == extracted
        num_messages += len(ours)
    assert num_messages > 5


MARKDOWN = """\
# A title

A paragraph
of two lines, with [a link](2-data.md).

1. one
   more
2. two

| a | b |
|---|---|
| a | `x` and a |

> quoted

```python
# not a text
```"""


def test_each_kind_of_paragraph_is_translated():
    messages = messages_of(MARKDOWN)
    assert messages == [
        "A title", "A paragraph of two lines, with [a link](2-data.md).", "one more", "two", "a", "b", "a", "`x` and a", "quoted",
    ]  # fmt: skip
    foreign = {message: f"«{number}»" for number, message in enumerate(dict.fromkeys(messages))}
    assert translated(MARKDOWN, foreign).split("\n") == [
        "# «0»", "", "«1»", "", "1. «2»", "2. «3»", "", "| «4» | «5» |", "|---|---|", "| «4» | «6» |", "", "> «7»", "",
        "```python", "# not a text", "```",
    ]  # fmt: skip


def test_without_translations_the_text_stays():
    assert translated(MARKDOWN, {}) == MARKDOWN


def test_translations_come_from_the_catalogue_and_fuzzy_ones_do_not_count(tmp_path, monkeypatch):
    lesson = LESSONS[0]
    catalogue = tmp_path / "docs" / "locale" / "vi" / "LC_MESSAGES" / "course" / f"{lesson.stem}.po"
    catalogue.parent.mkdir(parents=True)
    entries = polib.POFile()
    entries.append(polib.POEntry(msgid="Exercises", msgstr="Bài tập"))
    entries.append(polib.POEntry(msgid="Solutions", msgstr="Lời giải cũ", flags=["fuzzy"]))
    entries.save(str(catalogue))
    monkeypatch.setattr(make_notebooks, "ROOT", tmp_path)
    notebook = notebook_of(lesson, "vi")
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "## Bài tập" in text
    assert "## Solutions" in text
    assert "Lời giải" not in text
    assert "Exercises" not in untranslated(lesson, "vi")
    assert "Solutions" in untranslated(lesson, "vi")


@pytest.mark.slow
def test_the_code_of_all_languages_is_the_same_and_an_address_stands_in_the_setup_cell():
    for lesson in LESSONS:
        english, chinese = (notebook_of(lesson, language, "https://host.invalid/own/er") for language in ("en", "zh"))
        codes = [[cell.source for cell in book.cells if cell.cell_type == "code"] for book in (english, chinese)]
        assert codes[0] == codes[1]
        assert 'REPOSITORY = "https://host.invalid/own/er"' in codes[0][0]
        nbformat.validate(english)
        solutions = [cell for cell in english.cells if "solution" in cell.metadata.get("tags", [])]
        assert solutions
        assert all(cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form" for cell in solutions)


@pytest.mark.parametrize(
    ("given", "address"),
    [("https://host.invalid/a/b.git", "https://host.invalid/a/b"), ("", ""), ("/srv/git/instil", "")],
)
def test_an_address_that_a_learner_cannot_clone_is_none(given, address):
    assert repository_address({"COURSE_REPOSITORY": given}) == address


def test_links_lead_from_a_notebook_to_notebooks_and_files():
    text = "[a](2-data.md), [b](../docs/how-to/templates.md#x), [c](https://x.invalid/1-a.md), [d](README.md)"
    assert make_notebooks._with_links(text, "") == (
        "[a](2-data.ipynb), [b](../../../docs/how-to/templates.md#x), [c](https://x.invalid/1-a.md), "
        "[d](../../../course/README.md)"
    )
    assert "(https://h.invalid/r/blob/main/docs/how-to/templates.md#x)" in make_notebooks._with_links(
        text, "https://h.invalid/r"
    )
