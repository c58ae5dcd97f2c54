"""Claims about the chat: what is asked, answered, kept and saved; in a real browser, of real models."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from tests.studio.browser import assert_accessible, browser_context, needs_chromium, watch
from tests.studio.served import Served, wait_until
from tests.studio.talking import TOOLS, make_talking_run

from instil.data.reading import read
from instil.errors import ServeError
from instil.studio.chat import engines
from instil.studio.chat.messages import preference_pair, prompt_of, request_body, training_row
from instil.studio.chat.models import read_model
from instil.studio.chat.records import Chat, ChatSettings, Exchange, Reply, Sampling
from instil.studio.chat.rows import append_row
from instil.studio.chat.settings_form import fields_of, read_settings
from instil.studio.chat.storage import change_chat, list_chats, new_chat, read_chat, remove_chat
from instil.studio.chat.token_view import token_blocks, visible
from instil.studio.chat.variables import template_variables
from instil.studio.jobs.engine_key import engine_key
from instil.studio.jobs.records import check_argv
from instil.studio.problems import PageProblem

CALL = {"id": "call_0", "type": "function", "function": {"name": "time", "arguments": "{}"}}


def done(text, **values):
    return Reply(state="done", text=text, **values)


def wait_for_text(page, selector, condition):
    """Wait until an element's text is as a condition wants it; the policy lets a page wait for no expression."""
    wait_until(lambda: condition(page.locator(selector).first.text_content() or ""))


def two(*exchanges, **settings):
    return Chat(identity="0" * 16, models=("a", "b"), exchanges=exchanges, settings=ChatSettings(**settings))


FIRST = Exchange(question="one", replies=(done("A", reasoning="hm"), done("B")))
SECOND = Exchange(question="two", replies=(done("C"), done("D")))


def test_each_model_goes_on_from_its_own_answers_until_one_is_chosen():
    chat = two(FIRST, SECOND, system="Be kind.")
    assert [message["content"] for message in prompt_of(chat, 1, 1)] == ["Be kind.", "one", "B", "two"]
    chosen = two(replace(FIRST, better=0), SECOND)
    assert prompt_of(chosen, 0, 1) == prompt_of(chosen, 1, 1)
    assert prompt_of(chosen, 1, 1)[1] == {"role": "assistant", "content": "A", "reasoning_content": "hm"}


def test_results_follow_the_calls_they_answer():
    asked = Exchange(question="Time?", replies=(done("", calls=(CALL,)), done("Noon")))
    chat = two(asked, Exchange(results=(("12:00",), ()), replies=(Reply(), Reply(state="none"))))
    assert prompt_of(chat, 0, 1)[-2:] == [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_0", "content": "12:00"},
    ]


def test_a_request_has_the_settings_that_are_set_and_one_seed():
    settings = {"sampling": Sampling(temperature=0.5, max_tokens=7), "variables": {"shout": True}, "tools": ({"x": 1},)}
    body = request_body(two(FIRST, **settings), 0, 0, model="m", seed=5)
    assert (body["temperature"], body["max_tokens"], body["seed"], body["stream"]) == (0.5, 7, 5, True)
    assert (body["chat_template_kwargs"], body["tools"]) == ({"shout": True}, [{"x": 1}])
    assert {"top_p", "top_k", "min_p"} & body.keys() == set()


def test_rows_and_pairs_are_what_training_reads(tmp_path):
    chat = two(replace(FIRST, better=1), SECOND, system="Be kind.", variables={"shout": True})
    append_row(tmp_path / "rows.jsonl", training_row(chat, 0, 1), shown="rows.jsonl")
    append_row(tmp_path / "pairs.jsonl", preference_pair(chat, 1, 1), shown="pairs.jsonl")
    (row,) = read(tmp_path / "rows.jsonl")
    assert [message.content for message in row.messages] == ["Be kind.", "one", "B", "two", "C"]
    assert row.variables == {"shout": True}
    pair = read(tmp_path / "pairs.jsonl", objective="dpo")
    assert [(side.side, side.messages[-1].content) for side in pair] == [("chosen", "D"), ("rejected", "C")]


@pytest.mark.parametrize(
    ("chat", "key"),
    [
        (two(FIRST, SECOND), "chat.other_prompts"),
        (two(replace(FIRST, better=0), Exchange(question="x", replies=(done("same"), done("same")))), "chat.equal_answers"),
        (two(replace(FIRST, better=0), Exchange(question="x", replies=(done("C"), Reply(state="failed")))), "chat.no_answer"),
    ],
)  # fmt: skip
def test_no_pair_is_made_of_answers_that_cannot_be_compared(chat, key):
    with pytest.raises(PageProblem) as problem:
        preference_pair(chat, 1, 0)
    assert problem.value.key == key


