"""Record where the host would wait for the device, and what crosses between the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

import instil

Kind = Literal["read", "blocking copy", "size", "synchronize", "copy"]
WAITS: frozenset[Kind] = frozenset({"read", "blocking copy", "size", "synchronize"})
"""What stops the host until the device is done, as ``torch.cuda.set_sync_debug_mode`` would name it.

``read``: a value comes to the host (`item`, `tolist`, `cpu`, `bool`). ``blocking copy``: a value goes to the device from
memory of the host, without ``non_blocking``; ``torch.tensor(..., device=...)`` is one. ``size``: the size of a result
depends on values (`nonzero`, boolean indexing). ``synchronize``: an explicit wait. A ``copy`` goes to the device and
does not wait.
"""

_INSTIL = str(Path(instil.__file__).parent)
_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Crossing:
    """One wait or transfer.

    Attributes:
        kind: What happened.
        operation: The operator of torch.
        line: The innermost line of instil, as ``room/file.py:12``; empty if none is on the stack, as in the backward
            pass of torch's own functions.
        caller: The innermost line outside torch: instil's, or that of the package that instil calls.
    """

    kind: Kind
    operation: str
    line: str
    caller: str

    @property
    def waits(self) -> bool:
        """Whether the host waits."""
        return self.kind in WAITS

    def __str__(self) -> str:
        return f"{self.kind} ({self.operation}) at {self.line or 'no line of instil'}, from {self.caller}"


_crossings: list[Crossing] = []


def note(kind: Kind, operation: str) -> None:
    """Record a wait or a transfer, with the lines that caused it."""
    line = caller = ""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not line:
        name = frame.f_code.co_filename
        if name.startswith(_INSTIL):
            line = f"{Path(name).relative_to(_INSTIL)}:{frame.f_lineno}"
        if not caller and not name.startswith((_TORCH, _HERE)):
            caller = f"{'/'.join(Path(name).parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back
    _crossings.append(Crossing(kind, operation, line, caller))


@contextmanager
def recorded() -> Iterator[list[Crossing]]:
    """Collect the waits and transfers inside the context; the list is complete when it ends."""
    start, found = len(_crossings), list[Crossing]()
    try:
        yield found
    finally:
        found.extend(_crossings[start:])
