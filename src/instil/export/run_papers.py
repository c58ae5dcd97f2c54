"""What a model card says about a run: read from its folder as a whole, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instil.data.sources.rows import is_hub_id
from instil.errors import ModelError
from instil.generation.served_chat import run_folder
from instil.model.folder.location import HUB_ID, ModelLocation, locate
from instil.recipe import Recipe
from instil.training.records.run_folder import RunPaths, read_run_json
from instil.training.records.runs import Figure, figures_of

LICENCE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPapers:
    """What is known of where a model comes from.

    Attributes:
        recipe: The run's recipe; None where the model is of no run.
        ledger: The account of its rows.
        results: What it reached.
        evaluation: What `instil evaluate` left in it, as JSON.
        figures: The evaluation's figures, as ``task.figure``.
        base: Name of the model that was tuned, or None.
        base_licence: What the base's own card says of its licence, under the Hub's keys.
    """

    recipe: Recipe | None
    ledger: Mapping[str, Any]
    results: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    figures: Mapping[str, Figure]
    base: str | None
    base_licence: Mapping[str, str]

    @property
    def base_on_hub(self) -> str | None:
        """The base's Hub id, where it is one."""
        known = self.base is not None and HUB_ID.fullmatch(self.base) and "/" in self.base
        return self.base if known and not Path(str(self.base)).exists() else None

    @property
    def data_on_hub(self) -> list[str]:
        """The Hub ids among the data."""
        paths = [] if self.recipe is None else [source.path for source in self.recipe.data.sources]
        names = [path.removeprefix("hf://").removeprefix("datasets/") for path in paths if is_hub_id(path)]
        return list(dict.fromkeys(names))


def read_papers(location: ModelLocation) -> RunPapers:
    """Read what is known of a located model.

    Raises:
        InstilError: If a file of its run is damaged.
    """
    run = run_folder(location)
    base = None if location.adapter_folder is None else location.base_name
    folder = None if location.adapter_folder is None else location.folder
    if run is None:
        return RunPapers(
            recipe=None, ledger={}, results={}, evaluation={}, figures={}, base=base, base_licence=_licence_of(folder)
        )
    recipe, paths = Recipe.load_saved(run), RunPaths(run)
    if base is None:
        base = recipe.model.name
        with suppress(ModelError):  # it need not be there any more
            folder = locate(base, recipe.model.revision).folder
    return RunPapers(
        recipe=recipe,
        ledger=read_run_json(paths.ledger),
        results=read_run_json(paths.results),
        evaluation=read_run_json(run / "evaluation" / "evaluation.json"),
        figures=figures_of(run),
        base=base,
        base_licence=_licence_of(folder),
    )


def _licence_of(folder: Path | None) -> dict[str, str]:
    """Read the licence from the head of a model folder's card; empty where there is none, or none that can be read."""
    if folder is None:
        return {}
    try:
        _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        found = yaml.safe_load(head)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: found[key] for key in LICENCE_KEYS if isinstance(found.get(key), str)}
