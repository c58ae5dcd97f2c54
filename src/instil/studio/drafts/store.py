"""Drafts on the disk: one JSON file each below the workspace's own folder, so that a reload or a restart loses nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from instil.files import write_text_atomic
from instil.studio.workspace import OWN

MOST_DRAFTS = 30
"""Drafts that are kept; the ones that were not touched for longest go."""
_LOCK = threading.Lock()
_FILE = re.compile(r"(\d+)\.json")
NAME = re.compile(r"\w[\w.-]{0,99}")
"""Names of runs and files that need no quotes anywhere."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe while it is written.

    Attributes:
        number: Its number, from 1.
        name: Name of the run, and of the file.
        text: Its YAML as it is, which may be wrong.
        good: Its YAML when it could be read last; the form shows this one.
        file: The workspace's file that it was opened from or saved as; or empty.
        saved: Digest of what is in that file, as far as the draft knows.
        plan: The last plan that was made, as `instil plan --json` prints it; empty before the first.
        planned: Digest of what that plan was made for.
        failed: Digest of what could not be planned.
        failure: Why, in the words of `instil plan`.
    """

    number: int
    name: str
    text: str
    good: str
    file: str = ""
    saved: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    planned: str = ""
    failed: str = ""
    failure: str = ""

    @property
    def digest(self) -> str:
        """What a plan depends on, as a short text."""
        return digest_of(self.text)


def digest_of(text: str) -> str:
    """Return a short text that differs for every text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class Drafts:
    """The drafts of a workspace.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / OWN / "recipes"

    def numbers(self) -> list[int]:
        """Return the numbers of the drafts, the one that was touched last first."""
        found = []
        for path in self._files():
            with contextlib.suppress(OSError):
                found.append((-path.stat().st_mtime_ns, -int(path.stem)))
        return [-number for _, number in sorted(found)]

    def load(self, number: int) -> Draft | None:
        """Return a draft, or None if there is none, or its file was damaged."""
        try:
            values = json.loads((self.folder / f"{number}.json").read_text(encoding="utf-8"))
            return Draft(**values)
        except (OSError, ValueError, TypeError):
            return None

    def save(self, draft: Draft) -> Draft:
        """Write a draft."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text_atomic(self.folder / f"{draft.number}.json", json.dumps(asdict(draft), ensure_ascii=True))
        return draft

    def add(self, *, name: str, text: str, file: str = "", saved: str = "") -> Draft:
        """Make a new draft; of too many, the oldest goes."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = self.numbers()
        for old in numbers[MOST_DRAFTS - 1 :]:
            self.remove(old)
        number = max(numbers, default=0) + 1
        while True:  # another tab may take the number
            try:
                os.close(os.open(self.folder / f"{number}.json", os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                number += 1
                continue
            return self.save(Draft(number, name, text, text, file, saved))

    def remove(self, number: int) -> None:
        """Remove a draft; files that it was saved as stay."""
        (self.folder / f"{number}.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder / f"plan-{number}", ignore_errors=True)

    def change(self, number: int, **values: Any) -> Draft | None:
        """Change some attributes of a draft and keep the others, whatever was written meanwhile; return it."""
        with _LOCK:
            draft = self.load(number)
            return None if draft is None else self.save(replace(draft, **values))

    def _files(self) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from (path for path in self.folder.iterdir() if _FILE.fullmatch(path.name))
