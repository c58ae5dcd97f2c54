"""Evaluation prompts compared with training data: by function, and by the command line on a run of `instil train`."""

from __future__ import annotations

import json
import re

import pytest
from tests.evaluation.browser import BROWSER, dom_of
from tests.training.command_line import exit_code, make_base

from instil.conversation import Conversation, Message
from instil.data import write
from instil.evaluation.contamination import contamination, trained_conversations
from instil.generation.prompts import Prompt
from instil.preparation.chunks import draw_rows, input_of
from instil.recipe import Recipe, Source


def question(text):
    return Conversation((Message("user", text), Message("assistant", "a")))


LONG_QUESTION = "how many eggs does the farmer sell at the market every single day of the week"


def test_overlap_counts_the_same_and_the_nearly_same():
    trained = [
        question("What is the capital of Peru?"),
        question(f"Tell me, {LONG_QUESTION}, please"),
        question("Other"),
    ]
    prompts = [
        Prompt(Conversation((Message("user", text),)))
        for text in (
            "what is the capital of peru",
            LONG_QUESTION,
            "Something new entirely, never seen by it",
            "capital",
        )
    ]
    found = contamination(prompts, iter(trained))
    assert found.same.value == 0.25
    assert found.overlapping.value == 0.5
    assert found.trained_conversations == 3


def test_held_out_rows_are_not_training_data(tmp_path):
    rows = [question(f"Question number {n} about something") for n in range(300)]
    write(rows, tmp_path / "rows.jsonl")
    recipe = Recipe.from_mapping({"data": {"sources": [str(tmp_path / "rows.jsonl")], "heldout_share": 0.2}})
    trained = list(trained_conversations(recipe))
    assert 180 <= len(trained) < 290
    none_out = recipe.override({"data": {"heldout_share": 0.0}})
    assert len(list(trained_conversations(none_out))) == 300


def test_only_rows_that_a_run_draws_are_its_training_data(tmp_path):
    path = str(tmp_path / "rows.jsonl")
    write([question(f"Question number {n} about something") for n in range(50)], path)
    recipe = Recipe.from_mapping(
        {"data": {"sources": [{"path": path, "rows": 7}], "heldout_share": 0}, "training": {"seed": 3}}
    )
    drawn = draw_rows(input_of(Source(path=path, rows=7), spool=tmp_path), seed=3).drawn.tolist()
    assert [each.place.row - 1 for each in trained_conversations(recipe)] == drawn
    assert len(drawn) == 7


def test_rows_read_as_plain_text_are_held_out_as_training_holds_them_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "number {n} is", "completion": " {n}"}}\n' for n in range(200)))
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)], "prompt_completion": "plain", "heldout_share": 0.2}})
    trained = list(trained_conversations(recipe))
    assert 120 <= len(trained) < 190
    assert all(each.plain for each in trained)


def test_standard_input_is_named_as_not_compared():
    recipe = Recipe.from_mapping({"data": {"sources": ["-"]}})
    missing = []
    assert list(trained_conversations(recipe, on_missing=missing.append)) == []
    assert "standard input" in missing[0]


NUMBERED_QUESTION = "how many eggs does the farmer sell at the market on each single day of week number"


ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(8)] + [
    {"question": f"Tell me please, {NUMBERED_QUESTION} {n} and the next", "answer": str(n)} for n in range(2)
]


ASKED = [
    *({"question": f"what IS {n} plus {n}", "answer": str(2 * n)} for n in range(3)),  # the same but for case and marks
    {"question": f"{NUMBERED_QUESTION} 1", "answer": "1"},  # its 8-grams stand in a training row
    {"question": "Which river runs through the largest city of Egypt on its way north?", "answer": "The Nile"},
    {"question": "Unheard of?", "answer": "yes"},
]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a base, training rows, rows to ask, and a run of one step."""
    root = tmp_path_factory.mktemp("overlap")
    make_base(root / "base")
    write_rows(root / "rows.jsonl", ROWS)
    write_rows(root / "more.jsonl", ASKED[4:5])
    write_rows(root / "asked.jsonl", ASKED)
    (root / "recipe.yaml").write_text(
        "output: run\nmodel: {name: base}\ndevice: cpu\ntraining: {max_steps: 1, batch_size: 2}\n"
        "data: {sources: [rows.jsonl, more.jsonl], heldout_share: 0, store: store}\nevaluate: {at_start: false}\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert exit_code("train", "recipe.yaml") == 0
    return root


def contamination_of(out):
    assert exit_code("evaluate", "run", "--data", "asked.jsonl", "--out", str(out), "--max-new-tokens", "2") == 0
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["contamination"]


@pytest.mark.slow
def test_the_report_says_how_much_of_the_prompts_was_trained_on(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    found = contamination_of(tmp_path)
    assert (found["same"]["value"], found["same"]["n"]) == (pytest.approx(4 / 6), 6)
    assert found["overlapping"]["value"] == pytest.approx(5 / 6)
    assert found["trained_conversations"] == 11
    assert found["places"] == [f"asked.jsonl:{n}" for n in range(1, 6)]
    warning = "5 of 6 prompts are in the training data, 4 of them word for word (asked.jsonl:1, asked.jsonl:2, asked.jsonl:3 …)."
    printed = capsys.readouterr()
    assert printed.out.index(f"warning: {warning}") < printed.out.index("Figures")
    markdown = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert markdown.index(f"**Warning:** {warning}") < markdown.index("| figure")
    said = "Of 6 prompts 66.7% occur word for word in the 11 training conversations, 83.3% share most"
    assert said in printed.out
    assert said in markdown
    html = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    if BROWSER is None:
        assert said in html
    else:
        assert f"<h2>Overlap with the training data</h2><p>{said}" in re.sub(r"<script.*?</script>", "", dom_of(html, tmp_path), flags=re.DOTALL)  # fmt: skip


@pytest.mark.slow
def test_training_data_that_is_gone_is_named_in_the_report(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (root / "more.jsonl").rename(tmp_path / "aside.jsonl")
    try:
        found = contamination_of(tmp_path / "some")
        assert found["same"]["value"] == pytest.approx(3 / 6)
        assert found["not_compared"][0].startswith("more.jsonl: no such file")
        assert "Not compared with: more.jsonl: no such file" in capsys.readouterr().out
        (root / "rows.jsonl").rename(tmp_path / "rows.jsonl")
        try:
            found = contamination_of(tmp_path / "none")
        finally:
            (tmp_path / "rows.jsonl").rename(root / "rows.jsonl")
    finally:
        (tmp_path / "aside.jsonl").rename(root / "more.jsonl")
    assert (found["same"]["value"], found["same"]["n"], found["trained_conversations"]) == (None, 0, 0)
    said = (tmp_path / "none" / "evaluation.md").read_text(encoding="utf-8")
    assert "Not measured: no training data could be read." in said
    assert "0.0% occur word for word" not in said


def test_a_script_without_spaces_is_compared_character_by_character():
    trained = Conversation((Message("user", "请用一句话告诉我越南的首都叫什么名字"), Message("assistant", "河内")))
    asked = "请用一句话告诉我越南的首都叫什么"
    prompts = [Prompt(Conversation((Message("user", text),))) for text in (asked, "河内在哪里")]
    overlap = contamination(prompts, [trained])
    assert overlap.overlapping.value == 0.5
    assert overlap.same.value == 0
    assert overlap.too_short == 1
    assert "1 prompt of fewer than 8 words can only be equal" in overlap.summary
