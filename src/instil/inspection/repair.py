"""Mends rows as far as that is safe, and says every change.

Mended: misspelt keys, roles of another world, stop tokens typed at the end of an answer, empty answers, rows without an answer, exact
duplicates, rows that still cannot be read. Nothing else is touched: no text is rewritten, no order changed, no near-duplicate dropped.
Questionable on purpose: an empty answer in the middle of a conversation keeps its place as context and gets weight 0, because
removing it would change what the later answers reply to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.data.formats.misspelt_keys import ROW_KEYS, meant_role, misspelt_keys
from instil.data.formats.registry import read_row
from instil.data.sources.rows import parse_row
from instil.errors import DataError
from instil.inspection.conversation_checks import check_conversation
from instil.inspection.findings import KINDS
from instil.inspection.raw_rows import ANSWER_COLUMNS, Turn, turns_of
from instil.inspection.survey import find_sources, reading_of
from instil.inspection.visible import shortened
from instil.preparation.encode_rows import SourceWork
from instil.preparation.split import content_hash
from instil.recipe import Recipe

ReadRow = Callable[[Any, Place], Sequence[Conversation]]


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one row.

    Attributes:
        place: Where it stood.
        before: The row as it was; None where it could not be parsed.
        after: The row as it is written; None where it is left out.
        changes: What was done, for people; empty where nothing was.
    """

    place: Place
    before: Any
    after: Any
    changes: tuple[str, ...] = ()


def repair_all(recipe: Recipe, *, stop_tokens: Sequence[str] = ()) -> Iterator[Repair]:
    """Mend every row of a recipe's sources; see `repair_rows`.

    Raises:
        RecipeError: If the recipe names no data.
        DataError: If nothing is there, or a file is broken as a whole.
    """
    seen: dict[int, Place] = {}
    for found in find_sources(recipe):
        source = reading_of(recipe, found)

        def read(row: Any, place: Place, source: SourceWork = source) -> Sequence[Conversation]:
            return read_row(row, place, format_name=source.format, options=source.options)[1]

        yield from repair_rows(found.read(), read=read, stop_tokens=stop_tokens, seen=seen)


def repair_rows(
    rows: Iterable[tuple[Place, Any]],
    *,
    read: ReadRow,
    stop_tokens: Sequence[str] = (),
    seen: dict[int, Place] | None = None,
) -> Iterator[Repair]:
    """Mend rows one by one.

    Args:
        rows: Places and raw rows, as `read_raw_rows` gives them.
        read: Reads a parsed row, or raises `DataError`.
        stop_tokens: Texts of the stop tokens of the model; without them none are looked for.
        seen: Hash and place of the rows of earlier sources; grows.

    Returns:
        One `Repair` a row, in order, unchanged rows too.
    """
    seen = {} if seen is None else seen
    for place, raw in rows:
        try:
            before = parse_row(raw, place)
        except DataError as error:
            yield Repair(place, None, None, (f"left out: {_reason(error, place)}",))
            continue
        mended = _Mending(copy.deepcopy(before), place, read, stop_tokens)
        yield mended.finish(before, seen)


