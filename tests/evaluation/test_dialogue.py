from __future__ import annotations

import pytest
from tests.evaluation.cases import talk

from instil.evaluation.evaluate import evaluate
from instil.evaluation.report import to_json
from instil.generation.prompts import prompts_of
from instil.generation.settings import SamplingSettings


@pytest.mark.slow
def test_dialogue_tasks_play_the_models_own_history(tuned):
    prompts = prompts_of(talk(("Capital of Peru?", "Lima"), ("Say hi", "Hi there!")))
    prompts += prompts_of(talk(("Say hi", "Hi there!"), system="Be kind."))
    found = evaluate(
        tuned, prompts, tasks=["multi_turn", "system_prompt"], settings=SamplingSettings(max_new_tokens=20)
    )
    assert found.model.figures["multi_turn"]["consistent"].n == 1
    assert found.model.figures["multi_turn"]["consistent"].value == 1
    assert found.model.figures["system_prompt"]["changes_answer"].n == 1
    assert found.model.figures["system_prompt"]["right_without"].value == 1


def test_dialogue_tasks_are_compared_like_others(tuned, base):
    asked = prompts_of(talk(("Say hi", "Hi there!"), system="Be kind."))
    found = evaluate(tuned, asked, tasks=["system_prompt"], against=base, settings=SamplingSettings(max_new_tokens=5))
    assert found.comparisons["system_prompt"].ties + found.comparisons["system_prompt"].wins == 1
    assert to_json(found)["rows"][0]["answers"][0]["scores"]["system_prompt"].keys() == {
        "right_with", "right_without", "changes_answer",
    }  # fmt: skip
