"""Fix rows where that is safe, and list every change, for ``instil inspect --fix``.

Rows of rendered text become messages. Fixed: misspelt keys, roles of other formats, stop tokens typed at the end of an
answer, empty answers. Left out: rows without an answer, exact duplicates, rows that still cannot be read, and with an
objective that compares answers, rows whose answers are no pair. Text, order and near-duplicates stay as they are.

Why: an empty answer in the middle of a conversation stays as context with weight 0. Without it, later answers would
reply to other messages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_weights import WEIGHT_KEYS
from instil.data.column_names import standard_name
from instil.data.formats.misspelt_keys import ROW_KEYS, meant_role, misspelt_keys
from instil.data.formats.registry import read_row
from instil.data.messages import conversation_to_dict
from instil.data.sources.rows import parse_row
from instil.encoding.weights import has_trained_text
from instil.errors import DataError, InstilError
from instil.inspection.conversation_checks import check_conversation
from instil.inspection.doctor import ReadRendered
from instil.inspection.findings import KINDS
from instil.inspection.raw_rows import ANSWER_COLUMNS, Turn, turns_of
from instil.inspection.survey import find_sources, source_work
from instil.inspection.text_checks import without_mojibake
from instil.preparation.encode_pairs import LeftOut, read_pair, units_of
from instil.preparation.encode_rows import SourceWork
from instil.preparation.split import content_hash
from instil.recipe import Reading, Recipe
from instil.views.visible import shortened

ReadRow = Callable[[Any, Place], Sequence[Conversation]]


@dataclass(frozen=True, slots=True)
class Repair:
    """One row before and after fixing.

    Attributes:
        place: Its place.
        before: The row as read; None if it could not be parsed.
        after: The row to write; None if it is left out.
        changes: The changes, for people.
    """

    place: Place
    before: Any
    after: Any
    changes: tuple[str, ...] = ()


def repair_all(
    recipe: Recipe, *, stop_tokens: Sequence[str] = (), read_rendered: ReadRendered | None = None
) -> Iterator[Repair]:
    """Fix every row of a recipe's sources (see `repair_rows`).

    Raises:
        RecipeError: If the recipe names no data.
        DataError: If there is no such data, or a file cannot be read at all.
    """
    seen: dict[int, Place] = {}
    for source in find_sources(recipe):
        work = source_work(recipe, source)

        def read(row: Any, place: Place, work: SourceWork = work) -> Sequence[Conversation]:
            return read_row(row, place, format_name=work.format, options=work.options)[1]

        yield from repair_rows(
            source.read(),
            read=read,
            reading=work.options.reading,
            stop_tokens=stop_tokens,
            seen=seen,
            read_rendered=read_rendered,
        )


def repair_rows(
    rows: Iterable[tuple[Place, Any]],
    *,
    read: ReadRow,
    reading: Reading = "sft",
    stop_tokens: Sequence[str] = (),
    seen: dict[int, Place] | None = None,
    read_rendered: ReadRendered | None = None,
) -> Iterator[Repair]:
    """Fix rows one by one.

    Args:
        rows: Places and raw rows, as from `read_raw_rows`.
        read: Reads a parsed row as conversations, or raises `DataError`.
        reading: How the objective reads rows.
        stop_tokens: Texts of the model's stop tokens. Without them, no typed stop token is removed.
        seen: Content hash and place of the rows of earlier sources; rows are added to it.

        read_rendered: Reads rendered text back into messages (see `ChatTokenizer.read_rendered`). Without it, such
            rows stay as they are.

    Yields:
        One `Repair` per row, in order, for unchanged rows too.
    """
    seen = {} if seen is None else seen
    for place, raw in rows:
        try:
            before = parse_row(raw, place)
        except DataError as error:
            yield Repair(place, None, None, (f"left out: {_reason(error, place)}",))
            continue
        row = copy.deepcopy(before)
        changes: list[str] = []
        if read_rendered is not None:
            row, changes = _as_messages(row, place, read, read_rendered)
        fix = _RowFix(row, place, read, reading, stop_tokens, changes)
        yield fix.finish(before, seen)


def _as_messages(row: Any, place: Place, read: ReadRow, read_rendered: ReadRendered) -> tuple[Any, list[str]]:
    """Return a row of rendered text as a row of messages, and the change; any other row stays as it is."""
    try:
        conversations = read(row, place)
        (conversation, how), *others = [read_rendered(one) for one in conversations]
    except InstilError:
        return row, []
    if how is None or others:
        return row, []
    return conversation_to_dict(conversation), [f"row: text rendered with {how.how} written as messages"]


def _without_mojibake(value: Any) -> Any:
    if isinstance(value, str):
        return without_mojibake(value)
    if isinstance(value, list):
        return [_without_mojibake(item) for item in value]
    return {key: _without_mojibake(item) for key, item in value.items()} if isinstance(value, dict) else value


class _RowFix:
    """One row and its changes so far."""

    def __init__(
        self,
        row: Any,
        place: Place,
        read: ReadRow,
        reading: Reading,
        stop_tokens: Sequence[str],
        changes: list[str],
    ) -> None:
        self.row = row
        self.changes = changes
        self._place, self._read, self._reading, self._stop_tokens = place, read, reading, tuple(stop_tokens)
        self._undo_mojibake()
        # The order matters: roles are found by their keys, answers by their roles, and empty answers after stripping.
        self._rename_keys()
        self._map_roles()
        with suppress(DataError):  # an empty answer may be the reason why it cannot be read
            self._strip_stop_tokens(read(self.row, place))
        self.left_out = self._fix_empty_answers()

    def finish(self, before: Any, seen: dict[int, Place]) -> Repair:
        """Return the repair; the row is left out if it still cannot be read, has another fault, or is a duplicate."""
        reason = self.left_out or self._why_left_out(seen)
        if reason:
            return Repair(self._place, before, None, (*self.changes, f"left out: {reason}"))
        return Repair(self._place, before, self.row, tuple(self.changes))

    def _why_left_out(self, seen: dict[int, Place]) -> str:
        """Return the reason to leave the row out, or an empty string."""
        try:
            # Earlier fixes can make more answers readable, so stop tokens are stripped until none is left.
            while self._strip_stop_tokens(self._read(self.row, self._place)):
                pass
            conversations = self._read(self.row, self._place)
        except DataError as error:
            return _reason(error, self._place)
        if all(not _answers(conversation) for conversation in conversations):
            return "no assistant turn"
        if not any(_can_be_trained(conversation) for conversation in conversations):
            return "none of its answers can be trained: there is no prompt, or the weight is 0"
        if reason := _no_pair(conversations, self._reading):
            return shortened(reason.removeprefix(f"{self._place}: "), 200)
        # A fault that fixing should have removed is still there.
        for conversation in conversations:
            for kind, seen_there in check_conversation(conversation, stop_tokens=self._stop_tokens):
                if KINDS[kind].repaired:
                    return seen_there
        # Only a row that is written counts as the first of its duplicates.
        earlier = seen.setdefault(content_hash(conversations), self._place)
        return "" if earlier is self._place else f"the same as {earlier}"

    def _undo_mojibake(self) -> None:
        """Undo texts that were read in a wrong encoding, anywhere in the row."""
        fixed = _without_mojibake(self.row)
        if fixed != self.row:
            self.row = fixed
            self.changes.append("row: text read in a wrong encoding undone")

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
        """Remove stop tokens typed at the end of answers, anywhere in the row, and return whether the row changed."""
        chats = [conversation for conversation in conversations if not conversation.plain]
        texts = [text for chat in chats for answer in _answers(chat) for text in _texts(answer)]
        stripped = {text: bare for text in texts if (bare := _without_stops(text, self._stop_tokens)) != text}
        num_changes = len(self.changes)
        if stripped:
            self.row = self._replaced(self.row, stripped, "row")
        # An answer may be only part of a text in the row; then nothing was replaced.
        return len(self.changes) > num_changes

    def _replaced(self, value: Any, stripped: Mapping[str, str], where: str) -> Any:
        if isinstance(value, str) and value in stripped:
            removed = value[len(stripped[value]) :].strip()
            self.changes.append(f"{where}: {removed} removed from the end of the answer")
            return stripped[value]
        if isinstance(value, list):
            column = "" if where in ("row", "column messages", "column conversations") else f"{where} "
            inside = where.startswith("message")
            return [
                self._replaced(item, stripped, where if inside else f"{column}message {number}")
                for number, item in enumerate(value, start=1)
            ]
        if isinstance(value, dict):
            if meant_role(value.get("role", value.get("from"))) not in (None, "assistant"):
                return value  # another role may have the same text
            return {
                key: self._replaced(item, stripped, f"column {key}" if where == "row" else where)
                for key, item in value.items()
            }
        return value

    def _fix_empty_answers(self) -> str:
        """Fix empty answers, and return the reason if the row must be left out."""
        turns = list(turns_of(self.row))
        empty = [turn for turn in turns if turn.is_empty_answer]
        # From the end, because removing the last exchange can make an earlier empty answer the last.
        for turn in reversed(empty):
            if _is_last(turn, self.row):
                self._drop_exchange(turn)
            else:
                for key in WEIGHT_KEYS:
                    turn.given.pop(key, None)
                turn.given["weight"] = 0
                self.changes.append(f"{turn.where}: empty answer gets weight 0: it stays as context and is not trained")
        # If only empty answers are trained, the row is left out, and its changes to them are not reported.
        if empty and not any(turn.role == "assistant" and not turn.has_weight_0 for turn in turns_of(self.row)):
            self.changes = [change for change in self.changes if "empty" not in change]
            return "all of its answers are empty"
        # A row of plain columns has no turns: its answer is a column.
        if not turns and isinstance(self.row, dict):
            names = [name for name in self.row if (standard_name(name) or name) in ANSWER_COLUMNS]
            present = [name for name in names if isinstance(self.row[name], str)]
            if present and all(not self.row[column].strip() for column in present):
                return f"column {present[0]} is empty"
        return ""

    def _drop_exchange(self, turn: Turn) -> None:
        """Remove an empty last answer, and the messages before it that have no answer then."""
        turns = _list_of(turn, self.row)
        removed = [turn.number]
        turns.pop()
        while turns and not _has_role(turns[-1], turn, "assistant") and len(turns) > 1:
            if _has_role(turns[-1], turn, "system"):
                break
            removed.append(len(turns))
            turns.pop()
        numbers = ", ".join(str(number) for number in sorted(removed))
        self.changes.append(f"{turn.where}: empty last answer removed (messages {numbers})")


def _no_pair(conversations: Sequence[Conversation], reading: Reading) -> str:
    """Return why none of a row's pairs is one; an empty string if one is, or nothing is compared."""
    if reading != "pairs":
        return ""
    read = [read_pair(*unit) for unit in units_of(conversations, reading)]
    reasons = [pair.message for pair in read if isinstance(pair, LeftOut)]
    return reasons[0] if reasons and len(reasons) == len(read) else ""


def _can_be_trained(conversation: Conversation) -> bool:
    """Return True if an answer has a weight other than 0 and, in a chat, a message before it."""
    first = 0 if conversation.plain else 1
    return any(has_trained_text(message) for message in conversation.messages[first:])


def _answers(conversation: Conversation) -> list[Message]:
    """Return the assistant turns, or every message if the text is plain."""
    return [message for message in conversation.messages if conversation.plain or message.role == "assistant"]


def _texts(message: Message) -> list[str]:
    """Return the texts of a message, one per part."""
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


def _has_role(message: Any, like: Turn, role: str) -> bool:
    return isinstance(message, dict) and Turn("", like.column, 0, message).role == role


def _list_of(turn: Turn, row: Any) -> list[Any]:
    turns: list[Any] = row if turn.column is None else row[turn.column]
    return turns


def _is_last(turn: Turn, row: Any) -> bool:
    return turn.number == len(_list_of(turn, row))


def _reason(error: DataError, place: Place) -> str:
    return shortened(str(error).removeprefix(f"{place}: "), 200)
