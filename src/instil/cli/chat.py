"""``instil chat``: talk to a model in the terminal.

A keyboard gets line editing and colour. With piped input each line is a turn and the output is plain text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from instil.generation.settings import GREEDY, LOADING, LoadSettings, SamplingSettings


def chat(
    model: str,
    *,
    against: str | None = None,
    system: str | None = None,
    tools: Path | None = None,
    sampling: Annotated[SamplingSettings, Parameter(name="*")] = GREEDY,
    loading: Annotated[LoadSettings, Parameter(name="*")] = LOADING,
) -> None:
    """Talk to a model. /help in the chat lists the commands.

    Args:
        model: Run folder, model folder, adapter folder, Hub id or `demo`.
        against: A second model that answers the same messages with the same seed.
        system: System message at the start.
        tools: JSON file with a list of tool definitions for the template.
        sampling: How the next token is chosen.
        loading: How the models are loaded.
    """
    from instil.generation.engine import Engine
    from instil.generation.session import Session
    from instil.generation.terminal import Terminal, read_tools_file
    from instil.screen import hide_work

    definitions = read_tools_file(tools) if tools else ()
    names = [model] if against is None else [model, against]
    sessions = [
        Session(engine=Engine.load(name, loading), settings=sampling, system=system, tools=definitions)
        for name in names
    ]
    hide_work()  # answers appear word by word, and the keyboard has the last line
    Terminal(sessions, keyboard=sys.stdin.isatty(), coloured=sys.stdout.isatty()).run()
