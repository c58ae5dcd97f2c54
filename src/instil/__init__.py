"""Instruction tuning with exact loss masks: what is trained is what is served.

This module exports the public Python API. A public name is imported on first use, so that ``import instil`` stays fast
and does not load torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from instil.waiting_threads import let_threads_sleep

if TYPE_CHECKING:
    from instil.api.evaluation import evaluate as evaluate
    from instil.api.exports import export as export
    from instil.api.inspecting import inspect as inspect
    from instil.api.models import load_model as load_model
    from instil.api.planning import plan as plan
    from instil.api.preparing import prepare as prepare
    from instil.api.reporting import report as report
    from instil.api.sweeping import sweep as sweep
    from instil.api.training import train as train
    from instil.api.writing import write as write
    from instil.conversation import Conversation as Conversation
    from instil.conversation import Example as Example
    from instil.conversation import Message as Message
    from instil.conversation import Place as Place
    from instil.conversation import ToolCall as ToolCall
    from instil.data import read as read
    from instil.encoding.chat_tokenizer import ChatTokenizer as ChatTokenizer
    from instil.encoding.proof import Proof as Proof
    from instil.environment.environment import Environment as Environment
    from instil.environment.environment import env as env
    from instil.errors import CheckpointError as CheckpointError
    from instil.errors import DataError as DataError
    from instil.errors import DroppedTextError as DroppedTextError
    from instil.errors import EncodingError as EncodingError
    from instil.errors import EvaluationError as EvaluationError
    from instil.errors import ExportError as ExportError
    from instil.errors import FormatError as FormatError
    from instil.errors import GenerationError as GenerationError
    from instil.errors import InstilError as InstilError
    from instil.errors import MissingPackageError as MissingPackageError
    from instil.errors import ModelError as ModelError
    from instil.errors import NonFiniteError as NonFiniteError
    from instil.errors import NoPairError as NoPairError
    from instil.errors import OutOfMemoryError as OutOfMemoryError
    from instil.errors import RecipeError as RecipeError
    from instil.errors import RunError as RunError
    from instil.errors import ServeError as ServeError
    from instil.errors import TemplateError as TemplateError
    from instil.errors import TrainingError as TrainingError
    from instil.preparation.batches import collate_flat as collate_flat
    from instil.preparation.batches import collate_padded as collate_padded
    from instil.recipe import Recipe as Recipe
    from instil.reporting.runs import runs as runs
    from instil.sweeps.record import Sweep as Sweep
    from instil.template.tracing import Rendering as Rendering
    from instil.training.records.run_folder import Run as Run

__version__ = "0.1.0"

# Here, because every way to torch through instil passes this line first: the command line, Python, started processes.
let_threads_sleep(os.environ)

_ERRORS = (
    "CheckpointError",
    "DataError",
    "DroppedTextError",
    "EncodingError",
    "EvaluationError",
    "ExportError",
    "FormatError",
    "GenerationError",
    "InstilError",
    "MissingPackageError",
    "ModelError",
    "NoPairError",
    "NonFiniteError",
    "OutOfMemoryError",
    "RecipeError",
    "RunError",
    "ServeError",
    "TemplateError",
    "TrainingError",
)
_MODULES = {
    **dict.fromkeys(_ERRORS, "instil.errors"),
    "ChatTokenizer": "instil.encoding.chat_tokenizer",
    "Conversation": "instil.conversation",
    "Environment": "instil.environment.environment",
    "Example": "instil.conversation",
    "Message": "instil.conversation",
    "Place": "instil.conversation",
    "Proof": "instil.encoding.proof",
    "Recipe": "instil.recipe",
    "Rendering": "instil.template.tracing",
    "Run": "instil.training.records.run_folder",
    "Sweep": "instil.sweeps.record",
    "ToolCall": "instil.conversation",
    "collate_flat": "instil.preparation.batches",
    "collate_padded": "instil.preparation.batches",
    "env": "instil.environment.environment",
    "evaluate": "instil.api.evaluation",
    "export": "instil.api.exports",
    "load_model": "instil.api.models",
    "read": "instil.data",
    "report": "instil.api.reporting",
    "runs": "instil.reporting.runs",
    "inspect": "instil.api.inspecting",
    "plan": "instil.api.planning",
    "prepare": "instil.api.preparing",
    "sweep": "instil.api.sweeping",
    "train": "instil.api.training",
    "write": "instil.api.writing",
}
"""Public name to the module that defines it."""
__all__ = ["__version__", *sorted(_MODULES)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'instil' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
