"""Writes the grammar of an answer: reasoning first if the model reasons, then the form.

The syntax is llguidance's variant of Lark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

WHITESPACE = r" |\n {0,40}"
"""White space allowed at one place inside JSON: a space, or a line break and an indent.

Why: with unlimited white space, a model that does not know how to go on writes spaces up to the limit of tokens.
"""


def json_rule(schema: Any) -> str:
    """Return the right side of a rule for JSON of a schema."""
    if isinstance(schema, Mapping):
        schema = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
        schema = {"x-guidance": {"whitespace_pattern": WHITESPACE}, **schema}
    return f"%json {json.dumps(schema)}"


def literal(text: str, added_ids: Mapping[str, int]) -> str:
    """Return a text as a sequence of grammar items; added tokens stand as their ids.

    Example:
        >>> literal('<tool_call>call', {"<tool_call>": 9})
        '<[9]> "call"'
    """
    if not text:
        return ""
    pattern = "|".join(map(re.escape, sorted(added_ids, key=len, reverse=True)))
    pieces = re.split(f"({pattern})", text) if pattern else [text]
    return " ".join(
        f"<[{added_ids[piece]}]>" if piece in added_ids else json.dumps(piece, ensure_ascii=False)
        for piece in pieces
        if piece
    )


def reasoning_rules(
    *, opened: bool, pairs: Sequence[tuple[str, str]], added_ids: Mapping[str, int]
) -> tuple[str, list[str]]:
    """Return what stands in front of the form for reasoning, and the rules that it uses.

    Args:
        opened: Whether the prompt has opened the reasoning. If not, the model may open it or leave it out.
        pairs: Opening and closing tags that the model may use.
        added_ids: Texts of the added tokens, with their ids.
    """
    if not pairs:
        return "", []
    rules, choices = ["SPACE: /[ \\n]{1,4}/"], []
    for number, (opening, closing) in enumerate(pairs):
        begin = "" if opened else literal(opening, added_ids)
        if closing in added_ids:
            rules.append(f"think{number}: /(.|\\n)*/ <[{added_ids[closing]}]>")
        else:
            rules.append(f"think{number}[lazy]: /(.|\\n)*{re.escape(closing).replace('/', chr(92) + '/')}/")
        choices.append(f"{begin} think{number} SPACE?".strip())
    return f"({' | '.join(choices)}){'' if opened else '?'} ", rules


def grammar_of(form: str, rules: Sequence[str], *, reasoning: tuple[str, Sequence[str]] = ("", ())) -> str:
    """Return the grammar: the start rule, the reasoning's rules and the form's."""
    before, before_rules = reasoning
    return "\n".join([f"start: {before}{form}", *before_rules, *rules])
