"""Bytes to conversations and back: files, data sets and formats. Nothing here knows tokens, stores or processes.

`read`, `detect` and `write` are the public functions. `sources` turns files into rows, and `formats` turns rows into
conversations.

Why: the modules are called `reading` and `writing`, because a module `read` would hide the function `read`.
"""

from instil.data.memory_rows import write
from instil.data.reading import Detection, detect, read

__all__ = ["Detection", "detect", "read", "write"]
