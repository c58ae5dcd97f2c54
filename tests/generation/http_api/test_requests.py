"""Request bodies of any shape are read or refused by name; nothing else comes out."""

from __future__ import annotations

import json

import pytest

from instil.generation.http_api.problems import Problem
from instil.generation.http_api.requests import CHAT_KEYS, COMPLETION_KEYS, read_chat, read_completion

ODD = json.loads(
    '[null, true, false, 0, -1, 1, 1.5, 1e999, -1e999, NaN, 123456789012345678901234567890, "", "x", "\\ud800", [], [null], [[]], [1], '
    '[-1], ["a", 1], [{}], [{"role": 1}], [{"role": "user"}], [{"role": "user", "content": 5}], [{"role": "user", "content": [1]}], '
    '[{"role": "user", "content": [{"type": "text"}]}], [{"role": "assistant", "tool_calls": 3}], '
    '[{"role": "assistant", "content": null, "tool_calls": [{"function": 1}]}], {}, {"a": {"b": []}}, {"type": "text"}]'
)


@pytest.mark.parametrize(("read", "keys", "asked"), [
    (read_chat, CHAT_KEYS, {"messages": [{"role": "user", "content": "x"}]}),
    (read_completion, COMPLETION_KEYS, {"prompt": "x"}),
])  # fmt: skip
def test_odd_values_are_taken_or_refused(read, keys, asked):
    refused = []
    for key in keys:
        for value in ODD:
            try:
                read({"model": "m", **asked, key: value}, most=100)
            except Problem as problem:
                refused.append(problem)
    assert len(refused) > len(keys) * 5
    assert {problem.status for problem in refused} == {400}
    assert all(problem.message for problem in refused)
