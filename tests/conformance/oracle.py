"""Decides whether a conversation is trained as it is served, asking only transformers' `apply_chat_template`."""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import DroppedTextError, EncodingError, TemplateError


@dataclass(frozen=True)
class Verdict:
    """exact, refused (by the encoder, with its reason), unfit (transformers itself refuses), or wrong.

    `dropped` tells the two refusals apart: the template does not print a text, or it leaves open what to generate.
    """

    kind: str
    detail: str = ""
    dropped: bool = False


def squeezed(text: str) -> str:
    return "".join(text.split())


def judge(
    chat: ChatTokenizer, messages: Sequence[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> Verdict:
    """Hold the examples of a conversation without typed control tokens against transformers' own prompts."""
    given = {"tools": tools} if tools else {}

    def served(some: Sequence[dict[str, Any]], **more: Any) -> Any:
        return chat.tokenizer.apply_chat_template(list(some), return_dict=False, **given, **more)

    try:
        text = served(messages, tokenize=False)
    except Exception as error:
        return Verdict("unfit", str(error)[:80])
    try:
        examples = chat.encode({"messages": list(messages), **given})
    except (EncodingError, TemplateError) as error:
        return Verdict("refused", str(error), isinstance(error, DroppedTextError))
    if chat.render({"messages": list(messages), **given}).text != text:
        return Verdict("wrong", "the rendering differs from transformers'")
    turns: list[int] = []
    for example in examples:
        ids = list(example.token_ids)
        for turn, (start, end) in zip(example.turns, trained_spans(example.weights), strict=True):
            turns.append(turn)
            prompt = served(messages[:turn], tokenize=True, add_generation_prompt=True)
            if ids[:start] != prompt:
                return Verdict("wrong", f"turn {turn}: the ids before it are not serving's prompt")
            if ids[end - 1] not in chat.stop_ids:
                return Verdict("wrong", f"turn {turn}: ends with {chat.decode(ids[end - 1 : end])!r}, no stop token")
            if problem := wrong_text(chat, served, messages, turn, chat.decode(ids[start:end])):
                return Verdict("wrong", f"turn {turn}: {problem}")
    wanted = [index for index, message in enumerate(messages) if message["role"] == "assistant" and index]
    if sorted(turns) != wanted:
        return Verdict("wrong", f"trained turns {sorted(turns)}, expected {wanted}")
    return Verdict("exact")


def trained_spans(weights: Sequence[float]) -> Iterator[tuple[int, int]]:
    start = None
    for at, weight in enumerate([*weights, 0.0]):
        if weight and start is None:
            start = at
        elif not weight and start is not None:
            yield start, at
            start = None


def wrong_text(chat: ChatTokenizer, served: Any, messages: Sequence[dict[str, Any]], turn: int, trained: str) -> str:
    message, got = messages[turn], squeezed(trained)
    said = message.get("content") or ""
    if not any(
        squeezed(written) in got
        for written in (said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1])
    ):
        return f"the answer is cut: {trained!r}"
    for other in messages:
        text = squeezed(str(other.get("content") or ""))
        if other["role"] != "assistant" and len(text) > 8 and text in got:
            return f"it trains the {other['role']}'s text"
    prompt = served(messages[:turn], tokenize=False, add_generation_prompt=True)
    try:
        upto = served(messages[: turn + 1], tokenize=False)
    except Exception:
        return ""
    common = len(os.path.commonprefix([prompt, upto]))  # noqa: RUF071
    reasoning = message.get("reasoning_content")
    if reasoning and reasoning in upto[common:] and reasoning not in trained:
        return "its reasoning is not trained"
    if upto.startswith(prompt):
        stop = next((s for s in chat.stop_tokens if trained.endswith(s)), "")
        rest, bare = squeezed(upto[len(prompt) :]), got[: len(got) - len(squeezed(stop))]
        if not rest.startswith(bare):
            return f"it trains {trained[:60]!r} where the template writes {upto[len(prompt) :][:60]!r}"
    return ""
