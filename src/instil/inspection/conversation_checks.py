"""Check one conversation as it was read, before any template or token, for `doctor` and `repair`.

Every check yields a name in `KINDS` and a description.

Why: an answer "looks cut off" only on plain evidence, an open code block or prose that ends inside a sentence. So some
cut answers are missed, but few complete ones are reported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from instil.conversation import Conversation, Message
from instil.inspection.text_checks import placeholder_in, says_nothing, without_mojibake
from instil.views.visible import shortened

_LONG_ANSWER = 400  # characters: a shorter answer without a full stop is a matter of style
_LONG_LINE = 40
_PROSE_WORDS = 8
_OPEN_END = re.compile(r"[\w,;]$|\s(?:-|–|—|\()$")
_LOOP_WORDS, _LOOP_SHARE, _LOOP_SIZE = 80, 0.25, 4


def answer_text(message: Message) -> str:
    """Return the text of a message, with its parts joined.

    Example:
        >>> answer_text(Message("assistant", ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})))
        'ab'
    """
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def check_conversation(conversation: Conversation, *, stop_tokens: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield kind and description of every fault of one conversation.

    Args:
        conversation: The conversation.
        stop_tokens: Texts of the model's stop tokens, which no answer should end with. Empty if there is no model.
    """
    yield from _check_texts(conversation)
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
        elif message.weight or any(part.weight for part in message.part_weights):
            yield "untrained_weight", f"message {number} is from {message.role} and has a weight above 0"


def _check_texts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with single texts, whoever wrote them."""
    for number, message in enumerate(conversation.messages, start=1):
        text = answer_text(message)
        where = "text" if conversation.plain else f"message {number} ({message.role})"
        if not text.strip():
            if message.role == "user" and not conversation.plain:
                yield "empty_question", f"{where} is empty"
            continue
        if says_nothing(text):
            yield "says_nothing", f"{where} is {shortened(text, 40)!r}"
        if not conversation.plain and (placeholder := placeholder_in(text)):
            yield "placeholder", f"{where} holds {placeholder}"
        fixed = without_mojibake(text)
        if fixed != text:
            at = next(at for at, (a, b) in enumerate(zip(text, fixed + "\0" * len(text), strict=False)) if a != b)
            yield "mojibake", f"{where} has {text[at : at + 12]!r}, probably {fixed[at : at + 8]!r}"
        if "\ufffd" in text:
            yield "lost_characters", f"{where} has {text.count(chr(0xFFFD)):,} replacement characters"


def _check_answer(message: Message, number: int, stop_tokens: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    text = answer_text(message)
    if not text.strip() and not message.tool_calls and message.weight != 0:
        yield "empty_answer", f"message {number} is {_emptiness(message, text)}"
        return
    typed = next((stop for stop in stop_tokens if stop and text.rstrip().endswith(stop)), None)
    if typed is not None:
        yield "typed_stop", f"message {number} ends with {typed}"
    cut = _looks_cut(text)
    if cut:
        yield "cut_answer", f"message {number} {cut}: …{shortened(text[-60:], 60)}"
    if _loops(text):
        yield "loop", f"message {number} repeats itself: {_sample(text)}"


def _emptiness(message: Message, text: str) -> str:
    empty = "white space only" if text else "an empty answer"
    return f"reasoning without an answer ({empty})" if message.reasoning else empty


def _check_roles(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield what is unusual in the order of roles; a message can be unusual in more than one way."""
    messages = conversation.messages
    previous, has_prompt = "", False
    for number, message in enumerate(messages, start=1):
        role = message.role
        if role in ("system", "developer") and number > 1 and previous not in ("system", "developer"):
            yield "role_order", f"message {number} is a {role} message in the middle of the conversation"
        if role == "user" and previous == "user":
            yield "role_order", f"messages {number - 1} and {number} are both from user"
        if role == "assistant" and previous == "assistant":
            yield "role_order", f"messages {number - 1} and {number} are both from assistant"
        # An answer after another answer was reported above, so it is not reported again.
        if role == "assistant" and not has_prompt and previous != "assistant":
            yield "role_order", f"message {number} is an answer without a prompt before it"
        if role == "tool" and not _follows_a_call(messages, number - 1):
            yield "role_order", f"message {number} is a tool result without a tool call before it"
        previous, has_prompt = role, has_prompt or role in ("user", "tool")
    if previous == "user" and len(messages) > 1:
        yield "role_order", f"ends with message {len(messages)} from user, without an answer: it is not used"


def _follows_a_call(messages: tuple[Message, ...], index: int) -> bool:
    while index > 0 and messages[index].role == "tool":
        index -= 1
    return bool(messages[index].tool_calls) or "call" in answer_text(messages[index]).lower()


def _looks_cut(text: str) -> str:
    """Return why an answer looks cut off, or an empty string."""
    if text.count("```") % 2 == 1 and re.search(r"^\s*```", text, re.MULTILINE):
        return "opens a code block and does not close it"
    if len(text) < _LONG_ANSWER:
        return ""
    lines = text.rstrip().splitlines()
    last = lines[-1].strip() if lines else ""
    prose = len(last) >= _LONG_LINE and len(last.split()) >= _PROSE_WORDS and not _is_structured(last)
    return "ends inside a sentence" if prose and _OPEN_END.search(last) else ""


def _is_structured(line: str) -> bool:
    """Return True for list items, headings, tables, code, verse and sums: they usually end without a full stop."""
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
    shingles = Counter(zip(*(words[start:] for start in range(_LOOP_SIZE)), strict=False))
    ((most_common, count),) = shingles.most_common(1)
    return f"{shortened(' '.join(most_common), 60)!r} {count} times"
