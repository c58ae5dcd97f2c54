"""Measure the studio: its start and memory, the page of a long run, of many runs and of a large data file.

    python benchmarks/studio.py [--steps 100000] [--runs 500] [--rows 1000000] [--repeats 5] [--no-browser]

Takes no data and no model. It makes a workspace with one run of --steps steps and --runs short ones, starts `instil studio` on it in a process of its
own, and asks it as a browser does. With playwright and chromium the pages are opened, and the time is that until the
curve is drawn; without them (or with --no-browser) it is that until the page and the curve's points have arrived. The
last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from options import count

RECIPE = """output: runs/{name}
model:
  name: demo
  template: null
adapter:
  kind: lora
  rank: {rank}
data:
  sources:
  - path: rows.jsonl
    format: auto
  train_on: assistant
training:
  objective: sft
  batch_size: 32
  seed: {rank}
optimizer:
  name: adamw
  lr: {lr}
  schedule: cosine
evaluate:
  every: 100
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def step_line(step: int, num_steps: int) -> str:
    """Return a line of metrics as a run writes it."""
    loss = 3.0 / step**0.2 + 0.1 * ((step * 7919) % 1000) / 1000
    return json.dumps(
        {
            "step": step,
            "epoch": 0,
            "examples": 32,
            "loss": loss,
            "learning_rate": 2e-4 * (1 - step / (num_steps + 1)),
            "gradient_norm": 1 + loss / 3,
            "tokens": 1346,
            "trained_tokens": 235,
            "micro_batch_tokens": 4096,
            "moved": True,
            "memory_mb": 709.25,
            "seconds": {"data": 0.009462, "forward": 0.6493, "backward": 0.6129, "update": 0.005761, "total": 1.27759},
        }
    )


