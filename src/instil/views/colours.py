"""Colour tokens in the terminal by whether they are trained.

``instil inspect``, ``instil demo`` and ``/tokens`` in the chat use it. Colour is never the only sign: a trained run is
in ⟦brackets⟧ and underlined, and a weight other than 1 follows its run as ×0.5. Neighbours differ in shade.
The colours are the Okabe–Ito blue and orange, which colour-blind people can distinguish.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from instil.views.tokens import ShownToken
from instil.views.visible import NEWLINE, visible

OPEN, CLOSE = "⟦", "⟧"
_FULL = ("bold underline #ffffff on #0072b2", "bold underline #ffffff on #00558a")
_PART = ("underline #000000 on #56b4e9", "underline #000000 on #8accf2")
_MORE = ("bold underline #000000 on #e69f00", "bold underline #000000 on #f0bb4a")
_READ = ("", "dim")
_PRINTED = ("cyan", "dim cyan")
_CONTEXT = "plain: a message, context only · cyan: printed by the template"
LEGEND = f"⟦trained⟧ (blue, underlined): the model learns to write it · {_CONTEXT}"
PREFERENCE_LEGEND = (
    "⟦trained⟧ (blue, underlined): counts in the loss, for the better answer or against the worse one · " + _CONTEXT
)


def coloured_tokens(
    explained: Iterable[ShownToken], *, white_space: bool = True, limit: int | None = None, start: int = 0
) -> Text:
    """Return the text of tokens, coloured and bracketed by whether they are trained.

    A line break in the text starts a new line and is shown as ↵. A tab is shown as →.

    Args:
        explained: The tokens, in order.
        white_space: Whether to show spaces as ·. Line breaks and control characters are always shown.
        limit: Number of tokens behind which the limit on the length is marked, on a line of its own; None for no mark.
        start: Position of the first token in its example.

    Returns:
        A rich `Text`. Without colour, or as `.plain`, the brackets still show what is trained.
    """
    shown = Text()
    open_weight = 0.0
    for index, token in enumerate(explained, start):
        if index == limit:
            shown.append(f"\n──── the limit: {limit:,} tokens ────\n", style="bold yellow")
        if token.weight != open_weight:
            _close(shown, open_weight)
            if token.weight > 0:
                shown.append(OPEN, style=_edge(token.weight))
            open_weight = token.weight
        _append(shown, token.text, style=_style(token, index % 2), white_space=white_space)
    _close(shown, open_weight)
    return shown


def _append(shown: Text, text: str, *, style: str, white_space: bool) -> None:
    for line in text.splitlines(keepends=True) if "\n" in text else [text]:
        signs = visible(line)
        shown.append(signs if white_space else signs.replace("·", " "), style=style)
        if signs.endswith(NEWLINE) and line.endswith("\n"):
            shown.append("\n")


def _close(shown: Text, weight: float) -> None:
    if weight <= 0:
        return
    mark = CLOSE if weight == 1 else f"{CLOSE}×{weight:g}"
    if shown.plain.endswith("\n"):  # the bracket stays on the line of the run that it closes
        shown.right_crop(1)
        shown.append(mark, style=_edge(weight)).append("\n")
    else:
        shown.append(mark, style=_edge(weight))


def _edge(weight: float) -> str:
    return "bold #2b8cc4" if weight == 1 else "bold #e69f00" if weight > 1 else "bold #56b4e9"


def _style(token: ShownToken, shade: int) -> str:
    if token.weight > 1:
        return _MORE[shade]
    if token.weight == 1:
        return _FULL[shade]
    if token.weight > 0:
        return _PART[shade]
    return (_PRINTED if token.message is None else _READ)[shade]
