"""A secret of a workspace, made once and kept: a studio that starts later knows it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from instil.studio.workspace import OWN


def kept_secret(root: Path, name: str) -> str:
    """Return a secret of a workspace, which only its owner can read.

    Args:
        root: The workspace as `open_workspace` returns it.
        name: Name of its file in the studio's own folder.
    """
    path = root / OWN / name
    if not path.exists():
        aside = path.with_name(f"{name}-{os.getpid()}-{secrets.token_hex(4)}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_urlsafe(32), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another studio was faster; its secret counts
            os.link(aside, path)
        aside.unlink()
    return path.read_text(encoding="ascii").strip()
