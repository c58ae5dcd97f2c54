"""Stream the rows of a data set on the Hugging Face Hub, through the `datasets` package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from instil.conversation import Place
from instil.data.sources.tables import without_nulls
from instil.errors import DataError, MissingPackageError, first_line_of
from instil.remote.urls import is_hub_dataset

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def looks_like_hub_id(name: str) -> bool:
    """Return whether a path that does not exist may be a Hub id: ``owner/name`` or ``hf://owner/name``.

    Example:
        >>> looks_like_hub_id("openai/gsm8k"), looks_like_hub_id("data/rows.jsonl")
        (True, True)
        >>> looks_like_hub_id("a/b/c")
        False
    """
    return is_hub_dataset(name) or _ID.fullmatch(name) is not None


def read_hub(hub_id: str, *, split: str, subset: str | None, revision: str | None) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a Hub data set, streamed.

    Raises:
        DataError: If the data set cannot be reached, or has no such split or subset.
        MissingPackageError: If `datasets` is not installed.
    """
    try:
        import datasets  # Why: optional, and slow to import
    except ImportError:
        raise MissingPackageError("datasets", needed_for=hub_id, extra="hub") from None
    name = hub_id.removeprefix("hf://").removeprefix("datasets/")
    try:
        rows = datasets.load_dataset(name, name=subset, split=split, revision=revision, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield Place(name, number), without_nulls(row)
    except DataError:
        raise
    except Exception as error:  # `datasets` raises a dozen unrelated types
        reason = first_line_of(error)
        raise DataError(
            f"{name}: no such file or folder, and as a Hub data set it cannot be read ({reason}). "
            "Expected a path or a reachable data set. Check the name, split, subset and connection."
        ) from None
