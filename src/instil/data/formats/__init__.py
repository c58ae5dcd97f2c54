"""Formats: outside shapes of data, read into conversations and written from them.

One module per format; `registry` is the table of them.
"""

from instil.data.formats.registry import FORMATS, read_row, recognise
from instil.data.formats.row_format import ReadOptions, RowFormat

__all__ = ["FORMATS", "ReadOptions", "RowFormat", "read_row", "recognise"]
