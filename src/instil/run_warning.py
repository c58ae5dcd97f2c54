"""A warning: what is probably wrong with a run or its data, with the figure that shows it.

Data, template, settings and disk each return their warnings. `plan`, `inspect`, `prepare` and the run card print them,
and the run folder keeps them.

Why: a warning is no error, because each of these can be meant. It is no note either, because it rarely is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PREFIX = "warning"


@dataclass(frozen=True, slots=True)
class RunWarning:
    """What is probably wrong.

    Attributes:
        kind: A fixed name, for programs: ``few_heldout``.
        text: What was found, and what to do.
        figure: The number that shows it: a share from 0 to 1, a count, a learning rate, bytes. None without one.
    """

    kind: str
    text: str
    figure: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the warning as JSON values."""
        return asdict(self)
