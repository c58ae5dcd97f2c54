"""A template variable named like what a template is given replaced it: `tools` hid the conversation's own, silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import instil
from instil.cli.main import main
from instil.encoding.settings import EncodingSettings
from instil.errors import DataError, EncodingError, RecipeError
from instil.recipe import Recipe

TAKEN = ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
TURNS = [{"role": "user", "content": "Where is Hue?"}, {"role": "assistant", "content": "In Vietnam."}]


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("column", ["template_variables", "chat_template_kwargs"])
def test_a_row_is_refused_at_its_place(tmp_path: Path, name: str, column: str):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": TURNS, column: {name: []}}) + "\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: found {name} among the template variables\. Expected"):
        list(instil.read(rows))


@pytest.mark.parametrize("name", TAKEN)
def test_a_conversation_settings_and_a_recipe_are_refused(name: str):
    with pytest.raises(DataError, match=f"^Conversation: found {name} among"):
        instil.Conversation(TURNS, variables={name: []})
    with pytest.raises(EncodingError, match=rf"EncodingSettings\.template_variables: found {name}\."):
        EncodingSettings(template_variables={name: []})
    with pytest.raises(RecipeError, match=rf"data\.template_variables: .*without {name}; rows bring"):
        Recipe.from_mapping({"data": {"sources": ["rows.jsonl"], "template_variables": {name: []}}})


def test_the_command_line_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": TURNS}) + "\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"data": {"sources": [str(rows)], "template_variables": {"tools": []}}}))
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(recipe)])
    assert ended.value.code == 2
    assert "data.template_variables" in capsys.readouterr().err


def test_variables_of_the_template_stay():
    variables = {"enable_thinking": False, "documents": [{"text": "Hue lies in Vietnam."}]}
    assert instil.Conversation(TURNS, variables=variables).variables == variables
    assert EncodingSettings(template_variables=variables).template_variables == variables
