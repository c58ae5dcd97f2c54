"""Decide in which encoding the bytes of a file are, and say how that is known.

A byte order mark or valid UTF-8 decides. Otherwise the file is decoded in every encoding of `_CANDIDATES`, and a reading
counts only if it looks like text of a language that is written in that encoding.

Why: a wrong guess trains mojibake without an error. So where two readings are possible, none is chosen: the error shows
what each of them gives, and `data.encoding` decides. charset-normalizer names the encodings outside this table.
"""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

from instil.data.sources.scripts import likeness_of
from instil.errors import DataError

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_CANDIDATES = {
    "gb18030": "GB18030",
    "cp950": "Big5",
    "cp932": "Shift-JIS",
    "cp949": "EUC-KR",
    "euc_jp": "EUC-JP",
    "cp1252": "Windows-1252",
    "cp1258": "Windows-1258",
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "mac_roman": "Mac Roman",
}
_CHUNK = 1 << 20
_SAMPLE = 1 << 16
_SHOWN = 24
_BROKEN_SHARE = 4  # valid characters beyond ASCII for each broken byte, in UTF-8 that is damaged
_CLEAR, _RIVAL = 0.3, 0.5


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of a file become text.

    Attributes:
        codec: Name of Python's codec.
        name: Its usual name, for people.
        how: How it is known, for people; empty for plain UTF-8, which needs no word.
    """

    codec: str
    name: str
    how: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.how}" if self.how else self.name

    @property
    def is_plain(self) -> bool:
        """Whether the bytes are UTF-8; every reader removes the mark in front."""
        return self.codec in ("utf-8", "utf-8-sig")


UTF8 = Encoding("utf-8", "UTF-8")


def named_encoding(name: str) -> Encoding:
    """Return the encoding that `data.encoding` names.

    Raises:
        DataError: If Python has no text codec of that name.
    """
    try:
        "".encode(name)  # codecs of bytes, such as hex, are no encoding of text
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        raise DataError(
            f"encoding: found {name!r}. Expected one such as utf-8, cp1252, gb18030, big5 or shift_jis. Set it."
        ) from None
    # A mark at the start is no part of the text, whether or not the name says that there is one.
    codec = {"utf-8": "utf-8-sig", "gbk": "gb18030", "gb2312": "gb18030", "big5": "cp950", "euc_kr": "cp949",
             "shift_jis": "cp932", "ascii": "utf-8"}.get(codec, codec)  # fmt: skip
    return Encoding(codec, name, "set by data.encoding")


def encoding_of(chunks: Iterable[bytes], source: str) -> Encoding:
    """Return the encoding of a file.

    Args:
        chunks: All bytes of the file, in pieces.
        source: Name of the file, for errors.

    Raises:
        DataError: If it is not UTF-8 and no other encoding is certain. The message shows the possible readings.
    """
    chunks = iter(chunks)
    head = next(chunks, b"")
    for mark, codec, name in _BOMS:
        if head.startswith(mark):
            return Encoding(codec, name, "by its byte order mark")
    codec = _utf16_without_mark(head)
    if codec:
        return Encoding(codec, codec.upper(), "guessed: every second byte is zero")
    sample, valid, broken = _scan(chain((head,), chunks))
    # A single broken byte says too little. The error of its row shows what it could be.
    if broken < 2 or valid >= _BROKEN_SHARE * broken:
        return UTF8
    return _guess(sample, source)


def _utf16_without_mark(head: bytes) -> str:
    head = head[: 4096 & ~1]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) < 4 or max(even, odd) * 10 < len(head) * 3 or min(even, odd) * 10 > max(even, odd):
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _scan(chunks: Iterable[bytes]) -> tuple[bytes, int, int]:
    """Return the lines beyond ASCII (the first of them), and the numbers of valid characters and broken bytes there."""
    sample: list[bytes] = []
    size = valid = broken = 0
    rest = b""
    is_sound = True
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        if chunk.isascii() and not rest:
            continue
        if is_sound:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_sound = False
        if size < _SAMPLE or not is_sound:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                size, valid, broken = _look(line, sample, (size, valid, broken))
            if size >= _SAMPLE and not is_sound:
                rest = b""
                break
    size, valid, broken = _look(rest, sample, (size, valid, broken))
    return b"\n".join(sample), valid, broken


def _look(line: bytes, sample: list[bytes], counts: tuple[int, int, int]) -> tuple[int, int, int]:
    size, valid, broken = counts
    if line.isascii():
        return counts
    text = line.decode("utf-8", "surrogateescape")
    found = sum("\udc80" <= character <= "\udcff" for character in text)
    # Sound lines may fill the sample before the first broken one; of these only the numbers are needed.
    if size < _SAMPLE or found:
        sample.append(line)
    return size + len(line), valid + sum(not character.isascii() for character in text) - found, broken + found


def _guess(sample: bytes, source: str) -> Encoding:
    readings = possible_readings(sample)
    if readings:
        best, *others = readings
        if best.likeness >= _CLEAR and all(other.likeness <= _RIVAL * best.likeness for other in others):
            return Encoding(best.codec, best.name, "guessed")
    raise DataError(
        f"{source}: is not UTF-8, and its encoding is not certain. {shown_readings(sample)} "
        "Expected UTF-8. Set data.encoding to the one that reads right, or save the file as UTF-8."
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """What bytes are in one encoding.

    Attributes:
        codec: Name of Python's codec.
        name: Its usual name.
        text: The decoded bytes.
        likeness: How much the text looks like a language of this encoding, from 0 to 1.
    """

    codec: str
    name: str
    text: str
    likeness: float


def possible_readings(sample: bytes) -> list[Reading]:
    """Return what bytes are in every candidate encoding that decodes them to different text, the likeliest first."""
    readings: dict[str, Reading] = {}
    for codec, name in _CANDIDATES.items():
        try:
            text = composed(sample.decode(codec), codec)
        except UnicodeDecodeError:
            continue
        reading = Reading(codec, name, text, likeness_of(text, codec))
        known = readings.get(text)
        if known is None or known.likeness < reading.likeness:
            readings[text] = reading
    return sorted(readings.values(), key=lambda reading: -reading.likeness)


def shown_readings(sample: bytes) -> str:
    r"""Return one sentence with what the first characters would be in the likeliest encodings.

    Example:
        >>> shown_readings("caf\u00e9 \u201cb\u201d".encode("cp1252"))
        "As Windows-1252 it reads 'café “b”'."
    """
    readings = possible_readings(sample)
    likely = [reading for reading in readings if reading.likeness > 0] or readings
    texts = {reading.name: reading.text for reading in likely[:4]}
    if not likely or not likely[0].likeness:
        from charset_normalizer import from_bytes  # Why: needed for files in rare encodings only

        texts |= {match.encoding: str(match) for match in list(from_bytes(sample))[:1]}
    shown = [f"as {name} it reads {_first_words(text)!r}" for name, text in texts.items()]
    sentence = ", ".join(shown) or "it reads as text in no known encoding"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _first_words(text: str) -> str:
    """Return the part of a text around its first character beyond ASCII."""
    at = next((number for number, character in enumerate(text) if not character.isascii()), 0)
    start = max(0, text.rfind("\n", 0, at) + 1, at - _SHOWN // 2)
    return " ".join(text[start : start + _SHOWN].split())


def composed(text: str, codec: str) -> str:
    """Return decoded text with the accents of Windows-1258 joined to their letters, as they are typed elsewhere."""
    return unicodedata.normalize("NFC", text) if codec == "cp1258" else text


class _Pieces(io.RawIOBase):
    """A stream over pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ready = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill a buffer and return the number of bytes; 0 at the end."""
        while not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._ready = piece
        size = min(len(into), len(self._ready))
        into[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def joined_stream(head: bytes, stream: IO[bytes]) -> IO[bytes]:
    """Return a stream with the bytes that were read from it in front again."""
    return io.BufferedReader(_Pieces(chain((head,), iter(lambda: stream.read(_CHUNK), b""))), _CHUNK)


def utf8_stream(stream: IO[bytes], encoding: Encoding, source: str) -> IO[bytes]:
    """Return a stream of the same text in UTF-8; the stream itself where it is UTF-8 already."""
    if encoding.is_plain:
        return stream
    return io.BufferedReader(_Pieces(_as_utf8(stream, encoding, source)), _CHUNK)


def _as_utf8(stream: IO[bytes], encoding: Encoding, source: str) -> Iterator[bytes]:
    """Yield the bytes of a stream in UTF-8. A broken byte stays as it is, so that the reader of its row reports it.

    Raises:
        DataError: If a byte cannot be decoded at all.
    """
    decoder = codecs.getincrementaldecoder(encoding.codec)("surrogateescape")
    rest = ""
    while True:
        data = stream.read(_CHUNK)
        try:
            rest += decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source}: cannot be decoded as {encoding.name} ({error.reason}). Expected text in it throughout. "
                "Fix the file, or set data.encoding."
            ) from None
        # Whole lines only, so that an accent is never parted from its letter.
        end = rest.rfind("\n") + 1 if data else len(rest)
        if end:
            yield composed(rest[:end], encoding.codec).encode("utf-8", "surrogateescape")
            rest = rest[end:]
        if not data:
            return
