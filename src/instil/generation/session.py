"""A conversation with a model, turn by turn, with undo.

The terminal (`cli.chat`) has one `Session` per model. Why: the model's earlier reasoning stays in the history,
because the template, not this class, decides how much of it the model sees again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from instil.conversation import Conversation, Message
from instil.data.messages import conversation_to_dict
from instil.encoding.token_origins import ExplainedExample
from instil.errors import GenerationError, nearest
from instil.files import new_folders
from instil.generation.engine import Answer, AnswerStream, Engine
from instil.generation.settings import SamplingSettings
from instil.refused_writes import refused_writes


@dataclass(slots=True, kw_only=True)
class Session:
    """One conversation with one model.

    Attributes:
        engine: The model.
        settings: Sampling settings of the next answer.
        system: System text, or None.
        tools: Tool definitions for the template.
        turns: The turns so far, without the system text.
        last: The last answer.
        begun: Text that the next answer begins with; empty for none.
    """

    engine: Engine
    settings: SamplingSettings
    system: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    turns: list[Message] = field(default_factory=list)
    last: Answer | None = None
    begun: str = ""

    @property
    def conversation(self) -> Conversation:
        """The conversation so far, as data."""
        opening = [] if self.system is None else [Message("system", self.system)]
        if not opening and not self.turns:
            raise GenerationError("conversation: it is empty. Expected a question first. Type one.")
        return Conversation((*opening, *self.turns), tools=self.tools)

    def ask(self, message: Message) -> AnswerStream:
        """Add a message and start the answer; `keep` the answer when it has ended, or `undo` the message."""
        self.turns.append(message)
        return self.stream()

    def stream(self) -> AnswerStream:
        """Start an answer to the last message, from the begun text if there is one."""
        conversation = self.conversation
        if not self.begun:
            return self.engine.stream(conversation, self.settings)
        messages = (*conversation.messages, Message("assistant", self.begun))
        begun = replace(conversation, messages=messages)
        return self.engine.stream(begun, self.settings, continue_final_message=True)

    def begin_with_last_answer(self) -> None:
        """Turn the last answer into the beginning of the next one, so that it is continued.

        Raises:
            GenerationError: If there is no answer yet, or it has no text that can be continued.
        """
        last = self.turns[-1] if self.turns else None
        if last is None or last.role != "assistant" or self.last is None:
            raise GenerationError("/continue: there is no answer yet. Expected one. Ask a question first.")
        if last.tool_calls or last.reasoning or not isinstance(last.content, str) or not last.content:
            raise GenerationError(
                "/continue: the last answer has reasoning, a tool call or no text. Expected plain text. Use /retry."
            )
        self.begun = last.content
        self.turns.pop()

    def keep(self, answer: Answer) -> None:
        """Add a finished answer to the history; calls become text if the template prints no calls."""
        message, chat = answer.message, self.engine.chat
        if message.tool_calls and (chat is None or "tool_calls" not in chat.template.names_read):
            message = self.engine.with_calls_as_text(answer)
        self.turns.append(message)
        self.last, self.begun = answer, ""

    def undo(self) -> Message | None:
        """Remove the last question and everything after it; return the question, or None if there is none."""
        for at in range(len(self.turns) - 1, -1, -1):
            if self.turns[at].role == "user":
                question = self.turns[at]
                del self.turns[at:]
                return question
        return None

    def forget_answer(self) -> None:
        """Remove the last answer, so that its question can be answered again.

        Raises:
            GenerationError: If there is no answer yet.
        """
        if not self.turns or self.turns[-1].role != "assistant":
            raise GenerationError("/retry: there is no answer yet. Expected one. Ask a question first.")
        self.turns.pop()

    def reset(self) -> None:
        """Remove all turns; the system text stays."""
        self.turns.clear()
        self.last, self.begun = None, ""

    def save(self, path: Path) -> None:
        """Append the conversation to a JSONL file as a training row in the messages format.

        Raises:
            GenerationError: If there is no answer to train on, or the file cannot be written.
        """
        if not any(turn.role == "assistant" for turn in self.turns):
            raise GenerationError("/save: there is no answer yet. Expected one. Ask a question first.")
        row = json.dumps(conversation_to_dict(self.conversation), ensure_ascii=False, default=list)
        size = path.stat().st_size if path.exists() else None
        with refused_writes(path, raises=GenerationError, otherwise="choose another file"), new_folders(path.parent):
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(row + "\n")
            except OSError:
                with contextlib.suppress(OSError):  # a full disk may have taken the first half of the row
                    path.unlink(missing_ok=True) if size is None else os.truncate(path, size)
                raise

    def tokens(self) -> list[ExplainedExample]:
        """Return the conversation as training sees it: its examples with the origin and the weight of every token.

        Raises:
            GenerationError: If the model has no template, or there is no answer yet.
        """
        chat = self.engine.chat
        if chat is None:
            raise GenerationError(
                f"/tokens: {self.engine.name} has no chat template, so nothing would be trained. "
                "Name one with --template."
            )
        if not self.turns:
            raise GenerationError("/tokens: there is no question yet. Type one.")
        return list(chat.explain(self.conversation))


def change_setting(settings: SamplingSettings, words: Sequence[str]) -> SamplingSettings:
    """Change one sampling setting as typed: ``temperature 0.7``, ``stop END``, ``seed none``.

    Raises:
        GenerationError: If there is no such setting, or the value does not fit.

    Example:
        >>> change_setting(SamplingSettings(), ["top_k", "5"]).top_k
        5
    """
    names = [item.name for item in fields(SamplingSettings) if item.name != "num_answers"]
    name, values = words[0].replace("-", "_"), list(words[1:])
    if name not in names:
        raise GenerationError(
            f"/settings: no setting {words[0]!r}{nearest(name, names)}. Allowed: {', '.join(names)}. See /settings."
        )
    if name == "stop":
        return replace(settings, stop=tuple(values))
    if len(values) != 1:
        raise GenerationError(f"/settings: {name} takes one value. Type: /settings {name} VALUE.")
    try:
        value = _read_value(name, values[0])
    except ValueError:
        raise GenerationError(
            f"/settings: {name} cannot be {values[0]!r}. Expected a number. Type another one."
        ) from None
    return replace(settings, **{name: value})


def _read_value(name: str, text: str) -> Any:
    if name in ("seed", "top_k") and text.lower() == "none":
        return None
    return int(text) if name in ("seed", "top_k", "max_new_tokens") else float(text)
