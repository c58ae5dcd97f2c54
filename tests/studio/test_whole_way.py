"""The whole way through the pages, as somebody goes who never opens a terminal: from a file with mistakes to an export."""

from __future__ import annotations

import json
import re
import tarfile

import pytest
from tests.studio.browser import assert_accessible, browser_context, needs_chromium, watch
from tests.studio.served import wait_until

from instil.training.records.metrics import read_metrics

EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=2>"
MISTAKES = [
    "Frage,Antwort,Jahr",
    "What is 1+1?,2,2001",
    "What is nothing?,,2002",
    "What is 1+1?,2,2001",
    "Stop here?,Yes.<|im_end|>,2003",
    f'"{EVIL}","{EVIL}",2004',
    *(f"What is {n}+{n}?,{2 * n},{2000 + n}" for n in range(5, 60)),
]
CONTENT = "\n".join(MISTAKES) + "\n"
DROP = """(text) => {
  const data = new DataTransfer();
  data.items.add(new File([text], "My rows.csv", { type: "text/csv" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.mark.long
@needs_chromium
def test_from_a_dropped_file_with_mistakes_to_a_chat_and_an_export(served):
    with browser_context(accept_downloads=True) as context:
        page = context.new_page()
        problems = watch(page, served.url)
        page.goto(served.first_url)
        assert_accessible(page)
        drop_fix_and_look(page, served)
        start_watch_stop_and_resume(page, served)
        begin_a_second_run_with_the_recipe_of_the_first(page, served)
        compare(page)
        chat(page)
        export(page)
        page.get_by_role("link", name="Jobs").click()
        page.get_by_role("heading", name="Jobs").wait_for()
        assert_accessible(page)
        assert page.evaluate("[window.evil, document.images.length]") == [None, 0]
        assert problems == []


def coloured(page, count):
    page.locator(f"#rows[data-coloured='{count}']").wait_for()


def drop_fix_and_look(page, studio):
    page.get_by_role("link", name="Data", exact=True).click()
    page.get_by_role("heading", name="Bring a file").wait_for()
    assert_accessible(page)
    page.evaluate(DROP, CONTENT)
    page.wait_for_url("**/data/view?path=data%2FMy-rows.csv")
    # Raw at once; how it could be read, as soon as the tokenizer is there.
    assert page.locator("#row-0 .raw").text_content().startswith("Frage: What is 1+1?")
    page.get_by_text("No known format reads these rows").wait_for()
    page.locator("#column-user").select_option(label="Frage")
    page.locator("#column-assistant").select_option(label="Antwort")
    page.locator("#row-0 .token.full").first.wait_for()
    coloured(page, 50)
    assert page.locator("#row-0 .token.full").all_text_contents() == ["2", "<|im_end|>"]
    assert EVIL in page.locator("#row-4 .text").first.text_content().replace("·", " ")
    page.get_by_role("button", name="Inspect the whole file").click()
    page.locator("#report .findings").wait_for()
    report = page.locator("#report").text_content()
    for words in ("empty answer", "exact duplicate", "stop token typed", "data/My-rows.csv:3"):
        assert words in report
    page.reload()  # nothing is lost
    assert "exact duplicate" in page.locator("#report").text_content()
    page.get_by_role("link", name="Show these rows: exact duplicate").click()
    page.locator("#row-f0 .token.full").first.wait_for()
    assert page.locator("#row-list article").count() == 1
    assert "the same as data/My-rows.csv:2" in page.locator("#row-f0 .found").text_content()
    page.get_by_role("link", name="See what can be fixed").click()
    assert "Yes.<|im_end|>" in page.locator("#fixes .diff .gone").filter(has_text="Yes.").text_content()
    assert_accessible(page)
    page.get_by_role("button", name="Write the fixed copy").click()
    page.get_by_role("link", name="data/My-rows-fixed.jsonl").click()
    page.wait_for_url("**/data/view?path=data%2FMy-rows-fixed.jsonl*")
    coloured(page, 50)
    assert page.locator("#rows .found").count() == 0
    assert (studio.root / "data" / "My-rows.csv").read_text() == CONTENT
    rows = [json.loads(line) for line in (studio.root / "data" / "My-rows-fixed.jsonl").read_text().splitlines()]
    assert len(rows) == len(MISTAKES) - 1 - 2  # without the header, the empty answer and the duplicate
    # The mask: where the answer is, and why it is trained.
    page.locator("#row-0 .token.full").first.hover()
    page.get_by_text("The model has to write it: it is part of an answer.").wait_for()


def step_of(page):
    label = page.locator(".progress label")
    return int(re.search(r"step ([\d,]+)", label.text_content())[1].replace(",", "")) if label.count() else 0


def start_watch_stop_and_resume(page, studio):
    page.get_by_role("link", name="Train on these data").click()
    page.locator("#yaml").wait_for()
    assert "My-rows-fixed.jsonl" in page.locator("#yaml").input_value()
    page.locator("#more-training > summary").click()
    page.get_by_label("max_steps").fill("20000")
    page.get_by_label("batch_size").fill("2")
    page.locator("#plan .memory-kinds").wait_for()
    assert_accessible(page)
    page.get_by_label("Name of the run").fill("long")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/run?run=runs/long")
    page.get_by_text("trains", exact=True).and_(page.locator(".now")).wait_for()
    page.locator("#chart-loss[data-drawn] svg path").first.wait_for()
    seen = step_of(page)
    page.reload()
    wait_until(lambda: step_of(page) > seen)
    assert_accessible(page)
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_text("everything is saved").wait_for()
    log = page.locator("#log").text_content()
    assert log.count("stopped after step") == 1
    page.reload()
    assert page.locator("#log").text_content() == log
    saved = int(log.rpartition("stopped after step ")[2].partition(";")[0])
    page.get_by_role("button", name="Resume").click()
    wait_until(lambda: step_of(page) > saved + 2)
    page.get_by_role("button", name="Stop now").click()
    page.get_by_role("button", name="Resume").wait_for()
    page.get_by_text("It was stopped").wait_for()  # within a step, or behind one that was saved meanwhile
    metrics = read_metrics(studio.root / "runs" / "long" / "metrics.jsonl")
    steps = [line["step"] for line in metrics if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > saved


def begin_a_second_run_with_the_recipe_of_the_first(page, studio):
    page.get_by_role("link", name="Recipe", exact=True).click()
    page.get_by_label("Begin with").select_option("run:runs/long")
    page.get_by_role("button", name="New draft").click()
    wait_until(lambda: page.get_by_label("max_steps").input_value() == "20000")
    if not page.get_by_label("max_steps").is_visible():
        page.locator("#more-training > summary").click()
    page.get_by_label("max_steps").fill("2")
    page.get_by_label("Name of the run").fill("short")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/run?run=runs/short")
    page.locator(".state.finished").wait_for()
    page.get_by_text("step 2 of 2").wait_for()


def compare(page):
    page.get_by_role("link", name="Runs", exact=True).first.click()
    page.get_by_label("Choose runs/long").check()
    page.get_by_label("Choose runs/short").check()
    assert_accessible(page)
    page.get_by_role("button", name="Compare").click()
    page.locator("#chart-loss[data-drawn] svg path").first.wait_for()
    assert "training.max_steps" in page.locator("section", has=page.locator("#settings-title")).text_content()
    assert_accessible(page)
    page.get_by_role("link", name="short", exact=True).first.click()
    page.wait_for_url("**/runs/run?run=runs/short")


def chat(page):
    page.get_by_role("link", name="Chat").last.click()
    page.get_by_role("button", name="Begin a chat").wait_for()
    assert_accessible(page)
    page.get_by_role("button", name="Begin a chat").click()
    page.get_by_text("Sampling", exact=True).click()
    page.get_by_label("Longest answer").fill("4")
    page.get_by_label("Question").fill("What is 2+2?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Answer again").wait_for()
    assert page.locator(".reply .error").count() == 0
    page.get_by_role("link", name="Tokens: runs/short").click()
    page.locator(".chat-tokens .token").first.wait_for()
    assert_accessible(page)


def export(page):
    page.get_by_role("link", name="Evaluate and ship").click()
    page.get_by_role("button", name="Start the export").wait_for()
    assert page.locator("select[name=run]").input_value() == "runs/short"
    page.get_by_role("button", name="Start the export").click()
    page.get_by_text("What was trained is what is served").wait_for()
    assert "vllm serve" in page.locator(".commands").text_content()
    page.get_by_text("Model card", exact=True).click()
    assert_accessible(page)
    with page.expect_download() as started:
        page.get_by_role("link", name="Download as .tar").click()
    with tarfile.open(started.value.path()) as unpacked:
        assert {"short/model.safetensors", "short/README.md"} <= set(unpacked.getnames())
