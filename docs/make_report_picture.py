"""Draw docs/pictures/report.png again: the report of a short run of the embedded model, opened in headless Chromium.

Run from the repository's root: ``python docs/make_report_picture.py``. It trains for about a minute.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from make_screens import write_rows
from screenshots import PICTURES, opened_browser, run_instil

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
        for command in COMMANDS:
            run_instil(command, folder)
        with opened_browser(folder, height=1120) as browser:
            browser.open((folder / "runs" / "rows" / "report.html").as_uri())
            browser.picture(PICTURES / "report.png")


if __name__ == "__main__":
    main()