def test_a_row_is_appended_and_changes_nothing_that_is_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [], "id": 1}')  # its last line has no end
    append_row(path, {"messages": ["ü"]}, shown="")
    append_row(path, {"messages": [2]}, shown="")
    assert path.read_text() == '{"messages": [], "id": 1}\n{"messages": ["ü"]}\n{"messages": [2]}\n'
    before = path.read_bytes()
    for name, row, key in (
        ("rows.jsonl", {"prompt": 1, "chosen": 2, "rejected": 3}, "chat.other_rows"),
        ("rows.csv", {"messages": []}, "chat.no_rows_file"),
        (".rows.jsonl", {"messages": []}, "chat.no_rows_file"),
    ):
        with pytest.raises(PageProblem) as problem:
            append_row(tmp_path / name, row, shown=name)
        assert problem.value.key == key
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_chats_are_kept_changed_undone_and_removed(workspace):
    (workspace / ".instil-studio").mkdir()
    chat = new_chat(workspace, ("runs/a",))
    asked = change_chat(workspace, chat.identity, lambda now: now.with_exchanges((FIRST,)))
    assert read_chat(workspace, chat.identity) == asked
    assert asked.undone().exchanges == ()
    assert asked.undone().undone().exchanges == ()
    assert [one.title for one in list_chats(workspace)] == ["one"]
    (workspace / ".instil-studio" / "chats" / f"{'1' * 16}.json").write_text("{")
    assert len(list_chats(workspace)) == 1
    remove_chat(workspace, chat.identity)
    for name in (chat.identity, "../../x", "1" * 16):
        with pytest.raises(PageProblem) as problem:
            read_chat(workspace, name)
        assert problem.value.status == 404


def test_settings_are_read_and_shown_again_and_what_is_wrong_is_named():
    form = {"system": "Be\r\nkind", "temperature": "0.5", "top_k": "", "seed": "7", "tools": TOOLS,
            "variable:shout": "true", "variable:level": "low", "added_name": "n", "added_value": "12"}  # fmt: skip
    found = read_settings(form)
    assert found.problems == {}
    settings = found.settings
    assert (settings.system, settings.sampling) == ("Be\nkind", Sampling(temperature=0.5, seed=7))
    assert settings.variables == {"shout": True, "level": "low", "n": 12}
    assert settings.tools[0]["function"]["name"] == "time"
    assert read_settings(fields_of(settings)).settings == settings
    wrong = {"temperature": "nan", "top_p": "2", "top_k": "1.5", "seed": "-1", "tools": "[1]", "added_name": "a b"}
    assert read_settings(wrong).problems.keys() == wrong.keys()
    assert read_settings({"tools": "{"}).problems["tools"][0] == "chat.no_json"


def test_the_variables_of_a_template_are_those_that_it_asks_for(tmp_path):
    path = tmp_path / "chat_template.jinja"
    path.write_text(
        "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}"
        "{% if enable_thinking is defined %}{{ bos_token }}{% set x = 1 %}{{ x }}{{ raise_exception('') }}{% endif %}"
    )
    assert template_variables(path) == ["enable_thinking"]
    path.write_text("{% for %}")
    assert template_variables(path) == template_variables(None) == template_variables(tmp_path / "none") == []


def test_tokens_are_blocks_with_the_edges_of_what_is_trained():
    token = {"id": 1, "text": "a\n", "origin": "message", "message": 0, "field": "content"}
    trained = token | {"origin": "generated", "message": 1}
    blocks = token_blocks(
        {"tokens": [token, trained, trained | {"weight": 0.5}], "blocks": [[0, "1 user"], [1, "2 assistant"]]}
    )
    assert [(block.kind, len(block.tokens)) for block in blocks] == [("user", 1), ("assistant", 2)]
    kinds = [(one["kind"], one["starts"], one["ends"]) for block in blocks for one in block.tokens]
    assert kinds == [("read", False, False), ("full", True, True), ("part", True, True)]
    assert visible("<b>\u202e\t") == [("", "<b>"), ("⟨202E⟩", ""), ("→", "\t")]


def test_pages_serve_no_model_with_foreign_code_or_for_others():
    for word in ("--host=0.0.0.0", "--cors=*", "--trust-remote-code", "--api-key=x"):
        with pytest.raises(ServeError, match="cannot be set from a page"):
            check_argv(["serve", "--model=./a", word])
    check_argv(["serve", "--model=./--host", "--port=0"])


