from __future__ import annotations

import io

from rich.console import Console

from instil.generation.columns import Columns


def test_columns_grow_side_by_side_and_markup_in_answers_stays_text():
    screen = io.StringIO()
    with Columns(["tuned [x]", "base"], console=Console(file=screen, width=60, force_terminal=False)) as columns:
        for number, piece in ((0, "Hi"), (1, "[bold]no[/bold]"), (0, " there!")):
            columns.write(number, piece)
    out = screen.getvalue()
    assert "tuned [x]" in out
    (row,) = [line for line in out.splitlines() if "Hi there!" in line]
    assert "[bold]no[/bold]" in row
