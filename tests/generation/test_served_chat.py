"""Which template and settings a model answers with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.tiny_chat import folders, tiny_tokenizer

from instil.errors import ModelError
from instil.generation.served_chat import run_folder, served_chat
from instil.model.folder.location import locate


def test_a_recipe_alone_does_not_make_a_folder_a_run(tmp_path: Path):
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    assert run_folder(locate(tmp_path / "model")) is None
    (tmp_path / "recipe.yaml").write_text("model: {name: demo}\n", encoding="utf-8")
    assert run_folder(locate(tmp_path / "model")) is None
    (tmp_path / "environment.json").write_text("{}", encoding="utf-8")
    assert run_folder(locate(tmp_path / "model")) == tmp_path
    assert run_folder(locate(tmp_path)) == tmp_path


def test_a_run_brings_the_settings_that_it_was_trained_with(tmp_path: Path):
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    (tmp_path / "environment.json").write_text("{}", encoding="utf-8")
    recipe = "model: {name: demo}\ndata: {template_variables: {tone: calm}, inline_reasoning: keep}\n"
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    chat = served_chat(tiny_tokenizer(), locate(tmp_path), None)
    assert chat is not None
    assert (dict(chat.settings.template_variables), chat.settings.inline_reasoning) == ({"tone": "calm"}, "keep")


def test_a_base_model_without_a_template_has_none_and_one_can_be_given():
    location = locate(folders()["base"])
    assert served_chat(tiny_tokenizer(template=False), location, None) is None
    chat = served_chat(tiny_tokenizer(template=False), location, "chatml")
    assert chat is not None
    assert chat.stop_tokens[0] == "<|im_end|>"


def test_a_template_that_does_not_print_the_question_is_refused():
    with pytest.raises(ModelError, match=r"does not print the user's message.*Choose another template"):
        served_chat(tiny_tokenizer(), locate(folders()["tuned"]), "{{ messages[1:] }}assistant:")
