"""Pairs of answers as people have them, and the judge of their examples, who asks only transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.conformance.cases import CALLING, REASONING, TOOL, A, B, U, V, said
from tests.conformance.oracle import Verdict, trained_spans, wrong_text

from instil.conversation import Conversation, Example
from instil.data.messages import conversation_from_dict
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import InstilError
from instil.preparation.encode_pairs import LeftOut, encode_units


@dataclass(frozen=True)
class Shape:
    """One prompt and two endings, as messages, with tools or without."""

    prompt: list[dict[str, Any]]
    chosen: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)

    def conversation(self, side: str) -> dict[str, Any]:
        row = {"messages": [*self.prompt, *getattr(self, side)]}
        return row | ({"tools": self.tools} if self.tools else {})


def answer(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text, **more}]


def call(city: str) -> list[dict[str, Any]]:
    function = {"name": "weather", "arguments": {"city": city}}
    return answer("", tool_calls=[{"id": "abcdef123", "type": "function", "function": function}])


RESULT = {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "RESULT-sunny 25"}
RULES = ("system", "RULES-delta brief")
SHAPES: dict[str, Shape] = {
    "single turn": Shape(said(U), answer("ANSWER-alpha is 4."), answer("WRONG-alpha is five.")),
    "several turns": Shape(said(U, A, V), answer("ANSWER-beta: yes"), answer("WRONG-beta: no")),
    "system": Shape(said(RULES, U), answer("ANSWER-alpha is 4."), answer("WRONG-alpha is five.")),
    "system and several turns": Shape(
        said(RULES, U, A, V, B, ("user", "QUESTION-gamma")), answer("GOOD-gamma"), answer("BAD-gamma")
    ),
    "two users in a row": Shape(said(U, V), answer("ANSWER-alpha"), answer("WRONG-alpha")),
    "letters": Shape(said(("user", "a")), answer("a"), answer("b")),
    "names of roles": Shape(said(U), answer("user"), answer("assistant")),
    "the answer of the prompt": Shape(said(U, A, U), answer(A[1]), answer("WRONG-alpha")),
    "line break behind one, space before the other": Shape(said(U), answer("Paris.\n"), answer(" London.")),
    "line breaks behind both": Shape(said(U), answer("Paris.\n\n"), answer("London.\n\n")),
    "line breaks before both": Shape(said(U), answer("\nParis."), answer("\n\nLondon.")),
    "spaces at the prompt's ends": Shape(said(("user", "  QUESTION-alpha \n")), answer("Paris. "), answer(" London")),
    "same first words": Shape(said(U), answer("The capital is Paris."), answer("The capital is London.")),
    "emoji and Chinese": Shape(said(("user", "天空为什么是蓝色的？")), answer("由于光的散射。🌈"), answer("因为大海。")),
    "words of other templates": Shape(said(U), answer("use ### Response: here"), answer("user: assistant: Human:")),
    "call against call": Shape(said(U), call("Hanoi"), call("Paris"), [TOOL]),
    "call against text": Shape(said(U), call("Hanoi"), answer("WRONG-alpha, no call"), [TOOL]),
    "answer to a result": Shape(CALLING[:3], answer("ANSWER-beta: sunny"), answer("WRONG-beta: rain"), [TOOL]),
    "call, result and answer": Shape(
        said(U), [*call("Hanoi"), RESULT, *answer("ANSWER-hanoi")], [*call("Paris"), RESULT, *answer("WRONG-paris")], [TOOL]
    ),
    "reasoning and answer": Shape(
        said(U),
        answer("ANSWER-alpha", reasoning_content="THOUGHT-good"),
        answer("WRONG-alpha", reasoning_content="THOUGHT-bad"),
    ),
    "reasoning alone": Shape(
        said(U),
        answer("ANSWER-alpha", reasoning_content="THOUGHT-good"),
        answer("ANSWER-alpha", reasoning_content="THOUGHT-bad"),
    ),
    "reasoning on one side": Shape(
        said(U), answer("ANSWER-alpha", reasoning_content="THOUGHT-good"), answer("WRONG-alpha")
    ),
    "reasoning in the prompt": Shape(REASONING[:3], answer("ANSWER-beta"), answer("WRONG-beta")),
}  # fmt: skip
SEPARATE = {"equal": Shape(said(U), answer("Yes."), answer(" Yes.\n")), "beginning": Shape(said(U), answer("Yes."), answer("Yes. No."))}  # fmt: skip
"""Shapes that are left out under every template."""


def sides_of(shape: Shape) -> tuple[Conversation, Conversation]:
    """Read both sides of a shape."""
    chosen, rejected = (conversation_from_dict(shape.conversation(side)) for side in ("chosen", "rejected"))
    return with_side(chosen, "chosen"), with_side(rejected, "rejected")


def with_side(conversation: Conversation, side: Any) -> Conversation:
    return Conversation(
        conversation.messages, conversation.tools, conversation.variables, plain=conversation.plain, side=side
    )


def judge_pair(chat: ChatTokenizer, shape: Shape) -> Verdict:
    """Hold the examples of a pair against transformers' prompt."""
    try:
        prompt = served(chat, shape, shape.prompt, tokenize=True, add_generation_prompt=True)
        served(chat, shape, shape.conversation("chosen")["messages"], tokenize=False)
        served(chat, shape, shape.conversation("rejected")["messages"], tokenize=False)
    except Exception as error:
        return Verdict("unfit", str(error)[:80])
    ((_, outcome),) = encode_units([sides_of(shape)], chat, "pairs")
    if isinstance(outcome, LeftOut):
        return Verdict("left out", outcome.reason)
    if isinstance(outcome, Exception):
        if not isinstance(outcome, InstilError):
            return Verdict("wrong", f"{type(outcome).__name__}: {outcome}")
        return Verdict("refused", str(outcome))
    if [example.side for example in outcome] != ["chosen", "rejected"]:
        return Verdict("wrong", f"sides {[example.side for example in outcome]}")
    if prompt != chat.prompt({"messages": shape.prompt, **({"tools": shape.tools} if shape.tools else {})}):
        return Verdict("wrong", "chat.prompt is not serving's prompt")
    for example, side in zip(outcome, ("chosen", "rejected"), strict=True):
        if problem := _problem(chat, shape, example, side, prompt):
            return Verdict("wrong", f"{side}: {problem}")
    return Verdict("exact")


