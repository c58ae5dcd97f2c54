r"""Check single texts: cells that say nothing, unfilled placeholders, characters read in a wrong encoding.

`conversation_checks` calls it for every message, and `repair` undoes wrong encodings.

Why: mojibake is found by the round trip that also undoes it. Characters that are valid UTF-8 once they are bytes again
are hardly ever written on purpose; a guess by letters alone would change correct text.
"""

from __future__ import annotations

import re

_NOTHING = frozenset(
    {"n/a", "n/a.", "#n/a", "<na>", "n.a.", "n.a", "-", "--", "—", "...", "…", "none", "(none)", "nan", "null",
     "<null>", "[null]", "nil", "undefined", "tbd", "tba", "todo", "[]", "{}", '""', "''", "\\n",
     "#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!"}
)  # fmt: skip
"""Cells without a value, in small letters: words for nothing, what databases export, and Excel's errors."""
_CODE = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)|`[^`\n]*`|\$[^$\n]*\$", re.DOTALL)
_CODE_LINES = re.compile(r"^(?: {4}|\t)[^\n]*$", re.MULTILINE)
_SHOWS_CODE = re.compile(
    r"[\\<=]|;\s*$|->|\$[{(A-Za-z]|\{\s*[\"'\n]|[\"']\s*:|\bf[\"']|\(\)|\{%|\{\w+,|\{\{[#/>.-]|\bsets? \{|\[(?:CLS|SEP|MASK|PAD)\]"
    r"|\b(?:def|import|export|return|print|format|const|curl|regex|placeholders?|variables?|fields?)\b"
    r"|\b(?:[Jj]inja2?|Handlebars|Mustache|Ansible|Helm|Vue|Angular|Liquid|Python)\b",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"(?<![{\]])\{\{\s*[A-Za-z_][\w.]*(?: \w+)?\s*\}\}(?!\})"
    r"|(?<![\w{}/^#@%$\]\\])\{[A-Za-z][a-z]+(?:[_ ][A-Za-z][a-z]*)*\}(?![\w{}/])"
    r"|(?<![\w\]])\[(?:(?:[Yy]our|YOUR|[Ii]nsert|INSERT) [A-Za-z ]{2,30}"
    r"|(?:FIRST |LAST |FULL |COMPANY |USER |CUSTOMER )?"
    r"(?:NAME|COMPANY|DATE|ADDRESS|CITY|EMAIL|PHONE|PHONE NUMBER|POSITION|PRODUCT|TOPIC|TEXT|INPUT|OUTPUT|ANSWER)"
    r"|(?:First |Last |Full |Company )?(?:Name|Company|Date|Address|City|Email|Phone Number))\](?!\(|\[|:| \()"
)
_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_SINGLE_BYTE = ("cp1252", "cp1258", "cp1251")
_MOST_ROUNDS = 4
_SHORTEST_CYRILLIC = 4
_SHORTEST_CHINESE = 6
"""Characters of a run that may be Chinese read as Windows-1252: a shorter one may be accents."""


def _byte_table(encoding: str) -> dict[int, int]:
    """Return character to byte; bytes that the encoding leaves undefined stand for themselves, as in browsers."""
    table = {byte: byte for byte in range(256)}
    for byte in range(256):
        character = bytes([byte]).decode(encoding, "ignore")
        if character:
            table.pop(byte, None) if byte >= 0x80 and ord(character) != byte else None
            table[ord(character)] = byte
    return table


_BYTES = {encoding: _byte_table(encoding) for encoding in _SINGLE_BYTE} | {"latin-1": {n: n for n in range(256)}}


def says_nothing(text: str) -> bool:
    r"""Return whether a text only says that there is none: ``N/A``, ``-``, ``None``, on one line or on each.

    Example:
        >>> says_nothing("None\nNone"), says_nothing("None of them.")
        (True, False)
    """
    if len(text) > 200 and not text.startswith(("N", "n", "-", "u", "#")):
        return False
    lines = text.strip().casefold().splitlines()
    return bool(lines) and all(line.strip() in _NOTHING for line in lines if line.strip())


def placeholder_in(text: str) -> str:
    """Return the first placeholder that was never filled in; an empty string in code, JSON and formulas.

    Example:
        >>> placeholder_in("Dear {{name}}, hello"), placeholder_in('print(f"{name}")')
        ('{{name}}', '')
    """
    if "{" not in text and "[" not in text:
        return ""
    prose = _CODE_LINES.sub(" ", _CODE.sub(" ", text))
    match = _PLACEHOLDER.search(prose)
    return match[0] if match is not None and not _SHOWS_CODE.search(prose) else ""


def without_mojibake(text: str) -> str:
    """Return a text with the runs that were read in a wrong encoding undone; the text itself if there is none.

    UTF-8 read as Windows-1252, Latin-1, Windows-1258 or Windows-1251 is undone, and GB 2312 read as Windows-1252. What
    was read wrongly several times is undone as often.

    Example:
        >>> without_mojibake("KÃ¶ln"), without_mojibake("café, naïve")
        ('Köln', 'café, naïve')
    """
    for _ in range(_MOST_ROUNDS):
        if text.isascii():
            return text
        before, text = text, _RUN.sub(lambda run: _undone(run[0]), text)
        if text == before:
            break
    return text


def _undone(run: str) -> str:
    for encoding in ("cp1252", "latin-1", "cp1258", "cp1251"):
        # "Её" is a Russian word, and would be one letter.
        if encoding == "cp1251" and len(run) < _SHORTEST_CYRILLIC and not run.startswith("вЂ"):
            break
        table = _BYTES[encoding]
        if all(ord(character) in table for character in run):
            raw = bytes(table[ord(character)] for character in run)
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
    return _chinese(run)


def _chinese(run: str) -> str:
    table = _BYTES["cp1252"]
    if len(run) < _SHORTEST_CHINESE or not all(ord(character) in table for character in run):
        return run
    try:
        text = bytes(table[ord(character)] for character in run).decode("gb2312")
    except UnicodeDecodeError:
        return run
    # Common characters and punctuation only; rows of accents rarely spell them.
    return text if all("\u4e00" <= one <= "\u9fff" or one in "，。！？：；、（）《》“”" for one in text) else run
