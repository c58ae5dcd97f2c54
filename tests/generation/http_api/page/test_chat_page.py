"""The chat page in a real browser, with a real server behind it."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("fastapi")

from tests.generation.http_api.served import Served
from tests.inspection.browser import Browser, needs_chromium

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow, needs_chromium]
KEY = "a-key-of-the-test"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture
def page(browser, served):
    browser.problems.clear()
    browser.open(f"{served.url}/")
    until(browser, "chat.model === 'tiny'")
    return browser


def until(page, condition, seconds=60):
    end = time.monotonic() + seconds
    while not page.run(f"Boolean({condition})"):
        assert time.monotonic() < end, (condition, page.problems)
        time.sleep(0.02)


def type_in(page, name, text):
    page.run(f"find('{name}').closest('details')?.setAttribute('open', '')")
    page.run(f"find('{name}').focus(); find('{name}').select()")
    page.send("Input.insertText", text=text)


def ask(page, question):
    type_in(page, "question", question)
    page.press("Enter")
    until(page, "!chat.answering")


def click(page, name):
    """Click a button of the last turn that has it."""
    page.run(f"[...document.querySelectorAll('.actions button')].findLast(b => b.textContent === '{name}').click()")


def said(page):
    return page.run("[...document.querySelectorAll('.turn > .said')].map(element => element.textContent)")


def test_answers_are_streamed_turn_after_turn(page):
    page.run(
        "window.seen = []; new MutationObserver(() => seen.push(document.querySelector('.turn.assistant .content')"
        "?.textContent)).observe(find('turns'), { childList: true, subtree: true })"
    )
    ask(page, "Two plus two?")
    assert said(page) == ["Two plus two?", "So 2+2=4\n#### 4"]
    parts = page.run("[...new Set(seen.filter(text => text && text !== chat.turns[1].text))]")
    assert parts, "the answer appeared only when it was complete"
    assert all("So 2+2=4\n#### 4".startswith(part) for part in parts)
    ask(page, "Say hi")
    messages = page.run("chat.turns.at(-1).messages.map(message => [message.role, message.content])")
    assert messages == [["user", "Two plus two?"], ["assistant", "So 2+2=4\n#### 4"], ["user", "Say hi"]]
    assert page.problems == []


def test_nothing_is_requested_from_elsewhere(page, served):
    ask(page, "Say hi")
    assert {url for url in page.requests if not url.startswith((served.url, "data:", "about:"))} == set()


def test_shift_enter_begins_a_line_and_a_blank_question_is_not_sent(page):
    type_in(page, "question", "Say")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13, modifiers=8, text="\r")
    page.send("Input.dispatchKeyEvent", type="keyUp", key="Enter", windowsVirtualKeyCode=13, modifiers=8)
    assert page.run("find('question').value") == "Say\n"
    type_in(page, "question", "  ")
    page.press("Enter")
    assert said(page) == []


def test_markup_stays_text(page):
    markup = "<img src=x onerror=alert(1)><script>document.title='x'</script>"
    ask(page, markup)
    assert said(page)[0] == markup
    assert page.run("document.querySelectorAll('#turns img, #turns script').length") == 0
    assert page.run("document.title") == "tiny – chat"


def test_the_last_question_is_edited_and_its_answer_replaced(page):
    ask(page, "Capital of Peru?")
    ask(page, "Say hi")
    click(page, "Edit")
    assert page.run("find('question').value") == "Say hi"
    page.press("Escape")
    assert page.run("[find('question').value, chat.isEditing]") == ["", False]
    click(page, "Edit")
    ask(page, "Two plus two?")
    assert [said(page)[at] for at in (0, 1, 2)] == ["Capital of Peru?", "Lima", "Two plus two?"]
    assert len(said(page)) == 4


def test_regenerate_asks_the_same_and_clear_forgets(page):
    ask(page, "Capital of Peru?")
    page.run("window.first = chat.turns.at(-1)")
    click(page, "Regenerate")
    until(page, "!chat.answering && chat.turns.at(-1) !== first")
    assert said(page) == ["Capital of Peru?", "Lima"]
    page.run("find('clear').click()")
    assert said(page) == []
    ask(page, "Say hi")
    assert page.run("chat.turns.at(-1).messages.length") == 1


def test_the_system_text_and_the_settings_are_sent(page):
    type_in(page, "system", "Be short.")
    type_in(page, "max_tokens", "3")
    type_in(page, "temperature", "0.5")
    type_in(page, "seed", "7")
    ask(page, "Capital of Norway?")
    assert page.run("chat.turns.at(-1).messages[0]") == {"role": "system", "content": "Be short."}
    assert page.run("chat.turns.at(-1).ids.length") == 3
    assert "cut at the limit of its length" in page.text(".turn.assistant .notes")
    assert page.text("#sampling-sign") == " · temperature 0.5, max_tokens 3, seed 7"


def test_reasoning_is_folded(page):
    ask(page, "Think")
    assert page.run("document.querySelector('.turn details').open") is False
    assert page.text(".turn details .said") == "hm hm"
    assert said(page)[1] == "Yes"


def test_a_refusal_is_shown_in_the_servers_words_and_nothing_is_lost(page):
    ask(page, "Capital of Peru?")
    type_in(page, "top_p", "7")
    ask(page, "Say hi")
    assert page.text("#problem") == "top_p: 7.0. Expected above 0, at most 1."
    assert page.run("[find('question').value, find('top_p').getAttribute('aria-invalid')]") == ["Say hi", "true"]
    assert said(page) == ["Capital of Peru?", "Lima"]
    click(page, "Regenerate")
    until(page, "!chat.answering")
    assert said(page) == ["Capital of Peru?", "Lima"]
    type_in(page, "top_p", "1")
    ask(page, "Say hi")
    assert page.run("find('problem').hidden")
    assert len(said(page)) == 4


def test_a_failed_question_stands_before_what_was_typed_meanwhile(page):
    type_in(page, "top_p", "7")
    type_in(page, "question", "Say hi")
    page.run("find('composer').requestSubmit(); find('question').value = 'And then?'")
    until(page, "!chat.answering")
    assert page.run("find('question').value") == "Say hi\nAnd then?"


def test_a_seed_that_the_browser_would_round_is_refused(page):
    type_in(page, "seed", "9007199254740993")
    ask(page, "Say hi")
    assert page.text("#problem").startswith("seed: found 9007199254740993. Expected a number below 2**53.")


def test_a_text_beyond_the_servers_limit_is_refused_in_words(page, served):
    page.run(f"find('question').value = 'a'.repeat({int(served.settings.max_body_mb * 1_000_000) + 10}); send()")
    until(page, "!chat.answering")
    assert "larger than 0.5 MB" in page.text("#problem")


def test_of_many_tokens_the_last_ones_are_drawn_first(page):
    page.run(
        "window.many = Array.from({ length: 7000 }, (_, id) => ({ id, text: 'a', origin: 'template', message: null, field: null }));"
        "window.pane = drawTokens({ tokens: many, blocks: [[0, '1 user'], [900, '2 user']], roles: [], num_prompt: 7000 });"
        "document.body.append(pane)"
    )
    count = "pane.querySelectorAll('.token[data-index]').length"
    assert page.run(f"[{count}, pane.querySelector('.token[data-index]').dataset.index]") == [6000, "1000"]
    assert page.run("pane.querySelector('button').textContent") == "Show the 1,000 tokens before these"
    page.run("pane.querySelector('button').click()")
    assert page.run(count) == 7000


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ('data: {"error": {"message": "the server is ending."}}\n\ndata: [DONE]\n\n', "the server is ending."),
        ('data: {"choices": []}\n\ndata: {"cho', "The connection ended before the answer was complete."),
        ("", "The connection ended before the answer was complete."),
        ('data: {"choices": []}\n\ndata: [DONE]\n\n', "complete"),
    ],
)
def test_a_stream_that_ends_early_is_told(page, sent, reason):
    read = f"(async () => {{ for await (const _ of events(new Response({json.dumps(sent)}))); return 'complete'; }})()"
    told = page.send("Runtime.evaluate", expression=f"{read}.catch(error => error.message)", awaitPromise=True)
    assert told["result"]["value"] == reason


def test_too_long_a_chat_is_refused_in_words(page):
    ask(page, "a b " * 200)
    assert "The context has 512" in page.text("#problem")
    assert page.run("find('question').value.length") == 800


ARRIVES_SLOWLY = """
window.quick = window.fetch;
window.fetch = async (...request) => {
  const answer = await quick(...request);
  if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) return answer;
  const slowly = new TransformStream({ async transform(chunk, out) {
    for (let at = 0; at < chunk.length; at += 200) { request[1]?.signal?.throwIfAborted(); out.enqueue(chunk.slice(at, at + 200)); await new Promise(go => setTimeout(go, 20)); }
  } });
  return new Response(answer.body.pipeThrough(slowly), { status: answer.status, headers: answer.headers });
};
"""
"""Hands an answer to the page in small pieces: on a busy machine a short one arrives as a whole, and nothing is left to stop."""


def test_an_answer_is_stopped_and_kept_as_far_as_it_came(page, served):
    page.run(ARRIVES_SLOWLY)
    # No person could press the button within the tenth of a second that this answer takes.
    page.run(
        "window.push = add; add = (turn, delta) => { push(turn, delta); "
        "if (turn.role === 'assistant' && turn.text.length > 3) find('stop').click(); }"
    )
    ask(page, "Two plus two?")
    assert page.text(".turn.assistant .notes") == "stopped"
    assert "So 2+2=4\n#### 4".startswith(said(page)[1])
    assert 3 < len(said(page)[1]) < len("So 2+2=4\n#### 4")
    served.wait_until_idle()


def test_the_tokens_are_those_of_the_prompt_and_the_answer(page, engine):
    ask(page, "Think")
    click(page, "Tokens")
    until(page, "document.querySelector('.tokens')")
    shown = page.run(
        "[...document.querySelectorAll('.tokens .token[data-index]')].map(token => [Number(token.querySelector('sub')"
        ".textContent), token.classList.contains('full'), token.classList.contains('printed')])"
    )
    ids = page.run("chat.turns.at(-1).ids")
    assert [token_id for token_id, is_generated, _ in shown if is_generated] == ids
    assert engine.chat.decode([token_id for token_id, *_ in shown]) == (
        "<|im_start|>user\nThink<|im_end|>\n<|im_start|>assistant\n<think>\nhm hm\n</think>\n\nYes<|im_end|>"
    )
    printed = engine.chat.decode([token_id for token_id, _, is_printed in shown if is_printed])
    assert printed == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    page.run("document.querySelector('.tokens [tabindex=\"0\"]').focus()")
    assert page.text(".tokens .one") == '"<|im_start|>" · id 257 · printed by the template · position 0'
    page.press("ArrowRight")
    assert page.text(".tokens .one").endswith("position 1")
    click(page, "Tokens")
    assert page.run("document.querySelectorAll('.tokens').length") == 0


def test_every_field_and_button_has_a_name(page):
    ask(page, "Say hi")
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "textbox", "spinbutton", "checkbox")
    named = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(named) >= 7
    assert [node for node in named if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_is_wider_than_the_page(page, width):
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    try:
        page.run("find('sampling').open = find('system-part').open = true")
        ask(page, "x" * 120)
        click(page, "Tokens")
        until(page, "document.querySelector('.tokens')")
        assert page.run("document.documentElement.scrollWidth") == width
    finally:
        page.send("Emulation.clearDeviceMetricsOverride")


def test_the_page_asks_for_the_key_and_keeps_it_in_memory_only(browser, engine):
    with Served(engine, max_new_tokens=16, quiet=True, api_key=KEY) as running:
        browser.open(f"{running.url}/")
        until(browser, "find('key-dialog').open")
        type_in(browser, "key", "wrong")
        browser.press("Enter")
        until(browser, "!find('key-problem').hidden")
        assert browser.text("#key-problem") == "This key is not the server's."
        type_in(browser, "key", KEY)
        browser.press("Enter")
        until(browser, "chat.model")
        ask(browser, "Capital of Peru?")
        assert said(browser)[1] == "Lima"
        stored = browser.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
        assert KEY not in stored
        assert KEY not in browser.run("document.documentElement.outerHTML + find('key').value")
        assert KEY not in json.dumps(browser.requests)
        browser.open(f"{running.url}/")
        until(browser, "find('key-dialog').open")
        browser.run("find('key-cancel').click()")
        until(browser, "!find('problem').hidden")
        assert browser.text("#problem") == "This server asks for its API key. Nothing was sent without it."
    browser.problems.clear()


def test_a_server_that_has_ended_is_told(browser, engine):
    with Served(engine, max_new_tokens=16, quiet=True) as running:
        browser.open(f"{running.url}/")
        until(browser, "chat.model")
    ask(browser, "Say hi")
    assert browser.text("#problem") == "The server does not answer. Look whether it still runs, and send again."
    assert browser.run("find('question').value") == "Say hi"
    browser.problems.clear()
