"""Every setting of a run, in one file.

A recipe is a YAML file; `Recipe` holds its checked values. Each field is described once, here: the same text is
``--help``, the JSON schema and docs/reference/settings.md.

Why: a recipe holds no per-device batch size. Only `training.micro_batch_tokens` and `parallel` decide how a step is
divided over devices, and neither changes the result.
"""

from instil.recipe.data import MEMORY_ROWS, DataSettings, Format, Source, delimiter_named, source_name
from instil.recipe.machine import ParallelSettings, TrackingSettings
from instil.recipe.merging import nested_settings
from instil.recipe.model import AdapterSettings, ModelSettings
from instil.recipe.preference import (
    BETAS,
    REFERENCE_FREE,
    Objective,
    PreferenceSettings,
    Reading,
    objective_words,
    reading_of,
    unit_of,
)
from instil.recipe.recipe import FROM_PYTHON, Recipe, in_another_group, is_setting
from instil.recipe.settings import LARGEST_SEED, LONGEST_WAIT, MOST_THREADS, Decay, Number, PathText, Settings
from instil.recipe.training import CheckpointSettings, EvaluateSettings, OptimizerSettings, TrainingSettings

__all__ = [
    "BETAS",
    "FROM_PYTHON",
    "LARGEST_SEED",
    "LONGEST_WAIT",
    "MEMORY_ROWS",
    "MOST_THREADS",
    "REFERENCE_FREE",
    "AdapterSettings",
    "CheckpointSettings",
    "DataSettings",
    "Decay",
    "EvaluateSettings",
    "Format",
    "ModelSettings",
    "Number",
    "Objective",
    "OptimizerSettings",
    "ParallelSettings",
    "PathText",
    "PreferenceSettings",
    "Reading",
    "Recipe",
    "Settings",
    "Source",
    "TrackingSettings",
    "TrainingSettings",
    "delimiter_named",
    "in_another_group",
    "is_setting",
    "nested_settings",
    "objective_words",
    "reading_of",
    "source_name",
    "unit_of",
]
