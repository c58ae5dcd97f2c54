"""Parse the text of an answer into a message: reasoning, tool calls and the remaining content.

Templates print tool calls in a few syntaxes. Each syntax is tried when its marker occurs in the text. What does not
parse stays text, so a malformed answer is never lost.

Why: the syntax is recognised in the answer, because models do not declare which one they use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from instil.conversation import Message, ToolCall
from instil.encoding.turns.inline_reasoning import CLOSING_TAGS, OPENING_TAGS, REASONING_TAGS

MARKUP: tuple[str, ...] = (
    *OPENING_TAGS,
    *CLOSING_TAGS,
    "<|channel>",
    "<tool_call>",
    "</tool_call>",
    "<tools>",
    "</tools>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "<|tool_calls_section_begin|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<|tool_call>",
    "<tool_call|>",
)
"""Tokens that carry structure. They stay in an answer's text until it is parsed."""

CallBlock: TypeAlias = tuple[int, int, tuple[ToolCall, ...]]
"""Half-open span of the call syntax, and the calls in it."""


def parse_answer(text: str, *, in_reasoning: bool = False) -> Message:
    r"""Parse an answer's text into a message.

    Args:
        text: What the model wrote, without its stop token.
        in_reasoning: Whether the prompt had already opened a reasoning block.

    Returns:
        An assistant message. Its content is None when the answer consists of tool calls only.

    Example:
        >>> message = parse_answer('<think>\nsum\n</think>\n\n4')
        >>> message.reasoning, message.content
        ('sum', '4')
        >>> parse_answer('<tool_call>{"name": "time", "arguments": {}}</tool_call>').tool_calls[0].name
        'time'
    """
    if "<|channel|>" in text:
        return _channels(text)
    reasoning, rest = parse_reasoning(text, in_reasoning=in_reasoning)
    content, calls = parse_tool_calls(rest)
    return Message("assistant", content if content or not calls else None, reasoning=reasoning, tool_calls=calls)


def opens_reasoning(prompt_end: str) -> bool:
    r"""Return True when a prompt ends inside an open reasoning block, which the answer then continues.

    Example:
        >>> opens_reasoning("<|im_start|>assistant\n<think>\n"), opens_reasoning("<think>\n\n</think>\n\n")
        (True, False)
    """
    return prompt_end.rstrip().endswith(OPENING_TAGS)


def parse_reasoning(text: str, *, in_reasoning: bool = False) -> tuple[str | None, str]:
    """Return the reasoning (None if there is none) and the rest. A block that never closes is all reasoning."""
    closing = closing_tag(text, in_reasoning=in_reasoning)
    if closing is None:
        return None, text
    inside, _, after = text.partition(closing)
    opening = next((tag for tag in OPENING_TAGS if inside.lstrip().startswith(tag)), "")
    return inside.lstrip().removeprefix(opening).strip("\n") or None, after.lstrip("\n")


def closing_tag(text: str, *, in_reasoning: bool = False) -> str | None:
    """Return the tag that ends the reasoning block at the beginning of a text; None if it begins with no block."""
    stripped = text.lstrip()
    for opening, closing in REASONING_TAGS:
        if stripped.startswith(opening):
            return closing
    if not in_reasoning:
        return None
    # The prompt opened the block, and only the answer is known here: the first closing tag of any pair ends the block.
    return min((tag for tag in CLOSING_TAGS if tag in text), key=text.index, default=CLOSING_TAGS[0])


