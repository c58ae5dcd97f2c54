"""The report page in a headless browser: sorted, filtered, nothing from an answer runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from tests.evaluation.browser import BROWSER, dom_of

from instil.evaluation.comparison import compare
from instil.evaluation.contamination import Contamination
from instil.evaluation.intervals import mean_interval, share_interval
from instil.evaluation.report_page import page
from instil.evaluation.report_page.plot import plot
from instil.evaluation.results import Evaluation, ModelResult, SliceFigure
from instil.generation.settings import SamplingSettings

EVIL = "</script><script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">"
OURS, THEIRS = [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]


def model(name, scores):
    return ModelResult(
        name=name,
        figures={
            "exact_match": {"exact_match": mean_interval(scores), "strict": mean_interval(scores)},
            "behaviour": {"stops": mean_interval([1, 1, 1])},
        },
        details={"classification": {"labels": ["a", "(none)"], "confusion": [[1, 2]]}},
        slices=[SliceFigure(kind="turn", name="<i>1</i>", task="exact_match", figure=mean_interval(scores))],
        heldout=None,
        answers=[],
        scores={},
        facts={"template": "f" * 64, "stop_tokens": ["<|im_end|>"]},
    )


def evaluation(against=True):
    return Evaluation(
        data="rows.jsonl",
        prompts=[],
        tasks={"exact_match": "exact_match", "behaviour": "stops"},
        settings=SamplingSettings(),
        model=model("runs/<b>tuned</b>", OURS),
        against=model("base", THEIRS) if against else None,
        comparisons={"exact_match": compare(OURS, THEIRS)} if against else {},
        contamination=None,
        length_notes=["1 of 4 prompts is left out, because it is too long"],
        versions={},
        secondary={"exact_match.strict": compare(OURS, THEIRS)} if against else {},
        not_compared={"behaviour.stops": "base has no stop token"} if against else {},
        selection="the first 3 of 4 prompts",
        total_prompts=4,
    )


def row(number, *texts):
    scores = [{"exact_match": {"exact_match": side[number - 1]}} for side in (OURS, THEIRS)]
    return {
        "place": f"rows.jsonl:{number}",
        "turn": 1,
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"q{number}"}],
        "reference": "r",
        "answers": [
            {"text": text, "finish_reason": "stop", "tokens": len(text), "seed": 0, "scores": found}
            for text, found in zip(texts, scores, strict=False)
        ],
    }


ROWS = [row(1, "bb", "x"), row(2, EVIL, "y"), row(3, "same", "same")]


def html(against=True, script=""):
    rows = ROWS if against else [{**each, "answers": each["answers"][:1]} for each in ROWS]
    values = {"selection": "the first 3 of 4 prompts", "rows": rows}
    made = page(evaluation(against), values, method=["p: exact sign test"])
    # The policy allows the page's own script alone; a test's script needs a page without it.
    made = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", made) if script else made
    return made.replace("</body>", f"<script>{script}</script></body>") if script else made


def test_the_page_says_what_was_measured_and_what_it_shows():
    made = html()
    before_script = made[: made.index('<script type="application/json"')]
    assert "<title>runs/&lt;b&gt;tuned&lt;/b&gt; on rows.jsonl against base</title>" in made
    assert "the first 3 of 4 prompts · rows.jsonl" in before_script
    assert "no difference can be shown with 3 prompts" in before_script
    assert "not compared: base has no stop token" in before_script
    assert "answers equal to the reference" in before_script
    assert "1 group with fewer than 20 prompts" in before_script
    assert "1 of 4 prompts is left out" in before_script
    assert "<i>1</i>" not in made
    assert made.count("<td>1 / 1 / 1</td>") == 2  # the main figure and the secondary one
    assert before_script.count("answers equal to the reference, character by character") == 1
    assert "Groups of prompts: exact_match" in before_script
    assert "in the training data" not in before_script
    assert 'style="' not in made
    for words in ("0%", "20%", "100%"):
        assert f">{words}</text>" in before_script
    assert "http" not in made.replace("http-equiv", "")


def test_prompts_that_were_trained_on_are_the_first_thing_that_the_page_says():
    overlap = Contamination(share_interval(1, 3), share_interval(2, 3), 9, ("rows.jsonl:1", "rows.jsonl:2"))
    made = page(replace(evaluation(), contamination=overlap), {"selection": "all", "rows": ROWS}, method=[])
    warning = "2 of 3 prompts are in the training data, 1 of them word for word (rows.jsonl:1, rows.jsonl:2)"
    assert 0 < made.index(warning) < made.index("no difference can be shown")
    assert made.index(warning) < made.index("1 of 4 prompts is left out")


def test_one_model_alone_has_no_comparison():
    made = html(against=False)
    assert "wins / losses / ties" not in made
    assert "66.7% [0.0%, 100.0%]" in made


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: 2 page checks left out")
def test_the_page_shows_changed_answers_and_runs_nothing_of_them(tmp_path):
    found = dom_of(html(), tmp_path)
    assert "2 of 3</span>" in found
    assert "evil" not in re.search(r"<title>(.*?)</title>", found)[1]
    assert found.count('class="one won"') == found.count('class="one lost"') == 1
    assert "<img" not in found
    assert "1 earlier message" in found


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: 2 page checks left out")
def test_the_page_filters_orders_and_moves_by_key(tmp_path):
    script = (
        "const set=(id,value)=>{document.getElementById(id).value=value;document.getElementById(id).dispatchEvent(new Event('input'));};"
        "const places=()=>[...document.querySelectorAll('.one h3 span:first-child')].map(t=>t.textContent);"
        "const seen={};"
        "set('filter','tie');seen.tie=places();"
        "set('filter','all');set('order','score');seen.score=places();"
        "set('search','Y');seen.search=places();"
        "set('search','');set('task','behaviour');seen.outcomes=document.querySelectorAll('.one.won').length;"
        "document.dispatchEvent(new KeyboardEvent('keydown',{key:'j',bubbles:true}));"
        "document.body.dispatchEvent(new KeyboardEvent('keydown',{key:'j',bubbles:true}));"
        "seen.focus=document.activeElement.className;"
        "document.body.append(Object.assign(document.createElement('output'),{textContent:JSON.stringify(seen)}))"
    )
    seen = json.loads(re.search(r"<output>(.*?)</output>", dom_of(html(script=script), tmp_path))[1])
    assert seen["tie"] == ["rows.jsonl:3"]
    assert seen["score"] == ["rows.jsonl:2", "rows.jsonl:1", "rows.jsonl:3"]
    assert seen["search"] == ["rows.jsonl:2"]
    assert seen["outcomes"] == 0
    assert seen["focus"].startswith("one")


def test_the_plot_is_readable_in_a_narrow_window_too():
    page = plot(evaluation(), ["a-run-with-a-long-name", "demo"])
    wide, narrow = re.findall(r'viewBox="0 0 ([\d.]+) [\d.]+"', page)
    assert (float(wide), float(narrow) <= 400) == (800.0, True)
    for size, svg in zip((float(wide), float(narrow)), page.split('<div class="in-narrow">'), strict=True):
        for x, text in re.findall(r'<text(?: class="(?:soft|value)")? x="([\d.]+)"[^>]*>([^<]+)<', svg):
            assert float(x) + 6.1 * len(text) <= size, text
        for x, text in re.findall(r'<text class="name" x="([\d.]+)"[^>]*>([^<]+)<', svg):
            assert float(x) >= 7 * len(text) - 1, text