def served(chat: ChatTokenizer, shape: Shape, messages: list[dict[str, Any]], **more: Any) -> Any:
    given = {"tools": shape.tools} if shape.tools else {}
    return chat.tokenizer.apply_chat_template(list(messages), return_dict=False, **given, **more)


def _problem(chat: ChatTokenizer, shape: Shape, example: Example, side: str, prompt: list[int]) -> str:
    """Return what is wrong with one side's example, or an empty text."""
    messages = shape.conversation(side)["messages"]
    ids, spans = list(example.token_ids), list(trained_spans(example.weights))
    endings = [at for at, turn in enumerate(messages) if at >= len(shape.prompt) and turn["role"] == "assistant"]
    if list(example.turns) != endings or len(spans) != len(endings):
        return f"trains the turns {example.turns} in {len(spans)} spans, expected {endings}"
    if ids[: spans[0][0]] != prompt:
        return "the ids before the answer are not serving's prompt"
    if spans[-1][1] != len(ids):
        return "there are tokens behind the stop token"
    for turn, (start, end) in zip(endings, spans, strict=True):
        if ids[end - 1] not in chat.stop_ids or set(ids[start : end - 1]) & set(chat.stop_ids):
            return f"turn {turn}: the stop token is not the last trained token, or not the only one"
        if set(example.weights[start:end]) != {1.0}:
            return f"turn {turn}: weights {set(example.weights[start:end])}"
        if problem := wrong_text(
            chat, lambda some, **more: served(chat, shape, some, **more), messages, turn, chat.decode(ids[start:end])
        ):
            return f"turn {turn}: {problem}"
    if len(endings) == 1:
        (alone,) = chat.encode(shape.conversation(side), train_on="last")
        if list(alone.token_ids) != ids or list(alone.weights) != list(example.weights):
            return "SFT on the last turn gives another example"
    return ""
