"""The records that packages exchange, and how dictionaries become messages.

`data` reads rows into a `Conversation`, `template` renders it, `encoding` turns it into `Example`s. The docstrings of
the records are the contract between these packages.

Why: plain text and code are conversations too (`plain=True`), so that one pipeline, ledger and store handle all data.
"""

from instil.conversation.conversation import Conversation
from instil.conversation.example import IGNORED, Example
from instil.conversation.message import EMPTY, ROLES, Message, PartWeight, Role, ToolCall
from instil.conversation.place import ROWS, Place

__all__ = [
    "EMPTY",
    "IGNORED",
    "ROLES",
    "ROWS",
    "Conversation",
    "Example",
    "Message",
    "PartWeight",
    "Place",
    "Role",
    "ToolCall",
]
