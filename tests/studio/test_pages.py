"""Claims about the first pages: their views, what they answer, and how they are in a real browser."""

from __future__ import annotations

import http.client
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.studio.browser import assert_accessible, browser_context, needs_chromium, watch
from tests.studio.served import Served, wait_until
from tests.studio.test_workspace import make_run

from instil.studio.jobs.log import log_end
from instil.studio.jobs.records import Job
from instil.studio.pages.jobs import job_view

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def a_job(**values):
    ended = {"state": "failed", "started": NOW - timedelta(seconds=90), "ended": NOW, "exit_code": 2, "stops": 0}
    return Job(
        **{"number": 1, "argv": ("train",), "title": "", "lane": "device", "run": "", "created": NOW} | ended | values
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ("jobs.exit_code", {"code": 2})),
        ({"exit_code": -9}, ("jobs.killed_hard", {})),
        ({"exit_code": -15}, ("jobs.killed", {"signal": "SIGTERM"})),
        ({"exit_code": None}, ("jobs.lost", {})),
        ({"state": "stopped", "exit_code": 143}, None),
        ({"state": "done", "exit_code": 0}, None),
    ],
)
def test_a_job_says_why_it_failed_and_how_long_it_took(values, reason):
    view = job_view(a_job(**values), now=NOW)
    assert (view["reason"], view["seconds"]) == (reason, 90.0)
    assert job_view(a_job(started=None, ended=None), now=NOW)["seconds"] is None


def test_the_end_of_a_log_begins_with_a_whole_line(tmp_path):
    (tmp_path / "log.txt").write_text("first\nsecond\nthird\n")
    assert log_end(tmp_path / "log.txt", 9) == ("third\n", 19, True)
    assert log_end(tmp_path / "log.txt") == ("first\nsecond\nthird\n", 19, False)
    assert log_end(tmp_path / "none") == ("", 0, False)


@pytest.mark.slow
def test_jobs_are_shown_cancelled_and_removed(served):
    os.mkfifo(served.root / "pipe.jsonl")
    lasting = ["convert", "pipe.jsonl", "out.jsonl"]
    first, second = served.queue.add(lasting, title="<b>one</b>"), served.queue.add(lasting, title="two")
    text = wait_until(lambda: (found := served.get("/jobs").text) and "state running" in found and found)
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "<b>one" not in text
    assert served.post(f"/jobs/{second}/cancel").headers["location"] == "/jobs"
    assert served.queue.job(second).state == "stopped"
    wait_until(lambda: served.queue.folder(first).process)
    assert served.post(f"/jobs/{first}/stop", level=1, back="/").headers["location"] == "/"
    wait_until(lambda: served.queue.job(first).state == "stopped")
    assert served.post(f"/jobs/{first}/remove").status == 303
    assert [job.number for job in served.queue.jobs()] == [second]
    assert served.get(f"/jobs/{second}/log").headers["content-type"] == "text/plain; charset=utf-8"


def test_wrong_requests_are_readable_pages(served):
    for path, status, words in (
        ("/nothing", 404, "no such page"),
        ("/jobs/7", 404, "no job 7"),
        ("/jobs/x", 422, "not complete"),
        ("/jobs/7/log", 404, "no job 7"),
        ("/runs/run/curve", 422, "not complete"),
        ("/language", 405, "cannot be used like that"),
    ):
        answer = served.get(path)
        assert (answer.status, words in answer.text) == (status, True), path
        assert "<h1>" in answer.text
    assert served.post("/jobs/7/stop", level=9).status == 422
    assert "没有任务 7" in served.get("/jobs/7", **{"Accept-Language": "zh"}).text


def test_an_open_stream_does_not_hold_a_studio_that_ends(workspace):
    with Served(workspace) as studio:
        connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
        connection.request("GET", "/events", headers={"Cookie": studio.cookie})
        answer = connection.getresponse()
        assert answer.getheader("content-type").startswith("text/event-stream")
        assert answer.readline() == b": open\n"
        began = time.monotonic()
    assert time.monotonic() - began < 5
    connection.close()


def test_a_damaged_run_is_an_error_with_the_place(served):
    make_run(served.root / "runs" / "a")
    (served.root / "runs" / "a" / "metrics.jsonl").unlink()
    (served.root / "runs" / "a" / "metrics.jsonl").mkdir()
    answer = served.get("/runs/run/curve?run=runs/a&chart=loss")
    assert answer.status == 422
    assert "metrics.jsonl" in answer.text


