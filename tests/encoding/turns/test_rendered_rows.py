"""The quick test for headers; everything else about rendered rows is in tests/faults/test_rendered_rows.py."""

from __future__ import annotations

from instil.conversation import Conversation, Message
from instil.encoding.turns.rendered_rows import RenderedRows, shows_headers
from instil.template.chat_template import ChatTemplate
from instil.template.library import template_source


def test_only_a_text_with_a_header_is_looked_at():
    assert shows_headers(Conversation((Message("user", "<|user|>"),)))
    assert not shows_headers(Conversation((Message("user", "Hi"), Message("assistant", None, reasoning="[INST]"))))


def test_a_row_of_ordinary_messages_is_not_rendered():
    rows = RenderedRows(ChatTemplate(template_source("chatml")), frozenset({"<|im_start|>", "<|im_end|>"}))
    assert rows.find(Conversation((Message("user", "Hi"), Message("assistant", "Hello")))) is None
    found = rows.find(Conversation((Message("assistant", "[INST] Hi [/INST] Hello </s>"),), plain=True))
    assert found is not None
    assert found.how == "llama-2"
