"""Claims about `make slow`: the longest tests of the last run, longest first."""

from __future__ import annotations

from tools.slow_tests import main, slowest

RESULTS = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_quick" time="0.1"/>
<testcase classname="tests.b" name="test_long" time="12.5"/>
</testsuite></testsuites>"""


def test_the_longest_tests_come_first(tmp_path, capsys):
    results = tmp_path / "tests.xml"
    results.write_text(RESULTS, encoding="utf-8")
    assert slowest(results, 1) == [(12.5, "tests.b::test_long")]
    assert main([str(results)]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "tests.b::test_long", "tests.a::test_quick",
    ]  # fmt: skip


def test_without_results_it_says_what_to_run(tmp_path, capsys):
    assert main([str(tmp_path / "none.xml")]) == 2
    assert "Run: make test" in capsys.readouterr().err
