"""A headless browser for the tests of the report page."""

from __future__ import annotations

import shutil
import subprocess

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def dom_of(html, tmp_path):
    """Return the document as HTML after a browser has run the page's script."""
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    run = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=2000", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return run.stdout
