"""Keeps what transformers finds out about a model folder, so that a start that needs only this imports no torch.

Two facts are kept: the class of the tokenizer and the context length. transformers imports torch for both, which takes
longer than everything else that `instil inspect` does. A fact is used only if nothing that it was found from has
changed: the folder's path, the names in it, the bytes of the files below, the versions of the libraries and this code.

Why: a process that has imported torch for something else computes the facts, because it would gain nothing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from instil import __version__
from instil.environment.packages import version_of
from instil.files import cache_root, write_text_atomic

VERSION = 1
FILES = ("config.json", "tokenizer_config.json", "tokenizer.json")
"""Files whose bytes decide the facts; of all others the name counts."""
LIBRARIES = ("transformers", "tokenizers", "huggingface_hub")
MOST_FACTS = 1000
"""All are removed before there are more. Each is found again when it is needed."""
Fact = str | int | None
_CODE = ("model/folder", "encoding")
_FOUND: set[str] = set()
"""Names of the facts that this process has computed and kept."""


def kept_fact(folder: Path, name: str, find: Callable[[], Fact]) -> Fact:
    """Return a fact about a model folder: the one that was kept, if it still holds, else what `find` returns.

    A file that is damaged, incomplete or of other circumstances is ignored and replaced. A cache folder that cannot be
    written to is no error, because only time is lost.

    Args:
        folder: The model's or the tokenizer's folder.
        name: Name of the fact, for the file.
        find: Computes the fact. Whatever it raises is raised; nothing is kept then.
    """
    if "torch" in sys.modules and not _FOUND:
        return find()
    key = _fingerprint(folder)
    path = cache_root() / "facts" / f"{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:32]}-{name}.json"
    known = _read(path, key)
    if known is not None:
        return known[0]
    _FOUND.add(name)  # this may import torch, and the next fact is to be kept as well
    fact = find()
    if _fingerprint(folder) == key:  # the folder did not change meanwhile
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_room(path.parent)
            write_text_atomic(path, json.dumps({"key": key, "fact": fact, "check": _check(key, fact)}))
    return fact


def _read(path: Path, key: str) -> tuple[Fact] | None:
    """Return the fact of a file, or None if it has none for this key."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        fact = values["fact"]
        holds = values["key"] == key and values["check"] == _check(key, fact)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (fact,) if holds and (fact is None or isinstance(fact, str | int)) else None


def _check(key: str, fact: Fact) -> str:
    return hashlib.sha256(f"{key} {json.dumps(fact)}".encode()).hexdigest()


def _fingerprint(folder: Path) -> str:
    """Return a digest of everything that the facts of a folder depend on."""
    digest = hashlib.sha256(f"{VERSION} {__version__} {sys.version} {folder.absolute()}".encode())
    for library in LIBRARIES:
        digest.update(f"{library} {version_of(library)}\n".encode())
    package = Path(__file__).parents[2]
    for path in sorted(path for room in _CODE for path in (package / room).glob("*.py")):
        found = path.stat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    digest.update(json.dumps(sorted(path.name for path in folder.iterdir())).encode())
    for name in FILES:
        with suppress(FileNotFoundError), (folder / name).open("rb") as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _make_room(folder: Path) -> None:
    facts = list(folder.glob("*.json"))
    if len(facts) >= MOST_FACTS:
        for path in facts:
            path.unlink(missing_ok=True)
