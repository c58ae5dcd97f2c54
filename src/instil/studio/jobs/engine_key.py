"""The key of the models that the studio serves to itself: other users of the machine reach its loopback too."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from instil.studio.workspace import OWN


def engine_key(root: Path) -> str:
    """Return the key of a workspace's models, made once and kept: a studio that starts later finds them running.

    Args:
        root: The workspace as `open_workspace` returns it.
    """
    path = root / OWN / "engine-key"
    if not path.exists():
        aside = path.with_name(f"engine-key-{os.getpid()}-{secrets.token_hex(4)}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_urlsafe(32), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another studio was faster; its key counts
            os.link(aside, path)
        aside.unlink()
    return path.read_text(encoding="ascii")
