"""Which template and settings a model answers with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.tiny_chat import folders
from tests.training.command_line import make_base

from instil.conversation import Conversation, Message
from instil.errors import ModelError
from instil.generation.engine import Engine
from instil.generation.served_chat import served_chat
from instil.generation.settings import LoadSettings, SamplingSettings
from instil.model.folder.location import locate, run_folder


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
    chat = served_chat(locate(tmp_path), None).chat
    assert chat is not None
    assert (dict(chat.settings.template_variables), chat.settings.inline_reasoning) == ({"tone": "calm"}, "keep")


def test_a_base_model_without_a_template_has_none_and_one_can_be_given():
    location = locate(folders()["base"])
    assert served_chat(location, None).chat is None
    chat = served_chat(location, "chatml").chat
    assert chat is not None
    assert chat.stop_tokens[0] == "<|im_end|>"


def test_a_chosen_template_adds_the_tokens_that_it_prints_as_a_run_does(tmp_path: Path):
    base = make_base(tmp_path / "base")
    engine = Engine.load(base, LoadSettings(template="chatml"))
    ids = engine.prompt(Conversation((Message("user", "Hi"),)))
    tokens = engine.tokenizer.convert_ids_to_tokens(ids)
    assert [token for token in tokens if "im_" in token] == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert engine.answer([Conversation((Message("user", "Hi"),))], SamplingSettings(max_new_tokens=2))[
        0
    ].prompt_ids == tuple(ids)


def test_a_template_that_does_not_print_the_question_is_refused():
    with pytest.raises(ModelError, match=r"does not print the user's message.*Choose another template"):
        served_chat(locate(folders()["tuned"]), "{{ messages[1:] }}assistant:")
