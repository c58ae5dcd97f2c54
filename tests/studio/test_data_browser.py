"""The data page in a real browser: from a dropped file with mistakes to its mask, and through filters, pairs and keys."""

from __future__ import annotations

import json

import pytest
from tests.studio.browser import assert_accessible, assert_fits, needs_chromium

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
TIMEOUT = 60_000
"""A helper process loads a tokenizer, on a machine that does other things too."""


@pytest.fixture
def page(opened):
    opened.set_default_timeout(TIMEOUT)
    return opened


def coloured(page, count=None):
    page.locator("#rows[data-coloured]" if count is None else f"#rows[data-coloured='{count}']").wait_for()


@needs_chromium
def test_from_a_dropped_file_with_mistakes_to_its_mask(page, served):
    page.goto(f"{served.url}/data")
    assert_accessible(page)
    assert_fits(page)
    page.get_by_label("Path in the workspace, or a Hub id").fill("rows.jsonl")
    content = "\n".join(MISTAKES) + "\n"
    page.locator("#file").set_input_files({"name": "My rows.csv", "mimeType": "text/csv", "buffer": content.encode()})
    page.wait_for_url("**/data/view?path=data%2FMy-rows.csv")
    assert (served.root / "data" / "My-rows.csv").read_text() == content
    # Raw at once, and with their findings as soon as the tokenizer is there.
    assert page.locator("#row-list article").count() == 50
    assert page.locator("#row-0 .raw").text_content().startswith("Frage: What is 1+1?")
    page.get_by_text("No known format reads these rows").wait_for()
    coloured(page, 50)
    assert page.locator("#rows .token").count() == 0
    # The columns are chosen, and the rows follow.
    page.locator("#column-user").select_option(label="Frage")
    page.locator("#column-assistant").select_option(label="Antwort")
    page.locator("#row-0 .token.full").first.wait_for()
    coloured(page, 50)
    assert page.locator("#row-0 .token.full").all_text_contents() == ["2", "<|im_end|>"]
    page.locator("#onward a[href*='columns=']").wait_for()  # the recipe reads them so too
    assert "empty answer" in page.locator("#row-1 .found").text_content()
    assert EVIL in page.locator("#row-4 .text").first.text_content().replace("·", " ")
    assert page.evaluate("[window.evil, document.images.length]") == [None, 0]
    page.get_by_role("button", name="Inspect the whole file").click()
    page.locator("#report .findings").wait_for()
    report = page.locator("#report").text_content()
    assert all(
        words in report for words in ("empty answer", "exact duplicate", "stop token typed", "data/My-rows.csv:3")
    )
    page.reload()  # nothing is lost
    assert "exact duplicate" in page.locator("#report").text_content()
    coloured(page, 50)
    assert page.locator("#column-user").input_value() == "{Frage}"
    page.get_by_role("link", name="Show these rows: exact duplicate").click()
    page.locator("#row-f0 .token.full").first.wait_for()
    assert page.locator("#row-list article").count() == 1
    assert "the same as data/My-rows.csv:2" in page.locator("#row-f0 .found").text_content()
    assert page.locator("#by-finding").input_value() == "duplicate"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert_accessible(page)
    assert_fits(page)
    # The fix is looked at, and written beside the data.
    page.get_by_role("link", name="See what can be fixed").click()
    assert "Yes.<|im_end|>" in page.locator("#fixes .diff .gone").filter(has_text="Yes.").text_content()
    assert_accessible(page)
    page.get_by_role("button", name="Write the fixed copy").click()
    page.get_by_role("link", name="data/My-rows-fixed.jsonl").click()
    page.wait_for_url("**/data/view?path=data%2FMy-rows-fixed.jsonl*")
    coloured(page, 50)
    assert page.locator("#rows .found").count() == 0
    rows = [json.loads(line) for line in (served.root / "data" / "My-rows-fixed.jsonl").read_text().splitlines()]
    assert len(rows) == len(MISTAKES) - 1 - 2  # without the header, the empty answer and the duplicate
    assert "Yes." in [row["Antwort"] for row in rows]
    assert (served.root / "data" / "My-rows.csv").read_text() == content
    page.get_by_role("link", name="Train on these data").click()
    page.wait_for_url("**/recipe/1")
    assert "My-rows-fixed.jsonl" in page.locator("#yaml").input_value()


@needs_chromium
def test_filters_pairs_keys_and_templates(page, served):
    chats = [
        {"messages": [{"role": "system", "content": "Be kind."}] * (n % 2) + [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": "word " * n + ("Needle" if n % 40 == 7 else "")}]}
        for n in range(1, 121)
    ]  # fmt: skip
    (served.root / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    pairs = [{"prompt": f"River {n}?", "chosen": "The Nile.", "rejected": "None."} for n in range(3)]
    (served.root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    page.goto(f"{served.url}/data/view?path=chats.jsonl")
    coloured(page, 50)
    # Keys: rows, tokens with the reason for their weight, pages.
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "row-1"
    page.keyboard.press("Enter")
    assert page.locator("#card-text").text_content() == '"<|im_start|>"'
    assert "In serving it is part of the prompt." in page.locator("#card-why").text_content()
    page.keyboard.press("t")
    assert "The model has to write it" in page.locator("#card-why").text_content()
    assert page.locator("#card-facts").text_content().startswith("id")
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()
    assert page.evaluate("document.activeElement.id") == "row-1"
    page.keyboard.press("n")
    page.locator("#row-50 .token").first.wait_for()
    page.wait_for_url("**start=51")
    page.keyboard.press("p")
    page.locator("#row-0 .token").first.wait_for()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    # Text, role and length, found as they come.
    page.keyboard.press("/")
    page.keyboard.type("needle")
    page.locator("#rows[data-scanned='3']").wait_for()
    assert page.locator("#row-list article h3").all_text_contents() == [
        "chats.jsonl:7",
        "chats.jsonl:47",
        "chats.jsonl:87",
    ]
    assert page.evaluate("document.activeElement.id") == "by-text"
    coloured(page, 3)
    page.locator("#by-text").fill("")
    page.locator("#by-role").select_option("system")
    page.locator("#shortest").fill("110")
    page.locator("#rows[data-scan*='shortest=110'][data-scan*='role=system'][data-scanned]").wait_for()
    numbers = [int(text.rpartition(":")[2]) for text in page.locator("#row-list article h3").all_text_contents()]
    assert numbers == list(range(numbers[0], 121, 2))
    assert 60 < numbers[0] < 110
    assert numbers[0] % 2 == 1
    page.reload()
    page.locator(f"#rows[data-scanned='{len(numbers)}']").wait_for()
    # Pairs beside each other, under another template.
    page.goto(f"{served.url}/data/view?path=pairs.jsonl")
    page.get_by_role("link", name="pairs, better and worse", exact=True).click()
    coloured(page, 3)
    left, right = (page.locator(f"#row-0 .side.{side}").bounding_box() for side in ("chosen", "rejected"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    page.locator("#template").fill("llama-3")
    page.get_by_text("Differs from the model's own in").wait_for()
    page.locator("#row-0 .token", has_text="<|eot_id|>").first.wait_for()
    assert "template=llama-3" in page.url
    assert "objective=dpo" in page.url
    page.get_by_text("Differs from the model's own in").click()
    assert page.locator("#differences .diff").count() > 3
    assert_accessible(page)
    assert_fits(page)
    page.locator("#model").fill("../elsewhere")
    page.get_by_text("no such model in the workspace").wait_for()
