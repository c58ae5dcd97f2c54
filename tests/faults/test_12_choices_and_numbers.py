"""Letters and numbers as people write them, through ``instil evaluate``: from a file and a model to the figures.

The models are tiny and have memorised their answers, so the figures are those of known answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.tiny_chat import folders, memorise, tiny_llama, tiny_tokenizer
from tests.training.command_line import exit_code

CHOICES = ["Rome", "Oslo", "Bern", "Wien"]
LETTERS = (
    # what the model answers, the right letter, whether that is right
    ("**Answer:** `C`", "C", True),
    ("Option A is wrong. Answer: C", "C", True),
    ("Option A is wrong. So it's B", "A", False),
    ("答案：C", "C", True),
    ("Đáp án: D", "D", True),
    ("\\boxed{\\text{(D)}}", "D", True),
    ("B or C", "C", False),
    ("In the wind", "A", False),
)
NUMBERS = (
    ("So 5 + 7 = 12.", "12", True),
    ("\\boxed{1{,}234}", "1,234", True),
    ("about 1e3", "1000", True),
    ("\\frac{3}{4}", "0.75", True),
    ("42 (95% sure)", "42", True),
    ("42 (95% sure)", "95", False),
    ("1.5 × 10³ m²", "1500", True),
    ("1e999999999", "1", False),
    ("3 or 4", "4", False),
)


def measured(model: Path, rows: list[dict[str, Any]], folder: Path, task: str) -> list[float]:
    """Run ``instil evaluate`` and return the main score of each row."""
    data = write_jsonl(folder / f"{task}.jsonl", rows)
    words = ["evaluate", model, "--data", data, "--task", task, "--out", folder / task, "--max-new-tokens", 60]
    assert exit_code(*map(str, words)) == 0
    report = json.loads((folder / task / "evaluation.json").read_text(encoding="utf-8"))
    return [row["answers"][0]["scores"][task][task] for row in report["rows"]]


@pytest.mark.slow
def test_answers_in_all_kinds_of_words_are_scored_as_a_reader_would(tmp_path: Path) -> None:
    letters = [(f"L{number}", answer) for number, (answer, _, _) in enumerate(LETTERS)]
    numbers = [(f"N{number}", answer) for number, (answer, _, _) in enumerate(NUMBERS)]
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    memorise(model, tokenizer, (*letters, *numbers))
    model.generation_config.eos_token_id = 258
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"question": f"L{at}", "answer": right, "choices": CHOICES} for at, (_, right, _) in enumerate(LETTERS)]
    assert measured(tmp_path / "model", rows, tmp_path, "choice") == [is_right for _, _, is_right in LETTERS]
    rows = [{"question": f"N{at}", "answer": right} for at, (_, right, _) in enumerate(NUMBERS)]
    assert measured(tmp_path / "model", rows, tmp_path, "numeric") == [is_right for _, _, is_right in NUMBERS]


REFERENCES = {
    "#### 4": 1,
    "The answer is 2 + 2 = 4.": 1,
    "\\boxed{4}": 1,
    "\\frac{8}{2}": 1,
    "4e0": 1,
    "４": 1,
    "4.000": 1,
    "Antwort: 4,0 (90% sicher)": 1,
    "4,000": 0,
    "1/" + "3" * 5_000 + "\n#### 4": 1,
    "44": 0,
}


def test_references_are_read_like_answers(tmp_path: Path) -> None:
    rows = [{"question": "Two plus two?", "answer": reference} for reference in REFERENCES]
    assert measured(folders()["tuned"], rows, tmp_path, "numeric") == list(REFERENCES.values())


# The model answers "Oslo".
RIGHT_CHOICES = (
    ({"choices": ["Rome", "Oslo"]}, "**B**", 1),
    ({"choices": ["Rome", "Oslo"]}, "1", 1),
    ({"choices": {"text": ["Rome", "Oslo"], "label": ["1", "2"]}}, "2", 1),
    ({"choices": {"text": ["Rome", "Oslo", "Bern"], "label": ["1", "2", "3"]}}, "3", 0),
    ({"options": {"B": "Rome", "A": "Oslo"}}, "A", 1),
    ({"options": [{"label": "A", "text": "Rome"}, {"label": "B", "text": "Oslo"}]}, "答案：B", 1),
    ({"A": "Rome", "B": "Oslo", "C": "Bern", "D": "Wien"}, "B", 1),
    ({"choices": ["", "Oslo", "s"]}, "The answer is not A. It is B.", 1),
    ({"choices": ["Oslo", "Oslo Airport"]}, "A", 1),
)


def test_choices_and_references_of_many_shapes(tmp_path: Path) -> None:
    rows = [
        {"question": "Capital of Norway?", "answer": reference, **columns} for columns, reference, _ in RIGHT_CHOICES
    ]
    assert measured(folders()["tuned"], rows, tmp_path, "choice") == [is_right for _, _, is_right in RIGHT_CHOICES]
