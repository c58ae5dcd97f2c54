"""Data: outside rows become conversations and back; nothing here knows tokens.

`read`, `detect` and `write` are the public doors.
"""

from instil.data.reading import Detection, detect, read
from instil.data.writing import write

__all__ = ["Detection", "detect", "read", "write"]
