"""Bars: total, rate and time left; nothing in a pipe."""

from __future__ import annotations

import io
import sys
import time

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.screen.terminals import Terminal

from instil.screen import Bar, Figure, Screen, bars, hide_work, show_work, work
from instil.screen.bars import line_of

TRAINING = [
    Figure("loss 3.6064", 2), Figure("█▅▂▁", 5), Figure("held-out 8.70 @0", 3), Figure("lr 1.00e-03", 4),
    Figure("1,204 tokens/s", 6), Figure("1.2 GB", 7),
]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "gone"), [(200, []), (120, []), (80, ["1.2 GB", "1,204 tokens/s"]), (40, ["█▅▂▁", "held-out"])]
)
def test_a_narrow_line_leaves_out_the_least_important(width, gone):
    bar = Bar("train", total=30, unit="steps")
    bar.to(12)
    bar.show(TRAINING)
    line = line_of(bar, width).plain
    assert cell_len(line) <= width
    assert "12/30" in line
    assert [text for text in gone if text in line] == []
    assert "━" in line
    assert "─" in line


def test_a_line_of_any_width_is_one_line():
    for what in ("读" * 50, "reading"):
        for width in range(1, 60):
            bar = Bar(what, total=3, unit="rows")
            bar.text("客户服务.jsonl")
            assert cell_len(line_of(bar, width).plain) <= width


def test_rate_and_time_left_follow_what_was_done_here(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = Bar("reading", total=4000, unit="rows")
    bar.start_at(1000)
    assert bar.rate is None
    assert bar.seconds_left is None
    now[0] = 110.0
    bar.advance(500)
    assert (bar.rate, bar.seconds_left) == (50, 50)
    assert [part.text for part in bar.parts()] == ["1,500 of 4,000 rows", "50 rows/s", "50s left"]
    sizes = Bar("reading", total=3 * 2**30, unit="bytes")
    sizes.to(2**30)
    now[0] = 112.0
    assert [part.text for part in sizes.parts()] == ["1.0 GB of 3.0 GB", "512 MB/s", "4s left"]


def test_an_unknown_total_shows_what_is_done_and_the_time(monkeypatch: pytest.MonkeyPatch):
    bar = Bar("loading", total=None, unit="")
    assert line_of(bar, 80).plain.endswith("loading  0s")


def _terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Terminal())
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)


def test_work_is_drawn_only_while_it_is_shown_and_is_removed_at_the_end(monkeypatch: pytest.MonkeyPatch):
    _terminal(monkeypatch)
    error = sys.stderr
    with work("reading", total=3, unit="rows") as bar:
        bar.advance()
    assert error.getvalue() == ""
    with show_work("instil train: starting"):
        assert "instil train: starting" in error.getvalue()
        with work("reading", total=3, unit="rows"), work("hashing"):
            pass
        assert "reading" in error.getvalue()
        assert "hashing" in error.getvalue()
    assert sys.stderr is error
    assert error.getvalue().rstrip("\r").endswith("\x1b[2K\x1b[?25h")
    before = error.getvalue()
    with work("after"):
        pass
    assert error.getvalue() == before


def test_a_quiet_verb_hides_all_work(monkeypatch: pytest.MonkeyPatch):
    _terminal(monkeypatch)
    error = sys.stderr
    with show_work():
        hide_work()
        with work("reading", total=3):
            pass
    assert error.getvalue() == ""


def test_a_dumb_terminal_and_a_pipe_get_no_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with show_work("starting"), work("reading", total=3):
        pass
    with Screen(stderr=True).bar("reading", total=3) as bar:
        bar.advance()
    assert capsys.readouterr() == ("", "")
    _terminal(monkeypatch, TERM="dumb")
    with show_work("starting"), work("reading", total=3):
        pass
    assert sys.stderr.getvalue() == sys.stdout.getvalue() == ""


def test_bars_of_a_verb_whose_output_is_piped_do_not_touch_the_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with show_work("starting"), work("reading", total=3):
        print("a row")
    assert capsys.readouterr().out == "a row\n"
    assert "a row" not in sys.stderr.getvalue()


def test_an_error_within_work_removes_its_bar(monkeypatch: pytest.MonkeyPatch):
    _terminal(monkeypatch)
    with pytest.raises(ValueError, match="no"), show_work(), work("reading", total=3):
        raise ValueError("no")
    assert isinstance(sys.stderr, Terminal)
    assert sys.stderr.getvalue().count("\x1b[?25h") == sys.stderr.getvalue().count("\x1b[?25l") == 1


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_echo_of_ctrl_c_fits_behind_a_bar(width):
    """A line that ^C wraps would stay on the screen when the bar is removed."""
    drawing = bars._Drawing()
    bar = Bar("training with a long name", total=400, unit="steps")
    bar.show([Figure("loss 1.2345"), Figure("held-out 1.2345 @380"), Figure("1,204 tokens/s"), Figure("3m10s left", 2)])
    drawing.bars.append(bar)
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    (line,) = console.render_lines(drawing, pad=False)
    assert width - 20 < sum(segment.cell_length for segment in line) <= width - len("^C") - 1
