"""Evaluation prompts against the training data of a run that `instil train` wrote, by the command line."""

from __future__ import annotations

import json
import re

import pytest
from tests.evaluation.test_report_page import BROWSER, dom_of
from tests.training.command_line import exit_code, make_base

LONG = "how many eggs does the farmer sell at the market on each single day of week number"
ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(8)] + [
    {"question": f"Tell me please, {LONG} {n} and the next", "answer": str(n)} for n in range(2)
]
ASKED = [
    *({"question": f"what IS {n} plus {n}", "answer": str(2 * n)} for n in range(3)),  # the same but for case and marks
    {"question": f"{LONG} 1", "answer": "1"},  # its 8-grams stand in a training row
    {"question": "Which river runs through the largest city of Egypt on its way north?", "answer": "The Nile"},
    {"question": "Unheard of?", "answer": "yes"},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a base, training rows, rows to ask, and a run of one step."""
    root = tmp_path_factory.mktemp("overlap")
    make_base(root / "base")
    write(root / "rows.jsonl", ROWS)
    write(root / "more.jsonl", ASKED[4:5])
    write(root / "asked.jsonl", ASKED)
    (root / "recipe.yaml").write_text(
        "output: run\nmodel: {name: base}\ndevice: cpu\ntraining: {max_steps: 1, batch_size: 2}\n"
        "data: {sources: [rows.jsonl, more.jsonl], heldout_share: 0, store: store}\nevaluate: {at_start: false}\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert exit_code("train", "recipe.yaml") == 0
    return root


def evaluate(out):
    assert exit_code("evaluate", "run", "--data", "asked.jsonl", "--out", str(out), "--max-new-tokens", "2") == 0
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["contamination"]


@pytest.mark.slow
def test_the_report_says_how_much_of_the_prompts_was_trained_on(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    found = evaluate(tmp_path)
    assert (found["same"]["value"], found["same"]["n"]) == (pytest.approx(4 / 6), 6)
    assert found["overlapping"]["value"] == pytest.approx(5 / 6)
    assert found["trained_conversations"] == 11
    assert found["places"] == [f"asked.jsonl:{n}" for n in range(1, 6)]
    said = "Of 6 prompts 66.7% occur word for word in the 11 training conversations, 83.3% share most"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    html = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    if BROWSER is None:
        assert said in html
    else:
        assert f"Overlap with the training data: {said}" in re.sub(r"<script.*?</script>", "", dom_of(html, tmp_path), flags=re.DOTALL)  # fmt: skip


@pytest.mark.slow
def test_training_data_that_is_gone_is_named_in_the_report(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (root / "more.jsonl").rename(tmp_path / "aside.jsonl")
    try:
        found = evaluate(tmp_path / "some")
        assert found["same"]["value"] == pytest.approx(3 / 6)
        assert found["not_compared"][0].startswith("more.jsonl: no such file")
        assert "Not compared with: more.jsonl: no such file" in capsys.readouterr().out
        (root / "rows.jsonl").rename(tmp_path / "rows.jsonl")
        try:
            found = evaluate(tmp_path / "none")
        finally:
            (tmp_path / "rows.jsonl").rename(root / "rows.jsonl")
    finally:
        (tmp_path / "aside.jsonl").rename(root / "more.jsonl")
    assert (found["same"]["value"], found["same"]["n"], found["trained_conversations"]) == (None, 0, 0)
    said = (tmp_path / "none" / "evaluation.md").read_text(encoding="utf-8")
    assert "Not measured: no training data could be read." in said
    assert "0.0% occur word for word" not in said
