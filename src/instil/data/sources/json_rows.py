"""Stream the rows of JSON: one value per line, one array, or values one after the other.

Memory holds one row and one buffer, never the file. Duplicate keys, NaN, lone surrogates and bytes that are not UTF-8
raise an error with their place, because later steps would change them silently.

Why: a line stays bytes until `parse_line`, so that worker processes parse, not the process that reads.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from instil.conversation import Place
from instil.conversation.strict_json import DECODER, MAX_DEPTH, RefusedJson, check, parse_text
from instil.data.sources.csv_rows import not_utf8
from instil.errors import DataError

_BUFFER = 1 << 18
_NEAR_END = 16  # characters: a literal or escape that the buffer's end may have cut
_UTF8_BOM = b"\xef\xbb\xbf"


def read_json(stream: IO[bytes], source: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a JSON stream: bytes if the stream has one value per line, else the parsed value.

    Blank lines are not rows. A row's number is its line, or its position in the array, from 1; such a row has the line
    on which it begins too.

    Raises:
        DataError: If an array, or a value that spans several lines, is broken. `parse_line` checks single lines.
    """
    head, has_lines = _head_of(stream)
    if has_lines:
        yield from _read_lines(head, stream, source)
        return
    window = _Window(head, stream, source)
    if window.next_character() == "[":
        yield from _read_array(window, source)
    else:
        yield from _read_sequence(window, source)


def _head_of(stream: IO[bytes]) -> tuple[bytes, bool]:
    """Return the first bytes of a stream without the mark in front, and whether it has one value per line."""
    head = stream.read(_BUFFER)
    head = head.removeprefix(_UTF8_BOM)
    return head, has_one_value_per_line(head, is_all=len(head) < _BUFFER - len(_UTF8_BOM))


def first_line_of(stream: IO[bytes]) -> int | None:
    """Return the offset of the first line of a stream with one value per line; None for any other JSON.

    Args:
        stream: The stream, at its start.
    """
    marked = stream.read(len(_UTF8_BOM)) == _UTF8_BOM
    stream.seek(0)
    return (len(_UTF8_BOM) if marked else 0) if _head_of(stream)[1] else None


def has_one_value_per_line(head: bytes, *, is_all: bool) -> bool:
    """Return whether the first non-blank line parses alone, or looks like the start of a long row.

    Args:
        head: The first bytes of the stream.
        is_all: Whether they are the complete stream.
    """
    for line in head.split(b"\n"):
        text = line.strip()
        if not text:
            continue
        line_ends = is_all or len(line) < len(head)
        if not line_ends:
            return text.startswith(b"{")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            # A broken row, for `parse_line` to report; unless it is where an indented value breaks its first line.
            return len(text) > 1 and text.startswith(b"{") and not text.endswith((b"{", b"[", b",", b":"))
        is_only_line = is_all and head.strip() == text
        return not (is_only_line and isinstance(value, list) and _is_array_of_rows(value))
    return True


def _is_array_of_rows(value: list[Any]) -> bool:
    """Return False if an array on one line is a single row: a bare list of messages."""
    return not value or not all(isinstance(item, dict) and ({"role", "from"} & item.keys()) for item in value)


def _read_lines(head: bytes, stream: IO[bytes], source: str) -> Iterator[tuple[Place, bytes]]:
    # First the lines of the head, then the one that it cuts, then those of the stream.
    number = 0
    rest = b""
    for line in head.splitlines(keepends=True) if b"\r" not in head else _split_lines(head):
        if not line.endswith(b"\n"):
            rest = line
            break
        number += 1
        if not line.isspace():
            yield Place(source, number), line
    if rest:
        line = rest + stream.readline()
        number += 1
        if not line.isspace():
            yield Place(source, number), line
    for number, line in enumerate(stream, start=number + 1):  # noqa: B020
        if not line.isspace():
            yield Place(source, number), line