@needs_chromium
def test_jobs_appear_run_and_are_stopped_without_a_reload(opened, served):
    page = opened
    page.goto(f"{served.url}/jobs")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.evaluate("window.stays = true")
    os.mkfifo(served.root / "pipe.jsonl")
    first = served.queue.add(["convert", "pipe.jsonl", "out.jsonl"], title="the first")
    second = served.queue.add(["convert", "--help"], title="the second")
    page.get_by_role("button", name="Cancel: the second").click()
    page.locator("tr", has_text="the second").get_by_text("stopped").wait_for()
    assert served.queue.job(second).state == "stopped"
    wait_until(lambda: served.queue.folder(first).process)
    page.get_by_role("button", name="Stop: the first").click()
    page.locator("tr", has_text="the first").get_by_text("stopped").wait_for()
    assert page.evaluate("window.stays") is True


@needs_chromium
def test_a_log_grows_as_it_is_written_and_each_line_comes_once(opened, served):
    os.mkfifo(served.root / "pipe.jsonl")
    number = served.queue.add(["convert", "pipe.jsonl", "out.jsonl"])
    process = wait_until(lambda: served.queue.folder(number).process)
    page = opened
    page.goto(f"{served.url}/jobs/{number}")
    page.locator("html[data-stream=open]").wait_for()
    with served.queue.folder(number).log.open("a") as log:
        for line in ("one <b>\n", "tw", "o\n"):
            log.write(line)
            log.flush()
            page.wait_for_timeout(600)
    wait_until(lambda: page.locator("#log").text_content() == "one <b>\ntwo\n")
    page.reload()
    wait_until(lambda: page.locator("#log").text_content() == "one <b>\ntwo\n")
    assert_accessible(page)
    os.kill(process.pid, signal.SIGKILL)
    page.get_by_text("It was killed (SIGKILL)").wait_for()


@needs_chromium
def test_the_chart_draws_zooms_and_reads_out(opened, served):
    make_run(
        served.root / "runs" / "a",
        losses=[3 - step / 100 for step in range(200)],
        heldout=[(0, 3.5), (100, 2.2), (200, 1.4)],
    )
    page = opened
    page.goto(f"{served.url}/")
    page.locator("#curve[data-drawn]").wait_for()
    assert page.locator("#curve svg path").count() == 3
    assert page.locator("#curve svg circle").count() == 3
    box = page.locator("#curve svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 100)
    assert re.search(r"step \d+: loss of each step [\d.]+", page.locator("#curve output").text_content())
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 100)
    page.mouse.up()
    wait_until(lambda: page.locator("#curve svg circle").count() == 1)
    page.get_by_role("button", name="log scale").click()
    assert page.get_by_role("button", name="log scale").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="held-out").click()
    assert page.locator("#curve svg circle").count() == 0
    page.get_by_role("button", name="whole curve").click()
    page.get_by_role("button", name="whole curve").wait_for(state="hidden")
    page.locator("#curve svg").focus()
    page.keyboard.press("Home")
    assert page.locator("#curve output").text_content().startswith("step 1:")
    page.get_by_text("Values as a table").click()
    wait_until(lambda: page.locator("#curve table tr").count() > 200)  # the toggle is told after the click
    assert_accessible(page)


@needs_chromium
def test_a_language_stays_chosen_and_forms_work_without_the_script(served):
    with browser_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(served.first_url)
        for name, title in (("中文", "概览"), ("Tiếng Việt", "Tổng quan"), ("English", "Overview")):
            page.get_by_role("button", name=name).click()
            assert page.locator("h1").text_content() == title
            page.reload()
            assert page.locator("h1").text_content() == title


@needs_chromium
def test_without_the_token_a_browser_shows_a_page_that_asks_for_it(served):
    with browser_context() as context:
        page = context.new_page()
        problems = watch(page, served.url, allowed=("status of 401", "status of 404"))
        page.goto(f"{served.url}/jobs")
        assert_accessible(page)
        page.get_by_label("Key or token").fill("the-token-of-the-tests")
        page.get_by_role("button", name="Open").click()
        page.get_by_role("heading", name="Overview").wait_for()
        assert page.url == f"{served.url}/"
        page.goto(f"{served.url}/nothing")
        assert_accessible(page)
        assert problems == []
