"""The helper process for data: ``python -m instil.studio.workers.rows``. Its setup is the settings of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instil.studio.workers.answers import serve_answers
from instil.studio.workers.looking import Look


def look(setup: dict[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return what answers questions about data as a model sees them."""
    setup.pop("state", None)  # it only tells this process from one for the model as it was before
    return Look(setup).answer


if __name__ == "__main__":
    serve_answers(look)
