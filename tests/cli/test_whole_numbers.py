"""Claims about options that count: a fraction is refused, not rounded."""

from __future__ import annotations

import pytest
from tests.cli.test_main import run

from instil.cli.main import build_app
from instil.cli.whole_numbers import check_whole_numbers


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("generate demo --prompts rows.jsonl --out out.jsonl --limit 2.7", "--limit: found '2.7'"),
        ("generate demo --prompts rows.jsonl --out out.jsonl --limit=2.7", "--limit: found '2.7'"),
        ("evaluate demo --data rows.jsonl --max-new-tokens .5", "--max-new-tokens: found '.5'"),
        ("prepare rows.jsonl --workers 1.5", "--workers: found '1.5'"),
        ("serve demo --port 80.1", "--port: found '80.1'"),
        ("chat demo --top-k -1.5", "--top-k: found '-1.5'"),
        ("inspect rows.jsonl --html-rows 3.3", "--html-rows: found '3.3'"),
        ("runs list --last 1.5", "--last: found '1.5'"),
    ],
)
def test_a_fraction_is_refused_where_whole_numbers_count(capsys, words, option):
    code, _, err = run(capsys, *words.split())
    assert (code, err.count("\n")) == (2, 1)
    assert f"{option}. Expected a whole number." in err


@pytest.mark.parametrize(
    "words",
    [
        "chat demo --temperature 0.7",
        "generate demo --limit 3.0",
        "export demo out --dtype 1.5x",
        "chat --system 1.5",
        "1.5",
    ],
)
def test_all_other_options_take_what_they_take(words):
    check_whole_numbers(build_app(), words.split())
