"""Ollama's Modelfile: the chat template in Ollama's own language, and the stop tokens.

Ollama does not run Jinja. Probe conversations show what the template prints around turns. A Go template is built from
that, expanded for the user's rows, and compared with the real rendering. A template that is more than turns end to
end is refused, with the first difference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError, TemplateError
from instil.generation.engine import text_of

_ROLES = ("system", "user", "assistant")
GREEDY = "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"
"""Answers as this package gives them by default.

Why: Ollama's own repeat_penalty is 1.1, and it also changes answers of temperature 0.
"""


@dataclass(frozen=True, slots=True)
class TurnParts:
    """What a template prints around turns.

    Attributes:
        start: Before the first turn, BOS included: the GGUF file says that the runner adds none.
        around: By role: the text before and after the content.
        generation: The generation prompt.
    """

    start: str
    around: dict[str, tuple[str, str]]
    generation: str

    def expand(self, conversation: Conversation) -> str:
        """Return the text that the Go template prints for a conversation."""
        turns = "".join(
            self.around[message.role][0] + text_of(message) + self.around[message.role][1]
            for message in conversation.messages
        )
        return self.start + turns + self.generation

    def source(self) -> str:
        """Return the Go template."""
        branches = []
        for number, (role, (before, after)) in enumerate(self.around.items()):
            word = "if" if number == 0 else "else if"
            branches.append(f'{{{{ {word} eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(after)}')
        turns = "{{ range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}"
        return _go(self.start) + turns + _go(self.generation)


def find_parts(chat: ChatTokenizer) -> TurnParts:
    """Return what a template prints around each role's turns.

    Raises:
        ExportError: If it is not the same for each turn of a role.
    """
    probe = Conversation((Message("user", "first"), Message("assistant", "second"), Message("user", "third")))
    text = _render(chat, probe)
    bos = chat.tokenizer.bos_token or ""
    bos = bos if text.startswith(bos) else ""
    text = text[len(bos) :]  # BOS is not part of what precedes every user turn
    marks = [text.find(word) for word in ("first", "second", "third")]
    if min(marks) < 0 or marks != sorted(marks):
        raise ExportError("ollama: the template does not print turns in order. Serve the GGUF with its own template.")
    generation = _generation(chat, probe)
    before_first, after_user = text[: marks[0]], text[marks[0] + 5 : marks[1]]
    after_assistant, last = text[marks[1] + 6 : marks[2]], text[marks[2] + 5 :].removesuffix(generation)
    user_end = last
    if not after_user.startswith(user_end):
        raise ExportError(_not_turns("a user turn ends differently at the end"))
    assistant_start = after_user[len(user_end) :]
    user_start = _common_end(before_first, after_assistant)
    around = {
        "user": (user_start, user_end),
        "assistant": (assistant_start, after_assistant.removesuffix(user_start)),
    }
    start = bos + before_first.removesuffix(user_start)
    system = _system(chat, start=start, user_start=user_start)
    return TurnParts(start, ({"system": system} if system else {}) | around, generation)


def _generation(chat: ChatTokenizer, conversation: Conversation) -> str:
    plain = chat.render(conversation).text
    prompted = chat.render(conversation, add_generation_prompt=True).text
    if not prompted.startswith(plain):
        raise ExportError(_not_turns("its generation prompt changes the text before it"))
    return prompted[len(plain) :]


def _render(chat: ChatTokenizer, conversation: Conversation) -> str:
    return chat.render(conversation, add_generation_prompt=True).text


def _system(chat: ChatTokenizer, *, start: str, user_start: str) -> tuple[str, str] | None:
    probe = Conversation((Message("system", "guide"), Message("user", "first")))
    try:
        text = _render(chat, probe)
    except TemplateError:
        return None
    at, user = text.find("guide"), text.find("first")
    if at < 0 or user < at or not text.startswith(start) or not text[at + 5 : user].endswith(user_start):
        return None
    return text[len(start) : at], text[at + 5 : user].removesuffix(user_start)


def _common_end(left: str, right: str) -> str:
    length = 0
    while length < min(len(left), len(right)) and left[-1 - length] == right[-1 - length]:
        length += 1
    return left[len(left) - length :]


def _not_turns(what: str) -> str:
    return f"ollama: the template is more than turns end to end ({what}). Serve the GGUF with its own template."


def _go(text: str) -> str:
    """Return text for a Go template; text with the language's own braces and quotes becomes a quoted constant."""
    if "{{" in text or "}}" in text or '"""' in text or text != text.strip(" "):
        return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
    return text


def make_modelfile(chat: ChatTokenizer, weights: str, conversations: Sequence[Conversation]) -> tuple[str, int]:
    """Make a Modelfile, and check it on conversations.

    Args:
        chat: Template and stop tokens.
        weights: The GGUF file or a folder, as `FROM` names it.
        conversations: Rows to compare on, up to the model's turn.

    Returns:
        The Modelfile, and the number of rows compared.

    Raises:
        ExportError: If Ollama's language cannot express the template; the message has the first difference.
    """
    parts = find_parts(chat)
    compared = 0
    for conversation in conversations:
        # The Go template has no tools, and no roles but those that the probes showed.
        if conversation.tools or any(m.role not in parts.around or m.tool_calls for m in conversation.messages):
            continue
        try:
            rendered = _render(chat, conversation)
        except TemplateError:
            continue
        expanded = parts.expand(conversation)
        if expanded != rendered:
            at = next((n for n, (a, b) in enumerate(zip(expanded, rendered, strict=False)) if a != b), len(expanded))
            raise ExportError(
                _not_turns(
                    f"{conversation.place or 'a probe'}: {expanded[at : at + 40]!r} against {rendered[at : at + 40]!r}"
                )
            )
        compared += 1
    stops = "".join(f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}\n" for token in chat.stop_tokens)
    return f'FROM {weights}\nTEMPLATE """{parts.source()}"""\n{stops}{GREEDY}', compared
