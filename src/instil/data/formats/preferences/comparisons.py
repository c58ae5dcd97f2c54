"""Which format reads a row for an objective that compares answers, and the error for a row that holds none to compare.

`registry` calls it in place of its own table: a row of supervised fine-tuning fits a format there, but has one answer
and nothing that says whether it is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instil.conversation import Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.preferences.kto import KTO
from instil.data.formats.preferences.preference import PREFERENCE
from instil.data.formats.preferences.scored import SCORED
from instil.data.formats.row_format import ReadOptions, RowFormat
from instil.data.side_columns import is_empty
from instil.errors import nearest

COMPARING: tuple[RowFormat, ...] = (PREFERENCE, SCORED, KTO)
"""The formats that hold answers to compare, in the order in which they are tried."""
_NEEDED = ("prompt", "chosen", "rejected", "responses", "completions", "scores", "label")
_PAIRS = "chosen and rejected (with a prompt, or as complete conversations), or responses and scores with a prompt"


def comparing_format(row: Any) -> RowFormat | None:
    """Return the format that reads a row's answers as good and bad ones, or None if there are none.

    Example:
        >>> comparing_format({"prompt": "2+2?", "chosen": "4", "rejected": "5"}).name
        'preference'
        >>> comparing_format({"question": "2+2?", "answer": "4"}) is None
        True
    """
    fitting = [one for one in COMPARING if isinstance(row, Mapping) and one.recognise(row)]
    # In joined tables the columns of the other table are empty. Where nothing else fits, an empty side is an error.
    if len(fitting) > 1 and is_empty(row.get("chosen")) and is_empty(row.get("rejected")):
        fitting = [one for one in fitting if one is not PREFERENCE]
    return fitting[0] if fitting else None


def nothing_to_compare(row: Any, place: Place, options: ReadOptions, looks_like: tuple[RowFormat, str] | None) -> str:
    """Return the error for a row without answers to compare.

    Args:
        row: The row.
        place: Where it came from.
        options: What the objective reads.
        looks_like: The format of supervised fine-tuning that fits it, if any, and the evidence.
    """
    if looks_like is not None:
        found = f"{looks_like[0].name} ({looks_like[1]}), one answer to imitate"
    elif isinstance(row, Mapping):
        found = f"columns {', '.join(map(str, row)) or 'none'}{_misspelt(row)}"
    else:
        found = kind_of(row)
    if options.reading == "judged":
        what = "judged answers: a prompt and an answer with a label of true or false"
        expected = f"{what}; or {_PAIRS}"
    else:
        expected = f"two answers to compare: {_PAIRS}"
    return f"{place}: found {found}. The objective needs {expected}. Choose other data, or set training.objective: sft."


def _misspelt(row: Mapping[str, Any]) -> str:
    missing = [name for name in _NEEDED if name not in row]
    hints = ((key, nearest(str(key), missing)) for key in row if key not in _NEEDED)
    return next((f"{hint.removesuffix('?)')} instead of {key!r}?)" for key, hint in hints if hint), "")


def other_format(name: str) -> str:
    """Return the error for a format that was set and holds no answers to compare."""
    names = ", ".join(one.name for one in COMPARING)
    return (
        f"data.format: {name} holds one answer a row. The objective compares answers: expected auto, {names}. "
        "Set data.format: auto, or training.objective: sft."
    )
