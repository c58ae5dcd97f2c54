"""Claims about pages that change while somebody uses them: what is pressed, typed and sent is not lost, and all of it shows."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.studio.browser import browser_context, needs_chromium
from tests.studio.served import wait_until
from tests.studio.test_queue import COUNTS_SIGNALS
from tests.studio.test_run import a_writer, step_line
from tests.studio.test_workspace import make_run

from instil.studio.jobs.processes import this_process
from instil.studio.jobs.queue import Queue
from instil.studio.pages import run as run_page

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
RUN = "/runs/run?run=runs/a"


class Steps(threading.Thread):
    """Writes a step every 50 ms, as a fast run does, until it is ended."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path, self.is_ended, self.step = folder / "metrics.jsonl", threading.Event(), 0

    def run(self):
        while not self.is_ended.wait(0.05):
            self.step += 1
            with self.path.open("a") as file:
                file.write(step_line(self.step))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_ended.set()
        self.join()


@pytest.fixture
def folder(served):
    """A run without an end, without steps."""
    folder = served.root / "runs" / "a"
    make_run(folder, finished=False)
    (folder / "metrics.jsonl").write_text("")
    facts = [["steps", "9999 of 2 examples"]]
    (folder / "card.json").write_text(json.dumps({"groups": [{"title": "Run", "facts": facts}]}))
    return folder


def shown_step(page):
    text = page.locator(".progress label").text_content()
    return int(text.split()[1].replace(",", ""))


def box_of(locator):
    """Return where an element is, which may be replaced while it is asked for."""
    return wait_until(locator.bounding_box)


def answers_of(page, path):
    """Return a list that grows with each answer of a path."""
    found = []
    page.on("response", lambda response: found.append(response.url) if path in response.url else None)
    return found


@needs_chromium
def test_a_press_is_a_click_however_often_the_page_changes_under_it(opened, served, folder):
    page = opened
    answers = answers_of(page, "/runs/run/status")
    stop = page.get_by_role("button", name="Stop and save")
    with a_writer(folder) as writer, Steps(folder):
        page.goto(served.url + RUN)
        wait_until(lambda: page.locator(".progress label").count() and shown_step(page) > 3)
        # A key: the focus stays on the button while the page changes, and the space bar presses it.
        stop.focus()
        stop.evaluate("button => { window.held = button; }")
        held = shown_step(page)
        wait_until(lambda: shown_step(page) > held)
        assert page.evaluate("window.held.isConnected && window.held === document.activeElement")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Stop and save: runs/a"
        # The pointer: an answer comes between press and release, and the button stays.
        box = box_of(stop)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.evaluate("addEventListener('pointerdown', (event) => { window.pressed = event.target; }, true)")
        page.mouse.down()
        before = len(answers)
        wait_until(lambda: page.evaluate("1") and len(answers) > before)
        assert page.evaluate("[window.pressed.tagName, window.pressed.isConnected]") == ["BUTTON", True]
        # What came may have moved the button; a hand that presses it follows.
        box = box_of(stop)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        with page.expect_request(lambda request: request.method == "POST") as sent:
            page.mouse.up()
        assert "level=1" in sent.value.post_data
        assert writer.wait(timeout=60) == -signal.SIGTERM
    page.get_by_role("button", name="Resume").wait_for()


@needs_chromium
def test_drawn_curves_stay_as_they_are_when_their_page_is_refreshed(opened, served, folder):
    page = opened
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(step_line(step) for step in range(1, 9))
    page.goto(served.url + RUN)
    page.locator("#chart-loss[data-drawn] svg path").first.wait_for()
    page.get_by_role("button", name="log scale").first.click()
    page.evaluate("window.curve = document.querySelector('#chart-loss svg')")
    kept = "[window.curve.isConnected, document.querySelector('#chart-loss button.plain').ariaPressed]"
    for is_hidden in (True, False):  # its stream is opened again, which refreshes everything
        page.evaluate(HIDE, is_hidden)
    page.locator("html[data-stream=open]").wait_for()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(step_line(9, accuracy=0.5))  # another chart
    page.locator("#chart-won[data-drawn] svg").wait_for()
    assert page.evaluate(kept) == [True, "true"]


@needs_chromium
def test_events_that_come_faster_than_answers_do_not_freeze_the_page(opened, served, folder, monkeypatch):
    status_view, curve = run_page.status_view, run_page.chart_view
    monkeypatch.setattr(run_page, "status_view", lambda run: time.sleep(0.5) or status_view(run))
    monkeypatch.setattr(run_page, "chart_view", lambda *words, **more: time.sleep(0.5) or curve(*words, **more))
    page = opened
    with a_writer(folder), Steps(folder):
        page.goto(served.url + RUN)
        wait_until(lambda: page.locator(".progress label").count() and shown_step(page) > 3)
        held, drawn = shown_step(page), page.locator("#chart-loss").get_attribute("data-drawn")
        wait_until(lambda: shown_step(page) > held, seconds=60)
        wait_until(lambda: page.locator("#chart-loss").get_attribute("data-drawn") != drawn, seconds=60)


