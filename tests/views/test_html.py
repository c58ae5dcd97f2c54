"""Claims about what every output of a notebook has: text escaped, a style of its own, a bounded size."""

from __future__ import annotations

from tests.views.parsed import assert_harmless

from instil.views.html import MOST_ROWS, clipped, escaped, frame, style, table, warnings

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'&\x1b[31m\u202e\ud800'


def test_text_from_data_is_no_markup():
    outputs = [
        frame(HOSTILE, facts=[HOSTILE]),
        table([HOSTILE], [[HOSTILE]]),
        warnings([HOSTILE]),
        f'<b title="{escaped(HOSTILE)}"></b>',
    ]
    for output in outputs:
        assert "alert(1)" in output
        assert_harmless(output)
        assert "\x1b" not in output
        assert "\u202e" not in output
        output.encode("utf-8")


def test_every_rule_of_the_style_is_limited_to_our_own_output():
    rules = style().split("\n")
    assert len(rules) > 30
    for rule in rules:
        selectors = rule.partition("{")[0].split(",")
        assert selectors
        assert all(selector.startswith(".instil") for selector in selectors), rule
    for of_page in (".token.full", ".block > .who"):
        assert f".instil {of_page}" in style()
    assert "url(" not in style()
    assert "@import" not in style()


def test_what_is_left_out_is_said():
    assert clipped("a" * 5000).count("a") < 2100
    assert "3,000 characters not shown" in clipped("a" * 5000)
    rows = [[str(number), "x"] for number in range(MOST_ROWS + 7)]
    long = table(["n", "value"], rows)
    assert long.count("<tr>") == MOST_ROWS + 1
    assert "7 further rows not shown" in long
    assert "not shown" not in table([], rows[:MOST_ROWS])
    assert table(["a"], []) == ""
