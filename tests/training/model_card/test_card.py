"""The model card, read back by huggingface_hub's own parser."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from tests.exporting.exported import EVALUATION

from instil.model.folder.location import locate
from instil.training.model_card.card import model_card
from instil.training.model_card.papers import read_papers
from instil.training.model_card.subject import CardSubject

SUBJECT = CardSubject(
    name="tuned", weights="bf16", stop_tokens=("<|im_end|>",), template="ab" * 32, checks=("3 prompts: ids equal",)
)


def card_of(folder, *, target="merged", **changes):
    text = model_card(read_papers(locate(folder)), replace(SUBJECT, form=target, **changes))
    return text, ModelCard(text)


def test_the_hub_reads_base_data_licence_and_results(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text, card = card_of(run(), licence="apache-2.0")
    assert (card.data.license, card.data.base_model, card.data.datasets) == (
        "apache-2.0", "Qwen/Qwen2.5-0.5B", ["openai/gsm8k"],
    )  # fmt: skip
    assert (card.data.library_name, card.data.pipeline_tag, card.data.tags) == (
        "transformers", "text-generation", ["instil", "sft", "conversational"],
    )  # fmt: skip
    assert card.data.to_dict()["base_model_relation"] == "finetune"
    found = {
        each.metric_name: (each.metric_type, each.metric_value, each.dataset_name) for each in card.data.eval_results
    }
    assert found == {
        "exact_match": ("exact_match", 0.75, "data/test.jsonl"),
        "behaviour: stops": ("stops", 1.0, "data/test.jsonl"),
    }
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()  # and writes the same again
    for part in (
        "# tuned\n\nTuned from `Qwen/Qwen2.5-0.5B` with instil", "on 7 rows of data", "a complete model for transformers, in bf16",
        "- `rows.jsonl`\n- `openai/gsm8k`\n", "9 rows were read, and 7 of them trained.\nNot trained: 2 too long.",
        "| method | every weight |", "learning rate 0.0001, cosine", "| length | 3 steps of 32 examples |", "| seed | 0 |",
        "| held-out loss | 1.2500 at the end |", "| exact_match | 75.0% [50.0%, 90.0%] n=12 |",
        "An answer ends with** `<|im_end|>`", "## Limits", "trained on 7 rows only", "- 3 prompts: ids equal", "vllm serve tuned",
    ):  # fmt: skip
        assert part in text, part
    for noise in ("planned mb", "rss", "_mb", "rows in 9"):
        assert noise not in text
    # What only a repeated run needs is folded, and comes last.
    assert text.index("## Limits") < text.index("<details>") < text.index("lr: 0.0001") < text.index(SUBJECT.template)


def test_the_bases_licence_is_taken_over_and_a_path_is_not_named_to_the_hub(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    head = "license: other\nlicense_name: qwen-research\nlicense_link: LICENSE\nextra: [1]\n"
    (base / "README.md").write_text(f"---\n{head}---\n\n# Base\n", encoding="utf-8")
    text, card = card_of(run(base=base))
    assert (card.data.license, card.data.license_name, card.data.license_link) == ("other", "qwen-research", "LICENSE")
    assert card.data.base_model is None
    assert "Tuned from `base` with" in text
    assert "**Licence:** `other`, the base's" in text
    given, card = card_of(tmp_path / "run", licence="mit")
    assert (card.data.license, card.data.license_name) == ("mit", None)
    assert "**Licence:** `mit`, as stated at export. The base's is `other`." in given


def test_no_path_of_this_machine_is_published(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base, data = tmp_path / "home" / "ann" / "base", tmp_path / "home" / "ann" / "rows.jsonl"
    folder = run(base=base, sources=(str(data), "~/more/*.csv", "data/rows.jsonl", "openai/gsm8k", "-"))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["output"] = str(folder)
    recipe["model"]["template"] = "~/ann/mine.jinja"
    recipe["adapter"] = {"kind": "lora", "resume_from": str(tmp_path / "first" / "adapter")}
    recipe["data"] |= {"heldout": [str(data.parent / "held.jsonl")], "store": str(tmp_path / "store")}
    recipe["data"]["template_variables"] = {"mode": "/no_think"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(EVALUATION | {"data": str(data)}), "utf-8")
    text, card = card_of(folder)
    assert str(tmp_path) not in text
    assert "~" not in text
    assert "Tuned from `base` with" in text
    assert "- `rows.jsonl`\n- `*.csv`\n- `data/rows.jsonl`\n- `openai/gsm8k`\n- `-`\n- `held.jsonl`, held out" in text
    assert card.data.datasets == ["openai/gsm8k"]
    settings = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    assert settings["output"] == "run"
    assert settings["model"] == {"name": "base", "template": "mine.jinja"}
    assert settings["adapter"] == {"kind": "lora", "resume_from": "adapter"}
    assert settings["data"]["store"] == "store"
    assert settings["data"]["template_variables"] == {"mode": "/no_think"}


@pytest.mark.parametrize("template", ["/{user}/{assistant}", "~{% for m in messages %}{{ m.content }}{% endfor %}"])
def test_a_template_that_is_written_out_stays_as_it_is(run, template):
    folder = run()
    recipe = {"model": {"template": template}, "data": {"sources": ["rows.jsonl"]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    text, _ = card_of(folder)
    assert yaml.safe_load(text.split("```yaml")[1].split("```")[0])["model"] == {"template": template}


@pytest.mark.parametrize(
    "readme", [None, "# no head", "---\n- a\n---\n", "---\na: [\n---\n", "---\nlicense: [mit]\n---\n"]
)
def test_a_base_without_a_licence_leaves_the_field_out_and_says_so(run, tmp_path, readme):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    if readme is not None:
        (base / "README.md").write_text(readme, encoding="utf-8")
    text, card = card_of(run(base=base))
    assert card.data.license is None
    assert "**Licence:** not given." in text


@pytest.mark.parametrize(
    ("target", "library", "tags", "use"),
    [
        ("adapter", "peft", {"lora"}, 'pipeline("text-generation", "tuned")'),
        ("4bit", "transformers", {"4-bit", "bitsandbytes"}, 'pipeline("text-generation", "tuned")'),
        ("gguf", "transformers", {"gguf"}, 'Llama("tuned/model.gguf", n_ctx=0)'),
        ("ollama", "transformers", {"gguf", "ollama"}, "ollama create tuned -f tuned/Modelfile"),
    ],
)
def test_the_card_says_how_each_target_is_used(run, target, library, tags, use):
    text, card = card_of(run(), target=target)
    assert card.data.library_name == library
    assert tags < set(card.data.tags)
    assert card.data.to_dict()["base_model_relation"] == ("adapter" if target == "adapter" else "finetune")
    assert use in text
    assert "{{" not in text


def test_a_model_of_the_hub_is_used_by_its_address(run, tmp_path):
    text, _ = card_of(run(), repository="me/tuned")
    assert 'pipeline("text-generation", "me/tuned")' in text
    assert "vllm serve me/tuned" in text
    text, card = card_of(tmp_path / "run", target="gguf", repository="me/tuned", weights="q4_k_m")
    assert "llama-cli -hf me/tuned" in text
    assert 'from_pretrained("me/tuned", filename="model.gguf", n_ctx=0)' in text
    assert "q4_k_m" in card.data.tags


def test_a_model_that_was_not_evaluated_says_so(run):
    folder = run()
    (folder / "evaluation" / "evaluation.json").unlink()
    text, card = card_of(folder)
    assert "## Evaluation" not in text
    assert "It was not evaluated" in text
    assert card.data.eval_results is None


def test_the_other_model_and_the_languages_of_the_prompts_are_named(run, tmp_path):
    folder = run()
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 40}
    slices = [
        {"kind": "language", "name": name, "task": "exact_match", "figure": figure | {"n": n}}
        for name, n in (("en", 40), ("vi", 22), ("pt", 2), ("unknown", 30))
    ]
    changed = {
        "against": {"name": str(tmp_path / "base"), "figures": {"exact_match": {"exact_match": figure}}},
        "model": EVALUATION["model"] | {"slices": slices},
        "num_prompts": 62,
    }
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(EVALUATION | changed), "utf-8")
    text, card = card_of(folder)
    assert "| figure | this model | base |" in text
    assert "| exact_match | 75.0% [50.0%, 90.0%] n=12 | 50.0% [25.0%, 75.0%] n=40 |" in text
    assert "Measured on `data/test.jsonl`, 62 prompts" in text
    assert card.data.language == ["en", "vi"]
    assert "en (40), vi (22)" in text


def test_what_changes_the_meaning_of_the_loss_stands_in_the_table(run):
    folder = run()
    recipe = {
        "data": {"sources": ["rows.jsonl"]},
        "adapter": {"kind": "lora", "rank": 4, "dora": True},
        "training": {"neftune_alpha": 5, "loss": "dft"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    text, card = card_of(folder)
    for part in ("| method | DoRA, rank 4, alpha 32, on all linear layers |", "| loss | dft |", "NEFTune, alpha 5"):
        assert part in text, part
    assert "lora" in card.data.tags


def test_a_run_without_results_or_figures_still_has_a_card(run):
    folder = run()
    (folder / "evaluation" / "evaluation.json").write_text(
        '{"model": {"figures": {"a": {"b": {"value": null}}}}}', "utf-8"
    )
    (folder / "results.json").unlink()
    text, _ = card_of(folder)
    assert "## Evaluation" not in text
    assert "## Training" in text


def test_a_named_template_is_named_by_its_fingerprint(run):
    from instil.template.chat_template import ChatTemplate
    from instil.template.library import template_source

    text, _ = card_of(run(), template=ChatTemplate(template_source("llama-3")).fingerprint)
    assert "**Prompt format:** the chat template `llama-3`" in text


def test_the_cards_hold_under_the_hubs_own_reading(run):
    """Offline: the fields and types that huggingface_hub's card data know, written and read again."""
    _, card = card_of(run(), target="ollama", weights="q8_0", licence="mit", repository="me/tuned")
    values = card.data.to_dict()
    known = {
        "library_name", "pipeline_tag", "license", "base_model", "base_model_relation", "datasets", "tags", "model-index",
    }  # fmt: skip
    assert set(values) <= known
    assert all(isinstance(tag, str) for tag in values["tags"])
    for result in card.data.eval_results:
        result.metric_value + 0
        assert result.task_type == "text-generation"
