"""Find the turns, roles and texts of a row before it is read as a conversation.

`doctor` and `repair` look at rows as they are in the file. A misspelt key or a role of another format is what prevents
reading. Only a few shapes of rows are known here; the formats do the reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from instil.conversation import Role
from instil.conversation.message_reading import ROLE_NAMES
from instil.conversation.message_weights import WEIGHT_KEYS
from instil.data.formats.misspelt_keys import MESSAGE_KEYS, ROW_KEYS, TURN_KEYS, meant_role, misspelt_keys
from instil.data.formats.sharegpt import ROLES as SHAREGPT_ROLES

_TURN_COLUMNS = ("messages", "conversations", "conversation", "dialog", "prompt", "completion", "chosen", "rejected")
ANSWER_COLUMNS = ("output", "completion", "answer", "response")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a row, as it is in the file.

    Attributes:
        where: Its column and number, for people: ``messages: message 3``.
        column: The column of its list; None if the row is the list.
        number: Its number in that list, from 1.
        given: The turn itself. Changing it changes the row.
    """

    where: str
    column: str | None
    number: int
    given: MutableMapping[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        """The known keys of such a turn."""
        return TURN_KEYS if self.given.keys() & {"from", "value"} else MESSAGE_KEYS

    @property
    def role_key(self) -> str:
        """The key of the role."""
        return "from" if "from" in self.given else "role"

    @property
    def text_key(self) -> str:
        """The key of the text."""
        return "value" if "value" in self.given else "content"

    @property
    def role(self) -> Role | None:
        """The role as its format reads it, or None if the format does not know it."""
        given = self.given.get(self.role_key)
        if not isinstance(given, str):
            return None
        if self.role_key == "from" or self.column in ("conversations", "conversation"):
            return SHAREGPT_ROLES.get(given.strip().lower())
        return ROLE_NAMES.get(given)

    @property
    def has_weight_0(self) -> bool:
        """Whether a key of the turn, such as ``weight`` or ``train``, leaves it untrained."""
        return any(self.given.get(key) in (0, False) for key in WEIGHT_KEYS if self.given.get(key) is not None)

    @property
    def is_empty_answer(self) -> bool:
        """Whether it is a trained assistant turn without text or tool call."""
        text = self.given.get(self.text_key)
        if self.role != "assistant" or self.given.get("tool_calls") or self.given.get("function_call"):
            return False
        if self.has_weight_0:
            return False
        return text is None or text == [] or (isinstance(text, str) and not text.strip())


def turns_of(row: Any) -> Iterator[Turn]:
    """Yield every turn of a row with lists of turns. Rows of plain columns have none."""
    if isinstance(row, list):
        yield from _turns(row, None)
        return
    if not isinstance(row, Mapping):
        return
    columns = [*_TURN_COLUMNS, *misspelt_keys(row, ROW_KEYS)]
    for column in columns:
        if isinstance(row.get(column), list):
            yield from _turns(row[column], column)


def _turns(given: list[Any], column: str | None) -> Iterator[Turn]:
    for number, turn in enumerate(given, start=1):
        if isinstance(turn, dict):
            where = (
                f"message {number}" if column in (None, "messages", "conversations") else f"{column}: message {number}"
            )
            yield Turn(where, column, number, turn)


def misspelt_in(row: Any) -> list[tuple[str, str]]:
    """Return the misspelt keys of a row and its turns: where, and the likely key.

    Example:
        >>> misspelt_in({"messages": [{"role": "user", "contnet": "Hi"}]})
        [('message 1', "key 'contnet' is probably 'content'")]
    """
    found = []
    if isinstance(row, Mapping):
        found += [("row", key, meant) for key, meant in misspelt_keys(row, ROW_KEYS).items()]
    for turn in turns_of(row):
        found += [(turn.where, key, meant) for key, meant in misspelt_keys(turn.given, turn.keys).items()]
    return [(where, f"key {key!r} is probably {meant!r}") for where, key, meant in found]


def unknown_roles_in(row: Any) -> list[tuple[str, str]]:
    """Return the turns whose role their format does not know: where, and the likely role.

    Example:
        >>> unknown_roles_in({"messages": [{"role": "gpt", "content": "Hi"}]})
        [('message 1', "role 'gpt' is probably 'assistant'")]
    """
    found = []
    for turn in turns_of(row):
        given = turn.given.get(turn.role_key)
        if turn.role is None and given is not None:
            meant = meant_role(given)
            description = f"role {given!r} is probably {meant!r}" if meant else f"role {given!r} is unknown"
            found.append((turn.where, description))
    return found
