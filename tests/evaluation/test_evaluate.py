from __future__ import annotations

import json
import math

import pytest
import torch
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.errors import EvaluationError
from instil.evaluation.evaluate import evaluate
from instil.evaluation.heldout import heldout_loss
from instil.evaluation.report import to_json, to_markdown, write_report
from instil.generation.engine import Engine
from instil.generation.prompts import prompts_of
from instil.generation.settings import SamplingSettings


@pytest.fixture(scope="module")
def tuned():
    return Engine.load(folders()["tuned"])


@pytest.fixture(scope="module")
def base():
    return Engine.load(folders()["base"])


def talk(*pairs, system=None, **columns):
    opening = [] if system is None else [Message("system", system)]
    turns = [message for q, a in pairs for message in (Message("user", q), Message("assistant", a))]
    return Conversation((*opening, *turns), extra=columns)


@pytest.fixture(scope="module")
def prompts():
    return [
        prompt for fact in FACTS for prompt in prompts_of(talk(fact, task="math" if "plus" in fact[0] else "other"))
    ]


def test_figures_comparison_slices_and_loss(tuned, base, prompts):
    found = evaluate(tuned, prompts, tasks=["exact_match"], against=base, settings=SamplingSettings(max_new_tokens=60))
    assert found.model.figures["exact_match"]["exact_match"].value == 1
    assert found.model.figures["behaviour"]["stops"].value == 1
    assert found.against.figures["exact_match"]["exact_match"].value == 0
    compared = found.comparisons["exact_match"]
    assert (compared.wins, compared.losses, compared.ties) == (8, 0, 0)
    assert {(each.kind, each.name) for each in found.model.slices} >= {("task", "math"), ("task", "other")}
    assert found.model.heldout.loss.value < 0.05
    assert found.against.heldout is None
    assert "heldout_loss" not in found.comparisons
    assert found.model.facts["template"] == tuned.chat.template.fingerprint


def test_a_forced_line_break_is_no_stop_of_the_models(base, prompts):
    found = evaluate(base, prompts, tasks=["exact_match"], settings=SamplingSettings(max_new_tokens=5))
    ended = [case.answer.generated.stop_id is not None for case in found.model.answers]
    assert found.model.figures["behaviour"]["stops"].value == pytest.approx(sum(ended) / len(ended))


def test_heldout_loss_equals_transformers_own_and_does_not_depend_on_batching(tuned, monkeypatch):
    conversations = [talk(("Say hi", "Hello you")), talk(("Capital of Peru?", "Lima"), ("Say hi", "Hi there!"))]
    found = heldout_loss(tuned, conversations)
    total = weight = 0.0
    for conversation in conversations:
        for example in tuned.chat.encode(conversation):
            ids = torch.tensor([list(example.token_ids)])
            labels = ids.where(torch.tensor([list(example.weights)]) > 0, torch.tensor(-100))
            trained = int((labels[:, 1:] != -100).sum())
            total += tuned.model(input_ids=ids, labels=labels).loss.item() * trained
            weight += trained
    assert found.loss.value == pytest.approx(total / weight, rel=1e-5)
    assert found.perplexity.value == pytest.approx(math.exp(total / weight), rel=1e-4)
    assert found.num_tokens == weight
    monkeypatch.setattr("instil.evaluation.heldout.LOGIT_BYTES", 1)
    assert heldout_loss(tuned, conversations).loss.value == pytest.approx(found.loss.value, rel=1e-6)


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


def test_losses_of_two_models_are_compared_pair_by_pair(tuned, prompts):
    other = Engine.load(folders()["tuned"])
    with torch.no_grad():
        other.model.get_output_embeddings().weight.mul_(0.5)  # less sure of everything
    found = evaluate(tuned, prompts, tasks=["exact_match"], against=other, settings=SamplingSettings(max_new_tokens=40))
    compared = found.comparisons["heldout_loss"]
    assert (compared.wins, compared.losses, compared.ties) == (len(prompts), 0, 0)
    assert compared.difference.high < 0
    assert compared.difference.value == pytest.approx(found.model.heldout.loss.value - found.against.heldout.loss.value)
    assert f"{len(prompts)} wins" in next(
        line for line in to_markdown(found).splitlines() if "loss per trained" in line
    )
    assert "n=8" in next(line for line in to_markdown(found).splitlines() if "perplexity" in line)


def test_dialogue_tasks_are_compared_like_others(tuned, base):
    asked = prompts_of(talk(("Say hi", "Hi there!"), system="Be kind."))
    found = evaluate(tuned, asked, tasks=["system_prompt"], against=base, settings=SamplingSettings(max_new_tokens=5))
    assert found.comparisons["system_prompt"].ties + found.comparisons["system_prompt"].wins == 1
    assert to_json(found)["rows"][0]["answers"][0]["scores"]["system_prompt"].keys() == {
        "right_with", "right_without", "changes_answer",
    }  # fmt: skip


@pytest.mark.parametrize("task", ["multi_turn", "system_prompt", "choice", "json"])
def test_a_task_that_fits_no_prompt_is_refused_before_anything_is_asked(tuned, monkeypatch, task):
    monkeypatch.setattr(tuned, "answer", lambda *_, **__: pytest.fail("the model was asked"))
    with pytest.raises(EvaluationError, match=f"task {task} fits no prompt"):
        evaluate(tuned, prompts_of(talk(("Say hi", "Hi there!"))), tasks=[task])


def test_the_report_is_whole_json_markdown_and_one_page(tuned, base, prompts, tmp_path):
    evil = prompts_of(talk(("</script><script>alert(1)</script>", "<b>|x</b>")))
    found = evaluate(
        tuned, [*prompts, *evil], tasks=["exact_match", "classification"], against=base,
        settings=SamplingSettings(max_new_tokens=20),
    )  # fmt: skip
    files = write_report(found, tmp_path / "out")
    assert [file.name for file in files] == ["evaluation.json", "evaluation.md", "evaluation.html"]
    saved = json.loads(files[0].read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(to_json(found)))
    assert len(saved["rows"]) == 9
    assert saved["rows"][0]["answers"][0]["scores"]["exact_match"]["exact_match"] == 1
    markdown = to_markdown(found)
    assert "exact_match: exact_match" in markdown
    assert "wins" in markdown
    html = files[2].read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    assert html.count("<script>") == 1
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
