"""What leaves this machine with a model: a path of it is said by its last name alone.

A card is published, and where a person keeps files is nobody's business. Questionable on purpose: relative paths stay as they were
written, for they say how the work was laid out, not where.
"""

from __future__ import annotations

from pathlib import Path

from instil.recipe import Recipe


def published_name(given: str) -> str:
    """Give what may be said of a path, a Hub id or a name.

    Example:
        >>> [published_name(given) for given in ("/home/ann/rows.jsonl", "~/*.csv", "data/rows.jsonl", "openai/gsm8k", "-")]
        ['rows.jsonl', '*.csv', 'data/rows.jsonl', 'openai/gsm8k', '-']
    """
    return Path(given).name or given if given.startswith(("/", "~")) else given


def published_recipe(recipe: Recipe) -> Recipe:
    """Give a recipe whose settings that may be paths are names; a template that is written out stays."""
    model, adapter, data = recipe.model, recipe.adapter, recipe.data
    named = {"name": published_name(model.name)}
    if model.template and "{" not in model.template:
        named["template"] = published_name(model.template)
    places = {
        key: [source.model_copy(update={"path": published_name(source.path)}) for source in sources]
        for key, sources in (("sources", data.sources), ("heldout", data.heldout))
    }
    store = data.store and published_name(data.store)
    resumed = adapter.resume_from and published_name(adapter.resume_from)
    return recipe.model_copy(
        update={
            "output": published_name(recipe.output),
            "model": model.model_copy(update=named),
            "adapter": adapter.model_copy(update={"resume_from": resumed}),
            "data": data.model_copy(update={**places, "store": store}),
        }
    )