@needs_chromium
def test_a_refresh_does_not_end_a_form_on_its_way_and_a_form_is_sent_once(opened, served, folder, monkeypatch):
    stopped, let_go = [], threading.Event()

    def signal_holder(folder, level):
        stopped.append(level)
        assert let_go.wait(60)

    monkeypatch.setattr(run_page, "signal_holder", signal_holder)
    page = opened
    posts, failed = [], []
    page.on("request", lambda request: posts.append(request.post_data) if request.method == "POST" else None)
    page.on("requestfailed", lambda request: failed.append(request.method))
    with a_writer(folder), Steps(folder) as steps:
        page.goto(served.url + RUN)
        stop = page.get_by_role("button", name="Stop and save")
        stop.click()
        wait_until(lambda: stopped)
        stop.click()
        written = steps.step
        wait_until(lambda: steps.step > written + 10)
        page.evaluate("1")
        let_go.set()
        held = shown_step(page)
        wait_until(lambda: shown_step(page) > held)  # it goes on after the form's answer
        assert (stopped, len(posts), "POST" in failed) == ([1], 1, False)


@needs_chromium
def test_a_second_click_never_presses_the_button_that_came_to_stand_there(opened, served, monkeypatch):
    """The first click stops and saves; a fast second one would stop at once, and lose what was not saved."""

    def start(queue, number):
        queue.folder(number).claim(this_process(child.pid))
        queue.folder(number).write_process(this_process(child.pid))

    monkeypatch.setattr(Queue, "_start", start)
    with subprocess.Popen([sys.executable, "-c", COUNTS_SIGNALS], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"  # it takes signals, and goes on
        number = served.queue.add(["convert", "pipe.jsonl", "out.jsonl"], title="one")
        page = opened
        page.goto(f"{served.url}/jobs")
        box = box_of(page.get_by_role("button", name="Stop: one"))
        place = (box["x"] + 8, box["y"] + box["height"] / 2)
        page.mouse.click(*place)
        page.get_by_role("button", name="Stop now: one").wait_for()
        page.mouse.move(*place)
        page.mouse.down(click_count=2)
        page.mouse.up(click_count=2)
        page.mouse.click(*place)  # meant
        page.get_by_role("button", name="Kill: one").wait_for()
        assert served.queue.job(number).stops == 2
        assert [child.stdout.readline() for _ in range(2)] == ["asked\n"] * 2
        # Enter does not press it either: the focus is on no other button.
        assert page.evaluate("document.activeElement.closest('button')") is None
        page.get_by_role("button", name="Kill: one").click()
        page.locator("tr", has_text="one").get_by_role("button", name="Kill: one").wait_for(state="hidden")
        assert child.wait() == -signal.SIGKILL


@pytest.mark.long
@needs_chromium
def test_more_pages_than_a_browser_has_connections_all_follow_and_hidden_ones_come_back(served):
    """Eight windows are seen at once; a browser opens six connections, and a page needs one of them to load."""
    with browser_context() as context:
        pages = [context.new_page() for _ in range(8)]
        for page in pages:
            page.goto(served.first_url)
        for is_hidden in (True, False):  # as a tab that another one covers, and then is seen again
            pages[0].evaluate(HIDE, is_hidden)
        pages[-1].goto(f"{served.url}/jobs", timeout=30_000)
        os.mkfifo(served.root / "pipe.jsonl")
        served.queue.add(["convert", "pipe.jsonl", "out.jsonl"], title="<one>")  # until it is stopped
        for page in pages:
            page.get_by_text("<one>").first.wait_for(timeout=120_000)
        make_run(served.root / "runs" / "late")
        for page in pages[:-1]:
            page.get_by_text("runs/late").first.wait_for(timeout=120_000)


@pytest.mark.slow
def test_fifty_streams_are_served_beside_the_pages(served):
    connections = []
    try:
        for _ in range(50):
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
            connection.request("GET", "/events", headers={"Cookie": served.cookie})
            connections.append((connection, connection.getresponse()))
        assert all(answer.readline() == b": open\n" for _, answer in connections)
        served.queue.add(["convert", "--help"], title="one")
        assert [served.get(path).status for path in ("/", "/jobs", "/runs", "/data")] == [200] * 4
        for _, answer in connections:
            while (line := answer.readline()) != b"event: jobs\n":
                assert line, "the stream has ended"
    finally:
        for connection, _ in connections:
            connection.close()
