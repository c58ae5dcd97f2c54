"""Read what a model card reports of a run, and shorten the paths in it for publication.

The run folder is read completely before the export writes a file. A card for a run and for its exports is made from
the same record.

Why: relative paths stay as they are written, because they show how the work was laid out. An absolute path would
publish where a person keeps files.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instil.data.sources.rows import is_hub_id
from instil.errors import ModelError
from instil.evaluation.intervals import Interval
from instil.model.folder.file_checks import read_json
from instil.model.folder.location import HUB_ID, ModelLocation, locate, run_folder
from instil.model.folder.memory_check import count_weights
from instil.recipe import Recipe
from instil.remote.urls import is_bucket, name_of_url
from instil.training.records.run_figures import figures_of
from instil.training.records.run_folder import RunPaths, read_run_json

LICENCE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPapers:
    """The origin of a model.

    Attributes:
        recipe: The run's recipe; None for a model without a run.
        ledger: The run's ledger.
        results: The run's results.
        evaluation: The JSON that `instil evaluate` wrote into the run.
        environment: Versions and device of the run.
        base: Name of the model that was fine-tuned, or None.
        base_licence: The licence in the base's own card, under the Hub's keys.
        num_parameters: Numbers in the model's weights, without an adapter's; None if they are stored quantised.
        context: Tokens that the model can read, or None if its config names no limit.
    """

    recipe: Recipe | None
    ledger: Mapping[str, Any]
    results: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any]
    base: str | None
    base_licence: Mapping[str, str]
    num_parameters: int | None = None
    context: int | None = None

    @property
    def base_on_hub(self) -> str | None:
        """The Hub id of the base, or None where the base is a folder."""
        known = self.base is not None and HUB_ID.fullmatch(self.base) and "/" in self.base
        return self.base if known and not Path(str(self.base)).exists() else None

    @property
    def data_on_hub(self) -> list[str]:
        """The Hub ids among the data sources."""
        paths = [] if self.recipe is None else [source.path for source in self.recipe.data.sources]
        names = [path.removeprefix("hf://").removeprefix("datasets/") for path in paths if is_hub_id(path)]
        return list(dict.fromkeys(names))

    def figures(self, of: str = "model") -> dict[str, Interval]:
        """Return the evaluation's figures as ``task.figure``; `of` is ``model``, or ``against`` for the other one."""
        model = self.evaluation.get(of)
        by_task = model.get("figures") if isinstance(model, Mapping) else None
        found = {}
        for task, figures in (by_task or {}).items():
            for name, values in figures.items():
                with suppress(TypeError):  # a file of another version, or a figure without a number
                    found[f"{task}.{name}"] = Interval(
                        **{key: values[key] + 0 for key in ("value", "low", "high", "n")}
                    )
        return found


def read_papers(location: ModelLocation) -> RunPapers:
    """Read the origin of a located model.

    Raises:
        InstilError: If a file of its run is damaged.
    """
    run = run_folder(location)
    base = None if location.adapter_folder is None else location.base_name
    folder = None if location.adapter_folder is None else location.folder
    shape = {"num_parameters": _count(location.folder), "context": _context(location.folder)}
    if run is None:
        return RunPapers(
            recipe=None, ledger={}, results={}, evaluation={}, environment={}, base=base,
            base_licence=_licence_of(folder), **shape,
        )  # fmt: skip
    recipe, paths = Recipe.load_saved(run), RunPaths(run)
    figures_of(run)  # refuses a damaged evaluation
    if base is None:
        base = recipe.model.name
        with suppress(ModelError):  # the base may be gone by now
            folder = locate(base, recipe.model.revision).folder
    return RunPapers(
        recipe=recipe,
        ledger=read_run_json(paths.ledger),
        results=read_run_json(paths.results),
        evaluation=read_run_json(run / "evaluation" / "evaluation.json"),
        environment=read_run_json(paths.environment),
        base=base,
        base_licence=_licence_of(folder),
        **shape,
    )


def _count(folder: Path) -> int | None:
    with suppress(ModelError, OSError):
        numbers, packed = count_weights(folder)
        return numbers if numbers and not packed else None
    return None


def _context(folder: Path) -> int | None:
    with suppress(ModelError):
        config = read_json(folder / "config.json")
        inner = config.get("text_config")
        length = (inner if isinstance(inner, dict) else config).get("max_position_embeddings")
        return length if isinstance(length, int) and length > 0 else None
    return None


def published_name(path_or_id: str) -> str:
    """Return what a published card may show of a path, a Hub id or a name.

    An absolute path loses its folders, and a file of a bucket the bucket.

    Example:
        >>> [published_name(name) for name in ("/home/ann/rows.jsonl", "~/*.csv", "s3://team/a.csv", "-")]
        ['rows.jsonl', '*.csv', 'a.csv', '-']
    """
    if is_bucket(path_or_id):
        return name_of_url(path_or_id) or "a bucket"
    return Path(path_or_id).name or path_or_id if path_or_id.startswith(("/", "~")) else path_or_id


def published_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe in which absolute paths are names; a template given as source stays."""
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
            "checkpoint": recipe.checkpoint.model_copy(update={"mirror": None}),
        }
    )


def without_machine_paths(text: str) -> str:
    """Return a text without the folders of this machine: the working directory and the home folder.

    Why: every path is shortened where it is known to be one. This catches those in names, notes and file evidence.

    Example:
        >>> without_machine_paths(f"{Path.cwd()}/data/rows.jsonl has 3 rows")
        'data/rows.jsonl has 3 rows'
    """
    for folder in {Path.cwd(), Path.cwd().resolve(), Path.home(), Path.home().resolve()}:
        if len(folder.parts) > 1:
            text = text.replace(f"{folder}/", "")
    return text


def _licence_of(folder: Path | None) -> dict[str, str]:
    """Return the licence from the head of a model folder's card; empty where it is missing or cannot be read."""
    if folder is None:
        return {}
    try:
        _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        card = yaml.safe_load(head)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(card, dict):
        return {}
    return {key: card[key] for key in LICENCE_KEYS if isinstance(card.get(key), str)}
