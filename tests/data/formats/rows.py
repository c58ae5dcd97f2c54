"""Shorthands for messages and rows, and the checks that every format's tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from instil.conversation import Conversation, Message, Place
from instil.data import read, write
from instil.data.formats import ReadOptions, read_row, recognise
from instil.errors import FormatError

PLACE = Place("a.jsonl", 1)


def U(text: str) -> Message:
    return Message("user", text)


def A(text: str) -> Message:
    return Message("assistant", text)


def S(text: str) -> Message:
    return Message("system", text)


def one(row: Any, format: str = "auto", **options: Any) -> Conversation:
    """Return the only conversation of a row."""
    conversations = read_row(row, PLACE, format_name=format, options=ReadOptions(**options))[1]
    assert len(conversations) == 1
    return conversations[0]


def sides(row: Any, reading: Literal["pairs", "judged"] = "pairs", **options: Any) -> list[Conversation]:
    """Return the conversations of a row, each with its side."""
    return list(read_row(row, PLACE, format_name="auto", options=ReadOptions(reading=reading, **options))[1])


def silent(*messages: Message) -> tuple[Message, ...]:
    """Return messages as they are in a prompt: with weight 0."""
    return tuple(replace(message, weight=0.0) for message in messages)


def check_reading(row: Any, messages: tuple[Message, ...], *, format: str) -> None:
    """Check that a row is recognised as its format, and that it is read to these messages."""
    found = recognise(row)
    assert found is not None
    assert found[0].name == format
    conversation = one(row)
    assert conversation.messages == messages
    assert conversation.plain == (format == "text")
    assert one(row, format) == conversation


def check_conversion(row: Any, folder: Path, *, format: str, through: str) -> None:
    """Check that a row converted to another format and back is the same conversation."""
    conversation = one(row)
    try:
        write([conversation], folder / "there.json", format=through)
    except FormatError:
        assert conversation.plain
        assert through == "sharegpt"
        return
    back = list(read(folder / "there.json"))
    assert [replace(each, place=None) for each in back] == [replace(conversation, place=None)]
    write(back, folder / "back.jsonl", format=format)
    assert replace(next(read(folder / "back.jsonl")), place=None) == replace(conversation, place=None)
