"""The key of the models that the studio serves to itself: other users of the machine reach its loopback too."""

from __future__ import annotations

from pathlib import Path

from instil.studio.kept_secret import kept_secret


def engine_key(root: Path) -> str:
    """Return the key of a workspace's models: a studio that starts later finds them running."""
    return kept_secret(root, "engine-key")
