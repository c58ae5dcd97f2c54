"""The plan of a draft, made by `instil plan --json` in the warm process; a newer one for the same draft ends the older."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instil.studio.drafts.store import Draft, Drafts
from instil.studio.workers.commands import Commands, Output


@dataclass(slots=True)
class _Planning:
    digest: str
    command: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


_RUNNING: dict[tuple[Path, int], _Planning] = {}
_LOCK = threading.Lock()


def make_plan(commands: Commands, draft: Draft) -> None:
    """Plan a draft and keep the plan with it. Returns when it is made, has failed, or a newer one has begun.

    Args:
        commands: The warm process of the workspace.
        draft: The draft, without problems.
    """
    if draft.digest in (draft.planned, draft.failed):
        return
    root, key = commands.root, (commands.root, draft.number)
    with _LOCK:
        running = _RUNNING.get(key)
        if running is None or running.digest != draft.digest:
            if running is not None:
                commands.cancel(running.command)
            mine = _RUNNING[key] = _Planning(draft.digest)
            mine.command = commands.start("run", ["plan", _file_of(root, draft), "--json"])
            running = None
    if running is not None:  # a second tab asks for the same
        running.ended.wait()
        return
    try:
        _keep(commands, draft, mine)
    finally:
        mine.ended.set()


def _keep(commands: Commands, draft: Draft, mine: _Planning) -> None:
    root = commands.root
    output = commands.result(mine.command)
    with _LOCK:
        if _RUNNING.get((root, draft.number)) is not mine:
            return
        del _RUNNING[root, draft.number]
    if output.status is None:  # the studio ends
        return
    plan, failure = read_plan(output)
    if plan is not None:
        Drafts(root).change(draft.number, plan=plan, planned=draft.digest, failed="", failure="")
    else:
        Drafts(root).change(draft.number, failed=draft.digest, failure=failure)


def cancel_plan(commands: Commands, number: int) -> None:
    """End the plan that is being made for a draft, because the draft was changed."""
    with _LOCK:
        running = _RUNNING.pop((commands.root, number), None)
    if running is not None:
        commands.cancel(running.command)


def read_plan(output: Output) -> tuple[dict[str, Any] | None, str]:
    r"""Return the plan that a command printed, or None and why there is none.

    Example:
        >>> read_plan(Output(0, 'warning: x\n{"steps": 3}\n')), read_plan(Output(2, "error: rows.jsonl: empty\n"))
        (({'steps': 3}, ''), (None, 'rows.jsonl: empty'))
    """
    start = output.text.find("\n{") + 1 if not output.text.startswith("{") else 0
    if output.status == 0 and output.text[start : start + 1] == "{":
        plan, _ = json.JSONDecoder().raw_decode(output.text, start)
        return plan, ""
    lines = [line for line in output.text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return None, errors[-1] if errors else lines[-1] if lines else f"status {output.status}"


def _file_of(root: Path, draft: Draft) -> str:
    """Write the draft where the command reads it, and return that path; its name is the run's."""
    folder = Drafts(root).folder / f"plan-{draft.number}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{draft.name}.yaml"
    for other in folder.iterdir():
        if other != file:
            other.unlink()
    file.write_text(draft.text, encoding="utf-8")
    return file.relative_to(root).as_posix()
