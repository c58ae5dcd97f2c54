"""Puts the demo's test questions to a model and scores its answers.

Greedy decoding, exact match (`questions.score`). A base model gets the question as plain text and is judged by its first
line, for it has never learned to stop; a tuned one gets it through its chat template and is judged by the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from instil.conversation import Conversation, Message, Role
from instil.demo.questions import Question, score
from instil.evaluation.intervals import Interval, share_interval
from instil.generation.engine import Answer, Engine
from instil.generation.sampling import SamplingSettings

MAX_NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Judged:
    """One question, its answer, and the verdict.

    Attributes:
        question: What was asked.
        answer: What the model wrote.
        right: Whether it is the reference.
        stopped: Whether the model ended its answer itself.
    """

    question: Question
    answer: str
    right: bool
    stopped: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one model.

    Attributes:
        exact_match: Share of all questions answered right.
        second_turn: The same of the questions that refer back to an earlier turn.
        system_prompt: The same of those whose system prompt changes the answer.
        stops: Share of answers that the model ended itself.
        tasks: Exact match by task.
    """

    exact_match: Interval
    second_turn: Interval
    system_prompt: Interval
    stops: Interval
    tasks: dict[str, Interval]

    def to_json(self) -> dict[str, object]:
        """Give the figures as results.json holds them."""
        return asdict(self)


def ask(
    engine: Engine, questions: Sequence[Question], *, is_base: bool, on_answer: Callable[[], None] = lambda: None
) -> list[Judged]:
    """Answer the questions greedily and judge the answers.

    Args:
        engine: The model.
        questions: What to ask.
        is_base: Ask in plain text and judge the first line.
        on_answer: Called after each answer, for a progress bar.
    """
    settings = SamplingSettings(max_new_tokens=MAX_NEW_TOKENS)

    def tell(_number: int, _answer: Answer) -> None:
        on_answer()

    if is_base:
        answers = engine.continue_text([question.plain for question in questions], settings, on_answer=tell)
    else:
        answers = engine.answer([conversation_of(question) for question in questions], settings, on_answer=tell)
    return [judge(question, answer, is_base=is_base) for question, answer in zip(questions, answers, strict=True)]


def conversation_of(question: Question) -> Conversation:
    """Give a question as the conversation that a chat model is asked."""
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    return Conversation(tuple(Message(roles[role], text) for role, text in question.messages))


def judge(question: Question, answer: Answer, *, is_base: bool) -> Judged:
    """Compare an answer with its reference."""
    right = score(answer.text, question.reference, cut_first_line=is_base)
    return Judged(question, answer.text, right, answer.generated.finish_reason == "stop")


def scores_of(judged: Sequence[Judged]) -> Scores:
    """Add up verdicts."""

    def share(kept: Callable[[Judged], bool]) -> Interval:
        some = [each.right for each in judged if kept(each)]
        return share_interval(sum(some), len(some))

    tasks = sorted({each.question.task for each in judged})
    return Scores(
        exact_match=share(lambda _: True),
        second_turn=share(lambda each: each.question.slice == "second_turn"),
        system_prompt=share(lambda each: each.question.slice == "system_prompt"),
        stops=share_interval(sum(each.stopped for each in judged), len(judged)),
        tasks={task: share(lambda each, task=task: each.question.task == task) for task in tasks},  # type: ignore[misc]
    )
