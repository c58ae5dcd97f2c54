"""Parse a complete answer, or the end of a prompt that may have opened its reasoning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from instil.conversation import Message
from instil.encoding.turns.inline_reasoning import OPENING_TAGS
from instil.generation.parsing.answer_parser import AnswerParser, Delta


def message_of(deltas: Iterable[Delta]) -> Message:
    """Join what a parser returned. The content is None when the answer consists of tool calls only."""
    reasoning, content, calls = [], [], []
    for delta in deltas:
        reasoning.append(delta.reasoning)
        content.append(delta.content)
        calls += [] if delta.call is None else [delta.call]
    answer = "".join(content)
    return Message(
        "assistant",
        answer if answer or not calls else None,
        reasoning="".join(reasoning) or None,
        tool_calls=tuple(calls),
    )


def parse_answer(
    text: str, *, in_reasoning: bool = False, tools: Collection[str] | None = None, bare_json: bool = True
) -> Message:
    r"""Parse a complete answer into a message.

    Args:
        text: What the model wrote, without its stop token.
        in_reasoning: Whether the prompt had already opened a reasoning block.
        tools: Names of the tools that may be called; a call of another name stays text. None allows every name.
        bare_json: Whether an answer that is JSON without any marker may be a call.

    Returns:
        An assistant message. Its content is None when the answer consists of tool calls only.

    Example:
        >>> message = parse_answer('<think>\nsum\n</think>\n\n4')
        >>> message.reasoning, message.content
        ('sum', '4')
        >>> parse_answer('<tool_call>{"name": "time", "arguments": {}}</tool_call>').tool_calls[0].name
        'time'
    """
    parser = AnswerParser(in_reasoning=in_reasoning, tools=tools, bare_json=bare_json)
    return message_of([*parser.push(text), *parser.finish()])


def parse_reasoning(text: str, *, in_reasoning: bool = False) -> tuple[str | None, str]:
    """Return the reasoning (None if there is none) and the rest. A block that never closes is all reasoning."""
    message = parse_answer(text, in_reasoning=in_reasoning, tools=())
    assert isinstance(message.content, str)
    return message.reasoning, message.content


def tool_names(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of tool definitions, bare or under ``function``.

    Example:
        >>> tool_names([{"type": "function", "function": {"name": "time"}}])
        frozenset({'time'})
    """
    definitions = [tool.get("function", tool) for tool in tools]
    names = [definition.get("name") for definition in definitions if isinstance(definition, Mapping)]
    return frozenset(name for name in names if isinstance(name, str))


def opens_reasoning(prompt_end: str) -> bool:
    r"""Return True when a prompt ends inside an open reasoning block, which the answer then continues.

    Example:
        >>> opens_reasoning("<|im_start|>assistant\n<think>\n"), opens_reasoning("<think>\n\n</think>\n\n")
        (True, False)
    """
    return prompt_end.rstrip().endswith(OPENING_TAGS)
