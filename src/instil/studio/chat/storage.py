"""The chats of a workspace, a JSON file each, below its own folder: a reload, a second tab and a restart show the same."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from instil.files import write_json_atomic
from instil.studio.chat.records import Chat, ChatSettings, Exchange, Reply, Sampling
from instil.studio.problems import PageProblem
from instil.studio.workspace import OWN

_NAME = re.compile(r"[0-9a-f]{16}")
_CHANGES = threading.RLock()
"""Changes of chats happen one after the other."""


def new_chat(root: Path, models: tuple[str, ...]) -> Chat:
    """Make a chat, and keep it."""
    chat = Chat(identity=secrets.token_hex(8), models=models)
    _write(root, chat)
    return chat


def read_chat(root: Path, identity: str) -> Chat:
    """Return a chat.

    Raises:
        PageProblem: With status 404, if there is none of that name.
    """
    path = _path(root, identity)
    try:
        return _chat(identity, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise PageProblem(404, "chat.no_chat", name=identity) from None


def change_chat(root: Path, identity: str, change: Callable[[Chat], Chat]) -> Chat:
    """Change a chat: read it, and write what the function returns. No other change comes between.

    Raises:
        PageProblem: With status 404, if there is none of that name; or what the function raises.
    """
    with _CHANGES:
        before = read_chat(root, identity)
        after = change(before)
        if after != before:
            after = _write(root, after)
        return after


def list_chats(root: Path, most: int = 50) -> list[Chat]:
    """Return the latest chats, the newest first; a damaged one is left out."""
    folder = root / OWN / "chats"
    paths = sorted(folder.glob("*.json"), key=lambda path: -path.stat().st_mtime) if folder.is_dir() else []
    found = []
    for path in paths[:most]:
        try:
            found.append(read_chat(root, path.stem))
        except PageProblem:
            continue
    return found


def remove_chat(root: Path, identity: str) -> None:
    """Remove a chat."""
    with _CHANGES:
        _path(root, identity).unlink(missing_ok=True)


def _path(root: Path, identity: str) -> Path:
    if not _NAME.fullmatch(identity):
        raise PageProblem(404, "chat.no_chat", name=identity)
    return root / OWN / "chats" / f"{identity}.json"


def _write(root: Path, chat: Chat) -> Chat:
    chat = replace(chat, changed=time.time())
    path = _path(root, chat.identity)
    path.parent.mkdir(exist_ok=True)
    values = asdict(chat)
    del values["identity"]
    write_json_atomic(path, values)
    return chat


def _chat(identity: str, values: Mapping[str, Any]) -> Chat:
    settings = values["settings"]
    return Chat(
        identity=identity,
        models=tuple(values["models"]),
        settings=ChatSettings(
            system=settings["system"],
            sampling=Sampling(**settings["sampling"]),
            variables=settings["variables"],
            tools=tuple(settings["tools"]),
        ),
        exchanges=_exchanges(values["exchanges"]),
        earlier=tuple(map(_exchanges, values["earlier"])),
        changed=values["changed"],
    )


def _exchanges(values: list[Mapping[str, Any]]) -> tuple[Exchange, ...]:
    return tuple(
        Exchange(
            question=value["question"],
            results=tuple(map(tuple, value["results"])),
            replies=tuple(
                Reply(**{**reply, "calls": tuple(reply["calls"]), "token_ids": tuple(reply["token_ids"])})
                for reply in value["replies"]
            ),
            better=value["better"],
            pair=value["pair"],
        )
        for value in values
    )
