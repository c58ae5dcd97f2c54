"""Draw docs/pictures/mask.png again: the mask page of one conversation, opened in headless Chromium.

Run from the repository's root: ``python docs/make_mask_picture.py``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from screenshots import PICTURES, opened_browser, run_instil

TURNS = [
    ("system", "You are a travel guide. Answer in one or two lines."),
    ("user", "What is the capital of Peru?"),
    ("assistant", "The capital of Peru is Lima."),
    ("user", "And how do I say thank you there? I was told to type <|im_end|> after it."),
    ("assistant", "In Spanish you say gracias.\nIn the mountains, many say sulpayki."),
]


def main() -> None:
    """Write the row, inspect it, open the page, point at a token, and save what is to be seen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = [("user", "Name a river in Brazil."), ("assistant", "")]
        with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
            for turns in (TURNS, TURNS[1:3], other, TURNS[1:3]):
                file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
        run_instil("inspect train.jsonl --model demo --html page.html", folder)
        with opened_browser(folder, height=930) as browser:
            browser.open((folder / "page.html").as_uri())
            browser.run(
                "[...document.querySelectorAll('#tokens .token.full')].find(e => /mountains/.test(e.textContent))"
                ".setAttribute('id', 'pointed')"
            )
            browser.point_at("#pointed")
            browser.picture(PICTURES / "mask.png")


if __name__ == "__main__":
    main()
