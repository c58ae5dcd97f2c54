from __future__ import annotations

import json

from tests.evaluation.cases import talk

from instil.evaluation.evaluate import evaluate
from instil.evaluation.report import to_json, to_markdown, write_report
from instil.generation.prompts import prompts_of
from instil.generation.settings import SamplingSettings


def test_the_report_is_whole_json_markdown_and_one_page(tuned, base, prompts, tmp_path):
    evil = prompts_of(talk(("</script><script>alert(1)</script>", "<b>|x</b>")))
    found = evaluate(
        tuned, [*prompts, *evil], tasks=["exact_match", "classification"], against=base,
        settings=SamplingSettings(max_new_tokens=20),
    )  # fmt: skip
    files = write_report(found, tmp_path / "out")
    assert [file.name for file in files] == ["evaluation.json", "evaluation.md", "evaluation.html"]
    saved = json.loads(files[0].read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(to_json(found)))
    assert len(saved["rows"]) == 9
    assert saved["rows"][0]["answers"][0]["scores"]["exact_match"]["exact_match"] == 1
    markdown = to_markdown(found)
    assert "| exact_match | " in markdown
    assert "wins / losses / ties" in markdown
    assert tuned.chat.template.fingerprint not in markdown
    assert "- exact_match: answers equal to the reference" in markdown
    for name in ("verdict", "unit"):
        assert name in saved["comparisons"]["exact_match"]
    assert saved["selection"] == "all 9 prompts"
    assert saved["total_prompts"] == 9
    assert saved["meanings"]["exact_match"]["strict"].startswith("answers equal")
    html = files[2].read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    assert html.count("<script>") == 1
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
