from __future__ import annotations

import json

import pytest
import torch
from tests.evaluation.cases import talk
from tests.tiny_chat import folders

from instil.cli.evaluation_screen import print_evaluation
from instil.errors import EvaluationError
from instil.evaluation.evaluate import evaluate
from instil.evaluation.figure_table import figure_rows
from instil.evaluation.report import to_json, to_markdown
from instil.evaluation.report_page import page
from instil.generation.engine import Engine
from instil.generation.prompts import prompts_of
from instil.generation.settings import SamplingSettings
from instil.reporting.report_answers import evaluation_part
from instil.screen import Screen


def test_figures_comparison_slices_and_loss(tuned, base, prompts):
    found = evaluate(tuned, prompts, tasks=["exact_match"], against=base, settings=SamplingSettings(max_new_tokens=60))
    assert found.model.figures["exact_match"]["exact_match"].value == 1
    assert found.model.figures["behaviour"]["stops"].value == 1
    assert found.against.figures["exact_match"]["exact_match"].value == 0
    compared = found.comparisons["exact_match"]
    assert (compared.wins, compared.losses, compared.ties) == (8, 0, 0)
    assert {(each.kind, each.name) for each in found.model.slices} >= {("task", "math"), ("task", "other")}
    strict = found.secondary["exact_match.strict"]
    assert (strict.wins, strict.losses, strict.ties) == (8, 0, 0)
    row = next(row for row in figure_rows(found) if row.key == "exact_match.strict")
    assert row.pair_cells == [strict.change, "8 / 0 / 0", "0.0078"]
    assert (row.verdict, row.kind) == ("", None)
    line = next(line for line in to_markdown(found).splitlines() if line.startswith("| exact_match: strict"))
    assert "+100.0 points" in line
    assert "## Groups of prompts: exact_match" in to_markdown(found) or not found.model.slices
    assert found.model.heldout.loss.value < 0.05
    assert found.against.heldout is None
    assert "heldout_loss" not in found.comparisons
    assert found.model.facts["template"] == tuned.chat.template.fingerprint


def test_a_forced_line_break_is_no_stop_of_the_models(base, prompts):
    found = evaluate(base, prompts, tasks=["exact_match"], settings=SamplingSettings(max_new_tokens=5))
    assert "stops" not in found.model.figures["behaviour"]
    assert found.model.not_measured == {"behaviour.stops": "no stop token (plain text, cut at a line break)"}


def test_stops_of_a_base_and_of_a_tuned_model_are_not_compared(tuned, base, prompts):
    found = evaluate(
        tuned, prompts, tasks=["exact_match", "behaviour"], against=base, settings=SamplingSettings(max_new_tokens=5)
    )
    assert "behaviour" not in found.comparisons
    assert "no stop token" in found.not_compared["behaviour.stops"]
    row = next(row for row in figure_rows(found) if row.key == "behaviour.stops")
    assert row.cells[1].value == "no stop token (plain text, cut at a line break)"
    assert row.cells[0].value.endswith("%")
    assert row.comparison is None
    assert row.verdict.startswith("not compared: ")
    assert found.verdicts.keys() == {"exact_match"}
    line = next(line for line in to_markdown(found).splitlines() if line.startswith("| behaviour: stops"))
    assert "p" not in line.split("|")[6]


@pytest.mark.slow
def test_losses_of_two_models_are_compared_pair_by_pair(tuned, prompts):
    other = Engine.load(folders()["tuned"])
    with torch.no_grad():
        other.model.get_output_embeddings().weight.mul_(0.5)  # less sure of everything
    found = evaluate(tuned, prompts, tasks=["exact_match"], against=other, settings=SamplingSettings(max_new_tokens=40))
    compared = found.comparisons["heldout_loss"]
    assert (compared.wins, compared.losses, compared.ties) == (len(prompts), 0, 0)
    assert compared.difference.high < 0
    assert compared.difference.value == pytest.approx(found.model.heldout.loss.value - found.against.heldout.loss.value)
    lines = to_markdown(found).splitlines()
    line = next(line for line in lines if line.startswith("| loss per trained"))
    assert f"{len(prompts)} / 0 / 0" in line
    assert "better: loss lower by" in line
    perplexity = found.secondary["perplexity"]
    assert (perplexity.wins, perplexity.losses, perplexity.unit) == (len(prompts), 0, "perplexity")
    change = found.model.heldout.perplexity.value - found.against.heldout.perplexity.value
    assert perplexity.difference.value == pytest.approx(change)
    line = next(line for line in lines if line.startswith("| perplexity"))
    assert "n=8" in line
    assert perplexity.change in line


@pytest.mark.parametrize("task", ["multi_turn", "system_prompt", "choice", "json"])
def test_a_task_that_fits_no_prompt_is_refused_before_anything_is_asked(tuned, monkeypatch, task):
    monkeypatch.setattr(tuned, "answer", lambda *_, **__: pytest.fail("the model was asked"))
    with pytest.raises(EvaluationError, match=f"task {task} fits no prompt"):
        evaluate(tuned, prompts_of(talk(("Say hi", "Hi there!"))), tasks=[task])


@pytest.mark.slow
def test_figures_of_all_answers_together_have_a_difference_wherever_figures_are_shown(tuned, base, prompts, capsys):
    pytest.importorskip("sacrebleu")
    found = evaluate(
        tuned,
        prompts,
        tasks=["classification", "translation"],
        against=base,
        settings=SamplingSettings(max_new_tokens=60),
    )
    values = to_json(found)
    shown = {"markdown": to_markdown(found), "page": page(found, values, method=()), "notebook": found._repr_html_()}
    print_evaluation(Screen(), found)
    shown["terminal"] = capsys.readouterr().out
    shown["report of the run"] = evaluation_part(json.loads(json.dumps(values)), page=None)
    for figure in ("classification.macro_f1", "translation.bleu", "translation.chrf"):
        row = next(row for row in figure_rows(found) if row.key == figure)
        task, _, name = figure.partition(".")
        ours, theirs = (result.figures[task][name] for result in (found.model, found.against))
        assert row.comparison.difference.value == pytest.approx(ours.value - theirs.value) != 0
        assert row.pair_cells[0] == row.comparison.change != ""
        assert row.pair_cells[1] == ""
        assert (row.verdict, row.kind) == ("", None)
        assert "no prompt wins or loses" in row.meaning
        assert (row.pair_cells[2] == "") is (name == "macro_f1")
        for place, text in shown.items():
            assert row.comparison.change in text, f"{figure}: no difference in {place}"
        assert values["secondary"][figure]["p_value"] == row.comparison.p_value
    assert values["secondary"]["translation.chrf"]["difference"]["low"] is None
