"""The data page in a real browser: filters, pairs, keys and templates."""

from __future__ import annotations

import json

import pytest
from tests.studio.browser import assert_accessible, needs_chromium


def coloured(page, count):
    page.locator(f"#rows[data-coloured='{count}']").wait_for()


@pytest.mark.long
@needs_chromium
def test_filters_pairs_keys_and_templates(opened, served):
    page = opened
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
    page.locator("#model").fill("../elsewhere")
    page.get_by_text("no such model in the workspace").wait_for()
