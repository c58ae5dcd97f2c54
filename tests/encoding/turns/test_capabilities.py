"""What a template cannot carry."""

from __future__ import annotations

from typing import Any

from instil.conversation import Conversation
from instil.encoding.turns.capabilities import CARRIED, not_carried
from instil.errors import DroppedTextError, EncodingError


def test_each_kind_is_named_with_what_happens_to_it() -> None:
    def encode(conversation: Conversation) -> Any:
        if any(message.role == "system" for message in conversation.messages):
            raise DroppedTextError("dropped")
        if any(message.tool_calls for message in conversation.messages):
            raise EncodingError("refused")

    lines = not_carried(encode, takes_reasoning=False, developer="developer")
    assert lines == ("a system message (dropped)", "a tool call and its result (refused)", "reasoning (left out)")


def test_a_template_that_carries_everything_has_no_line() -> None:
    seen: list[Conversation] = []
    assert not_carried(seen.append, takes_reasoning=True, developer="developer") == ()
    assert len(seen) == len(CARRIED) - 1  # reasoning is known without
    assert sum(bool(conversation.tools) for conversation in seen) == 4
