"""The tasks that need more than one answer per prompt.

- ``multi_turn`` plays a conversation with the model's *own* earlier answers in the history. It checks whether the last
  answer stays the same as after the data's answers, and whether it is right.
- ``system_prompt`` checks whether the answer is right with the system text, and whether it changes without it.

Why: no other model judges the answers. Both tasks compare texts, so the same answers always get the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instil.conversation import Conversation, Message
from instil.evaluation.cases import Case
from instil.evaluation.matching import normalise
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings

DIALOGUE_TASKS = {"multi_turn": "consistent", "system_prompt": "right_with"}
"""The tasks, with the figure that represents each in comparisons."""
NEEDS = {"multi_turn": "earlier assistant turns", "system_prompt": "a system text and a reference"}


def fits(name: str, prompt: Prompt) -> bool:
    """Return True if a task applies to a prompt."""
    roles = [message.role for message in prompt.conversation.messages]
    if name == "multi_turn":
        return "assistant" in roles
    return roles[0] in ("system", "developer") and prompt.reference is not None


def play(name: str, engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> dict[int, dict[str, float]]:
    """Run a task on the cases that it applies to; return the scores by the index of the case."""
    numbers = [number for number, case in enumerate(cases) if fits(name, case.prompt)]
    run_task = multi_turn if name == "multi_turn" else system_prompt
    return dict(zip(numbers, run_task(engine, [cases[number] for number in numbers], settings), strict=True))


def multi_turn(engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> list[dict[str, float]]:
    """Play the conversations that have earlier assistant turns.

    Args:
        engine: The model.
        cases: The answers to the last turns, with the data's answers in the history.
        settings: The settings with which the cases were answered.

    Returns:
        The scores of each case. ``consistent``: the last answer is the same after the model's own answers as after the
        data's. With a reference ``right_after_own``: the last answer after the model's own answers matches it.
    """
    played = _play(engine, [case.prompt.conversation for case in cases], settings)
    all_scores = []
    for case, last_answer in zip(cases, played, strict=True):
        scores = {"consistent": float(normalise(last_answer) == normalise(case.prediction))}
        if case.reference is not None:
            scores["right_after_own"] = float(normalise(last_answer) == normalise(case.reference))
        all_scores.append(scores)
    return all_scores


def _play(engine: Engine, conversations: Sequence[Conversation], settings: SamplingSettings) -> list[str]:
    """Answer every assistant turn in order, with the model's own answers in the history; return the last answers."""
    history: list[list[Message]] = [[] for _ in conversations]
    rest = [list(conversation.messages) for conversation in conversations]
    last = [""] * len(conversations)
    while True:
        unfinished = [row for row, turns in enumerate(rest) if turns]
        if not unfinished:
            return last
        # One round answers the next assistant turn of every conversation that has one left, all in one batch.
        for row in unfinished:
            while rest[row] and rest[row][0].role != "assistant":
                history[row].append(rest[row].pop(0))
        prompts = [replace(conversations[row], messages=tuple(history[row])) for row in unfinished]
        for row, answer in zip(unfinished, engine.answer(prompts, settings), strict=True):
            last[row] = answer.content
            history[row].append(Message("assistant", answer.content))
            rest[row] = rest[row][1:]  # the model's answer replaces the data's


def system_prompt(engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> list[dict[str, float]]:
    """Answer the prompts again without the system text.

    Returns:
        The scores of each case. ``right_with`` and ``right_without``: the answer with and without the system text
        matches the reference. ``changes_answer``: the two answers differ.
    """
    bare = [_without_system(case.prompt) for case in cases]
    answers = engine.answer([prompt.conversation for prompt in bare], settings)
    return [
        {
            "right_with": float(normalise(case.prediction) == normalise(case.reference or "")),
            "right_without": float(normalise(answer.content) == normalise(case.reference or "")),
            "changes_answer": float(normalise(answer.content) != normalise(case.prediction)),
        }
        for case, answer in zip(cases, answers, strict=True)
    ]


def _without_system(prompt: Prompt) -> Prompt:
    messages = tuple(m for m in prompt.conversation.messages if m.role not in ("system", "developer"))
    return replace(prompt, conversation=replace(prompt.conversation, messages=messages))
