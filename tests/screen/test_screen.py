"""What a verb prints: wrapped between words on a terminal, plain in a pipe, coloured by meaning."""

from __future__ import annotations

import io
import sys

import pytest
from rich.cells import cell_len
from tests.screen.terminals import ESCAPES, Terminal, a_screen, lines_of

from instil.cli.any_terminal import print_on_any_terminal
from instil.screen import Column, Heading, Screen

LEDGER = (
    "warning          75 of 91 rows are longer than data.max_tokens and are left out; raise data.max_tokens, or choose "
    "data.too_long: keep_last_turns"
)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_are_wrapped_between_words_and_later_lines_stand_below_the_value(width):
    screen, stream = a_screen(width)
    screen.warn(LEDGER)
    screen.facts([("learning rate", LEDGER), ("rows", "7,473")])
    shown = lines_of(stream)
    assert max(map(cell_len, shown)) <= width
    assert " ".join(" ".join(shown).split()) == " ".join(f"{LEDGER} learning rate {LEDGER} rows 7,473".split())
    assert shown[1].startswith(" " * 17)
    assert shown[1][17] != " "
    assert shown[-1] == "rows          7,473"


def test_a_word_longer_than_the_width_is_folded_and_not_lost():
    screen, stream = a_screen(40)
    path = "/data/" + "x" * 100 + "/rows.jsonl"
    screen.facts([("data", f"read from {path} today")])
    shown = lines_of(stream)
    assert max(map(len, shown)) <= 40
    assert path in "".join(line.strip() for line in shown)


def test_wide_characters_count_two_columns():
    screen, stream = a_screen(40)
    screen.facts([("数据", "客户服务的对话 " * 8), ("rows", "一")])
    screen.table([Column("名字"), Column("n", number=True)], [["客户", "1"], ["ab", "12"]])
    shown = lines_of(stream)
    assert max(map(cell_len, shown)) <= 40
    assert {cell_len(line) - len(line.split()[-1]) for line in shown[-2:]} == {6, 7}
    assert cell_len(shown[-1]) == cell_len(shown[-2]) == 8


def test_text_of_data_is_never_markup_and_moves_no_cursor():
    screen, stream = a_screen(80)
    text = "[red]a[/] [/bold] \x1b[2J\x1b]0;title\x07 :smile: \u202eback"
    screen.line(text)
    screen.facts([("row", text)])
    screen.table([Column("answer")], [[text]])
    shown = lines_of(stream)
    assert all("[red]a[/] [/bold] ␛[2J␛]0;title␇ :smile:" in line for line in (shown[0], shown[1], shown[-1]))
    assert "\x1b[2J" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()


@pytest.mark.parametrize("no_color", [False, True])
def test_meaning_has_a_colour_unless_no_color_is_set(no_color):
    screen, stream = a_screen(80, no_color=no_color)
    screen.error("rows.jsonl:3: no answer.")
    screen.warn("few rows")
    screen.facts([("warning", "12 rows"), ("loss", "3.25")])
    written = stream.getvalue()
    assert lines_of(stream) == [
        "error: rows.jsonl:3: no answer.",
        "warning: few rows",
        "warning 12 rows",
        "loss    3.25",
    ]
    for code in ("\x1b[1;31merror: ", "\x1b[33mwarning: few rows", "\x1b[1m3.25"):
        assert (code in written) != no_color


def test_a_pipe_gets_the_words_on_one_line_each(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen()
    screen.heading("data")
    screen.facts([("rows in", "7,473"), ("left out", LEDGER)], width=16)
    screen.heading("steps")
    screen.warn(LEDGER)
    screen.table([Column("run"), Column("differs in")], [["r" * 90, "lr 1"], ["b", LEDGER]])
    Screen(stderr=True).error("no")
    out, error = capsys.readouterr()
    assert error == f"{LEDGER}\nerror: no\n", "a warning is not part of what is piped"
    assert out.splitlines() == [
        "data",
        "rows in          7,473",
        f"left out         {LEDGER}",
        "",
        "steps",
        f"run{' ' * 89}differs in",
        f"{'r' * 90}  lr 1",
        f"b{' ' * 91}{LEDGER}",
    ]


def test_a_piped_heading_with_only_warnings_below_it_is_left_out(capsys):
    screen = Screen()
    for line in (
        Heading("run 2 of 3"),
        Heading("Notes"),
        "note       one",
        Heading("Warnings"),
        "warning    few rows",
        Heading("Next"),
    ):
        screen.say(line)
    screen.facts([("warning", "few steps"), ("talk", "instil chat a")])
    out, error = capsys.readouterr()
    assert out.splitlines() == ["run 2 of 3", "", "Notes", "note       one", "", "Next", "talk    instil chat a"]
    assert error.splitlines() == ["warning: few rows", "warning: few steps"]


def test_a_quiet_screen_keeps_results_warnings_and_errors():
    screen, stream = a_screen(80, quiet=True)
    screen.note("reading")
    screen.done("written")
    with screen.bar("reading", total=3):
        pass
    screen.line("answer")
    screen.warn("few rows")
    assert lines_of(stream) == ["answer", "warning: few rows"]


def test_a_terminal_that_is_not_utf8_gets_signs_that_read_alike(monkeypatch: pytest.MonkeyPatch):
    class Ascii(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", Ascii(raw, encoding="ascii"))
    monkeypatch.setenv("TERM", "xterm")
    print_on_any_terminal()
    screen = Screen(stderr=True)
    screen.facts([("loss", "▇▅▁ → “good” 客")])
    with screen.bar("reading", total=4, unit="rows") as bar:
        bar.to(2)
    sys.stderr.flush()
    written = raw.getvalue().decode("ascii")
    assert '%+_ -> "good" ?' in written
    assert "reading  \x1b[0m\x1b[2m----" in written


def test_a_line_printed_while_a_bar_is_drawn_goes_above_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Screen(stderr=True).bar("reading", total=4, unit="rows"):
        Screen().line("found 3 files")
        written = ESCAPES.sub("", sys.stderr.rich_proxied_file.getvalue())
        assert "0s\rfound 3 files\nreading" in written
    assert "reading" in sys.stderr.getvalue()
