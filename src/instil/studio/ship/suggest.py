"""Prints the tasks that fit a file, as JSON: ``python -m instil.studio.ship.suggest FILE``.

Why a process: reading data loads what the studio's server does without.
"""

from __future__ import annotations

import json
import sys

from instil.errors import InstilError
from instil.evaluation.tasks import suggest_tasks
from instil.generation.prompts import select_prompts


def main() -> None:
    """Print ``{"tasks": […]}``, or ``{"problem": "…"}`` for data that cannot be read."""
    try:
        prompts, _ = select_prompts(sys.argv[1], turns="last", limit=200)
        answer: dict[str, object] = {"tasks": [*suggest_tasks(prompts), "behaviour"]}
    except InstilError as error:
        answer = {"problem": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
