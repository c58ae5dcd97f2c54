"""The helper process that finds the tasks that fit a file: ``python -m instil.studio.ship.suggest``.

Why a process: reading data loads what the studio's server does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instil.evaluation.tasks import suggest_tasks
from instil.generation.prompts import select_prompts
from instil.studio.workers.answers import serve_answers


def tasks_of(question: Mapping[str, Any]) -> list[str]:
    """Return the tasks that fit the file ``path`` of a question."""
    prompts, _ = select_prompts(question["path"], turns="last", limit=200)
    return [*suggest_tasks(prompts), "behaviour"]


if __name__ == "__main__":
    serve_answers(lambda _: tasks_of)
