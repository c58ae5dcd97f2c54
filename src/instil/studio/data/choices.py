"""Models and templates of a workspace that a page offers; any other one can be typed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from instil.studio.workspace import OWN, contents

_MOST = 200


def models_in(root: Path) -> list[str]:
    """Return ``demo``, the runs of a workspace, the newest first, and its folders with a tokenizer."""
    runs = [run.path for run in contents(root).runs]
    folders = [path.parent.relative_to(root).as_posix() for path in _found(root, "tokenizer.json")]
    inside_runs = tuple(f"{run}/" for run in runs)
    others = [path for path in folders if path not in runs and not f"{path}/".startswith(inside_runs)]
    return ["demo", *runs, *sorted(others)]


def templates_in(root: Path) -> list[str]:
    """Return the template files of a workspace."""
    return sorted(path.relative_to(root).as_posix() for path in _found(root, "*.jinja"))


def _found(root: Path, name: str) -> Iterator[Path]:
    """Yield files of a name, at most two folders deep."""
    paths = (path for deep in ("", "*/", "*/*/") for path in root.glob(deep + name))
    return islice((path for path in paths if path.relative_to(root).parts[0] != OWN), _MOST)