def parse_tool_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Return the text around the calls, and the calls."""
    for marker, finder in _SYNTAXES:
        if marker not in text:
            continue
        blocks = list(finder(text))
        if blocks:
            starts = [start for start, _, _ in blocks]
            ends = [end for _, end, _ in blocks]
            pieces = [text[end:start] for end, start in zip([0, *ends], [*starts, len(text)], strict=True)]
            return "".join(pieces).strip(), tuple(call for _, _, calls in blocks for call in calls)
    return text, ()


def _call(value: Any) -> ToolCall | None:
    """Read ``{"name": …, "arguments" | "parameters": …}``, bare or under ``function``; None for anything else."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        parsed = _json(arguments)
        arguments = parsed if isinstance(parsed, dict) else arguments
    if not isinstance(arguments, str | Mapping):
        return None
    call_id = value.get("id")
    return ToolCall(value["name"], arguments, call_id if isinstance(call_id, str) else None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _calls_in(text: str) -> tuple[ToolCall, ...]:
    """Read one JSON call or a list of them; empty unless everything parses."""
    value = _json(text.strip())
    values = value if isinstance(value, list) else [value]
    calls = [_call(item) for item in values]
    return tuple(call for call in calls if call) if calls and all(calls) else ()


def _tagged(text: str) -> Iterator[CallBlock]:
    """Find ``<tool_call>`` blocks: JSON (Hermes, Qwen), XML parameters (Qwen3-Coder), or keys and values (GLM)."""
    for match in re.finditer(r"<tool_call>(.*?)(?:</tool_call>|\Z)", text, re.DOTALL):
        calls = _calls_in(match[1]) or _function_xml(match[1]) or _arg_pairs(match[1])
        if calls:
            yield match.start(), match.end(), calls


def _function_xml(text: str) -> tuple[ToolCall, ...]:
    calls = []
    for match in re.finditer(r"<function=([^>\s]+)>(.*?)</function>", text, re.DOTALL):
        pairs = re.findall(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", match[2], re.DOTALL)
        calls.append(ToolCall(match[1], {key: _value(value) for key, value in pairs}))
    return tuple(calls)


def _arg_pairs(text: str) -> tuple[ToolCall, ...]:
    name = re.match(r"\s*([\w.-]+)\s*(?=<arg_key>|\Z)", text)
    if not name:
        return ()
    pairs = re.findall(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", text, re.DOTALL)
    return (ToolCall(name[1], {key.strip(): _value(value) for key, value in pairs}),)


def _value(text: str) -> Any:
    """Read an untyped parameter: as JSON if it parses, else as text."""
    parsed = _json(text)
    return text if parsed is None and text.strip() != "null" else parsed


def _mistral(text: str) -> Iterator[CallBlock]:
    """Find ``[TOOL_CALLS]`` with a JSON list, or with ``name[ARGS]{…}`` one after the other (Mistral)."""
    start = text.index("[TOOL_CALLS]")
    calls = _calls_in(text[start + len("[TOOL_CALLS]") :])
    if calls:
        yield start, len(text), calls
        return
    for match in re.finditer(
        r"\[TOOL_CALLS\]\s*([\w.-]+)(?:\[CALL_ID\](\w+))?(?:\[ARGS\])?\s*(\{.*?\})\s*(?=\[TOOL_CALLS\]|\Z)",
        text,
        re.DOTALL,
    ):
        arguments = _json(match[3])
        if isinstance(arguments, dict):
            yield match.start(), match.end(), (ToolCall(match[1], arguments, match[2]),)


def _python_tag(text: str) -> Iterator[CallBlock]:
    """Read JSON calls behind ``<|python_tag|>``, separated by semicolons (Llama 3.1)."""
    start = text.index("<|python_tag|>")
    body = text[start + len("<|python_tag|>") :]
    calls = tuple(call for part in body.split(";") for call in _calls_in(part)) or _calls_in(body)
    if calls:
        yield start, len(text), calls


def _bare_json(text: str) -> Iterator[CallBlock]:
    """Read an answer that consists of one JSON call, as Llama 3.1 writes it."""
    value = _json(text.strip())
    if isinstance(value, dict) and set(value) in ({"name", "parameters"}, {"name", "arguments"}, {"type", "function"}):
        call = _call(value)
        if call:
            yield 0, len(text), (call,)


def _deepseek(text: str) -> Iterator[CallBlock]:
    """Read a block of DeepSeek calls: arguments fenced as JSON (R1), or bare behind the name (V3.1)."""
    block = re.search(r"<｜tool▁calls▁begin｜>(.*?)(?:<｜tool▁calls▁end｜>|\Z)", text, re.DOTALL)
    if not block:
        return
    calls = []
    for match in re.finditer(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", block[1], re.DOTALL):
        fenced = re.search(r"^\s*(\S+)\s*```(?:json)?\s*(.*?)\s*```", match[2], re.DOTALL)
        name, body = (fenced[1], fenced[2]) if fenced else (match[1], match[2])
        arguments = _json(body)
        if not isinstance(arguments, dict):
            return
        calls.append(ToolCall(name.strip(), arguments))
    if calls:
        yield block.start(), block.end(), tuple(calls)


_SYNTAXES: tuple[tuple[str, Callable[[str], Iterator[CallBlock]]], ...] = (
    ("<tool_call>", _tagged),
    ("[TOOL_CALLS]", _mistral),
    ("<|python_tag|>", _python_tag),
    ("<｜tool▁calls▁begin｜>", _deepseek),
    ("{", _bare_json),
)


def _channels(text: str) -> Message:
    """Read gpt-oss channels, ``<|channel|>analysis<|message|>…<|end|>``, ``final``, ``commentary to=functions.x``."""
    reasoning, content, calls = [], [], []
    for match in re.finditer(
        r"(?:<\|start\|>assistant)?(?:\s*to=functions\.(?P<early>[\w.-]+))?<\|channel\|>(?P<channel>\w+)"
        r"(?:\s*to=functions\.(?P<name>[\w.-]+))?[^<]*(?:<\|constrain\|>\w+)?<\|message\|>"
        r"(?P<body>.*?)(?=<\|end\|>|<\|start\|>|<\|call\|>|<\|return\|>|\Z)",
        text,
        re.DOTALL,
    ):
        # The recipient stands behind the channel, or in front of it where the header names it first.
        name = match["name"] or match["early"]
        arguments = _json(match["body"]) if name else None
        if name and isinstance(arguments, dict):
            calls.append(ToolCall(name, arguments))
        elif match["channel"] == "analysis":
            reasoning.append(match["body"])
        else:
            content.append(match["body"])
    if not (reasoning or content or calls):
        return Message("assistant", text)  # no channel parses
    answer = "".join(content)
    return Message(
        "assistant",
        answer if answer or not calls else None,
        reasoning="\n".join(reasoning) or None,
        tool_calls=tuple(calls),
    )
