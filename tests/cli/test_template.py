"""Claims about ``instil template``: every subcommand prints what it promises, and errors are one line."""

from __future__ import annotations

import json

import pytest
from tests.tiny_chat import tiny_tokenizer

from instil.cli import main as entry
from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat
from instil.recipe import Recipe
from instil.template.library import named_templates, template_source


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        entry.main(["template", *words])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_list_names_every_template_and_what_ends_its_turns(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(named_templates())
    assert "<|im_end|>" in out


def test_list_as_json_can_be_read(capsys):
    code, out, _ = run(capsys, "list", "--json")
    assert code == 0
    assert [facts["name"] for facts in json.loads(out)] == list(named_templates())


def test_show_prints_the_source_and_nothing_else(capsys):
    assert run(capsys, "show", "chatml")[:2] == (0, template_source("chatml"))


def test_each_verb_reports_which_of_several_templates_it_takes(capsys, tmp_path):
    (tmp_path / "chat_template.jinja").write_text(template_source("chatml"), encoding="utf-8")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "other.jinja").write_text(template_source("zephyr"), encoding="utf-8")
    code, out, err = run(capsys, "show", str(tmp_path))
    assert (code, out) == (0, template_source("chatml"))
    assert f"not other; to use another, name it as {tmp_path}:other" in err
    assert run(capsys, "show", f"{tmp_path}:other") == (0, template_source("zephyr"), "")
    code, out, _ = run(capsys, "compare", f"{tmp_path}:other", "zephyr")
    assert code == 0, out
    notes = set_up_chat(Recipe.from_mapping({"model": {"template": str(tmp_path)}}), locate("demo")).notes
    assert f"not other; to use another, name it as {tmp_path}:other" in notes[0]


def test_show_prints_the_template_made_from_a_format_string(capsys):
    code, out, _ = run(capsys, "show", "User: {user}\\nBot: {assistant}")
    assert code == 0
    assert "'assistant'" in out
    assert "<|end|>" in out


def test_prove_passes_chatml_with_the_embedded_base_model(capsys):
    code, out, _ = run(capsys, "prove", "chatml")
    assert code == 0
    assert out.startswith("template proof passed:")
    assert "stops on: <|im_end|>" in out


def test_prove_takes_a_model(capsys):
    code, out, _ = run(capsys, "prove", "demo")
    assert code == 0
    assert "base model without a chat template: it gets chatml" in out


def test_compare_finds_no_difference_between_equals(capsys):
    code, out, _ = run(capsys, "compare", "chatml", "chatml", "--model", "demo")
    assert code == 0
    assert "0 of 15 conversations differ in text or ids" in out
    assert out.count(": same") == 15


def test_compare_shows_the_first_differing_lines_and_who_refuses(capsys):
    code, out, _ = run(capsys, "compare", "zephyr", "gemma")
    assert code == 1
    assert "single turn: the texts differ" in out
    assert "    - <|user|>⏎" in out
    assert "    + <bos><start_of_turn>user⏎" in out or "<start_of_turn>user⏎" in out
    assert "two users in a row: only gemma refuses it" in out


def test_compare_sees_white_space(capsys, tmp_path):
    other = tmp_path / "other.jinja"
    other.write_text(
        template_source("chatml").replace("<|im_end|>\\n' }}\n    {%- endif", "<|im_end|> \\n' }}\n    {%- endif")
    )
    code, out, _ = run(capsys, "compare", "chatml", str(other))
    assert code == 1
    assert "+ Answer one.<|im_end|>·⏎" in out


def test_errors_are_one_line_with_the_nearest_name(capsys):
    for words in (("show", "chatlm"), ("prove", "missing.jinja"), ("compare", "chatml", "U: {usr} A: {assistant}")):
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_a_folder_with_a_tokenizer_alone_is_enough_to_prove_and_compare(capsys, tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink(missing_ok=True)
    code, out, _ = run(capsys, "prove", "chatml", "--model", str(tmp_path))
    assert code == 0
    assert "template proof passed" in out
    code, out, _ = run(capsys, "compare", "chatml", "zephyr", "--model", str(tmp_path))
    assert code == 1
    assert "differ in text or ids" in out


@pytest.mark.parametrize("words", [("prove", "llama3"), ("compare", "chatml", "llama3")])
def test_a_name_that_is_nearly_a_templates_is_not_looked_for_on_the_hub(words, capsys):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith("error: template 'llama3': no such name or file (did you mean 'llama-3'?)")
