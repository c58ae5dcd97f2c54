from __future__ import annotations

import pytest
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.errors import EvaluationError
from instil.evaluation.during_training import check_tasks, heldout_prompts, task_figures
from instil.generation.engine import Engine


def test_held_out_rows_are_asked_and_judged_with_the_model_in_training_mode():
    engine = Engine.load(folders()["tuned"])
    rows = [Conversation((Message("user", q), Message("assistant", a))) for q, a in FACTS]
    rows += [
        Conversation((Message("assistant", "no question"),)),
        Conversation((Message("assistant", "x"),), plain=True),
    ]
    prompts = heldout_prompts(rows, most=5)
    assert len(prompts) == 5
    engine.model.train()
    figures = task_figures(engine, prompts, tasks=["exact_match", "numeric"], max_new_tokens=40)
    assert engine.model.training
    assert figures["exact_match.exact_match"].value == 1
    assert figures["numeric.numeric"].n == 1
    assert figures["behaviour.stops"].value == 1


def test_unknown_tasks_are_refused_before_a_run():
    with pytest.raises(EvaluationError, match="did you mean 'numeric'"):
        check_tasks(["numerik"])
    with pytest.raises(EvaluationError, match="multi_turn needs more than one answer per prompt"):
        check_tasks(["multi_turn"])
