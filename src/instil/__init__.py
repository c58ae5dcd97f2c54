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
    from instil.conversation import Conversation as Conversation
    from instil.conversation import Example as Example
    from instil.conversation import Message as Message
    from instil.conversation import Place as Place
    from instil.conversation import ToolCall as ToolCall
    from instil.data import read as read
    from instil.data import write as write
    from instil.encoding.chat_tokenizer import ChatTokenizer as ChatTokenizer
    from instil.encoding.proof import Proof as Proof
    from instil.errors import InstilError as InstilError
    from instil.recipe import Recipe as Recipe
    from instil.template.tracing import Rendering as Rendering
    from instil.training.records.run_folder import Run as Run
    from instil.training.run import train as train

__version__ = "0.1.0"

# Here, because every way to torch through instil passes this line first: the command line, Python, started processes.
let_threads_sleep(os.environ)

_MODULES = {
    "ChatTokenizer": "instil.encoding.chat_tokenizer",
    "Conversation": "instil.conversation",
    "Example": "instil.conversation",
    "InstilError": "instil.errors",
    "Message": "instil.conversation",
    "Place": "instil.conversation",
    "Proof": "instil.encoding.proof",
    "Recipe": "instil.recipe",
    "Rendering": "instil.template.tracing",
    "Run": "instil.training.records.run_folder",
    "ToolCall": "instil.conversation",
    "read": "instil.data",
    "train": "instil.training.run",
    "write": "instil.data",
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
