"""Questions about a model that need more than one answer a prompt.

``multi_turn``: conversations are played with the model's *own* earlier answers in the history; is its last answer the same as after the
data's answers, and is it right? ``system_prompt``: is the answer right under the system text, and does it change when that text is
left out? Questionable on purpose: neither asks another model to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from instil.conversation import Conversation, Message
from instil.evaluation.cases import Case
from instil.evaluation.intervals import Interval, mean_interval
from instil.evaluation.matching import normalise
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings

DIALOGUE_TASKS = ("multi_turn", "system_prompt")


def multi_turn(
    engine: Engine, cases: Sequence[Case], settings: SamplingSettings
) -> tuple[list[int], Mapping[str, Interval]]:
    """Play the conversations that have earlier assistant turns.

    Args:
        engine: Who answers.
        cases: Answers to the last turns, after the data's history.
        settings: As the cases were answered.

    Returns:
        Numbers of the cases played, and: ``consistent``, the share whose last answer does not depend on whose earlier answers
        stand before it; ``right_after_own``, the share of last answers that match the reference after the model's own.
    """
    numbers = [
        number
        for number, case in enumerate(cases)
        if any(message.role == "assistant" for message in case.prompt.conversation.messages)
    ]
    played = _play(engine, [cases[number].prompt.conversation for number in numbers], settings)
    consistent, right = [], []
    for number, said in zip(numbers, played, strict=True):
        case = cases[number]
        consistent.append(float(normalise(said) == normalise(case.prediction)))
        if case.reference is not None:
            right.append(float(normalise(said) == normalise(case.reference)))
    return numbers, {"consistent": mean_interval(consistent), "right_after_own": mean_interval(right)}


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


def system_prompt(
    engine: Engine, cases: Sequence[Case], settings: SamplingSettings
) -> tuple[list[int], Mapping[str, Interval]]:
    """Ask again without the system text.

    Returns:
        Numbers of the cases that have a system text, and: ``right_with``, matches of the reference under it; ``right_without``;
        ``changes_answer``, the share of answers that differ without it.
    """
    numbers = [
        number
        for number, case in enumerate(cases)
        if case.prompt.conversation.messages[0].role in ("system", "developer")
    ]
    bare = [_without_system(cases[number].prompt) for number in numbers]
    answers = engine.answer([prompt.conversation for prompt in bare], settings)
    changes, with_it, without = [], [], []
    for number, answer in zip(numbers, answers, strict=True):
        case = cases[number]
        changes.append(float(normalise(answer.content) != normalise(case.prediction)))
        if case.reference is not None:
            with_it.append(float(normalise(case.prediction) == normalise(case.reference)))
            without.append(float(normalise(answer.content) == normalise(case.reference)))
    return numbers, {
        "right_with": mean_interval(with_it),
        "right_without": mean_interval(without),
        "changes_answer": mean_interval(changes),
    }


def _without_system(prompt: Prompt) -> Prompt:
    messages = tuple(m for m in prompt.conversation.messages if m.role not in ("system", "developer"))
    return replace(prompt, conversation=replace(prompt.conversation, messages=messages))
