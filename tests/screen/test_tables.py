"""Tables fit 80 and 120 columns without a cut word."""

from __future__ import annotations

import pytest
from tests.screen.terminals import a_screen, lines_of

from instil.screen import Cell, Column

COLUMNS = [Column("run"), Column("differs in"), Column("held-out", number=True), Column("date")]
ROWS = [
    ["lr-1e-3", "optimizer.lr 0.001 and the rank of the adapter, which is 16 here", "3.2512", "today 12:03"],
    ["lr-3e-4", "optimizer.lr 0.0003 and nothing else that anybody would notice", "14.0100", "today 12:41"],
]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_and_cuts_no_word(width):
    screen, stream = a_screen(width)
    screen.table(COLUMNS, ROWS)
    shown = lines_of(stream)
    assert max(map(len, shown)) <= width
    assert "…" not in "".join(shown)
    words = " ".join(shown).split()
    assert sorted(words) == sorted(" ".join([*(column.name for column in COLUMNS), *map(" ".join, ROWS)]).split())
    ends = {line.index(number) + len(number) for line in shown for number in ("3.2512", "14.0100") if number in line}
    assert len(ends) == 1


def test_rows_are_blocks_where_words_would_be_cut():
    screen, stream = a_screen(30)
    screen.table(COLUMNS, ROWS)
    shown = lines_of(stream)
    assert shown[0] == "run         lr-1e-3"
    assert max(map(len, shown)) <= 30
    assert shown[-1] == "date        today 12:41"
    assert "" in shown


def test_cells_have_lines_and_colours():
    screen, stream = a_screen(80)
    screen.table([Column("task"), Column("verdict")], [["exact\nmatch", Cell("better", "good")], ["n", "[red]"]])
    assert lines_of(stream) == ["task   verdict", "exact  better", "match", "n      [red]"]
    assert "\x1b[32mbetter" in stream.getvalue()


def test_a_table_without_rows_is_its_head():
    screen, stream = a_screen(80)
    screen.table([Column("task")], [])
    assert lines_of(stream) == ["task"]
