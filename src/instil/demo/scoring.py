"""Ask a model the demo's test questions and score its answers, with greedy decoding and exact match.

A base model gets the question as plain text. Only the first line of its answer counts, because it has not learned to
stop. A tuned model gets the question through its chat template, and its complete answer counts.
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
        question: The question.
        answer: Text that the model generated.
        right: Whether the answer matches the reference.
        stopped: Whether the model ended the answer itself.
    """

    question: Question
    answer: str
    right: bool
    stopped: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one model.

    Attributes:
        exact_match: Share of right answers to all questions.
        second_turn: The same for questions that refer back to an earlier turn.
        system_prompt: The same for questions whose system prompt changes the answer.
        stops: Share of answers that the model ended itself.
        tasks: Exact match by task.
    """

    exact_match: Interval
    second_turn: Interval
    system_prompt: Interval
    stops: Interval
    tasks: dict[str, Interval]

    def to_json(self) -> dict[str, object]:
        """Return the scores as `results.json` holds them."""
        return asdict(self)


def ask(
    engine: Engine, questions: Sequence[Question], *, is_base: bool, on_answer: Callable[[], None] = lambda: None
) -> list[Judged]:
    """Generate an answer to each question with greedy decoding, and judge it.

    Args:
        engine: The model.
        questions: The test questions.
        is_base: Ask in plain text and judge the first line only.
        on_answer: Called after each answer, for a progress bar.
    """
    settings = SamplingSettings(max_new_tokens=MAX_NEW_TOKENS)

    def advance(_number: int, _answer: Answer) -> None:
        on_answer()

    if is_base:
        answers = engine.continue_text([question.plain for question in questions], settings, on_answer=advance)
    else:
        answers = engine.answer([conversation_of(question) for question in questions], settings, on_answer=advance)
    return [judge(question, answer, is_base=is_base) for question, answer in zip(questions, answers, strict=True)]


def conversation_of(question: Question) -> Conversation:
    """Return a question as a conversation, for a chat model."""
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    return Conversation(tuple(Message(roles[role], text) for role, text in question.messages))


def judge(question: Question, answer: Answer, *, is_base: bool) -> Judged:
    """Compare an answer with its reference."""
    right = score(answer.text, question.reference, cut_first_line=is_base)
    return Judged(question, answer.text, right, answer.generated.finish_reason == "stop")


def scores_of(judged: Sequence[Judged]) -> Scores:
    """Return the scores of the judged answers, with their intervals."""

    def share(belongs: Callable[[Judged], bool]) -> Interval:
        verdicts = [answer.right for answer in judged if belongs(answer)]
        return share_interval(sum(verdicts), len(verdicts))

    tasks = sorted({answer.question.task for answer in judged})
    return Scores(
        exact_match=share(lambda _: True),
        second_turn=share(lambda answer: answer.question.slice == "second_turn"),
        system_prompt=share(lambda answer: answer.question.slice == "system_prompt"),
        stops=share_interval(sum(answer.stopped for answer in judged), len(judged)),
        tasks={
            task: share(lambda answer, task=task: answer.question.task == task)  # type: ignore[misc]
            for task in tasks
        },
    )
