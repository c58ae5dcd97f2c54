"""Draw docs/pictures/report.png again: the report of a short run of the embedded model, opened in headless Chromium.

Run from the repository's root: ``python docs/make_report_picture.py``. It trains for about a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.make_screens import write_rows  # noqa: E402
from tests.inspection.browser import Browser  # noqa: E402

COMMANDS = (
    "train rows.jsonl --model demo --training.max-steps 60 --data.on-bad-row skip --evaluate.max-new-tokens 12",
    "evaluate runs/rows --data test.jsonl --limit 60 --max-new-tokens 12 --against demo",
    "report runs/rows",
)


def main() -> None:
    """Train, evaluate, write the report, and save what its first screen shows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, "")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        for command in COMMANDS:
            words = [sys.executable, "-m", "instil", *command.split()]
            subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        browser = Browser(folder / "profile", "--force-device-scale-factor=1.5", "--window-size=1280,1120")
        try:
            browser.open((folder / "runs" / "rows" / "report.html").as_uri())
            browser.picture(ROOT / "docs" / "pictures" / "report.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
