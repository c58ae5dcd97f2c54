"""The syntax of a template's tool calls, read from what the template prints for sample calls.

Why: no table of templates. A template prints two calls with known names and arguments; what stands around them is the
syntax. The answer parser then reads the printed text back, so a syntax that it does not know is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from instil.conversation import Conversation, Message, ToolCall
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import GenerationError, InstilError
from instil.generation.constraints.forms import CallForm, definition_of, parameters_of
from instil.generation.constraints.grammar import json_rule, literal
from instil.generation.parsing.complete import parse_answer

_NAMES = ("sample_first", "sample_second")
_IDS = ("sampleid1", "sampleid2")
_KEY = "sample_key"


@dataclass(frozen=True, slots=True)
class CallShape:
    """What a template prints around the names and arguments of calls.

    Attributes:
        before: In front of the first name.
        middle: Between a name and its arguments.
        between: Between a call's arguments and the next name; None if the template prints no second call.
        after: Behind the last arguments, up to the stop token.
    """

    before: str
    middle: str
    between: str | None
    after: str


def call_rules(form: CallForm, chat: ChatTokenizer | None, added_ids: Mapping[str, int]) -> list[str]:
    """Return the rules of one call or several.

    Raises:
        GenerationError: If the template's syntax is unknown, or its arguments are no JSON.
    """
    shape = read_shape(chat, place="tool_choice")
    rules, names = [], []
    for number, tool in enumerate(form.callable_tools()):
        name = str(definition_of(tool)["name"])
        parts = (json.dumps(name, ensure_ascii=False), _items(shape.middle, added_ids), f"arguments{number}")
        rules += [
            f"call{number}: {' '.join(part for part in parts if part)}",
            f"arguments{number}: {json_rule(parameters_of(tool))}",
        ]
        names.append(f"call{number}")
    more = f"({_items(shape.between, added_ids)} call)*" if form.several and shape.between is not None else ""
    turn = (_items(shape.before, added_ids), "call", more, _items(shape.after, added_ids))
    return [f"calls: {' '.join(part for part in turn if part)}", f"call: {' | '.join(names)}", *rules]


def _items(text: str, added_ids: Mapping[str, int]) -> str:
    """Return a text as grammar items; a sample id stands for any id of its length."""
    pieces = re.split("|".join(_IDS), text)
    return " /[a-zA-Z0-9]{9}/ ".join(literal(piece, added_ids) for piece in pieces).strip()


def read_shape(chat: ChatTokenizer | None, *, place: str) -> CallShape:
    """Read the syntax of a template's calls.

    Raises:
        GenerationError: If the template prints none, or one whose arguments are no JSON.
    """
    if chat is None:
        _refuse(place, "the model has no chat template")
    # A template need not print everything of a sample tool.
    chat = chat.with_settings(replace(chat.settings, dropped_text="accept"))
    try:
        one = _printed(chat, 1)
    except InstilError as error:
        _refuse(place, f"the template prints no tool calls ({error})")
    parts = _split(one, 1)
    if parts is None or not _reads_back(one, 1):
        _refuse(
            place, "the template prints tool calls in a syntax without JSON arguments, or in none that is known here"
        )
    before, middle, after = parts
    try:
        two = _printed(chat, 2)
    except InstilError:  # such a template takes one call in a turn
        return CallShape(before, middle, None, after)
    several = _split(two, 2)
    if (
        several is None
        or several[0] != before
        or several[1] != middle
        or several[3] != middle
        or not _reads_back(two, 2)
    ):
        return CallShape(before, middle, None, after)
    return CallShape(before, middle, several[2], after)


def _printed(chat: ChatTokenizer, count: int) -> str:
    """Return what the model has to write for sample calls, without the stop token."""
    samples = list(zip(_NAMES, _IDS, strict=True))[:count]
    calls = tuple(ToolCall(name, {_KEY: name[7:]}, call_id) for name, call_id in samples)
    tools: tuple[dict[str, Any], ...] = tuple(
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "A sample.",
                "parameters": {"type": "object", "properties": {_KEY: {"type": "string", "description": "A text."}}},
            },
        }
        for name in _NAMES
    )
    asked = Conversation((Message("user", "Sample"),), tools=tools)
    answered = Conversation((*asked.messages, Message("assistant", None, tool_calls=calls)), tools=tools)
    prompt, whole = list(chat.prompt(asked)), list(chat.encode(answered)[-1].token_ids)
    answer = whole[len(prompt) :] if whole[: len(prompt)] == prompt else []
    end = next((at for at, token in enumerate(answer) if token in chat.stop_ids), len(answer))
    text: str = chat.tokenizer.decode(answer[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _split(text: str, count: int) -> list[str] | None:
    """Split printed calls at their names and arguments; None if they are not there as JSON.

    Example:
        >>> _split('<c>sample_first {"sample_key": "first"}</c>', 1)
        ['<c>', ' ', '</c>']
    """
    pieces, rest = [], text
    for name in _NAMES[:count]:
        found = re.search(
            re.escape(name) + r"(.*?)(\{\s*\"" + _KEY + r"\"\s*:\s*\"" + name[7:] + r"\"\s*\})", rest, re.S
        )
        if found is None:
            return None
        pieces += [rest[: found.start()], found[1]]
        rest = rest[found.end() :]
    return [*pieces, rest]


def _reads_back(text: str, count: int) -> bool:
    calls = parse_answer(text, tools=_NAMES).tool_calls or ()
    return [(call.name, call.arguments) for call in calls] == [(name, {_KEY: name[7:]}) for name in _NAMES[:count]]


def _refuse(place: str, reason: str) -> NoReturn:
    raise GenerationError(
        f"{place}: {reason}. Expected a template whose calls carry their arguments as JSON. Use tool_choice auto."
    )
