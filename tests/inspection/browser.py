"""A headless Chromium spoken to over its debugging pipe, for tests of pages; no package is needed."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not opened")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--window-size=1400,1000",
    "--hide-scrollbars",
]
# Chromium reads commands from descriptor 3 and answers on 4
LAUNCH = """
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(given), fcntl.F_DUPFD, 10) for given in sys.argv[1:3])
os.dup2(reading, 3), os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}


class Browser:
    """One page in one browser."""

    def __init__(self, folder: Path, *flags: str, timeout: float = 180.0) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        given = [
            str(to_browser),
            str(from_browser),
            CHROMIUM,
            *FLAGS,
            *flags,
            f"--user-data-dir={folder}",
            "about:blank",
        ]
        command = [sys.executable, "-c", LAUNCH, *given]
        self._process = subprocess.Popen(
            command, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._timeout, self._number, self._left = timeout, 0, b""
        self._session = ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters):
        """Send a command and give its result; what the page reports meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            got = self._receive()
            if got.get("id") == self._number:
                assert "error" not in got, got
                return got["result"]

    def _receive(self):
        deadline = time.monotonic() + self._timeout
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has gone"
            self._left += data
        line, self._left = self._left.split(b"\0", 1)
        got = json.loads(line)
        if got.get("method") == "Network.requestWillBeSent":
            self.requests.append(got["params"]["request"]["url"])
        if got.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(json.dumps(got["params"]))
        return got

    def open(self, url: str) -> None:
        """Open a page and wait until its script has drawn it."""
        self.send("Page.navigate", url=url)
        deadline = time.monotonic() + self._timeout
        while self.run("location.href.split('#')[0] + document.readyState") != url.split("#")[0] + "complete":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def run(self, script: str):
        """Return the value of a JavaScript expression."""
        return self.send("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of the first element that a selector finds."""
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def press(self, key: str) -> None:
        """Press a key, as a person would."""
        code = KEYS.get(key, ord(key.upper()[0]) if len(key) == 1 else 0)
        more = {"key": key, "windowsVirtualKeyCode": code}
        if len(key) == 1:
            more["text"] = key
        elif key == "Enter":
            more["text"] = "\r"
        self.send("Input.dispatchKeyEvent", type="keyDown", **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def point_at(self, selector: str) -> None:
        """Move the mouse over an element."""
        box = self.run(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector({json.dumps(selector)}).getClientRects()[0])"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def picture(self, path: Path) -> None:
        """Save what is to be seen as a PNG."""
        import base64

        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
