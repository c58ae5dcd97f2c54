"""Claims about the turns of a conversation in a notebook, and about records on one line."""

from __future__ import annotations

from tests.views.parsed import assert_harmless

from instil import Conversation, Message, Place, ToolCall
from instil.conversation import PartWeight
from instil.views.turns import LINE, MOST_TURNS, ShownTurn, one_line, turns_html


def test_a_long_conversation_shows_both_ends_and_says_what_is_left_out():
    messages = tuple(Message("user" if n % 2 == 0 else "assistant", f"turn {n} " + "x" * 3000) for n in range(10_000))
    page = Conversation(messages)._repr_html_()
    assert len(page) < 200_000
    assert "9,960 messages not shown" in page
    assert "turn 0 " in page
    assert "turn 9999 " in page
    assert "turn 5000 " not in page
    assert "characters not shown" in page
    exact = Conversation(messages[:MOST_TURNS])._repr_html_()
    assert "messages not shown" not in exact
    assert exact.count('class="who"') == MOST_TURNS


def test_only_shown_turns_are_asked_for():
    asked = []

    def turn(index):
        asked.append(index)
        return ShownTurn("user", "Hi")

    turns_html(turn, 10**9)
    assert len(asked) == MOST_TURNS


def test_everything_of_a_turn_is_shown_as_text():
    call = ToolCall("find<b>", {"city": "<i>Hà Nội</i>"})
    parts = ({"type": "text", "text": "See & hear"}, {"type": "image_url", "image_url": "http://x.invalid/p.png"})
    conversation = Conversation(
        (
            Message("user", parts),
            Message("assistant", None, reasoning="<script>hm</script>", tool_calls=(call,), weight=0.5),
            Message("assistant", "Warm", part_weights=(PartWeight("content", 0, 2, 0.0),)),
        ),
        tools=({"type": "function", "function": {"name": "find<b>"}}, {"name": "other"}, {"function": 5}),
        place=Place("<rows>.jsonl", 3),
    )
    page = conversation._repr_html_()
    shown = ["See &amp; hear", "[image_url]", "hm", "&lt;i&gt;Hà Nội&lt;/i&gt;", "weight: 0.5", "weight 0: content"]
    for text in [*shown, "find&lt;b&gt;, other, tool", "&lt;rows&gt;.jsonl:3"]:
        assert text in page, text
    assert_harmless(page)


def test_one_line_is_one_line_of_bounded_length():
    long = Conversation((Message("user", "line\nline\x1b[31m " * 1000),), place=Place("p" * 300, 1))
    assert "\n" not in repr(long)
    assert "\x1b" not in repr(long)
    assert len(repr(long)) <= LINE
    talk = Conversation((Message("user", "Hi"), Message("assistant", "Hello")), place=Place("rows", 1))
    assert repr(talk) == "Conversation(rows[0], 2 messages, user 'Hi', assistant 'Hello')"
    assert repr(Conversation((Message("user", "code"),), plain=True)) == (
        "Conversation(1 message, plain text, no template, user 'code')"
    )
    assert one_line("A", ["b" * 500]).endswith("b…)")
