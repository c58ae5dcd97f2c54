"""Two templates are told apart by text, by refusal and by ids."""

from __future__ import annotations

from instil.conversation import Conversation, Message
from instil.template.chat_template import ChatTemplate
from instil.template.comparison import Side, compare_templates, text_diff

ASK = Conversation((Message("user", "hello"),))
PRINT = "{% for m in messages %}{{ m.content }}{% endfor %}"


def side(source: str, encode=None) -> Side:
    return Side(source[-8:], ChatTemplate(source), encode)


def compare(one: Side, other: Side):
    return next(compare_templates(one, other, {"ask": ASK}))


def test_equal_templates_do_not_differ():
    assert compare(side(PRINT), side(PRINT)) is None


def test_a_different_generation_prompt_is_named():
    found = compare(side(PRINT), side(PRINT + "{% if add_generation_prompt %}>{% endif %}"))
    assert (found.conversation, found.found) == ("ask, generation prompt", "the texts differ")
    assert found.lines == ("- hello", "+ hello>")


def test_refusal_of_one_is_named():
    refusing = Side("strict", ChatTemplate("{{ raise_exception('no') }}"))
    assert compare(side(PRINT), refusing).found == "only strict refuses it"
    assert compare(refusing, refusing) is None


def test_ids_are_compared_where_texts_are_equal():
    found = compare(
        side(PRINT, lambda text: [ord(c) for c in text]), side(PRINT, lambda text: [ord(c) for c in text[:3]])
    )
    assert found.found == "the texts are equal, the ids differ from token 3 on"
    assert found.lines == ("- [108, 111]", "+ []")


def test_white_space_at_line_ends_can_be_seen():
    assert list(text_diff(" a \n", " a\n")) == ["- ·a·⏎", "+ ·a⏎"]
