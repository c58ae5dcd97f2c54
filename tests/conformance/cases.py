"""The conversations of the conformance tests, as people have them in their data."""

from __future__ import annotations

from typing import Any

USER, MORE = "QUESTION-alpha one", "QUESTION-beta two"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]


U, A, V, B = ("user", USER), ("assistant", "ANSWER-alpha is 4."), ("user", MORE), ("assistant", "ANSWER-beta: yes")
_CALL = {"id": "abcdef123", "type": "function", "function": {"name": "weather", "arguments": {"city": "Hanoi"}}}
TALKS: dict[str, list[dict[str, Any]]] = {
    "single turn": said(U, A),
    "two turns": said(U, A, V, B),
    "three turns with system": said(
        ("system", "RULES-delta brief"), U, A, V, B, ("user", "QUESTION-gamma"), ("assistant", "C")
    ),
    "ends with the user": said(U, A, V),
    "two users in a row": said(U, V, A),
    "two answers in a row": said(U, A, B),
    "system in the middle": said(U, A, ("system", "RULES-delta brief"), V, B),
    "starts with the assistant": said(("assistant", "WELCOME-all"), U, A),
    "brackets": said(U, ("assistant", "[[1, 2], [3, 4]]"), V, ("assistant", "[[wiki]] link [[end]]")),
    "white space": said(
        ("user", "  QUESTION-alpha \n"), ("assistant", "line one\n\nline two  "), V, ("assistant", "ANSWER-beta\n")
    ),
    "leading line break": said(U, ("assistant", "\nANSWER-alpha"), V, B),
    "empty answer": said(U, ("assistant", ""), V, B),
    "emoji and Chinese": said(
        ("user", "天空为什么是蓝色的？"), ("assistant", "由于光的散射。🌈"), V, ("assistant", "Vâng ạ")
    ),
    "words of other templates": said(
        U, ("assistant", "use ### Response: and Human: here"), V, ("assistant", "user: assistant:")
    ),
    "same answer twice": said(U, A, U, A),
    "one letter": said(("user", "a"), ("assistant", "a"), ("user", "a"), ("assistant", "a")),
}
REASONING = [
    *said(U), {"role": "assistant", "content": "ANSWER-alpha", "reasoning_content": "THOUGHT-alpha"},
    *said(V), {"role": "assistant", "content": "ANSWER-beta", "reasoning_content": "THOUGHT-beta"},
]  # fmt: skip
CALLING = [
    *said(U), {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "RESULT-sunny 25"}, *said(B),
]  # fmt: skip
