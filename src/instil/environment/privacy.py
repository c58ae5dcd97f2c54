"""Takes what is private out of a text that others will read."""

from __future__ import annotations

import getpass
import platform
import re

_PATH = re.compile(r"(?<![\w.:/…])~?/(?:[^\s:'\"(),;]*/)?([^\s:'\"(),;/]*)")
_QUOTED_PATH = re.compile(r"(['\"])~?/[^'\"]*?([^'\"/]*)\1")
"""A path in quotes, which may have spaces."""
_MOST_COMMON = {"root", "user", "admin", "localhost", "linux", "ubuntu", "debian"}
"""Names that say nothing about a person, and that are words of other texts."""


def without_private(text: str, *, names: frozenset[str] | None = None) -> str:
    """Return a text whose paths are file names, and that has no name of the user or the machine.

    Args:
        text: One line.
        names: Names to remove. Default: those of this user and this machine.

    Example:
        >>> without_private("OSError: /home/ann/venv/lib/libx.so: not found on ann-laptop", names=frozenset({"ann-laptop"}))
        'OSError: …/libx.so: not found on …'
    """
    text = _QUOTED_PATH.sub(lambda match: f"{match[1]}…/{match[2]}{match[1]}", text)
    text = _PATH.sub(lambda match: f"…/{match[1]}" if match[1] else "…", text)
    for name in _own_names() if names is None else names:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


def _own_names() -> frozenset[str]:
    host = platform.node()
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a name for its user
        user = ""
    return frozenset({host, host.partition(".")[0], user} - {""} - _MOST_COMMON)
