"""The model card: what was trained, on what, how, with which results; a README.md that the Hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from instil.export.parity import Parity
from instil.recipe import Recipe
from instil.training.comparison import figures_of
from instil.training.run_folder import RunPaths, read_run_json


def model_card(
    run: Path | None, *, name: str, base: str | None, template: str, parity: Parity, licence: str | None
) -> str:
    """Give the card's text.

    Args:
        run: The run folder, where the model has one.
        name: Title of the card.
        base: What was trained.
        template: Fingerprint of the chat template.
        parity: What was compared at export.
        licence: Licence identifier; where none is given the card says that it is missing.
    """
    recipe = Recipe.load(run / "recipe.yaml") if run is not None else None
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["instil"]}
    head |= {"license": licence} if licence else {}
    head |= {"base_model": base} if base else {}
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", "", f"# {name}", ""]
    lines += [f"Tuned from `{base or 'an unnamed base'}` with instil.", ""]
    if not licence:
        lines += [
            "**Licence:** not given. State it before you share the model; the base's and the data's licences bind.",
            "",
        ]
    lines += ["## Parity at export", "", *[f"- {line}" for line in parity.lines()]]
    lines += [f"- chat template SHA-256 {template}", ""]
    if run is not None and recipe is not None:
        lines += _data(run, recipe) + _results(run)
        text = yaml.safe_dump(
            recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True
        )
        lines += ["## Recipe", "", "Settings that differ from the defaults:", "", "```yaml", text.strip(), "```", ""]
    lines += ["## Use", "", "```python", "from transformers import pipeline", "", *_use(name), "```", ""]
    return "\n".join(lines)


def _use(name: str) -> Sequence[str]:
    return [
        f'chat = pipeline("text-generation", {name!r})',
        'print(chat([{"role": "user", "content": "Hello"}])[0]["generated_text"][-1]["content"])',
    ]


def _data(run: Path, recipe: Recipe) -> list[str]:
    lines = ["## Data", "", *[f"- {source.path}" for source in recipe.data.sources]]
    ledger = read_run_json(RunPaths(run).ledger)
    if ledger:
        plain = {key: value for key, value in ledger.items() if isinstance(value, int | float | str)}
        lines += ["", "Ledger: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in plain.items())]
    return [*lines, ""]


def _results(run: Path) -> list[str]:
    evaluation = read_run_json(run / "evaluation" / "evaluation.json").get("model")
    lines: list[str] = []
    for title, found in (("training", read_run_json(RunPaths(run).results)), ("evaluation", evaluation)):
        lines += [
            f"- {title}: {key.replace('_', ' ')} {value:.5g}"
            for key, value in (found.items() if isinstance(found, dict) else ())
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
    for name, each in figures_of(run).items():
        task, figure = name.split(".", 1)
        lines.append(f"- {task}, {figure}: {each.value:.4g} [{each.low:.4g}, {each.high:.4g}], n = {each.n}")
    return ["## Results", "", *lines, ""] if lines else []
