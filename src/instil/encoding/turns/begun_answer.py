"""A begun answer: how much of an assistant turn the model has to be given before it continues.

The turn is rendered as in training, and cut behind the last character of the text that was begun. So a begun answer
is the beginning of what the model was trained to generate: header, an empty reasoning block and the text.

Why: a template may trim a text or write it differently. Then no cut continues the text that the caller has, and the
answer is refused.
"""

from __future__ import annotations

from instil.conversation import Message
from instil.encoding.turns.completion import Turn
from instil.encoding.turns.rendering_pieces import piece
from instil.template.tracing import Rendering

_CONTINUABLE = "Expected an assistant message with a text that the template prints as it is."


def begun_part(turn: Turn, completion: Rendering) -> Rendering:
    """Return the beginning of a turn's completion, up to the end of the text that was begun.

    Args:
        turn: The turn, whose message is the begun answer.
        completion: What the model would have to generate if the answer were complete.

    Raises:
        EncodingError: If the message has tool calls or no text, or the template prints its text differently.
    """
    field, text = _last_text(turn.message)
    if turn.message.tool_calls or not text:
        found = "tool calls, which cannot be continued" if turn.message.tool_calls else "no text to continue"
        raise turn.refused(f"the begun answer has {found}", f"{_CONTINUABLE} Leave continue_final_message out.")
    runs = [(start, end) for start, end, source, _ in completion.runs if source == (turn.index, field)]
    printed = completion.text[runs[0][0] : runs[-1][1]] if runs else ""
    if printed != text:
        raise turn.refused(
            f"the begun answer ends with {text[-40:]!r}, and the template prints {printed[-40:]!r}",
            f"{_CONTINUABLE} Begin it without white space at its ends.",
        )
    return piece(completion, 0, runs[-1][1])


def _last_text(message: Message) -> tuple[str, str]:
    """Return the field that a message's last text stands in, as origins name it, and the text."""
    content = message.content
    if isinstance(content, tuple):
        text = content[-1].get("text") if content else None
        return f"content.{len(content) - 1}.text", text if isinstance(text, str) else ""
    return ("content", content) if content else ("reasoning", message.reasoning or "")
