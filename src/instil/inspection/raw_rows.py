"""A row before it is a conversation: where its turns are, who speaks in them, and what they say.

The doctor and the repair look at rows as they stand in the file, because what they find there (a misspelt key, a role of another
world) is exactly what keeps a row from being read. Only these few shapes are known here; reading is left to the formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from instil.conversation import Role
from instil.data.formats.misspelt_keys import MESSAGE_KEYS, ROW_KEYS, TURN_KEYS, meant_role, misspelt_keys
from instil.data.formats.sharegpt import ROLES as SHAREGPT_ROLES
from instil.data.messages import ROLE_NAMES

_TURN_COLUMNS = ("messages", "conversations", "conversation", "dialog", "prompt", "completion", "chosen", "rejected")
ANSWER_COLUMNS = ("output", "completion", "answer", "response")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a row, as it stands.

    Attributes:
        where: Its column and number, for people: ``messages: message 3``.
        column: The column that its list stands in; None where the row is the list.
        number: Its number in that list, from 1.
        given: The turn itself; changing it changes the row.
    """

    where: str
    column: str | None
    number: int
    given: MutableMapping[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that may be meant in it."""
        return TURN_KEYS if self.given.keys() & {"from", "value"} else MESSAGE_KEYS

    @property
    def role_key(self) -> str:
        """The key under which the speaker stands."""
        return "from" if "from" in self.given else "role"

    @property
    def text_key(self) -> str:
        """The key under which the text stands."""
        return "value" if "value" in self.given else "content"

    @property
    def role(self) -> Role | None:
        """The role as its format reads it, or None where it does not."""
        given = self.given.get(self.role_key)
        if not isinstance(given, str):
            return None
        if self.role_key == "from" or self.column in ("conversations", "conversation"):
            return SHAREGPT_ROLES.get(given.strip().lower())
        return ROLE_NAMES.get(given)

    @property
    def is_empty_answer(self) -> bool:
        """Whether it is an assistant turn, trained, that says nothing."""
        text = self.given.get(self.text_key)
        if self.role != "assistant" or self.given.get("tool_calls") or self.given.get("function_call"):
            return False
        if self.given.get("weight") == 0:
            return False
        return text is None or text == [] or (isinstance(text, str) and not text.strip())


def turns_of(row: Any) -> Iterator[Turn]:
    """Give every turn of a row that holds lists of turns; nothing for rows of plain columns."""
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
    """Say every misspelt key of a row and of its turns: where, and what was meant.

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
    """Say every turn whose role its format does not know, and which is probably meant.

    Example:
        >>> unknown_roles_in({"messages": [{"role": "gpt", "content": "Hi"}]})
        [('message 1', "role 'gpt' is probably 'assistant'")]
    """
    found = []
    for turn in turns_of(row):
        given = turn.given.get(turn.role_key)
        if turn.role is None and given is not None:
            meant = meant_role(given)
            said = f"role {given!r} is probably {meant!r}" if meant else f"role {given!r} is unknown"
            found.append((turn.where, said))
    return found
