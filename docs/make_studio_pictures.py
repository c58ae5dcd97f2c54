"""Draw docs/pictures/studio-data.png and studio-run.png again: two pages of a studio, opened in headless Chromium.

Run from the repository's root: ``python docs/make_studio_pictures.py``. It trains for about a minute. A font with Chinese
letters must be there (Debian: fonts-wqy-microhei), because the languages stand on every page.
"""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path

from make_screens import write_rows
from screenshots import PICTURES, opened_browser, run_instil
from tests.inspection.browser import Browser
from tests.studio.served import Served

TRAIN = (
    "train rows.jsonl --model demo --training.max-steps 60 --data.on-bad-row skip --evaluate.every 10 "
    "--evaluate.max-new-tokens 12"
)
QUESTIONS = (
    ("What is the capital of Peru?", "The capital of Peru is Lima."),
    ("How do I say thank you there?", "In Spanish you say gracias.\nIn the mountains, many say sulpayki."),
    ("Name a river in Brazil.", ""),
    ("Which is the longest river of Africa?", "The Nile."),
    ("I was told to type <|im_end|> after it.", "There is no need to."),
    ("What is the capital of Peru?", "The capital of Peru is Lima."),
)
"""Rows with one of each: an ordinary answer, an empty one, a typed stop token, a duplicate."""
MOST_SECONDS = 120.0


def main() -> None:
    """Write data and a run, open the studio, and save its data page and its page of the run."""
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name) / "work"
        make_workspace(workspace)
        draw(workspace, profile_folder=Path(name))


def make_workspace(folder: Path) -> None:
    """Make a folder with a CSV file and a finished run."""
    folder.mkdir()
    write_rows(folder, "")
    with (folder / "travel.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *QUESTIONS])
    run_instil(TRAIN, folder)


def draw(workspace: Path, *, profile_folder: Path) -> None:
    """Save the two pages of a workspace as pictures."""
    with Served(workspace) as studio, opened_browser(profile_folder, height=880) as browser:
        # Why not `open`: the first address leads to another one, without the token.
        browser.send("Page.navigate", url=studio.first_url)
        browser.open(f"{studio.url}/data/view?path=travel.csv")
        # Both need the helper process, which loads its libraries first.
        wait(browser, "document.querySelector('#rows .token') && document.querySelector('#template-facts')")
        browser.run(
            "[...document.querySelectorAll('#rows .token.full')].find(e => /mountains/.test(e.textContent))"
            ".setAttribute('id', 'pointed')"
        )
        browser.point_at("#pointed")
        wait(browser, "!document.querySelector('#card').hidden")
        browser.picture(PICTURES / "studio-data.png")
        browser.open(f"{studio.url}/runs/run?run=runs/rows")
        wait(browser, "[...document.querySelectorAll('#charts figure')].every(e => e.dataset.drawn)")
        browser.picture(PICTURES / "studio-run.png")


def wait(browser: Browser, condition: str) -> None:
    """Wait until an expression of the page is true.

    Raises:
        TimeoutError: If it stays false for two minutes.
    """
    end = time.monotonic() + MOST_SECONDS
    while not browser.run(f"Boolean({condition})"):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition}: still false after {MOST_SECONDS:g} seconds")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
