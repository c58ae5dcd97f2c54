"""Print one row in the terminal, every token coloured, for ``instil inspect --row``.

A pair is its common prompt once, then both answers: beside each other on a wide terminal, else below each other.
"""

from __future__ import annotations

from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from instil.inspection.findings import KINDS, SEVERITY_STYLES, Finding
from instil.inspection.shown_examples import SIDES, ShownExample, ShownPair, parts_of
from instil.inspection.shown_rows import ShownRow
from instil.screen.wrapping import print_line, wrapped_tokens
from instil.views.colours import LEGEND, PREFERENCE_LEGEND, coloured_tokens
from instil.views.visible import plain

WIDE = 100
"""Columns of a terminal from which both answers of a pair stand beside each other."""
_BETWEEN = " │ "


def print_row(console: Console, row: ShownRow, *, white_space: bool = True) -> None:
    """Print one row with its findings and every token coloured."""
    print_line(console, Text(str(row.place), style="bold"))
    for finding in row.findings:
        print_line(console, _finding_line(finding))
    compares = any(example.side is not None for example in row.examples)
    print_line(console, Text(PREFERENCE_LEGEND if compares else LEGEND, style="dim"))
    if not row.examples:
        console.print(Text("this row has no example"))
    parts = list(parts_of(row.examples))
    for number, part in enumerate(parts, start=1):
        console.print()
        if isinstance(part, ShownPair):
            _print_pair(console, part, f"pair {number} of {len(parts)}: " if len(parts) > 1 else "", white_space)
            continue
        heading = f"example {number} of {len(parts)}: " if len(parts) > 1 else ""
        answer = f"{part.answer}, " if part.answer else ""
        print_line(console, Text(f"{heading}{answer}{part.counts}", style="bold"))
        shown = coloured_tokens(part.tokens, white_space=white_space, limit=part.limit)
        console.print(shown, soft_wrap=True)


def _print_pair(console: Console, pair: ShownPair, heading: str, white_space: bool) -> None:
    if pair.left_out:
        line = f"{heading}left out ({pair.left_out}): nothing of it is trained. Shown as it would be otherwise"
        print_line(console, Text(line, style="bold"))
        heading = ""
    common = pair.num_common
    print_line(console, Text(f"{heading}{pair.prompt_counts}", style="bold"))
    _print_tokens(console, _tokens(pair.chosen, 0, common, white_space=white_space))
    heads = [Text(f"{side}: {pair.counts(side)}", style="bold") for side in SIDES]
    texts = [_tokens(side, common, None, white_space=white_space) for side in (pair.chosen, pair.rejected)]
    if not console.is_terminal or console.width < WIDE:
        for head, text in zip(heads, texts, strict=True):
            console.print()
            print_line(console, head)
            _print_tokens(console, text)
        return
    console.print()
    width = (console.width - len(_BETWEEN)) // 2
    columns = [
        [*head.wrap(console, width), *wrapped_tokens(text, width)] for head, text in zip(heads, texts, strict=True)
    ]
    for left, right in zip_longest(*columns, fillvalue=Text()):
        both = Text().append_text(left).append(" " * (width - left.cell_len))
        both.append(_BETWEEN, style="dim").append_text(right).rstrip()
        console.print(both, soft_wrap=True)


def _tokens(example: ShownExample, start: int, end: int | None, *, white_space: bool) -> Text:
    """Return tokens of an example from one position to another, coloured."""
    return coloured_tokens(example.tokens[start:end], white_space=white_space, limit=example.limit, start=start)


def _print_tokens(console: Console, text: Text) -> None:
    """Print tokens: on a terminal wrapped between words, in a pipe or a file as long as they are."""
    for line in wrapped_tokens(text, console.width) if console.is_terminal else [text]:
        line.rstrip()
        console.print(line, soft_wrap=True)


def _finding_line(finding: Finding) -> Text:
    kind = KINDS[finding.kind]
    line = Text(f"{kind.severity}: {kind.title}", style=SEVERITY_STYLES[kind.severity])
    remedy = "" if kind.reasoned else f" {kind.remedy[0].upper()}{kind.remedy[1:]}."
    return line.append(f": {plain(finding.explanation)}{remedy}", style="not bold")
