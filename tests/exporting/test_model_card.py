"""The model card, read back by huggingface_hub's own parser."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import ModelCard
from tests.exporting.exported import EVALUATION

from instil.exporting.model_card import model_card
from instil.exporting.parity import Parity
from instil.exporting.run_papers import read_papers
from instil.model.folder.location import locate

PARITY = Parity(prompts=3, typed_control_tokens=0, refused=0, stop_tokens=("<|im_end|>",))


def card_of(folder, *, target="merged", licence=None):
    papers = read_papers(locate(folder))
    text = model_card(papers, name="tuned", target=target, template="ab" * 32, parity=PARITY, licence=licence)
    return text, ModelCard(text)


def test_the_hub_reads_base_data_licence_and_results(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text, card = card_of(run(), licence="apache-2.0")
    assert (card.data.license, card.data.base_model, card.data.datasets) == (
        "apache-2.0", "Qwen/Qwen2.5-0.5B", ["openai/gsm8k"],
    )  # fmt: skip
    assert (card.data.library_name, card.data.pipeline_tag, card.data.tags) == (
        "transformers", "text-generation", ["instil"],
    )  # fmt: skip
    assert card.data.to_dict()["base_model_relation"] == "finetune"
    found = {
        each.metric_name: (each.metric_type, each.metric_value, each.dataset_name) for each in card.data.eval_results
    }
    assert found == {
        "exact_match: exact_match": ("exact_match", 0.75, "data/test.jsonl"),
        "behaviour: stops": ("stops", 1.0, "data/test.jsonl"),
    }
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()  # and writes the same again
    for said in (
        "- rows.jsonl\n- openai/gsm8k\n", "Ledger: rows in 9, rows trained 7, trained tokens 70", "Left out: too long 2",
        "- training: heldout loss 1.25", "- exact_match, exact_match: 0.75 [0.5, 0.9], n = 12", "lr: 0.0001",
    ):  # fmt: skip
        assert said in text, said


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
    assert "Tuned from `base`" in text
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
    assert "- rows.jsonl\n- *.csv\n- data/rows.jsonl\n- openai/gsm8k\n- -\n- held out: held.jsonl\n" in text
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
        ("gguf", "transformers", {"gguf"}, 'Llama("tuned/model.gguf")'),
        ("ollama", "transformers", {"gguf"}, "ollama create tuned -f tuned/Modelfile"),
    ],
)
def test_the_card_says_how_each_target_is_used(run, target, library, tags, use):
    text, card = card_of(run(), target=target)
    assert card.data.library_name == library
    assert tags < set(card.data.tags)
    assert card.data.to_dict()["base_model_relation"] == ("adapter" if target == "adapter" else "finetune")
    assert use in text
    assert "{{" not in text
