"""The report page in a headless browser: sorted, filtered, nothing from an answer runs."""

from __future__ import annotations

import json
import re

import pytest
from tests.evaluation.browser import BROWSER, dom_of

from instil.evaluation.report_page import page


def figure(value):
    return {"value": value, "low": value, "high": value, "n": 3}


def answer(text, score):
    return {
        "text": text,
        "finish_reason": "stop",
        "tokens": len(text),
        "seed": 0,
        "scores": {"exact_match": {"exact_match": score}},
    }


def model(name):
    return {
        "name": name,
        "figures": {"exact_match": {"exact_match": figure(0.5)}},
        "details": {"classification": {"labels": ["a", "(none)"], "confusion": [[1, 2]]}},
        "slices": [{"kind": "turn", "name": "1", "task": "exact_match", "figure": figure(0.5)}],
        "heldout": None,
        "facts": {"template": None},
    }


def row(number, ours, theirs):
    return {
        "place": f"rows.jsonl:{number}",
        "turn": 1,
        "prompt": [{"role": "user", "content": f"q{number}"}],
        "reference": "r",
        "answers": [answer(*ours), answer(*theirs)],
    }


EVIL = "</script><script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">"
DATA = {
    "data": "rows.jsonl",
    "num_prompts": 3,
    "tasks": {"exact_match": "exact_match"},
    "settings": {},
    "versions": {},
    "model": model("tuned"),
    "against": model("base"),
    "comparisons": {"exact_match": {"wins": 1, "losses": 1, "ties": 1, "difference": figure(0.0), "p_value": 1.0}},
    "contamination": None,
    "length_notes": ["1 of 4 prompts is left out, because it is too long"],
    "rows": [row(1, ("bb", 1.0), ("x", 0.0)), row(2, (EVIL, 0.0), ("y", 1.0)), row(3, ("same", 1.0), ("same", 1.0))],
}


def dom(tmp_path, script=""):
    return dom_of(page(DATA).replace("</body>", f"<script>{script}</script></body>"), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: 2 page checks left out")
def test_the_page_shows_changed_answers_and_runs_nothing_of_them(tmp_path):
    found = dom(tmp_path)
    assert "<title>tuned on rows.jsonl</title>" in found
    assert "2 of 3 answers" in found
    assert "evil" not in re.sub(r"<script>.*?</script>", "", found, flags=re.DOTALL).split("&lt;/script&gt;")[0]
    assert "Warning: 1 of 4 prompts is left out" in found
    assert "<svg" in found
    assert "wins / losses / ties" in found


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: 2 page checks left out")
def test_the_page_filters_and_sorts(tmp_path):
    script = (
        "document.getElementById('filter').value='all';"
        "document.getElementById('filter').dispatchEvent(new Event('input'));"
        "[...document.querySelectorAll('#rows th button')].find(b=>b.textContent==='tuned').click();"
        "document.body.append(Object.assign(document.createElement('output'),"
        "{textContent:JSON.stringify([...document.querySelectorAll('#rows tr td:first-child')].map(t=>t.textContent))}))"
    )
    found = dom(tmp_path, script)
    order = json.loads(re.search(r"<output>(.*?)</output>", found)[1])
    assert order == ["rows.jsonl:2", "rows.jsonl:1", "rows.jsonl:3"]
