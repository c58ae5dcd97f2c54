from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.command_line import make_base

from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat
from instil.recipe import Recipe
from instil.template import resolve

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


@pytest.mark.parametrize("stop_token", ["own", "eos"])
def test_a_template_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_token: str):
    base, file = make_base(tmp_path / "base"), tmp_path / "mine.jinja"
    file.write_text(TEMPLATE)
    read: list[Path] = []
    before = resolve._read_text
    monkeypatch.setattr(resolve, "_read_text", lambda path: (read.append(path), before(path))[1])
    model = {"name": str(base), "template": str(file), "stop_token": stop_token}
    setup = set_up_chat(Recipe.from_mapping({"model": model}), locate(str(base)))
    assert read == [file]
    ends = {"own": "<|end|>", "eos": "<|endoftext|>"}[stop_token]
    assert setup.change.stop_token == ends
    assert setup.chat.template.source == TEMPLATE.replace("<|end|>", ends)


def test_a_named_template_gets_its_own_control_tokens_and_no_others(tmp_path: Path):
    """Zephyr's headers look like control tokens and are text."""
    base = make_base(tmp_path / "base")
    setup = set_up_chat(Recipe.from_mapping({"model": {"name": str(base), "template": "zephyr"}}), locate(str(base)))
    assert not [token for token in setup.change.added if "assistant" in token]
