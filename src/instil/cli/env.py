"""``instil env``: versions, devices and memory, for an issue."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

AsJson = Annotated[bool, Parameter(name="json")]


def env(*, as_json: AsJson = False) -> None:
    """Print versions, devices and memory, and which packages are missing or broken. Nothing private: paste it in issues.

    Packages are imported in a process of their own, so that a broken one is named. This takes seconds.

    Args:
        as_json: Print every value as JSON; memory in bytes.
    """
    from instil.environment.environment import env as find_environment
    from instil.screen import Screen

    found = find_environment()
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    screen = Screen()
    for title, facts in found.groups():
        if title:
            screen.heading(title)
        screen.facts(facts)
    if found.problems:
        screen.heading("Problems")
    for problem in found.problems:
        # Problems are part of the result: it goes into an issue.
        screen.line(f"warning: {problem}", style="yellow")