def write_run(folder: Path, *, num_steps: int, number: int = 0) -> None:
    """Write the files of a run that its pages read."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        RECIPE.format(name=folder.name, rank=8 + number % 7, lr=1e-4 * (1 + number % 5))
    )
    (folder / "environment.json").write_text("{}")
    (folder / "card.json").write_text(
        json.dumps({"groups": [{"title": "Training", "facts": [["steps", f"{num_steps:,} of 32 examples"]]}]})
    )
    every = max(1, num_steps // 100)
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, num_steps + 1):
            file.write(step_line(step, num_steps) + "\n")
            if step % every == 0:
                file.write(json.dumps({"step": step, "heldout_loss": 3.1 / step**0.2, "best": True}) + "\n")
    (folder / "results.json").write_text(json.dumps({"steps": num_steps}))


class Opened:
    """A studio in a process of its own, and requests to it."""

    def __init__(self, workspace: Path) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "instil", "studio", str(workspace), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)/(\S+)", line)
        if address is None:
            raise SystemExit(f"the studio did not start:\n{line}{self.process.stdout.read()}")
        self.port, self.first = int(address[1]), address[0]
        self.cookie = ""
        self.cookie = self._request(f"/{address[2]}").headers["set-cookie"].partition(";")[0]
        self.get("/")
        self.start_seconds = time.perf_counter() - started
        self.start_cpu_seconds = self.cpu_seconds

    def _request(self, path: str, *, by_script: bool = False) -> http.client.HTTPResponse:
        end = time.monotonic() + 60
        while True:  # the address is printed before the first request can be answered
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                sent = {"Sec-Fetch-Dest": "empty" if by_script else "document"}
                connection.request("GET", path, headers=sent | ({"Cookie": self.cookie} if self.cookie else {}))
                return connection.getresponse()
            except ConnectionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def get(self, path: str, *, by_script: bool = False) -> bytes:
        """Return the answer to a request, sent as a page or as a script of one."""
        answer = self._request(path, by_script=by_script)
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: status {answer.status}\n{body[:2000].decode()}")
        return body

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the server so far: what a busy machine does not change."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory_mb(self) -> float:
        """Resident memory of the server."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)

    def end(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(timeout=30)


@contextlib.contextmanager
def opened(workspace: Path) -> Iterator[Opened]:
    """Start a studio, and end it."""
    studio = Opened(workspace)
    try:
        yield studio
    finally:
        studio.end()


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure_requests(workspace: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure without a browser."""
    page, curve = "/runs/run?run=runs/long", "/runs/run/curve?run=runs/long&chart=loss"
    with opened(workspace) as studio:
        found: dict[str, Any] = {
            "start_seconds": studio.start_seconds,
            "start_cpu_seconds": studio.start_cpu_seconds,
            "memory_mb_at_start": studio.memory_mb,
        }
        found["run_page_first_seconds"] = timed(lambda: (studio.get(page), studio.get(curve)))
        while json.loads(studio.get(curve))["more"]:
            pass
        times = [timed(lambda: (studio.get(page), studio.get(curve))) for _ in range(args.repeats)]
        found["run_page_seconds"] = statistics.median(times)
        found["memory_mb_after_long_run"] = studio.memory_mb
    with opened(workspace) as studio:
        started, used = time.perf_counter(), studio.cpu_seconds
        text = studio.get("/runs")
        found["runs_page_first_seconds"] = time.perf_counter() - started
        while b"data-again" in text:
            text = studio.get("/runs", by_script=True)
        found["runs_page_all_read_seconds"] = time.perf_counter() - started
        found["runs_page_all_read_cpu_seconds"] = studio.cpu_seconds - used
        found["runs_page_seconds"] = statistics.median(timed(lambda: studio.get("/runs")) for _ in range(args.repeats))
        found["runs_page_mb"] = len(text) / 2**20
        found["memory_mb_after_runs"] = studio.memory_mb
    return found


def measure_data(workspace: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the page of a large file: until its first rows are there, and how much of the file was read for them."""
    data = workspace / "rows.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for number in range(args.rows):
            file.write(f'{{"question": "What is {number} and 1?", "answer": "It is {number + 1}."}}\n')
    with opened(workspace) as studio:
        io = psutil.Process(studio.process.pid).io_counters()
        text = b""

        def show() -> None:
            nonlocal text
            text = studio.get("/data/view?path=rows.jsonl")

        found: dict[str, Any] = {"data_page_first_seconds": timed(show)}
        if b"What is 0 and 1?" not in text:
            raise SystemExit("/data/view: the first row is not on the page")
        found["data_page_read_mb"] = (
            psutil.Process(studio.process.pid).io_counters().read_chars - io.read_chars
        ) / 2**20
        found["data_page_seconds"] = statistics.median(timed(show) for _ in range(args.repeats))
        found["data_file_mb"] = data.stat().st_size / 2**20
    return found


def measure_in_browser(workspace: Path, args: argparse.Namespace, chromium: str) -> dict[str, Any]:
    """Measure in chromium: until the curve of the loss is drawn, and until a new step is on the page."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {}
    metrics = workspace / "runs" / "long" / "metrics.jsonl"
    with opened(workspace) as studio, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(studio.first)
        root = f"http://127.0.0.1:{studio.port}"

        def draw() -> None:
            tab.goto(f"{root}/runs/run?run=runs/long", wait_until="commit")
            tab.locator("#chart-loss[data-drawn] svg path").first.wait_for()

        found["run_page_first_drawn_seconds"] = timed(draw)
        tab.locator("#status:not([data-again])").wait_for()
        found["run_page_drawn_seconds"] = statistics.median(timed(draw) for _ in range(args.repeats))
        tab.locator("html[data-stream=open]").wait_for()
        tab.wait_for_timeout(1500)
        times = []
        for step in range(args.steps + 1, args.steps + 1 + args.repeats):
            with metrics.open("a", encoding="utf-8") as file:
                file.write(step_line(step, args.steps) + "\n")
            shown = tab.locator("#status .progress label", has_text=f"{step:,} of")
            times.append(timed(shown.wait_for))
            tab.wait_for_timeout(700 + 130 * (step % 3))
        found["follow_seconds"] = statistics.median(times)
        found["follow_longest_seconds"] = max(times)
        found["runs_page_in_browser_seconds"] = timed(lambda: tab.goto(f"{root}/runs"))
        browser.close()
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=count, default=100_000, help="steps of the long run")
    parser.add_argument("--runs", type=count, default=500, help="short runs")
    parser.add_argument("--rows", type=count, default=1_000_000, help="rows of the data file")
    parser.add_argument("--repeats", type=count, default=5, help="how often what can be repeated is; the middle counts")
    parser.add_argument("--no-browser", action="store_true", help="measure requests only")
    return parser


def main() -> None:
    """Measure, and print a line for each figure."""
    args = build_parser().parse_args()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    with tempfile.TemporaryDirectory(prefix="instil-studio-") as scratch:
        workspace = Path(scratch)
        write_run(workspace / "runs" / "long", num_steps=args.steps)
        for number in range(args.runs):
            write_run(workspace / "runs" / f"many-{number:04d}", num_steps=200, number=number)
        os.sync()
        found = measure_requests(workspace, args) | measure_data(workspace, args)
        if chromium and not args.no_browser:
            found |= measure_in_browser(workspace, args, chromium)
    found = {name: round(value, 3) for name, value in found.items()}
    for name, value in found.items():
        print(f"{name:<32} {value:,.3f}", file=sys.stderr)
    print(json.dumps({"steps": args.steps, "runs": args.runs, "rows": args.rows, **found}))


if __name__ == "__main__":
    main()
