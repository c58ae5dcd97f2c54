"""Answers in a report: by prompt and step, the first and the last open."""

from __future__ import annotations

import json
import re
from pathlib import Path

from instil.reporting.report_answers import sample_answers


def test_answers_stand_by_prompt_with_those_between_folded(tmp_path: Path):
    lines = [
        {"step": step, "prompt": f"question {n}", "answer": f"answer {n} at {step}", "finish_reason": "length"}
        for step in range(0, 400, 10)
        for n in range(2)
    ]
    path = tmp_path / "samples.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 400, "pro'
    path.write_text(text, encoding="utf-8")
    page = sample_answers(path)
    assert re.findall("<h3>(.*?)</h3>", page) == ["Prompt 1", "Prompt 2"]
    open_parts = re.sub("<details>.*?</details>", "", page, flags=re.DOTALL)
    assert re.findall(r"answer \d at \d+", open_parts) == [
        "answer 0 at 0",
        "answer 0 at 390",
        "answer 1 at 0",
        "answer 1 at 390",
    ]
    assert "10 answers between them, of 38" in page
    assert "before training · cut at the longest answer" in page


def test_an_empty_answer_and_no_file_are_said(tmp_path: Path):
    path = tmp_path / "samples.jsonl"
    assert sample_answers(path) == ""
    path.write_text('{"step": 0, "prompt": "Hi", "answer": ""}\n', encoding="utf-8")
    assert "(nothing)" in sample_answers(path)
