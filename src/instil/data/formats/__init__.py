"""Formats: outside shapes of data, read into conversations and written out of them.

One file a format; `registry` is the table of them. `read` and `write` are the public doors.
"""

from instil.data.formats.reading import Detection, detect, read
from instil.data.formats.registry import FORMATS, read_row, recognise
from instil.data.formats.shape import ReadOptions, RowFormat
from instil.data.formats.writing import write

__all__ = ["FORMATS", "Detection", "ReadOptions", "RowFormat", "detect", "read", "read_row", "recognise", "write"]