@pytest.mark.slow
def test_only_runs_of_the_workspace_can_be_talked_to(served, tmp_path):
    make_talking_run(served.root)
    make_talking_run(served.root, "--host")
    make_talking_run(served.root, "runs/remote")
    make_talking_run(tmp_path / "elsewhere", "run")
    (served.root / "runs" / "remote" / "recipe.yaml").write_text("model:\n  name: ./base\n  trust_remote_code: true\n")
    (served.root / "runs" / "link").symlink_to(tmp_path / "elsewhere" / "run")
    (served.root / "data").mkdir()
    for name, status, words in (
        ("data", 422, "is no run"),
        ("../elsewhere/run", 404, "no such file"),
        (str(tmp_path / "elsewhere" / "run"), 404, "no such file"),
        ("runs/link", 404, "no such file"),
        ("base:../elsewhere/run", 404, "no such file"),
        ("meta-llama/Llama", 404, "no such file"),
        (".instil-studio", 404, "no such file"),
        ("runs/remote", 422, "runs Python code"),
        ("base:runs/remote", 422, "runs Python code"),
    ):
        answer = served.post("/chat", model=name)
        assert (answer.status, words in answer.text) == (status, True), name
    assert served.queue.jobs() == []
    studio = served.server.app.state.studio
    assert read_model(studio, "--host").argv[:2] == ("serve", "--model=./--host")
    assert read_model(studio, "base:runs/talker").argv[1:3] == (
        "--model=./base",
        "--template=./runs/talker/model/chat_template.jinja",
    )
    assert served.post("/chat", model="runs/talker", other="runs/talker").status == 422
    identity = served.post("/chat", model="runs/talker").headers["location"].removeprefix("/chat/")
    for path, fields, status in (
        ("ask", {"question": "  "}, 422),
        ("row", {"number": 0, "side": 0}, 422),
        ("better", {"side": 0}, 422),
        ("edit-answer", {"number": 5, "side": 9, "text": "x"}, 422),
        ("edit-question", {"number": 5, "text": "x"}, 422),
        ("results", {}, 422),
        ("settings", {"has_settings": 1, "temperature": "<b>hot"}, 422),
    ):
        assert served.post(f"/chat/{identity}/{path}", **fields).status == status, path
    assert served.get("/chat/../x").status == 404
    assert served.get(f"/chat/{identity}/tokens?number=0&side=0").status == 422
    chat = change_chat(
        served.root, identity, lambda now: now.with_exchanges((Exchange(question="q", replies=(done("a"),)),))
    )
    for file, status in (
        ("../rows.jsonl", 404),
        ("rows.txt", 422),
        (".instil-studio/x.jsonl", 404),
        ("new/rows.jsonl", 303),
    ):
        assert served.post(f"/chat/{identity}/row", number=0, side=0, file=file).status == status, file
    assert json.loads((served.root / "new" / "rows.jsonl").read_text()) == training_row(chat, 0, 0)
    assert (
        oct((served.root / ".instil-studio" / "engine-key").stat().st_mode)[-3:] == "600"
        if engine_key(served.root)
        else 0
    )


@pytest.mark.slow
def test_servers_that_nobody_talks_to_end_and_make_room(served, monkeypatch):
    """Three models for two places; what they load is a pipe that nobody writes to, so they last and cost nothing."""
    studio = served.server.app.state.studio
    models = []
    for name in ("a", "b", "c"):
        folder = make_talking_run(served.root, f"runs/{name}")
        models.append(read_model(studio, f"runs/{name}"))
        (folder / "model" / "config.json").unlink()
        os.mkfifo(folder / "model" / "config.json")
    first, second, third = (engines.start_engine(studio, model) for model in models)
    assert engines.start_engine(studio, models[0]) == first
    for number in (first, second):
        wait_until(lambda number=number: served.queue.folder(number).process)
    assert served.queue.job(third).state == "queued"
    engines.make_room(studio, {third})
    assert served.queue.job(first).stops == served.queue.job(second).stops == 0  # both were used just now
    os.utime(served.queue.folder(second).path / "used", (0, served.queue.job(second).created.timestamp() - 60))
    engines.make_room(studio, {third})
    wait_until(lambda: served.queue.job(second).state == "stopped")
    wait_until(lambda: served.queue.folder(third).process)
    monkeypatch.setattr(engines, "IDLE_SECONDS", 0.0)
    wait_until(lambda: [served.queue.job(number).state for number in (first, third)] == ["stopped"] * 2)


