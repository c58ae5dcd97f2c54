"""Questions about a model that need more than one answer a prompt.

``multi_turn``: conversations are played with the model's *own* earlier answers in the history; is its last answer the same as after the
data's answers, and is it right? ``system_prompt``: is the answer right under the system text, and does it change when that text is
left out? Questionable on purpose: neither asks another model to judge.
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
"""The tasks, with the figure that stands for each in comparisons."""
NEEDS = {"multi_turn": "earlier assistant turns", "system_prompt": "a system text and a reference"}


def fits(name: str, prompt: Prompt) -> bool:
    """Say whether a task applies to a prompt."""
    roles = [message.role for message in prompt.conversation.messages]
    if name == "multi_turn":
        return "assistant" in roles
    return roles[0] in ("system", "developer") and prompt.reference is not None


def play(name: str, engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> dict[int, dict[str, float]]:
    """Run a task on the cases that it applies to; gives the scores by the case's number."""
    numbers = [number for number, case in enumerate(cases) if fits(name, case.prompt)]
    found = (multi_turn if name == "multi_turn" else system_prompt)(engine, [cases[n] for n in numbers], settings)
    return dict(zip(numbers, found, strict=True))


def multi_turn(engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> list[dict[str, float]]:
    """Play the conversations that have earlier assistant turns.

    Args:
        engine: Who answers.
        cases: Answers to the last turns, after the data's history.
        settings: As the cases were answered.

    Returns:
        A case's ``consistent``, whether its last answer does not depend on whose earlier answers stand before it, and, with a
        reference, ``right_after_own``, whether the last answer matches it after the model's own.
    """
    played = _play(engine, [case.prompt.conversation for case in cases], settings)
    found = []
    for case, said in zip(cases, played, strict=True):
        scores = {"consistent": float(normalise(said) == normalise(case.prediction))}
        if case.reference is not None:
            scores["right_after_own"] = float(normalise(said) == normalise(case.reference))
        found.append(scores)
    return found


def _play(engine: Engine, conversations: Sequence[Conversation], settings: SamplingSettings) -> list[str]:
    """Answer every assistant turn in order, the model's own answers standing in the history; gives the last answers."""
    history: list[list[Message]] = [[] for _ in conversations]
    rest = [list(conversation.messages) for conversation in conversations]
    last = [""] * len(conversations)
    while True:
        asking = [row for row, turns in enumerate(rest) if turns]
        if not asking:
            return last
        for row in asking:
            while rest[row] and rest[row][0].role != "assistant":
                history[row].append(rest[row].pop(0))
        asked = [replace(conversations[row], messages=tuple(history[row])) for row in asking]
        for row, answer in zip(asking, engine.answer(asked, settings), strict=True):
            last[row] = answer.content
            history[row].append(Message("assistant", answer.content))
            rest[row] = rest[row][1:]  # the data's own answer gives way to the model's


def system_prompt(engine: Engine, cases: Sequence[Case], settings: SamplingSettings) -> list[dict[str, float]]:
    """Ask again without the system text.

    Returns:
        A case's ``right_with``, whether the answer under the system text matches the reference, ``right_without``, and
        ``changes_answer``, whether the answer differs without it.
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
