"""The model card: what was trained, on what, how, with which results; a README.md whose head the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from instil.errors import ExportError
from instil.exporting.parity import Parity
from instil.exporting.run_papers import RunPapers, published_name, published_recipe
from instil.recipe import Recipe

_USE = {
    "gguf": ["from llama_cpp import Llama", "", 'model = Llama("{name}/model.gguf")',
             'print(model.create_chat_completion([{{"role": "user", "content": "Hello"}}])["choices"][0]["message"]["content"])'],
    "plain": ["from transformers import pipeline", "", 'chat = pipeline("text-generation", "{name}")',
              'print(chat([{{"role": "user", "content": "Hello"}}])[0]["generated_text"][-1]["content"])'],
}  # fmt: skip
"""How each target is used. An adapter is loaded like a model: transformers loads its base if peft is installed."""
LICENCES = 'an identifier of the Hub, such as apache-2.0, mit, llama3.1, or "other"'


def check_licence(licence: str | None) -> None:
    """Raise ExportError if a licence is not an identifier in lower case, as the Hub expects."""
    if licence is not None and (not licence or set(licence) - set("abcdefghijklmnopqrstuvwxyz0123456789.-+")):
        raise ExportError(f"--licence: found {licence!r}. Expected {LICENCES}. Fix it, or leave it out.")


def model_card(papers: RunPapers, *, name: str, target: str, template: str, parity: Parity, licence: str | None) -> str:
    """Return the card's text.

    Args:
        papers: The origin of the model.
        name: Title of the card.
        target: Form of the export, as in `instil export --as`.
        template: Fingerprint of the chat template.
        parity: The result of the comparison at export.
        licence: Licence identifier. Without one, the base's own is used; if that is missing too, the card says so.
    """
    head = {"library_name": "peft" if target == "adapter" else "transformers", "pipeline_tag": "text-generation"}
    head |= _licence(papers, licence) | _origin(papers, target) | {"tags": ["instil", *_tags(target)]}
    head |= _model_index(papers, name)
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", "", f"# {name}", ""]
    base = published_name(papers.base or "an unnamed base")
    lines += [f"Tuned from `{base}` with instil.", "", _licence_line(papers, licence), ""]
    lines += ["## Parity at export", "", *[f"- {line}" for line in parity.lines()]]
    lines += [f"- chat template SHA-256 {template}", *_versions(target), ""]
    if papers.recipe is not None:
        recipe = published_recipe(papers.recipe)
        lines += _data(papers, recipe) + _results(papers) + _recipe(recipe)
    return "\n".join([*lines, *_use(name, target)])


def _versions(target: str) -> list[str]:
    """Return which versions of transformers wrote the files and can read them; llama.cpp reads GGUF by itself."""
    if target in ("gguf", "ollama"):
        return []
    return [
        f"- written by transformers {version('transformers')}; settings and tokenizer class are named for "
        "transformers 4 (from 4.57) as well"
    ]


def _licence(papers: RunPapers, licence: str | None) -> dict[str, Any]:
    return {"license": licence} if licence else dict(papers.base_licence)


def _licence_line(papers: RunPapers, licence: str | None) -> str:
    base = papers.base_licence.get("license")
    if licence:
        other = f" The base's is `{base}`." if base and base != licence else ""
        return f"**Licence:** `{licence}`, as stated at export.{other} The data's licences apply too."
    if base:
        return f"**Licence:** `{base}`, the base's. The data's licences apply too."
    return "**Licence:** not given. State it before you share the model. The licences of base and data apply."


def _origin(papers: RunPapers, target: str) -> dict[str, Any]:
    """Return base and data that the Hub knows; a local path would be read as a repository's name."""
    head: dict[str, Any] = {}
    if papers.base_on_hub:
        head |= {
            "base_model": papers.base_on_hub,
            "base_model_relation": "adapter" if target == "adapter" else "finetune",
        }
    if papers.data_on_hub:
        head["datasets"] = papers.data_on_hub
    return head


def _tags(target: str) -> Sequence[str]:
    return {"adapter": ("lora",), "4bit": ("4-bit", "bitsandbytes"), "gguf": ("gguf",), "ollama": ("gguf",)}.get(
        target, ()
    )


def _model_index(papers: RunPapers, name: str) -> dict[str, Any]:
    """Return the evaluation's figures in the form in which the Hub shows results."""
    data = published_name(str(papers.evaluation.get("data", "prompts")))
    metrics: dict[str, list[dict[str, Any]]] = {}
    for key, figure in papers.figures.items():
        metrics.setdefault(key.split(".", 1)[0], []).append(
            {"type": key.split(".", 1)[1], "name": key.replace(".", ": ", 1), "value": figure.value}
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


def _data(papers: RunPapers, recipe: Recipe) -> list[str]:
    lines = ["## Data", ""]
    for source in recipe.data.sources:
        settings = source.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
        lines.append(f"- {source.path}" + "".join(f", {key} {value}" for key, value in settings.items()))
    lines += [f"- held out: {source.path}" for source in recipe.data.heldout]
    if papers.ledger:
        lines += ["", f"Ledger: {_counts(papers.ledger)}", *_left_out(papers.ledger)]
    return [*lines, ""]


def _counts(values: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in plain.items())


def _left_out(ledger: Mapping[str, Any]) -> list[str]:
    """Return the reasons why rows were left out, if any were."""
    tallies = ledger.get("left_out")
    by_reason = tallies if isinstance(tallies, dict) else {}
    counts = {reason: tally.get("count") for reason, tally in by_reason.items() if isinstance(tally, dict)}
    return ["", "Left out: " + ", ".join(f"{reason} {count}" for reason, count in counts.items())] if counts else []


def _results(papers: RunPapers) -> list[str]:
    lines: list[str] = []
    for title, values in (("training", papers.results), ("evaluation", papers.evaluation.get("model"))):
        lines += [
            f"- {title}: {key.replace('_', ' ')} {value:.5g}"
            for key, value in (values.items() if isinstance(values, Mapping) else ())
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
    for name, each in papers.figures.items():
        task, figure = name.split(".", 1)
        lines.append(f"- {task}, {figure}: {each.value:.4g} [{each.low:.4g}, {each.high:.4g}], n = {each.n}")
    return ["## Results", "", *lines, ""] if lines else []


def _recipe(recipe: Recipe) -> list[str]:
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return ["## Recipe", "", "Settings that differ from the defaults:", "", "```yaml", text.strip(), "```", ""]


def _use(name: str, target: str) -> list[str]:
    if target == "ollama":
        return ["## Use", "", "```bash", f"ollama create {name} -f {name}/Modelfile", f"ollama run {name}", "```", ""]
    lines = [line.format(name=name) for line in _USE.get(target, _USE["plain"])]
    return ["## Use", "", "```python", *lines, "```", ""]
