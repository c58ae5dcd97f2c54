"""Bytes to conversations and back: files, data sets and formats. Nothing here knows tokens, stores or processes.

`read`, `detect` and `write` are the public functions. `sources` turns files into rows, and `formats` turns rows into
conversations.

Why: the modules are called `reading` and `writing`, because a module `read` would hide the function `read`. They are
imported when one of the functions is: who only tells files of data from others does without the formats.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instil.data.memory_rows import write as write
    from instil.data.reading import Detection as Detection
    from instil.data.reading import detect as detect
    from instil.data.reading import read as read

_MODULES = {
    "Detection": "instil.data.reading",
    "detect": "instil.data.reading",
    "read": "instil.data.reading",
    "write": "instil.data.memory_rows",
}
"""Public name to the module that defines it."""
__all__ = ["Detection", "detect", "read", "write"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'instil.data' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
