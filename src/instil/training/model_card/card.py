"""The model card: what a model is, how it is used, what it was trained on and how well, and what it cannot do.

A README.md whose head the Hub reads. What only somebody who repeats the run needs is folded at its end.
"""

from __future__ import annotations

from importlib.metadata import version

import yaml

from instil import __version__
from instil.recipe import Recipe
from instil.training.model_card.head import head_of
from instil.training.model_card.papers import RunPapers, published_name, published_recipe, without_machine_paths
from instil.training.model_card.sections import data_of, details, evaluation_of, limits_of, training_of
from instil.training.model_card.subject import CardSubject
from instil.training.model_card.use import use_of
from instil.units import counted, short_count

_FORMS = {
    "merged": "a complete model for transformers",
    "adapter": "an adapter: the base is loaded beside it",
    "4bit": "a complete model whose weights are quantised to 4 bits (nf4)",
    "gguf": "a GGUF file for llama.cpp",
    "ollama": "a GGUF file with a Modelfile for Ollama",
}


def model_card(papers: RunPapers, subject: CardSubject) -> str:
    """Return the card's text. It holds no path of this machine.

    Args:
        papers: The origin of the model.
        subject: The form of its files, and what was checked when they were written.
    """
    lines = ["---", head_of(papers, subject), "---", "", f"# {subject.title or subject.name}", ""]
    lines += [*_what_it_is(papers, subject), "", _licence_line(papers, subject.licence), "", *use_of(papers, subject)]
    recipe = None if papers.recipe is None else published_recipe(papers.recipe)
    if recipe is not None:
        lines += data_of(papers, recipe) + training_of(papers, recipe, subject.step) + evaluation_of(papers)
    lines += limits_of(papers, subject)
    if subject.checks:
        checks = [f"- {line}" for line in subject.checks]
        lines += ["## Checked when it was exported", "", *checks, ""]
    if recipe is not None:
        lines += details("Settings that differ from the defaults", _settings(recipe))
    lines += details("Versions and fingerprints", _versions(papers, subject))
    return without_machine_paths("\n".join(lines).rstrip("\n") + "\n")


def _what_it_is(papers: RunPapers, subject: CardSubject) -> list[str]:
    base = "an unnamed base" if papers.base is None else f"`{published_name(papers.base)}`"
    if papers.base == "demo":
        base = "`demo`, the small base model that comes with instil,"
    size = ""
    if papers.num_parameters:
        size = (
            f" ({short_count(papers.num_parameters)} parameters{' with its base' if subject.form == 'adapter' else ''})"
        )
    rows = papers.ledger.get("rows_trained")
    data = f" on {counted(rows, 'row')} of data" if isinstance(rows, int) else ""
    weights = f", in {subject.weights}" if subject.weights and subject.form != "adapter" else ""
    return [
        f"Tuned from {base} with instil {__version__}{data}{size}.",
        f"These files are {_FORMS[subject.form]}{weights}.",
    ]


def _licence_line(papers: RunPapers, licence: str | None) -> str:
    base = papers.base_licence.get("license")
    if licence:
        other = f" The base's is `{base}`." if base and base != licence else ""
        return f"**Licence:** `{licence}`, as stated at export.{other} The data's licences apply too."
    if base:
        return f"**Licence:** `{base}`, the base's. The data's licences apply too."
    return "**Licence:** not given. State it before you share the model. The licences of base and data apply."


def _settings(recipe: Recipe) -> list[str]:
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return ["```yaml", text.strip(), "```"]


def _versions(papers: RunPapers, subject: CardSubject) -> list[str]:
    """Return what made the files and what reads them; llama.cpp reads GGUF by itself."""
    lines = [f"- chat template SHA-256 {subject.template}"] if subject.template else []
    versions = papers.environment.get("versions")
    if isinstance(versions, dict):
        lines.append("- trained with " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    if not subject.is_gguf:
        lines.append(
            f"- written by transformers {version('transformers')}; settings and tokenizer class are named for "
            "transformers 4 (from 4.57) as well"
        )
    return lines or ["- not known"]
