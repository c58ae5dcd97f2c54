"""The task ``preference``: log-probabilities of both answers, without a generated one."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_chat import FACTS

from instil.errors import EvaluationError
from instil.evaluation.figure_table import figure_rows
from instil.evaluation.measure import measure
from instil.evaluation.preference import PREFERENCE, PairScore, _of_all
from instil.generation.prompts import select_prompts
from instil.generation.settings import SamplingSettings

PAIRS = [
    {"prompt": question, "chosen": answer, "rejected": wrong}
    for (question, answer), wrong in zip(
        [FACTS[0], FACTS[1], FACTS[3], FACTS[7]], ["Quito is it", "No", "Ho", "negative"], strict=True
    )
]


def measured(engine, rows, **settings):
    prompts, _ = select_prompts(rows)
    greedy = SamplingSettings(max_new_tokens=4)
    return measure(engine, prompts, **({"tasks": [PREFERENCE]} | settings), data="rows", source=rows, settings=greedy)


def test_a_model_that_learned_the_chosen_answers_prefers_them(tuned):
    found = measured(tuned, PAIRS).model.figures[PREFERENCE]
    assert found["accuracy"].value == found["per_token"].value == found["length_controlled"].value == 1
    assert found["accuracy"].n == 4
    assert found["margin"].value > 5


def test_exchanged_sides_are_lost_and_give_the_negative_margin(tuned):
    exchanged = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in PAIRS]
    ours, theirs = (measured(tuned, rows).model.figures[PREFERENCE] for rows in (PAIRS, exchanged))
    assert theirs["accuracy"].value == 0
    assert theirs["margin"].value == pytest.approx(-ours["margin"].value)


def test_the_margin_is_that_of_log_probabilities_in_transformers(tuned):
    row = PAIRS[0]
    found = measured(tuned, [row]).model.scores[PREFERENCE][0]["margin"]
    sums = []
    for side in ("chosen", "rejected"):
        prompt = tuned.prompt(select_prompts([row])[0][0].conversation)
        ids = torch.tensor([[*prompt, *tuned.tokenizer(row[side] + "<|im_end|>", add_special_tokens=False).input_ids]])
        with torch.no_grad():
            scores = tuned.model(ids).logits.float().log_softmax(-1)[0, :-1]
        found_here = scores.gather(1, ids[0, 1:, None]).squeeze(1)
        sums.append(float(found_here[len(prompt) - 1 :].sum()))
    assert found == pytest.approx(sums[0] - sums[1], abs=1e-3)


def test_rows_with_a_rejected_answer_are_compared_without_a_word(tuned):
    assert PREFERENCE in measured(tuned, PAIRS, tasks=None).tasks


def test_rows_without_one_are_refused(tuned):
    prompts, _ = select_prompts(PAIRS)
    with pytest.raises(EvaluationError, match=r"task preference fits no prompt.*chosen and a rejected"):
        measure(tuned, prompts, tasks=[PREFERENCE], data="rows", settings=SamplingSettings(max_new_tokens=4))


def test_a_base_without_a_template_is_not_measured(tuned, base):
    found = measured(tuned, PAIRS, against=base)
    assert PREFERENCE not in found.comparisons
    row = next(row for row in figure_rows(found) if row.key == "preference.accuracy")
    assert "no chat template" in row.cells[1].value


def test_a_preference_for_length_alone_is_half_when_controlled():
    # The model finds the longer answer more likely, whichever is chosen; three of four chosen ones are longer.
    longer, shorter = PairScore(-1, -2, 9, 4), PairScore(-2, -1, 4, 9)
    found = _of_all([longer, longer, longer, shorter])
    assert found["length_controlled"].value == 0.5


def test_pairs_of_one_direction_have_no_controlled_figure():
    assert _of_all([PairScore(-1, -2, 9, 4)] * 3) == {}
