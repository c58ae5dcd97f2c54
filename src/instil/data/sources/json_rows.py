"""Streams rows out of JSON: one value a line, one array, or values one after the other.

Memory holds one row and one buffer, never the file. Questionable on purpose: a line stays bytes until `parse_line`, so
that worker processes, not the reader, pay for parsing. Keys that occur twice, NaN, lone surrogates and bytes that are not
UTF-8 are refused with their place: every later step would otherwise change them silently.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from instil.conversation import Place
from instil.data.sources.strict_json import DECODER, MAX_DEPTH, RefusedJson, check, parse_text
from instil.errors import DataError

_BUFFER = 1 << 18
_NEAR_END = 16  # characters: a literal or escape that the buffer's end may have cut
_UTF8_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def read_json(stream: IO[bytes], source: str) -> Iterator[tuple[Place, Any]]:
    """Give each row of a JSON stream: bytes where the stream has one value a line, else the parsed value.

    Blank lines are no rows. A row's number is its line, or its position in the array, from 1.

    Raises:
        DataError: If an array or a value that goes over several lines is broken; lines are checked by `parse_line`.
    """
    head = stream.read(_BUFFER)
    for bom, name in _OTHER_BOMS:
        if head.startswith(bom):
            raise DataError(f"{source}: is in {name}; expected UTF-8; convert it: iconv -f {name} -t UTF-8")
    head = head.removeprefix(_UTF8_BOM)
    if _has_one_value_a_line(head, whole=len(head) < _BUFFER - len(_UTF8_BOM)):
        yield from _read_lines(head, stream, source)
    else:
        yield from _read_values(head, stream, source)


def _has_one_value_a_line(head: bytes, *, whole: bool) -> bool:
    """Look at the first line with something on it: it parses by itself, or looks like the start of a long row."""
    for line in head.split(b"\n"):
        text = line.strip()
        if not text:
            continue
        ends = whole or len(line) < len(head)
        if not ends:
            return text.startswith(b"{")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return len(text) > 1 and text.startswith(b"{") and not text.endswith((b"{", b"[", b",", b":"))
        alone = whole and head.strip() == text
        return not (alone and isinstance(value, list) and _is_array_of_rows(value))
    return True


def _is_array_of_rows(value: list[Any]) -> bool:
    """Tell a one-line array of rows from one row that is a bare list of messages."""
    return not value or not all(isinstance(item, dict) and ({"role", "from"} & item.keys()) for item in value)


def _read_lines(head: bytes, stream: IO[bytes], source: str) -> Iterator[tuple[Place, bytes]]:
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
    """Split at line feeds alone, as reading a file does; a carriage return inside a line stays."""
    lines = head.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def parse_line(line: bytes, place: Place) -> Any:
    """Parse the JSON of one line.

    Raises:
        DataError: If it is not UTF-8, not JSON, too deeply nested, has a key twice, NaN, or half a surrogate pair.

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


def _read_values(head: bytes, stream: IO[bytes], source: str) -> Iterator[tuple[Place, Any]]:
    """Read the elements of one array, or values one after the other."""
    window = _Window(head, stream, source)
    window.skip_space()
    in_array = window.peek() == "["
    if in_array:
        window.position += 1
    number = 0
    while True:
        window.skip_space()
        here = window.peek()
        if in_array and here == "]":
            window.position += 1
            window.skip_space()
            if window.peek():
                raise DataError(_not_json(Place(source, number), "text after the array", window.place()))
            return
        if not here:
            if in_array:
                raise DataError(_not_json(Place(source, number), "the array does not end", window.place()))
            return
        number += 1
        yield Place(source, number), window.value(number)
        window.skip_space()
        if window.peek() == "," and in_array:
            window.position += 1
            window.skip_space()
            if window.peek() == "]":
                raise DataError(_not_json(Place(source, number), "a comma before ]", window.place()))
        elif in_array and window.peek() != "]":
            raise DataError(_not_json(Place(source, number), "expected , or ]", window.place()))


class _Window:
    """The part of a text stream that is in memory, and where the reader stands in it."""

    def __init__(self, head: bytes, stream: IO[bytes], source: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._stream = stream
        self._source = source
        self._lines = 1
        self._ended = False
        self.text = ""
        self.position = 0
        self._take(head)

    def _take(self, data: bytes) -> None:
        try:
            self.text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._lines + self.text.count("\n") + error.object.count(b"\n", 0, error.start)
            raise DataError(_not_utf8(Place(self._source, line), error)) from None
        self._ended = not data

    def _read_more(self) -> bool:
        if self._ended:
            return False
        self._lines += self.text.count("\n", 0, self.position)
        self.text = self.text[self.position :]
        self.position = 0
        self._take(self._stream.read(max(_BUFFER, len(self.text))))
        return True

    def place(self) -> str:
        """Name the line at which the reader stands."""
        return f"line {self._lines + self.text.count(chr(10), 0, self.position)}"

    def skip_space(self) -> None:
        while True:
            while self.position < len(self.text) and self.text[self.position] in " \t\r\n":
                self.position += 1
            if self.position < len(self.text) or not self._read_more():
                return

    def peek(self) -> str:
        """Give the next character, or an empty string at the end."""
        return self.text[self.position : self.position + 1]

    def value(self, number: int) -> Any:
        """Parse the value that starts here, reading on until it is whole."""
        place = Place(self._source, number)
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if end >= len(self.text) and self._read_more():
                    continue  # a number may go on
                check(value, self.text, self.position, end)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _NEAR_END
                if cut and self._read_more():
                    continue
                lines = self._lines + self.text.count("\n", 0, error.pos)
                raise DataError(_not_json(place, error.msg, f"line {lines}")) from None
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
    return (
        f"{place}: byte 0x{byte:02x} (number {error.start + 1} there) is not UTF-8; expected UTF-8; "
        "convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8"
    )


def _not_json(place: Place, reason: str, where: str) -> str:
    reason = reason[:1].lower() + reason[1:]
    return f"{place}: not valid JSON ({reason}, {where}); expected one JSON value; mend that row"


def _reason(error: json.JSONDecodeError, line: bytes) -> str:
    """Say why a line is no JSON; a NUL says more than what the parser stumbled over."""
    if b"\0" in line:
        return f"a NUL, byte {line.index(0) + 1}: is the file UTF-16, binary or damaged?"
    if error.msg == "Extra data" and b"\r" in line.rstrip():
        return "several rows on one line: lines end with CR alone"
    return error.msg


def _huge_number(place: Place) -> str:
    return f"{place}: holds a number of more than 4,300 digits; expected fewer; make it a text or mend the row"


def _too_deep(place: Place) -> str:
    return f"{place}: nested too deeply; expected at most {MAX_DEPTH} levels; mend the row"
