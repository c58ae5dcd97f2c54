"""A template is recognised by what it is; a miss names what is near."""

from __future__ import annotations

import json

import pytest

from instil.conversation import Message
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.library import named_templates, template_source
from instil.template.resolve import DEFAULT_TEMPLATE, ResolvedTemplate, read_template, resolve_template

SOURCE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def test_each_kind_is_recognised(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text(SOURCE)
    listed = tmp_path / "model"
    listed.mkdir()
    (listed / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": SOURCE}]})
    )
    assert resolve_template("chatml") == template_source("chatml")
    assert resolve_template(SOURCE) == SOURCE
    assert resolve_template(str(file)) == SOURCE
    assert resolve_template(str(listed)) == SOURCE
    assert resolve_template(str(tmp_path)) == SOURCE  # a run folder keeps its model in model/
    (tmp_path / "chat_template.jinja").write_text(SOURCE + "x")
    assert resolve_template(str(tmp_path)) == SOURCE + "x"
    assert "raise_exception" in resolve_template("User: {user}\nBot: {assistant}")


@pytest.mark.parametrize("kept", ["files", "list"])
def test_of_several_templates_in_a_folder_one_is_named_and_the_others_are_told(tmp_path, kept):
    named = {"default": SOURCE, "rag": SOURCE + "rag", "tool_use": SOURCE + "tools"}
    if kept == "files":
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "chat_template.jinja").write_text(named["default"])
        for name in ("rag", "tool_use"):
            (tmp_path / "additional_chat_templates" / f"{name}.jinja").write_text(named[name])
    else:
        listed = [{"name": name, "template": source} for name, source in named.items()]
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    found = read_template(str(tmp_path))
    assert found.source == SOURCE
    assert found.note == (
        f"{tmp_path}: its default chat template is used, not rag, tool_use; to use another, name it as {tmp_path}:rag"
    )
    for name, source in named.items():
        assert read_template(f"{tmp_path}:{name}") == ResolvedTemplate(f"{tmp_path.name}:{name}", source)
    with pytest.raises(
        TemplateError, match=r"no chat template 'rga' \(did you mean 'rag'\?\)\. .* default, rag, tool_use"
    ):
        resolve_template(f"{tmp_path}:rga")


def test_a_folder_without_a_default_template_tells_the_names_that_it_has(tmp_path):
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text(SOURCE)
    with pytest.raises(TemplateError, match=rf"no chat template 'default'\. .* rag\. Name one as {tmp_path}:rag"):
        resolve_template(str(tmp_path))
    assert resolve_template(f"{tmp_path}:rag") == SOURCE


def test_format_string_in_a_file_is_read(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("User: {user}\nBot: {assistant}\n")
    assert read_template(str(file)).stop_token == "<|end|>"


@pytest.mark.parametrize("name", named_templates())
def test_eos_takes_the_place_of_the_stop_token(name):
    tokens = {"bos_token": "<bos>", "eos_token": "<|endoftext|>"}
    read = read_template(name, stop_token="eos", eos_token="<|endoftext|>")
    messages = [Message("user", "Q"), Message("assistant", "A"), Message("user", "R")]
    own, eos = (
        ChatTemplate(source, special_tokens=tokens).render(messages).text
        for source in (template_source(name), read.source)
    )
    stop = read_template(name).stop_token
    assert eos == (own.replace(stop, "<|endoftext|>") if stop else own)
    assert stop is None or stop not in read.control_tokens
    assert "A<|endoftext|>" in eos.replace("A <", "A<")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("chatlm", r"did you mean 'chatml'\?"),
        ("missing.jinja", "no such name or file"),
        ("", "no such name or file"),
    ],
)
def test_a_miss_says_what_is_allowed(spec, reason):
    with pytest.raises(TemplateError, match=reason):
        resolve_template(spec)


def test_folder_and_file_without_a_template_are_refused(tmp_path):
    with pytest.raises(TemplateError, match="no chat template in this folder"):
        resolve_template(str(tmp_path))
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(TemplateError, match="neither Jinja nor"):
        resolve_template(str(tmp_path / "x.txt"))


def test_eos_without_an_eos_token_is_refused():
    with pytest.raises(TemplateError, match="no EOS token"):
        resolve_template("chatml", stop_token="eos")


def test_base_models_get_chatml():
    assert DEFAULT_TEMPLATE == "chatml"
