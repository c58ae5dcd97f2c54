"""What the scripts of pictures share: a command of instil in a folder, and a browser whose pages become a PNG."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.inspection.browser import Browser  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"


def run_instil(command: str, folder: Path) -> None:
    """Run a command of this repository's instil in a folder.

    Args:
        command: Words behind ``instil``, separated by spaces.
        folder: Where it runs.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "instil", *command.split()]
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def opened_browser(folder: Path, *, height: int) -> Iterator[Browser]:
    """Open headless Chromium, with a page 1280 pixels wide that is drawn at one and a half times its size.

    Args:
        folder: Where its profile may lie.
        height: Height of the window in pixels.
    """
    browser = Browser(folder / "profile", "--force-device-scale-factor=1.5", f"--window-size=1280,{height}")
    try:
        yield browser
    finally:
        browser.close()
