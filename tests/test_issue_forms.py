"""Forms of issues: well-formed as GitHub reads them, and each asks for `instil env`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from instil.cli.main import VERBS

FOLDER = Path(__file__).resolve().parents[1] / ".github" / "ISSUE_TEMPLATE"
FORMS = ("bug", "wrong-mask", "question")
ATTRIBUTES = {
    "markdown": {"value"},
    "input": {"label", "description", "placeholder", "value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
}
"""What GitHub allows for the kinds of fields that are used here."""


def test_there_is_a_form_for_each_kind_of_issue():
    assert {path.stem for path in FOLDER.iterdir()} == {*FORMS, "config"}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_well_formed_and_asks_for_the_environment(name):
    form = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len(fields) >= 3
    for field in form["body"]:
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["attributes"].keys() <= ATTRIBUTES[field["type"]]
        assert field.get("validations", {"required": True}) == {"required": True}
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z-]+", one) for one in names)
    assert all(field["attributes"]["label"] for field in fields)
    assert "environment" in names


def test_the_commands_that_a_form_names_exist():
    verbs = {verb for verb, _, _ in VERBS}
    found = re.findall(r"`instil ([a-z]+)", " ".join(path.read_text(encoding="utf-8") for path in FOLDER.iterdir()))
    assert {"env", "inspect", "demo"} <= set(found) <= verbs
