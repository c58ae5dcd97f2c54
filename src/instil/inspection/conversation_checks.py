"""What can be wrong with one conversation as it was read, before any template or token.

Each check is a function from a conversation to what it saw, and names one `KINDS` entry. Questionable on purpose: an answer
"looks cut" on evidence that a reader would accept at a glance (an open code fence, prose that ends inside a sentence), so some cut
answers are missed rather than many whole ones accused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from instil.conversation import Conversation, Message
from instil.inspection.visible import shortened

_LONG_ANSWER = 400  # characters: below it, an answer without a full stop is style
_LONG_LINE = 40
_PROSE_WORDS = 8
_OPEN_END = re.compile(r"[\w,;]$|\s(?:-|–|—|\()$")
_LOOP_WORDS, _LOOP_SHARE, _LOOP_SIZE = 80, 0.25, 4


def answer_text(message: Message) -> str:
    """Give the text of a message, parts joined.

    Example:
        >>> answer_text(Message("assistant", ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})))
        'ab'
    """
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def check_conversation(conversation: Conversation, *, stop_tokens: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Give kind and text of everything that one conversation shows by itself.

    Args:
        conversation: As it was read.
        stop_tokens: Texts of the model's stop tokens, which no answer should carry; empty where no model is given.
    """
    if conversation.plain:
        for number, message in enumerate(conversation.messages, start=1):
            if _loops(answer_text(message)):
                yield "loop", f"text {number} repeats itself: {_sample(answer_text(message))}"
        return
    if not any(message.role == "assistant" for message in conversation.messages):
        yield "no_answer", "roles " + ", ".join(message.role for message in conversation.messages)
    yield from _check_roles(conversation)
    for number, message in enumerate(conversation.messages, start=1):
        if message.role == "assistant":
            yield from _check_answer(message, number, stop_tokens)


def _check_answer(message: Message, number: int, stop_tokens: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    text = answer_text(message)
    if not text.strip() and not message.tool_calls and message.weight != 0:
        yield "empty_answer", f"message {number} is {_emptiness(message, text)}"
        return
    typed = next((stop for stop in stop_tokens if stop and text.rstrip().endswith(stop)), None)
    if typed is not None:
        yield "typed_stop", f"message {number} has {typed} at its end"
    cut = _looks_cut(text)
    if cut:
        yield "cut_answer", f"message {number} {cut}: …{shortened(text[-60:], 60)}"
    if _loops(text):
        yield "loop", f"message {number} repeats itself: {_sample(text)}"


def _emptiness(message: Message, text: str) -> str:
    empty = "white space only" if text else "an empty answer"
    return f"reasoning without an answer ({empty})" if message.reasoning else empty


def _check_roles(conversation: Conversation) -> Iterator[tuple[str, str]]:
    messages = conversation.messages
    previous, asked = "", False
    for number, message in enumerate(messages, start=1):
        role = message.role
        if role in ("system", "developer") and number > 1 and previous not in ("system", "developer"):
            yield "role_order", f"message {number} is a {role} message in mid-conversation"
        if role == "user" and previous == "user":
            yield "role_order", f"messages {number - 1} and {number} are both from user"
        if role == "assistant" and previous == "assistant":
            yield "role_order", f"messages {number - 1} and {number} are both from assistant"
        if role == "assistant" and not asked and previous != "assistant":
            yield "role_order", f"message {number} answers before anybody asked"
        if role == "tool" and not _follows_a_call(messages, number - 1):
            yield "role_order", f"message {number} is a tool result that no call asked for"
        previous, asked = role, asked or role in ("user", "tool")
    if previous == "user" and len(messages) > 1:
        yield "role_order", f"ends with message {len(messages)} from user, which nobody answers: context only"


def _follows_a_call(messages: tuple[Message, ...], index: int) -> bool:
    while index > 0 and messages[index].role == "tool":
        index -= 1
    return bool(messages[index].tool_calls) or "call" in answer_text(messages[index]).lower()


def _looks_cut(text: str) -> str:
    """Say why an answer looks cut off, or give an empty string."""
    if text.count("```") % 2 == 1 and re.search(r"^\s*```", text, re.MULTILINE):
        return "opens a code block that it does not close"
    if len(text) < _LONG_ANSWER:
        return ""
    lines = text.rstrip().splitlines()
    last = lines[-1].strip() if lines else ""
    prose = len(last) >= _LONG_LINE and len(last.split()) >= _PROSE_WORDS and not _is_structured(last)
    return "ends inside a sentence" if prose and _OPEN_END.search(last) else ""


def _is_structured(line: str) -> bool:
    """Tell list items, headings, tables, code, verse and sums from prose: they end without a full stop by custom."""
    return bool(re.match(r"[-*+#>|/]|\d+[.)]|[A-Za-z][.)]\s|####", line)) or bool(
        re.search(r"[{}=;|<>\\]|://|\t|#\w+$", line)
    )


def _loops(text: str) -> bool:
    words = text.split()
    if len(words) < _LOOP_WORDS:
        return False
    shingles = Counter(zip(*(words[start:] for start in range(_LOOP_SIZE)), strict=False))
    return len(shingles) < _LOOP_SHARE * (len(words) - _LOOP_SIZE + 1)


def _sample(text: str) -> str:
    words = text.split()
    (often, count), *_ = Counter(zip(*(words[start:] for start in range(_LOOP_SIZE)), strict=False)).most_common(1)
    return f"{shortened(' '.join(often), 60)!r} {count} times"
