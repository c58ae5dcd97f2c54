"""What a model is asked, which part of its answer counts, and how verdicts become scores."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from instil.conversation import Conversation, Message
from instil.demo.questions import Question
from instil.demo.scoring import MAX_NEW_TOKENS, Judged, ask, conversation_of, scores_of

QUESTION = Question(
    "question",
    "second_turn",
    (("system", "Be brief."), ("user", "The capital of Kenya?"), ("assistant", "Nairobi"), ("user", "And of Norway?")),
    "Oslo",
)


@dataclass
class FakeEngine:
    """An engine that writes one text, and records what it was asked."""

    text: str
    finish_reason: str = "stop"
    asked: list[Any] = field(default_factory=list)

    def answer(self, prompts, settings, *, on_answer):
        assert settings.max_new_tokens == MAX_NEW_TOKENS
        assert settings.temperature == 0
        self.asked += prompts
        answers = [
            SimpleNamespace(text=self.text, generated=SimpleNamespace(finish_reason=self.finish_reason))
            for _ in prompts
        ]
        for number, answer in enumerate(answers):
            on_answer(number, answer)
        return answers

    continue_text = answer


def test_a_tuned_model_gets_every_turn_and_its_complete_answer_counts():
    engine = FakeEngine("Oslo\nSweden")
    (judged,) = ask(engine, [QUESTION], is_base=False)
    assert engine.asked == [Conversation(tuple(Message(*message) for message in QUESTION.messages))]
    assert engine.asked == [conversation_of(QUESTION)]
    assert not judged.right


def test_a_base_model_gets_plain_text_without_the_system_prompt_and_its_first_line_counts():
    engine = FakeEngine("\nOslo\nSweden")
    (judged,) = ask(engine, [QUESTION], is_base=True)
    assert engine.asked == ["The capital of Kenya?\nNairobi\nAnd of Norway?"]
    assert judged.right
    assert judged.answer == "\nOslo\nSweden"


@pytest.mark.parametrize(("finish_reason", "stopped"), [("stop", True), ("length", False)])
def test_an_answer_that_is_cut_did_not_stop(finish_reason, stopped):
    (judged,) = ask(FakeEngine("Oslo", finish_reason), [QUESTION], is_base=False)
    assert judged.stopped is stopped
    assert judged.right


def test_progress_is_reported_once_for_each_answer():
    calls = []
    ask(FakeEngine("Oslo"), [QUESTION] * 3, is_base=False, on_answer=lambda: calls.append(1))
    assert len(calls) == 3


def test_scores_are_shares_of_all_questions_of_their_part():
    def judged(task, part, *, right, stopped):
        return Judged(Question(task, part, (("user", "?"),), "Oslo"), "Oslo", right, stopped)

    scores = scores_of(
        [
            judged("question", "single", right=True, stopped=True),
            judged("question", "second_turn", right=False, stopped=True),
            judged("list", "second_turn", right=True, stopped=False),
            judged("list", "system_prompt", right=True, stopped=True),
        ]
    )
    assert (scores.exact_match.value, scores.exact_match.n) == (0.75, 4)
    assert (scores.second_turn.value, scores.second_turn.n) == (0.5, 2)
    assert (scores.system_prompt.value, scores.system_prompt.n) == (1.0, 1)
    assert scores.stops.value == 0.75
    assert {task: (share.value, share.n) for task, share in scores.tasks.items()} == {
        "list": (1.0, 2),
        "question": (0.5, 2),
    }
    assert set(scores.to_json()["exact_match"]) == {"value", "low", "high", "n"}
