"""Text of a conversation that the template does not print, found by the origins of what it does print.

A context message has to be in serving's prompt, a trained turn in what the model must generate. Not counted as dropped:

- white space at the ends of a text;
- reasoning of earlier turns, which many templates leave out of history;
- reasoning tags that the template prints itself, and switches such as ``/no_think`` that stand in its source.

`encoder` decides what follows: an error, or a count (`data.dropped_text`).

Why: names of speakers, ids of calls and unknown keys of a message are not text that anyone reads, so they may be left
out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import Message
from instil.encoding.turns.inline_reasoning import CLOSING_TAGS, OPENING_TAGS
from instil.template.message_dicts import Shape, located_texts, texts_given
from instil.template.tracing import NOT_A_MESSAGE, Rendering, Source

_TAGS = re.compile("|".join(map(re.escape, (*OPENING_TAGS, *CLOSING_TAGS))))
_OPENING = re.compile("|".join(map(re.escape, OPENING_TAGS)))
_CLOSING = re.compile("|".join(map(re.escape, CLOSING_TAGS)))
_SAMPLE = 40
Ranges = dict[Source, list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class DroppedText:
    """A text that the template does not print.

    Attributes:
        owner: What it belongs to: ``message 2 (developer)``, ``tool 1``.
        what: Which of its texts: ``text``, ``reasoning``, ``tool call 1``, ``name``.
        text: The missing characters.
        message: Index of the message; -1 for tools and documents.
    """

    owner: str
    what: str
    text: str
    message: int = NOT_A_MESSAGE

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        return f"{self.owner}, {self.what}: {text[:_SAMPLE] + '…' if len(text) > _SAMPLE else text!r}"


def gaps(text: str, printed: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the half-open ranges of a text that no printed range covers, white space at its ends apart.

    Example:
        >>> gaps(" abcdef ", [(1, 3), (5, 7)]), gaps(" ab ", [(1, 3)])
        ([(3, 5)], [])
    """
    at, end = len(text) - len(text.lstrip()), len(text.rstrip())
    missing: list[tuple[int, int]] = []
    for start, stop in sorted(printed):
        if start > at and at < end:
            missing.append((at, min(start, end)))
        at = max(at, stop)
    if at < end:
        missing.append((at, end))
    return missing


def printed_ranges(rendering: Rendering, messages: Collection[int]) -> Ranges:
    """Return which ranges of each field of some messages a rendering prints."""
    ranges: Ranges = {}
    for start, end, source, offset in rendering.runs:
        if source[0] in messages:
            ranges.setdefault(source, []).append((offset, offset + end - start))
    return ranges


def dropped_from_context(
    messages: Sequence[Message], indices: Collection[int], rendering: Rendering, *, shape: Shape, known: Collection[str]
) -> list[DroppedText]:
    """Return what a rendering lacks of some context messages.

    Args:
        messages: The conversation's messages.
        indices: Indices of the messages to look for.
        rendering: A rendering that contains them.
        shape: The input that the template expects.
        known: Every text in the template's source; what the template removes by name is not dropped.
    """
    ranges = printed_ranges(rendering, indices)
    return [dropped for index in indices for dropped in _dropped_of(index, messages[index], ranges, shape, known)]


def _dropped_of(
    index: int, message: Message, ranges: Ranges, shape: Shape, known: Collection[str]
) -> Iterator[DroppedText]:
    for field, text in texts_given(message, index, shape):
        # History may leave out reasoning, so only what follows it is required.
        start = _end_of_reasoning(text) if message.role == "assistant" and field == "content" else 0
        missing = gaps(text, [(0, start), *ranges.get((index, field), ())])
        lost = [text[a:b].strip() for a, b in missing if not _is_switch(text[a:b], known)]
        if lost and not _named_by_id(field, message, index, ranges):
            yield DroppedText(f"message {index + 1} ({message.role})", _name_of(field), lost[0], index)


def dropped_from_turn(
    index: int, message: Message, completion: Rendering, *, prompt: str, shape: Shape, known: Collection[str]
) -> tuple[list[DroppedText], bool]:
    """Return what the completion of a trained turn lacks of it, and whether all of its reasoning is missing.

    Args:
        index: The turn's message index.
        message: The turn.
        completion: What the model must generate.
        prompt: Serving's prompt, which may supply the beginning of the turn.
        shape: The input that the template expects.
        known: Every text in the template's source.
    """
    owner, ranges = f"message {index + 1} (assistant)", printed_ranges(completion, (index,))
    reasoning_ignored = False
    dropped: list[DroppedText] = []
    reasoning = message.reasoning or ""
    if reasoning.strip():
        printed = ranges.get((index, "reasoning"))
        missing = gaps(reasoning, printed or ())
        if printed is None:
            reasoning_ignored = True
        elif missing:
            dropped.append(DroppedText(owner, "reasoning", reasoning[slice(*missing[0])], index))
    for field, text in texts_given(message, index, shape):
        lost = []
        for start, end in gaps(text, ranges.get((index, field), ())):
            gap = text[start:end]
            if _is_switch(gap, known) or (not text[:start].strip() and _supplied(gap, prompt)):
                continue
            if field == "content" and not _TAGS.sub("", gap).strip():
                continue
            if field == "content" and not text[:start].strip() and _is_reasoning(gap):
                reasoning_ignored = True
                continue
            lost.append(gap)
        if lost and not _named_by_id(field, message, index, ranges):
            dropped.append(DroppedText(owner, _name_of(field), lost[0], index))
    dropped += _dropped_numbers(owner, index, message, completion.text)
    return dropped, reasoning_ignored