@pytest.mark.long
@needs_chromium
def test_a_run_and_its_base_are_talked_to_side_by_side(served):
    """The whole way: settings, streaming, stop, tokens, tools, edit, undo, pair, row, a killed server, a restart."""
    make_talking_run(served.root)
    with browser_context() as context:
        page = context.new_page()
        problems = watch(page, served.url, allowed=("status of 422",))
        page.goto(served.first_url)
        page.goto(f"{served.url}/chat")
        page.get_by_label("Beside it").select_option("base:runs/talker")
        page.get_by_role("button", name="Begin a chat").click()
        address = page.url
        page.get_by_text("Sampling", exact=True).click()
        page.get_by_label("Temperature").fill("hot")
        page.get_by_label("Longest answer").fill("4000")
        page.get_by_text("found hot; allowed is 0 to 10").wait_for()
        page.get_by_label("Temperature").fill("")
        page.get_by_text("Template variables").click()
        page.get_by_label("shout").fill("false")
        page.get_by_text("Sampling · max_tokens 4000").wait_for()

        # The question streams; the run ends by itself, its base is stopped. A reload in the middle loses nothing.
        page.get_by_label("Question").fill("Say hi")
        page.keyboard.press("Enter")
        wait_for_text(page, '[data-side="1"] .answer', lambda text: len(text) > 20)
        wait_for_text(page, ".answer", lambda text: text == "Hi</script><b>you</b>")
        page.reload()
        wait_for_text(page, '[data-side="1"] .answer', lambda text: len(text) > 40)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Send").wait_for()
        answers = page.locator(".answer").all_text_contents()
        assert answers[0] == "Hi</script><b>you</b>"
        assert len(answers[1]) > 40
        assert "stopped" in page.locator(".notes").all_text_contents()[1], list_chats(served.root)[0].exchanges
        chat = list_chats(served.root)[0]
        assert len({reply.seed for reply in chat.exchanges[0].replies}) == 1
        assert chat.settings.variables == {"shout": False}
        page.get_by_role("link", name="Tokens: runs/talker").first.click()
        page.locator(".chat-tokens .token.full").first.wait_for()
        assert (
            "".join(page.locator(".chat-tokens .token-part .token.full").all_text_contents())
            == f"{answers[0]}<|im_end|>"
        )
        page.get_by_role("link", name="as a training row").click()
        page.get_by_text("⟦trained⟧").wait_for()
        assert_accessible(page)

        # Which of two was better: a pair, and both go on from it.
        page.get_by_role("button", name="This one is better: runs/talker").click()
        page.get_by_text("chosen; both go on from it").wait_for()
        pair = json.loads((served.root / "chat-pairs.jsonl").read_text())
        assert pair["prompt"] == [{"role": "user", "content": "Say hi"}]
        assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == tuple(answers)
        page.get_by_role("button", name="Save as a training row: runs/talker").click()
        page.get_by_text("saved to chat-rows.jsonl").wait_for()
        assert json.loads((served.root / "chat-rows.jsonl").read_text())["messages"][-1]["content"] == answers[0]

        # An edit of the answer, and undo.
        page.get_by_text("Correct the answer").first.click()
        page.get_by_label("Correct the answer").first.fill("Hello")
        page.get_by_role("button", name="Keep this answer").first.click()
        page.get_by_text("edited").wait_for()
        page.get_by_role("button", name="Undo").click()
        wait_for_text(page, ".answer", lambda text: text.startswith("Hi<"))

        # A server that is killed while it writes is reported; the next question starts it again.
        page.get_by_role("button", name="Answer again").click()
        wait_for_text(page, '[data-side="1"] .answer', lambda text: len(text) > 20)
        (base,) = [job for job in served.queue.jobs() if "--model=./base" in job.argv]
        os.kill(served.queue.folder(base.number).process.pid, signal.SIGKILL)
        page.get_by_text("The model's server ended (signal 9)").wait_for()
        assert problems == []

    # One model alone, in a studio that was started anew: its server is found again.
    with Served(served.root) as again, browser_context() as context:
        page = context.new_page()
        problems = watch(page, again.url)
        page.goto(again.first_url)
        page.goto(f"{again.url}/chat?model=runs/talker")
        page.get_by_role("button", name="Begin a chat").click()
        page.get_by_text("Tools", exact=True).click()
        page.get_by_role("textbox", name="Tools").fill(TOOLS)
        page.get_by_label("Question").fill("Say what?")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Send").wait_for()
        page.get_by_text("Edit", exact=True).click()
        page.get_by_label("The question as it should be").fill("Time?")
        page.get_by_role("button", name="Ask this instead").click()
        page.get_by_text("calls the tool").wait_for()
        page.get_by_label("time", exact=True).fill("12:00 </script>")
        page.get_by_role("button", name="Give the results to the model").click()
        page.get_by_text("Results of the tools").wait_for()
        page.get_by_role("button", name="Send").wait_for()
        assert page.locator("pre", has_text="12:00 </script>").count() == 1
        assert sum("--model=./runs/talker" in job.argv for job in again.queue.jobs()) == 1
        page.goto(address.replace(served.url, again.url))
        assert page.locator(".answer").first.text_content().startswith("Hi<")
        for job in again.queue.jobs():
            again.queue.stop(job.number, level=1)
        wait_until(lambda: all(job.state != "running" for job in again.queue.jobs()))
        assert problems == []
