"""The recipe: every group of settings, read from a file or a mapping, changed and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, ValidationInfo, field_validator, model_validator

from instil.errors import RecipeError, first_line_of
from instil.files import home_path, write_text_atomic
from instil.recipe.data import MEMORY_ROWS, DataSettings
from instil.recipe.machine import ParallelSettings, TrackingSettings
from instil.recipe.merging import merge, nested_settings, with_short_forms
from instil.recipe.model import AdapterSettings, ModelSettings
from instil.recipe.preference import PreferenceSettings
from instil.recipe.settings import MOST_THREADS, PathText, Settings
from instil.recipe.shipped import recipe_file, shipped_names
from instil.recipe.sweeping import flat_sweep, with_sweep
from instil.recipe.training import CheckpointSettings, EvaluateSettings, OptimizerSettings, TrainingSettings
from instil.recipe.wording import explain, group_hint, sections_of
from instil.refused_writes import refused_writes
from instil.remote.urls import is_bucket, is_url

FROM_PYTHON = """# The rows came from a Python program. The command line cannot start this recipe:
# call instil.train(recipe, data=rows).
"""
"""The head of a written recipe whose rows are in no file."""


class Recipe(Settings):
    """Every setting of a run.

    Example:
        >>> Recipe.from_mapping({"data": {"sources": ["rows.jsonl"]}, "optimizer": {"lr": "2e-5"}}).optimizer.lr
        2e-05
    """

    output: PathText = Field(
        "runs/{name}",
        description="Run folder to write; {name} stands for the name of the recipe file, or without one of the data.",
    )
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="Number of CPU threads. Empty: PyTorch decides."
    )
    device: str = Field("auto", description="Device to train on: auto, cpu, cuda, cuda:1 or mps.")
    model: ModelSettings = Field(default_factory=ModelSettings, description="The model and how it is loaded.")
    adapter: AdapterSettings = Field(default_factory=AdapterSettings, description="Low-rank adapters.")
    data: DataSettings = Field(default_factory=DataSettings, description="The data and how it becomes examples.")
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="The optimizer step and the length of the run."
    )
    preference: PreferenceSettings = Field(
        default_factory=PreferenceSettings, description="How a run learns from preferences."
    )
    optimizer: OptimizerSettings = Field(
        default_factory=OptimizerSettings, description="The optimizer and the learning rate."
    )
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="What is measured during training."
    )
    checkpoint: CheckpointSettings = Field(
        default_factory=CheckpointSettings, description="Which checkpoints are saved and kept."
    )
    parallel: ParallelSettings = Field(default_factory=ParallelSettings, description="The processes of the run.")
    tracking: TrackingSettings = Field(
        default_factory=TrackingSettings, description="Trackers that receive the metrics too."
    )
    sweep: dict[str, Any] = Field(
        {},
        description=(
            "Settings that take several values, one run for each: `{optimizer.lr: [1e-4, 3e-4]}`, or a range to search. "
            "See docs/how-to/sweeps.md."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_its_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            sections = sections_of(cls)
            return {key: value for key, value in values.items() if value is not None or key not in sections}
        return values

    @field_validator("sweep", mode="before")
    @classmethod
    def _has_dotted_names(cls, value: Any) -> Any:
        return {} if value is None else flat_sweep(value) if isinstance(value, Mapping) else value

    @model_validator(mode="wrap")
    @classmethod
    def _in_plain_words(cls, values: Any, check: ModelWrapValidatorHandler[Recipe], info: ValidationInfo) -> Recipe:
        try:
            return check(values)
        except ValidationError as error:
            source = (info.context or {}).get("source", "recipe")
            raise RecipeError(f"{source}: {explain(cls, error)}") from None

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """Read a YAML recipe, apply overrides and check the result.

        Args:
            path: The YAML file, or the name of a recipe that ships. Relative data paths in it stay relative to the
                working folder.
            overrides: Mapping whose values replace those of the file; nested, or with dotted keys.

        Raises:
            RecipeError: If the file is missing or is no YAML mapping, or a key or value is not allowed. The message
                names the file, the key and, for an unknown key, the nearest known one.
        """
        # Why: YAML is imported only if a file is read.
        from instil.recipe.yaml_file import read_recipe_file

        if not isinstance(path, (str, Path)):
            raise RecipeError(f"recipe: found {path!r}. Expected the path of a YAML file. Use Recipe.from_mapping.")
        path = recipe_file(path) or home_path(path)
        if not path.exists() and path.stem in shipped_names():
            raise RecipeError(f"{path}: no such recipe file. A recipe of that name ships: write {path.stem}.")
        values = read_recipe_file(path)
        over = nested_settings(overrides or {})
        merged = merge(with_short_forms(values), over)
        if sweep := with_sweep(values.get("sweep"), over):
            merged["sweep"] = sweep
        else:
            merged.pop("sweep", None)
        return cls.from_mapping(merged, source=str(path), name=path.stem)

    @classmethod
    def load_saved(cls, folder: str | Path) -> Recipe:
        """Read the resolved recipe of a run folder.

        Raises:
            RecipeError: As `load`, and if the file has no settings. A run writes all of them, so the file was cut off.
        """
        path = home_path(folder) / "recipe.yaml"
        recipe = cls.load(path)
        if recipe.model_fields_set <= {"output"}:  # `from_mapping` always sets it
            raise RecipeError(
                f"{path}: no setting in it. Expected the run's resolved recipe. "
                "Replace the file with the recipe that started the run, or name another run."
            )
        return recipe

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str = "recipe", name: str = "recipe") -> Recipe:
        """Check a mapping of settings.

        Args:
            values: Settings, nested as in the file or with dotted keys.
            source: Name of the mapping in errors.
            name: Replaces {name} in `output`.

        Raises:
            RecipeError: On the first unknown key or wrong value.
        """
        recipe = cls.model_validate(nested_settings(values), context={"source": source})
        recipe = recipe.model_copy(update={"output": recipe.output.replace("{name}", name)})
        return recipe._with_output_here(source) if is_url(recipe.output) else recipe

    def _with_output_here(self, source: str) -> Recipe:
        """Return a recipe whose output is a bucket as one that works in ``runs/NAME`` here and is copied there."""
        above, _, name = self.output.rstrip("/").rpartition("/")
        if not is_bucket(self.output) or not is_bucket(f"{above}/") or not name:
            raise RecipeError(
                f"{source}: output: found {self.output!r}. Expected a run folder in a bucket, such as "
                "s3://bucket/runs/first, or a path. Correct it."
            )
        if self.checkpoint.mirror is not None:
            raise RecipeError(
                f"{source}: output is in a bucket, and checkpoint.mirror is set too. Expected one of them. "
                "Set output to a folder on this machine."
            )
        checkpoint = self.checkpoint.model_copy(update={"mirror": above})
        return self.model_copy(update={"output": f"runs/{name}", "checkpoint": checkpoint})

    def override(self, values: Mapping[str, Any]) -> Recipe:
        """Return a copy in which other values replace those of this recipe.

        Args:
            values: Settings, nested as in the file or with dotted keys.

        Raises:
            RecipeError: On an unknown key, with the nearest known one, or a wrong value.

        Example:
            >>> Recipe().override({"optimizer.lr": 1e-4, "model": "demo"}).optimizer.lr
            0.0001
        """
        over = nested_settings(values)
        merged = merge(self.model_dump(exclude_unset=True), over)
        if self.sweep or "sweep" in over:
            merged["sweep"] = with_sweep(self.sweep, over)
        return Recipe.from_mapping(merged)

    @property
    def has_memory_rows(self) -> bool:
        """Whether a source is rows that a Python program passed. The command line cannot start such a recipe."""
        return any(source.path.startswith(MEMORY_ROWS) for source in (*self.data.sources, *self.data.heldout))

    def to_yaml(self) -> str:
        """Return every setting, defaults included, as YAML that `load` reads back to an equal recipe."""
        import yaml

        settings = self.model_dump(mode="json", exclude=None if self.sweep else {"sweep"})
        text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
        return (FROM_PYTHON if self.has_memory_rows else "") + text

    def save(self, path: str | Path) -> None:
        """Write `to_yaml` into a file, which is complete or stays as it was.

        Raises:
            RecipeError: If the file cannot be written.
        """
        file = home_path(path)
        try:
            with refused_writes(file, raises=RecipeError, otherwise="choose another file"):
                write_text_atomic(file, self.to_yaml())
        except ValueError as error:  # an empty name
            raise RecipeError(
                f"{str(path)!r}: cannot be written ({first_line_of(error)}). Expected a file such as recipe.yaml. "
                "Choose another."
            ) from None


def in_another_group(name: str) -> str:
    """Return a hint with the group of a setting, or nothing where no group or several have the name."""
    return group_hint(Recipe, name)


def is_setting(key: str) -> bool:
    """Return whether a dotted key, or a key without a group, is a setting of the recipe.

    Example:
        >>> is_setting("training.epochs"), is_setting("output"), is_setting("training.num_epochs")
        (True, True, False)
    """
    group, dot, name = key.replace("-", "_").partition(".")
    field = Recipe.model_fields.get(group)
    if field is None or not dot:
        return field is not None
    return isinstance(field.annotation, type) and name in getattr(field.annotation, "model_fields", {})
