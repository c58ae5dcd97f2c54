"""The head of a model card: the YAML that the Hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from instil.errors import ExportError
from instil.evaluation.meanings import label_of
from instil.training.model_card.papers import RunPapers, published_name
from instil.training.model_card.subject import CardSubject

LICENCES = 'an identifier of the Hub, such as apache-2.0, mit, llama3.1, or "other"'
_FEWEST_PROMPTS = 20
"""A language of fewer prompts is not named to the Hub."""


def check_licence(licence: str | None) -> None:
    """Raise ExportError if a licence is not an identifier in lower case, as the Hub expects."""
    if licence is not None and (not licence or set(licence) - set("abcdefghijklmnopqrstuvwxyz0123456789.-+")):
        raise ExportError(f"--licence: found {licence!r}. Expected {LICENCES}. Fix it, or leave it out.")


def head_of(papers: RunPapers, subject: CardSubject) -> str:
    """Return the head as YAML; a value that is not known is left out."""
    languages = languages_of(papers)
    head: dict[str, Any] = {
        "library_name": "peft" if subject.form == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        **({"license": subject.licence} if subject.licence else papers.base_licence),
        **({"language": list(languages)} if languages else {}),
        **_origin(papers, subject),
        "tags": ["instil", _objective(papers), "conversational", *_tags(papers, subject)],
        **_model_index(papers, subject.name),
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()


def languages_of(papers: RunPapers) -> dict[str, int]:
    """Return the languages of the evaluation's prompts by their two or three letters, with the number of prompts."""
    model = papers.evaluation.get("model")
    slices = model.get("slices") if isinstance(model, Mapping) else None
    found: dict[str, int] = {}
    for one in slices or ():
        count = one.get("figure", {}).get("n", 0)
        if one.get("kind") == "language" and re.fullmatch(r"[a-z]{2,3}", one["name"]) and count >= _FEWEST_PROMPTS:
            found[one["name"]] = max(count, found.get(one["name"], 0))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _origin(papers: RunPapers, subject: CardSubject) -> dict[str, Any]:
    """Return base and data that the Hub knows; a local path would be read as a repository's name."""
    head: dict[str, Any] = {}
    if papers.base_on_hub:
        head |= {
            "base_model": papers.base_on_hub,
            "base_model_relation": "adapter" if subject.form == "adapter" else "finetune",
        }
    if papers.data_on_hub:
        head["datasets"] = papers.data_on_hub
    return head


def _objective(papers: RunPapers) -> str:
    return "sft" if papers.recipe is None else papers.recipe.training.objective


def _tags(papers: RunPapers, subject: CardSubject) -> list[str]:
    trained = ["lora"] if papers.recipe is not None and papers.recipe.adapter.kind == "lora" else []
    by_form = {"adapter": ["lora"], "4bit": ["4-bit", "bitsandbytes"], "gguf": ["gguf"], "ollama": ["gguf", "ollama"]}
    weights = [subject.weights] if subject.is_gguf and subject.weights else []
    return list(dict.fromkeys([*trained, *by_form.get(subject.form, []), *weights]))


def _model_index(papers: RunPapers, name: str) -> dict[str, Any]:
    """Return the evaluation's figures in the form in which the Hub shows results."""
    data = published_name(str(papers.evaluation.get("data", "prompts")))
    metrics: dict[str, list[dict[str, Any]]] = {}
    for key, figure in papers.figures().items():
        metrics.setdefault(key.split(".", 1)[0], []).append(
            {"type": key.split(".", 1)[1], "name": label_of(key), "value": figure.value}
        )
    results = [
        {
            "task": {"type": "text-generation", "name": task},
            "dataset": {"type": Path(data).stem, "name": data},
            "metrics": values,
        }
        for task, values in metrics.items()
    ]
    return {"model-index": [{"name": name, "results": results}]} if results else {}
