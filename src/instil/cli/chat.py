"""``instil chat``: talk to a model in the terminal.

A keyboard gets line editing and colour. With piped input each line is a turn and the output is plain text.

Why: at a keyboard the prompt is there before the model, which a thread loads while the first line is typed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from instil.generation.loading_aside import LoadingAside, leave_at_once
from instil.generation.settings import GREEDY, LOADING, LoadSettings, SamplingSettings

if TYPE_CHECKING:
    from instil.generation.session import Session
    from instil.generation.typed_lines import TypedLines


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
    from instil.generation.tools_file import read_tools_file
    from instil.generation.typed_lines import LEAVE, OPENING, TypedLines
    from instil.screen import hide_work

    definitions = read_tools_file(tools) if tools else ()
    names = [model] if against is None else [model, against]
    lines = TypedLines(keyboard=sys.stdin.isatty(), coloured=sys.stdout.isatty())
    load = partial(_load, names, loading, settings=sampling, system=system, tools=definitions)
    if not lines.keyboard or sys.stdin is not sys.__stdin__:
        sessions = load()
        hide_work()  # answers appear word by word, and the keyboard has the last line
        _talk(sessions, lines)
        return
    for name in names:
        _check_files(name, loading)
    hide_work()
    aside = LoadingAside(load)
    lines.interrupted = lambda: aside.failed
    lines.note(OPENING)
    try:
        first = lines.next_line()
        if first is None or first.strip() in LEAVE:
            leave_at_once(0) if aside.running else sys.exit(0)
        sessions = aside.result()
    except KeyboardInterrupt:
        if aside.failed:
            print()  # the error gets a line of its own, below what was typed
            aside.result()
        if aside.running:
            leave_at_once(130)
        raise
    _talk(sessions, lines, first)


def _load(
    names: Sequence[str],
    loading: LoadSettings,
    *,
    settings: SamplingSettings,
    system: str | None,
    tools: tuple[Mapping[str, Any], ...],
) -> list[Session]:
    """Load the models, a session for each."""
    from instil.generation.engine import Engine
    from instil.generation.session import Session

    return [Session(engine=Engine.load(name, loading), settings=settings, system=system, tools=tools) for name in names]


def _talk(sessions: Sequence[Session], lines: TypedLines, first: str | None = None) -> None:
    from instil.generation.terminal import Terminal

    Terminal(sessions, lines).run(first)


def _check_files(name: str, loading: LoadSettings) -> None:
    """Check that a model's files are there; one on the Hub is downloaded.

    Why: what is wrong with a name or a folder is reported before the person types.
    """
    from instil.model.folder.file_checks import check_tokenizer, check_weights
    from instil.model.folder.location import locate

    location = locate(name, loading.revision, trust_remote_code=loading.trust_remote_code)
    check_tokenizer(location.tokenizer_folder)
    check_weights(location.folder)
