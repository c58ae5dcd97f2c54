"""Claims about an inspection: how its data, model and template are named, and what a terminal shows of the changes."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from tests.tiny_chat import tiny_tokenizer

from instil.conversation import Place
from instil.inspection.fixed_file import FixedFile
from instil.inspection.inspection import Inspection
from instil.inspection.repair import Repair
from instil.inspection.report import CHANGES_IN_A_TERMINAL, fixes_to_json, print_fixes
from instil.recipe import Recipe

SOURCE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "a"}) + "\n", encoding="utf-8")
    return str(path)


def inspection_of(rows, **model):
    return Inspection.of("my data", Recipe.from_mapping({"model": model, "data": {"sources": rows}}))


@pytest.mark.parametrize(
    ("template", "name"),
    [(None, "chatml ("), ("zephyr", "zephyr ("), (SOURCE, "given as source (")],
    ids=["base model", "named", "source"],
)
def test_the_template_is_named_with_its_fingerprint(rows, template, name):
    inspection = inspection_of(rows, template=template)
    subject = inspection.subject
    assert (subject.data, subject.model) == ("my data", "demo")
    assert subject.template == f"{name}{inspection.chat.template.fingerprint[:12]})"


def test_without_a_config_the_longest_example_stays_as_it_is_set(rows, tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    inspection = inspection_of(rows, name=str(tmp_path / "tokenizer"))
    assert inspection.recipe.data.max_tokens is None
    assert inspection.subject.template.startswith("the model's own (")
    assert inspection_of(rows).recipe.data.max_tokens == 1024


def changes(count, tmp_path):
    for number in range(1, count + 1):
        yield Repair(Place("a.jsonl", number), {"a": number}, {"b": number}, ("row: key renamed",))
    yield FixedFile(tmp_path / "out.jsonl", rows_in=count, rows_out=count, changed=count, left_out=0)


@pytest.mark.parametrize(("terminal", "shown"), [(True, CHANGES_IN_A_TERMINAL), (False, CHANGES_IN_A_TERMINAL + 2)])
def test_a_terminal_shows_the_first_changes_and_a_file_all_of_them(terminal, shown, tmp_path):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, color_system=None, width=100)
    print_fixes(console, changes(CHANGES_IN_A_TERMINAL + 2, tmp_path))
    assert output.getvalue().count("key renamed") == shown
    assert ("… and 2 rows more" in output.getvalue()) == terminal
    assert output.getvalue().rstrip().endswith("102 rows in = 102 written (102 of them fixed) + 0 left out")


def test_json_has_the_counts_and_every_change(tmp_path):
    got = fixes_to_json(changes(2, tmp_path))
    assert (got["path"], got["rows_in"], got["mended"]) == (str(tmp_path / "out.jsonl"), 2, 2)
    assert got["changes"][1] == {"place": "a.jsonl:2", "changes": ["row: key renamed"], "left_out": False}