def tools_missing(tools: Sequence[Mapping[str, Any]], renderings: Iterable[Rendering]) -> list[DroppedText]:
    """Return the tool definitions that no rendering prints with name, description and names of parameters."""
    missing = [
        (field, text, number)
        for number, tool in enumerate(tools)
        for field, text in _defining_texts(tool, f"tools.{number}")
        if text.strip()
    ]
    missing = _without_printed(missing, renderings)
    first = {number: text for _, text, number in reversed(missing)}
    return [DroppedText(f"tool {number + 1}", "definition", first[number]) for number in sorted(first)]


def documents_missing(variables: Mapping[str, Any], renderings: Iterable[Rendering]) -> list[DroppedText]:
    """Return the documents of a conversation whose longest text no rendering prints."""
    documents = variables.get("documents")
    if not isinstance(documents, list | tuple):
        return []
    wanted = []
    for number, document in enumerate(documents):
        texts = [pair for pair in located_texts(document, f"variables.documents.{number}") if pair[1].strip()]
        if texts:
            field, text = max(texts, key=lambda pair: len(pair[1]))
            wanted.append((field, text, number))
    missing = _without_printed(wanted, renderings)
    return [DroppedText(f"document {number + 1}", "text", text) for _, text, number in missing]


def _without_printed(wanted: list[tuple[str, str, int]], renderings: Iterable[Rendering]) -> list[tuple[str, str, int]]:
    for rendering in renderings:
        if not wanted:
            break
        ranges = printed_ranges(rendering, (NOT_A_MESSAGE,))
        wanted = [entry for entry in wanted if _lacks(entry[1], ranges.get((NOT_A_MESSAGE, entry[0]), ()))]
    return wanted


def _lacks(text: str, printed: Iterable[tuple[int, int]]) -> bool:
    """Return whether a range of a definition or document is missing; templates lay these out anew, so space may be."""
    return any(text[start:end].strip() for start, end in gaps(text, printed))


def _defining_texts(tool: Mapping[str, Any], field: str) -> Iterator[tuple[str, str]]:
    """Yield what defines a tool: its name, its description, and the names of its parameters."""
    function, inner = tool.get("function"), field
    if isinstance(function, Mapping):
        inner = f"{field}.function"
    else:
        function = tool
    for key in ("name", "description"):
        if isinstance(function.get(key), str):
            yield f"{inner}.{key}", function[key]
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    if isinstance(properties, Mapping):
        for name in properties:
            yield f"{inner}.parameters.properties.{name}.key", str(name)


def _dropped_numbers(owner: str, index: int, message: Message, text: str) -> Iterator[DroppedText]:
    """Yield numbers and truth values of tool calls that a completion does not contain; they have no origin."""
    for number, call in enumerate(message.tool_calls):
        if isinstance(call.arguments, str):
            continue
        for value in _numbers_in(call.arguments):
            if str(value) not in text and str(value).lower() not in text:
                yield DroppedText(owner, f"tool call {number + 1}", str(value), index)
                break


def _numbers_in(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers_in(item)


def _end_of_reasoning(text: str) -> int:
    """Return the position behind the last closing tag of a text; 0 if there is none."""
    return max((match.end() for match in _CLOSING.finditer(text)), default=0)


def _is_reasoning(gap: str) -> bool:
    """Return whether the missing beginning of an answer is its reasoning: it ends with a closing tag."""
    if not any(gap.rstrip().endswith(tag) for tag in CLOSING_TAGS):
        return False
    opening = _OPENING.search(gap)
    return opening is None or not gap[: opening.start()].strip()


def _is_switch(gap: str, known: Collection[str]) -> bool:
    """Return whether the template removes this by name: a text of its source, and no common word."""
    gap = gap.strip()
    return gap in known and not gap.replace("_", "").isalnum()


def _supplied(gap: str, prompt: str) -> bool:
    return prompt.rstrip().endswith(gap.strip())


def _named_by_id(field: str, message: Message, index: int, ranges: Ranges) -> bool:
    """Return whether a call's name is printed within its id, such as ``functions.weather:0``."""
    owner, _, last = field.rpartition(".")
    if last != "name" or owner.count(".") != 1 or not owner.startswith("tool_calls."):
        return False
    call = message.tool_calls[int(owner.split(".")[1])]
    return call.id is not None and call.name in call.id and (index, f"{owner}.id") in ranges


def _name_of(field: str) -> str:
    if not field.startswith("tool_calls."):
        return "text"
    return f"tool call {int(field.split('.')[1]) + 1}"
