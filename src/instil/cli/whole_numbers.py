"""Refuse a fraction where an option counts: cyclopts would round ``--limit 2.7`` to 3 and say nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

from cyclopts import App

from instil.errors import InstilError

_FRACTION = re.compile(r"[+-]?\d*\.\d*[1-9]\d*")


def check_whole_numbers(app: App, words: Sequence[str]) -> None:
    """Raise if an option that takes whole numbers has a fraction.

    Args:
        app: The application of all verbs.
        words: The command line.

    Raises:
        InstilError: With the option and its value.
    """
    pairs = [pair for pair in _options(words) if _FRACTION.fullmatch(pair[1])]
    if not pairs:  # the usual case costs nothing
        return
    verb = app
    for word in words:
        if word.startswith("-") or word not in verb:
            break
        verb = verb[word]
    counts = {
        name for argument in verb.assemble_argument_collection() if _counts(argument.hint) for name in argument.names
    }
    for option, value in pairs:
        if option in counts:
            raise InstilError(f"{option}: found {value!r}. Expected a whole number. Correct it.")


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options of a command line that have a value, with it."""
    joined = [tuple(word.split("=", 1)) for word in words if word.startswith("--") and "=" in word]
    apart = [pair for pair in pairwise(words) if pair[0].startswith("--") and "=" not in pair[0]]
    return [(name, value) for name, value in (*joined, *apart)]


def _counts(hint: object) -> bool:
    """Return whether an option takes whole numbers and no others."""
    kinds = {hint, *get_args(hint)}
    return int in kinds and float not in kinds and str not in kinds