class _Mending:
    """One row while it is mended."""

    def __init__(self, row: Any, place: Place, read: ReadRow, stop_tokens: Sequence[str]) -> None:
        self.row = row
        self.changes: list[str] = []
        self._place, self._read, self._stop_tokens = place, read, tuple(stop_tokens)
        self._rename_keys()
        self._map_roles()
        with suppress(DataError):  # an empty answer may be what keeps it from being read
            self._strip_stop_tokens(read(self.row, place))
        self.left_out = self._mend_empty_answers()

    def finish(self, before: Any, seen: dict[int, Place]) -> Repair:
        """Check that the row can be read now, shows nothing more that is mended, and did not come before."""
        reason = self.left_out or self._why_not(seen)
        if reason:
            return Repair(self._place, before, None, (*self.changes, f"left out: {reason}"))
        return Repair(self._place, before, self.row, tuple(self.changes))

    def _why_not(self, seen: dict[int, Place]) -> str:
        """Say why the row cannot stay; an empty string where it can."""
        try:
            if self._strip_stop_tokens(self._read(self.row, self._place)):
                return self._why_not(seen)
            conversations = self._read(self.row, self._place)
        except DataError as error:
            return _reason(error, self._place)
        found = [
            (kind, said)
            for conversation in conversations
            for kind, said in check_conversation(conversation, stop_tokens=self._stop_tokens)
        ]
        if all(not _answers(conversation) for conversation in conversations):
            return "no assistant turn"
        if not any(_can_be_trained(conversation) for conversation in conversations):
            return "none of its answers can be trained: nobody asked, or the weight is 0"
        still = next((said for kind, said in found if KINDS[kind].repaired), "")
        earlier = self._place if still else seen.setdefault(content_hash(conversations), self._place)
        return still or ("" if earlier is self._place else f"the same as {earlier}")

    def _rename_keys(self) -> None:
        if isinstance(self.row, dict):
            self.row = self._renamed(self.row, misspelt_keys(self.row, ROW_KEYS), "row")
        for turn in list(turns_of(self.row)):
            wrong = misspelt_keys(turn.given, turn.keys)
            if wrong:
                renamed = self._renamed(turn.given, wrong, turn.where)
                turn.given.clear()
                turn.given.update(renamed)

    def _renamed(self, given: Any, wrong: dict[str, str], where: str) -> dict[str, Any]:
        self.changes += [f"{where}: key {key!r} renamed to {meant!r}" for key, meant in wrong.items()]
        return {wrong.get(key, key): value for key, value in given.items()}

    def _map_roles(self) -> None:
        for turn in turns_of(self.row):
            given = turn.given.get(turn.role_key)
            meant = meant_role(given) if turn.role is None else None
            if meant is not None:
                turn.given[turn.role_key] = meant
                self.changes.append(f"{turn.where}: role {given!r} changed to {meant!r}")

    def _strip_stop_tokens(self, conversations: Sequence[Conversation]) -> bool:
        """Strip typed stop tokens off the end of answers, wherever in the row these stand; tells whether any could be."""
        chats = [conversation for conversation in conversations if not conversation.plain]
        texts = [text for chat in chats for answer in _answers(chat) for text in _texts(answer)]
        stripped = {text: bare for text in texts if (bare := _without_stops(text, self._stop_tokens)) != text}
        num_changes = len(self.changes)
        if stripped:
            self.row = self._replaced(self.row, stripped, "row")
        return len(self.changes) > num_changes  # an answer may be only a part of a text in the row

    def _replaced(self, value: Any, stripped: Mapping[str, str], where: str) -> Any:
        if isinstance(value, str) and value in stripped:
            removed = value[len(stripped[value]) :].strip()
            self.changes.append(f"{where}: {removed} removed from the end of the answer")
            return stripped[value]
        if isinstance(value, list):
            column = "" if where in ("row", "column messages", "column conversations") else f"{where} "
            inside = where.startswith("message")
            return [
                self._replaced(each, stripped, where if inside else f"{column}message {number}")
                for number, each in enumerate(value, start=1)
            ]
        if isinstance(value, dict):
            if meant_role(value.get("role", value.get("from"))) not in (None, "assistant"):
                return value  # another speaker may say the same
            return {
                key: self._replaced(each, stripped, f"column {key}" if where == "row" else where)
                for key, each in value.items()
            }
        return value

    def _mend_empty_answers(self) -> str:
        """Mend empty answers; gives the reason where the row must be left out."""
        turns = list(turns_of(self.row))
        empty = [turn for turn in turns if turn.is_empty_answer]
        for turn in reversed(empty):
            if _is_last(turn, self.row):
                self._drop_exchange(turn)
            else:
                turn.given["weight"] = 0
                self.changes.append(f"{turn.where}: empty answer gets weight 0: it stays as context and is not trained")
        if empty and not any(turn.role == "assistant" and turn.given.get("weight") != 0 for turn in turns_of(self.row)):
            self.changes = [change for change in self.changes if "empty" not in change]
            return "it has no answer but empty ones"
        if not turns and isinstance(self.row, dict):
            present = [column for column in ANSWER_COLUMNS if isinstance(self.row.get(column), str)]
            if present and all(not self.row[column].strip() for column in present):
                return f"column {present[0]} is empty"
        return ""

    def _drop_exchange(self, turn: Turn) -> None:
        """Remove an empty last answer, and what nobody answers then."""
        turns = _list_of(turn, self.row)
        removed = [turn.number]
        turns.pop()
        while turns and not _speaks(turns[-1], turn, "assistant") and len(turns) > 1:
            if _speaks(turns[-1], turn, "system"):
                break
            removed.append(len(turns))
            turns.pop()
        numbers = ", ".join(str(number) for number in sorted(removed))
        self.changes.append(f"{turn.where}: empty last answer removed (messages {numbers})")


def _can_be_trained(conversation: Conversation) -> bool:
    """Tell whether a row trains anything: what a chat begins with is not asked for, and weight 0 trains nothing."""
    first = 0 if conversation.plain else 1
    return any(message.weight != 0 for message in conversation.messages[first:] if message.role == "assistant")


def _answers(conversation: Conversation) -> list[Message]:
    """Give the turns that are trained; all of them where the text is plain."""
    return [message for message in conversation.messages if conversation.plain or message.role == "assistant"]


def _texts(message: Message) -> list[str]:
    """Give the texts of a message, part by part."""
    content = message.content
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if isinstance(part.get("text"), str)]


def _without_stops(text: str, stop_tokens: Sequence[str]) -> str:
    while True:
        bare = text.rstrip()
        stop = next((stop for stop in stop_tokens if stop and bare.endswith(stop)), None)
        if stop is None:
            return text
        text = bare.removesuffix(stop)


def _speaks(given: Any, like: Turn, role: str) -> bool:
    return isinstance(given, dict) and Turn("", like.column, 0, given).role == role


def _list_of(turn: Turn, row: Any) -> list[Any]:
    turns: list[Any] = row if turn.column is None else row[turn.column]
    return turns


def _is_last(turn: Turn, row: Any) -> bool:
    return turn.number == len(_list_of(turn, row))


def _reason(error: DataError, place: Place) -> str:
    return shortened(str(error).removeprefix(f"{place}: "), 200)
