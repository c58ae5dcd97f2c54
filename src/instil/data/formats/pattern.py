"""Any columns, with a pattern for each role: ``user: "{title}[[ ({year})]]"``, ``assistant: "{summary}"``.

A group ``[[ ]]`` is left out if a column in it is empty or missing. ``{{`` and ``}}`` print single braces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold, conversation_of, text_in
from instil.errors import DataError, FormatError, RecipeError, nearest

_ROLES = ("system", "user", "assistant")
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\[\[|\]\]")


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with columns. Fix the row.")
    check_columns(options.columns)
    messages = []
    used: set[str] = set()
    for role in _ROLES:
        if role not in options.columns:
            continue
        pieces = _compiled(options.columns[role])
        text = "".join(_filled(pieces, row, place))
        used |= {name for name, _, _ in pieces if name is not None}
        if text or role == "assistant":
            messages.append(Message(role, text))  # type: ignore[arg-type]
    return (conversation_of(messages, row, sorted(used), place),)


def check_columns(columns: Mapping[str, str]) -> None:
    """Check the patterns of a recipe.

    Raises:
        RecipeError: If a role is unknown, the assistant has no pattern, or a pattern does not parse.
    """
    if not isinstance(columns, Mapping) or not all(isinstance(text, str) for pair in columns.items() for text in pair):
        raise RecipeError(
            f"columns: found {columns!r:.80}. Expected a text with {{column}} in it for each role. Correct the columns."
        )
    unknown = [role for role in columns if role not in _ROLES]
    if unknown:
        raise RecipeError(
            f"columns: unknown role {unknown[0]!r}{nearest(unknown[0], _ROLES)}. Expected {', '.join(_ROLES)}. "
            "Rename or remove it."
        )
    if "assistant" not in columns:
        raise RecipeError('columns: no pattern for assistant. Expected for example assistant: "{summary}". Add it.')
    for pattern in columns.values():
        _compiled(pattern)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> tuple[tuple[str | None, str, int], ...]:
    """Parse a pattern into pieces (column or None, literal text, number of the optional group or 0)."""
    pieces: list[tuple[str | None, str, int]] = []
    end, group, num_groups = 0, 0, 0
    for match in _PIECES.finditer(pattern):
        pieces.append((None, pattern[end : match.start()], group))
        end = match.end()
        token = match.group()
        if token in ("{{", "}}"):
            pieces.append((None, token[0], group))
        elif token == "[[" and not group:  # groups do not nest
            num_groups += 1
            group = num_groups
        elif token == "]]" and group:
            group = 0
        elif match.group(1):
            pieces.append((match.group(1).strip(), "", group))
        else:
            raise RecipeError(
                f"columns: {pattern!r} has a stray {token!r}. Expected {{column}} and [[ ]] in pairs. Fix the pattern."
            )
    pieces.append((None, pattern[end:], group))
    if group:
        raise RecipeError(f"columns: {pattern!r} has [[ without ]]. Expected them in pairs. Fix the pattern.")
    return tuple(piece for piece in pieces if piece[0] is not None or piece[1])


def _filled(pieces: Sequence[tuple[str | None, str, int]], row: Mapping[str, Any], place: Place) -> Iterator[str]:
    dropped = {group for name, _, group in pieces if group and name is not None and _is_empty(row.get(name))}
    for name, literal, group in pieces:
        if group in dropped:
            continue
        if name is None:
            yield literal
        elif name not in row:
            raise DataError(
                f"{place}: no column {name!r}{nearest(name, row)}. Expected one of: {', '.join(row)}. Fix data.columns."
            )
        else:
            yield text_in(row, name, place, empty_for_null=True) if not isinstance(row[name], float) else str(row[name])


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _write(conversation: Conversation) -> dict[str, Any]:
    raise FormatError(cannot_hold(conversation, "pattern", "turns"))


PATTERN = RowFormat("pattern", "any, by data.columns", lambda row: "", _read, _write)
