"""Parts of a survey made by hand."""

from __future__ import annotations

from dataclasses import dataclass

from instil.encoding.proof import Proof
from instil.inspection.report import Subject

SUBJECT = Subject("rows.jsonl", "demo", "chatml", ("<|im_end|>",), notes=("a note about the model",))
PASSED = Proof(passed=True, findings=(), num_checked=30)


@dataclass(frozen=True)
class Token:
    """A token as views show it."""

    text: str
    message: int | None = None
    weight: float = 0.0
    id: int = 0
    field: str | None = None