def _split_lines(head: bytes) -> list[bytes]:
    """Split at line feeds only, as iterating over a file does. A carriage return inside a line stays."""
    lines = head.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def parse_line(line: bytes, place: Place) -> Any:
    """Parse the JSON of one line.

    Raises:
        DataError: If it is not UTF-8, not JSON, nested too deeply, or has a duplicate key, NaN or half a surrogate
            pair.

    Example:
        >>> parse_line(b'{"text": "a"}', Place("rows.jsonl", 1))
        {'text': 'a'}
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(place, error)) from None
    try:
        return parse_text(text)
    except json.JSONDecodeError as error:
        raise DataError(_not_json(place, _reason(error, line), f"column {error.colno}")) from None
    except RefusedJson as error:
        raise DataError(f"{place}: {error}") from None
    except RecursionError:
        raise DataError(_too_deep(place)) from None
    except ValueError:  # an integer of more digits than Python converts
        raise DataError(_huge_number(place)) from None


def _read_sequence(window: _Window, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield values that follow each other, such as indented objects."""
    number = 0
    while window.next_character():
        number += 1
        place = Place(source, number, line=window.line())
        yield place, window.value(place)


def _read_array(window: _Window, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield the elements of the array that starts here."""

    def error(reason: str) -> DataError:
        return DataError(_not_json(place, reason, f"line {window.line()}"))

    number, place = 0, Place(source, 1, line=window.line())
    window.position += 1
    while (character := window.next_character()) != "]":
        if not character:
            raise error("the array does not end")
        number += 1
        place = Place(source, number, line=window.line())
        yield place, window.value(place)
        separator = window.next_character()
        if separator == ",":
            window.position += 1
            if window.next_character() == "]":
                raise error("a comma before ]")
        elif separator != "]":
            raise error("expected , or ]")
    window.position += 1
    if window.next_character():
        raise error("text after the array")


class _Window:
    """The part of a text stream that is in memory, and the reader's position in it."""

    def __init__(self, head: bytes, stream: IO[bytes], source: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._stream = stream
        self._source = source
        self._line = 1  # number of the line of `text` at `_counted`
        self._counted = 0
        self._ended = False
        self.text = ""
        self.position = 0
        self._take(head)

    def _take(self, data: bytes) -> None:
        try:
            self.text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            before = self.text.count("\n", self._counted) + error.object.count(b"\n", 0, error.start)
            line = self._line + before
            raise DataError(_not_utf8(Place(self._source, line), error)) from None
        self._ended = not data

    def _read_more(self) -> bool:
        if self._ended:
            return False
        self.line()
        self.text = self.text[self.position :]
        self.position = self._counted = 0
        self._take(self._stream.read(max(_BUFFER, len(self.text))))
        return True

    def line(self) -> int:
        """Return the line of the reader's position."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def next_character(self) -> str:
        """Skip white space and return the character there, without consuming it; an empty string at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in " \t\r\n":
                self.position += 1
            if self.position < len(self.text) or not self._read_more():
                return self.text[self.position : self.position + 1]

    def value(self, place: Place) -> Any:
        """Parse the value that starts here, reading more of the stream until the value is complete.

        Args:
            place: Place of the row, for errors.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if end >= len(self.text) and self._read_more():
                    continue  # a number at the end of the text may have more digits
                check(value, self.text, self.position, end)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _NEAR_END
                if is_cut and self._read_more():
                    continue
                line = self.line() + self.text.count("\n", self.position, error.pos)
                raise DataError(_not_json(place, error.msg, f"line {line}")) from None
            except RefusedJson as error:
                raise DataError(f"{place}: {error}") from None
            except RecursionError:
                raise DataError(_too_deep(place)) from None
            except ValueError:
                raise DataError(_huge_number(place)) from None
            self.position = end
            return value


def _not_utf8(place: Place, error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return f"{place}: byte 0x{byte:02x} (number {error.start + 1} there) {not_utf8(error.object)}"


def _not_json(place: Place, reason: str, where: str) -> str:
    reason = reason[:1].lower() + reason[1:]
    return f"{place}: not valid JSON ({reason}, {where}). Expected one JSON value. Fix that row."


def _reason(error: json.JSONDecodeError, line: bytes) -> str:
    """Return why a line is not JSON. A NUL or CR explains more than the parser's own message."""
    if b"\0" in line:
        return f"a NUL, byte {line.index(0) + 1}: is the file UTF-16, binary or damaged?"
    if error.msg == "Extra data" and b"\r" in line.rstrip():
        return "several rows on one line: lines end with CR alone"
    return error.msg


def _huge_number(place: Place) -> str:
    return f"{place}: holds a number of more than 4,300 digits. Expected fewer. Write it as text or fix the row."


def _too_deep(place: Place) -> str:
    return f"{place}: nested too deeply. Expected at most {MAX_DEPTH} levels. Fix the row."
