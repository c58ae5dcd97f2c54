from __future__ import annotations

import pytest

from instil.conversation import Conversation, Message
from instil.errors import EvaluationError
from instil.evaluation.tasks import TaskOptions, make_tasks, suggest_tasks
from instil.generation.prompts import Prompt


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(EvaluationError, match="did you mean 'exact_match'"):
        make_tasks(["exactmatch"], TaskOptions())


@pytest.mark.parametrize(
    ("reference", "columns", "names"),
    [
        ("4\n#### 4", {}, ["numeric"]),
        ("B", {}, ["choice"]),
        ("Paris", {"choices": ["Rome", "Paris"]}, ["choice"]),
        ('{"name": "Ada"}', {}, ["json"]),
        ("The Nile", {}, ["exact_match"]),
        ("x = 1", {"test_list": ["assert x == 1"]}, ["code"]),
        (None, {"constraints": [{"kind": "no_commas"}]}, ["constraints"]),
        ("The Nile", {"constraints": [{"kind": "no_commas"}]}, ["constraints", "exact_match"]),
        (None, {}, []),
    ],
)
def test_tasks_are_suggested_by_references_and_columns(reference, columns, names):
    conversation = Conversation((Message("user", "q"),), extra=columns)
    prompt = Prompt(conversation, None if reference is None else Message("assistant", reference))
    assert suggest_tasks([prompt]) == names
